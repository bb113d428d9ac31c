"""`sdreport --paper`: everything is from the runs, nothing is invented, and the document compiles."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.command import report
from selfdistill_cli.reports.paper.checklist import YOURS, checklist
from selfdistill_cli.reports.paper.facts import (
    counted,
    data_source,
    hours,
    operations,
    searched,
    seeds,
    selection,
)
from selfdistill_cli.reports.paper.words import methods_paragraphs
from selfdistill_cli.reports.runs import find_runs, read_run
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.system.words import listed
from tests.helpers.made_runs import make_run, study_of
from tests.helpers.processes import REPOSITORY
from tests.reports.test_origins import sequence

pytestmark = pytest.mark.thorough

ENVIRONMENT = {
    "selfdistill_cli": "0.7", "python": "3.12.1", "packages": {"torch": "2.9", "numpy": "2.1"}, "processor": "a chip",
    "processor_threads": 4, "gpu": None, "platform": "Linux", "git_commit": "0123456789abcdef", "git_changes": ["train.py"],
    "command": ["/home/somebody/bin/sdrun", "-m", "method=vanilla,dynsdpb"],
}  # fmt: skip


def made(outputs: Path, *overrides: str, **results: Any) -> Path:
    known: dict[str, Any] = {"precision": "fp32", "parameters": 1_000_000, "trained_parameters": 5_000}
    run = make_run(outputs, *overrides, **(known | results))
    (run / "environment.json").write_text(json.dumps(ENVIRONMENT))
    return run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    for seed in range(2):
        made(outputs, "method=vanilla", f"seed={seed}")
        for tau in (1, 3):
            made(outputs, "method=dynsdpb", f"method.tau={tau}", f"seed={seed}")
    (made(outputs, "method=vanilla", "seed=9") / "results.json").unlink()
    return outputs


@pytest.fixture(scope="module")
def paper(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    report([str(outputs), "--paper", "--out", str(folder)])
    return folder


def test_the_document_shows_every_table_figure_and_text_that_was_written(paper: Path) -> None:
    text = (paper / "paper.tex").read_text()
    for table in (paper / "tables").iterdir():
        assert f"\\input{{tables/{table.stem}}}" in text
    for figure in (paper / "figures").iterdir():
        assert f"{{figures/{figure.name}}}" in text
        assert figure.read_bytes().startswith(b"%PDF")
    shown = set(re.findall(r"\\input\{([^}]*)\}", text))
    assert shown >= {"methods", "checklist"}
    assert all((paper / f"{name}.tex").is_file() for name in shown)
    labels = [label for file in paper.rglob("*.tex") for label in re.findall(r"\\label\{([^}]*)\}", file.read_text())]
    assert len(labels) == len(set(labels)) > 3


def test_every_table_and_figure_has_a_caption(paper: Path) -> None:
    texts = [file.read_text() for file in paper.rglob("*.tex")]
    captions = [words for text in texts for words in re.findall(r"\\caption\{(.*)\}", text)]
    assert len(captions) > 3
    assert all(len(words.strip(". ")) > 3 for words in captions)


def test_figures_hold_no_fonts_that_venues_refuse(paper: Path) -> None:
    figures = list((paper / "figures").iterdir())
    assert figures
    assert not [figure for figure in figures if b"/Type3" in figure.read_bytes()]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_document_compiles(paper: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(paper, tmp_path / "paper")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, cwd=copy, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout.decode(errors="replace")[-1500:]
    assert (copy / "paper.pdf").stat().st_size > 10_000


def test_the_methods_paragraph_says_what_the_runs_were(outputs: Path) -> None:
    (_, words), (_, statistics), (_, software) = methods_paragraphs([study_of(outputs)])
    settings = yaml.safe_load(next(outputs.glob("*/*/*/*/config.yaml")).read_text())
    for said in (
        "minilm (1,000,000 parameters, of which 5,000 are trained)",
        "100 training examples, scored by accuracy on 100 validation examples",
        "Methods: vanilla and dynsdpb, each with the seeds 0 and 1.",
        f"{settings['schedule']['epochs']:g} epochs",
        f"learning rate {settings['schedule']['lr']:g}",
        f"batches of {settings['schedule']['batch_size']}",
        "in fp32",
        "A run forwards 300 examples in training",
        "for 6 runs (1 s each)",
    ):
        assert said in words
    assert "Holm" in statistics
    for said in ("sdrun 0.7, commit 0123456789ab, Python 3.12.1", "torch 2.9", "a chip (4 threads), without a GPU"):
        assert said in software
    assert "transformers unknown" in software  # environment.json does not name it


def test_what_runs_remark_on_is_said(tmp_path: Path) -> None:
    start = "training starts from weights rounded to Q4_1 (own.gguf)"
    for seed in range(2):
        made(tmp_path, "task=rte", f"seed={seed}", remarks=[start])
    study = study_of(tmp_path)
    (_, words), *_ = methods_paragraphs([study])
    assert words.endswith(f"Two runs: {start}.")
    assert dict(checklist([study], []))["What stood out in the runs?"] == f"Two runs: {start}."


def test_what_runs_do_not_know_is_said_to_be_unknown(tmp_path: Path) -> None:
    run = make_run(tmp_path, "task=rte")
    results = json.loads((run / "results.json").read_text())
    kept = ("key", "score", "metric", "task", "method", "examples_forwarded")
    (run / "results.json").write_text(json.dumps({name: results[name] for name in kept}))
    (one,) = gather(find_runs([tmp_path])).studies
    words = " ".join(text for _, text in methods_paragraphs([one]))
    for said in (
        "number of parameters unknown",
        "unknown: the runs do not record it training examples",
        "Python unknown",
    ):
        assert said in words
    answers = dict(checklist([one], []))
    assert all(answers[question].startswith("Unknown") for question in YOURS)
    assert answers["Is the version of data and starting weights fixed?"].startswith("unknown")
    assert "operations unknown" in answers["How much computation did it take, and on what?"]
    assert not re.search(r"\bNone\b|\bnan\b", words + " ".join(answers.values()))


def test_the_checklist_counts_runs_trials_and_what_is_not_reported(outputs: Path) -> None:
    others = [run for run in find_runs([outputs]) if not run.finished]
    answers = dict(checklist([study_of(outputs)], others))
    assert (
        "3 settings in 6 runs, all of them reported: dynsdpb: tau 1 and 3"
        in answers["How were settings chosen: which values, how many trials?"]
    )
    assert answers["Were there runs that are not reported?"].startswith(
        "In these folders, and in no table of scores: 1 run not finished or not readable (1 interrupted). Of runs elsewhere"
    )
    assert answers["Which commands made the results?"] == "sdrun -m method=vanilla,dynsdpb"  # no place of the machine
    assert "not committed" in answers["Is the code available, and in which version?"]


def test_runs_that_stand_alone_or_were_found_twice_are_not_reported_either(tmp_path: Path) -> None:
    for place in ("here", "there"):
        make_run(tmp_path / "runs" / place, "method=vanilla")
    make_run(tmp_path / "runs", "method=kd")
    make_run(tmp_path / "runs", "method=kd", "schedule.epochs=1")
    report([str(tmp_path / "runs"), "--paper", "--out", str(tmp_path / "paper")])
    assert (
        "**Were there runs that are not reported?** In these folders, and in no table of scores: 1 run found twice, with the "
        "settings and seed of a run that counts; 1 run alone, with nothing to be compared with. Of runs elsewhere, or "
        "deleted, nothing is known."
    ) in (tmp_path / "paper" / "checklist.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Nothing beside tokenizing."),
        (["task.class_weights=balanced"], "classes weighted in training (balanced)."),
        (["task.class_weights={entailment: 2, other: 1}"], "classes weighted in training (entailment 2, other 1)."),
        (["task.weight=who/how"], "training examples weighted by the column who/how."),
        (["task.missing=drop"], "rows without a label, text or answer left out."),
        (["task.missing=keep"], "rows with a blank text kept."),
    ],
)
def test_what_was_done_to_the_data_is_told(words: list[str], said: str, tmp_path: Path) -> None:
    make_run(tmp_path, *words)
    assert dict(checklist([study_of(tmp_path)], []))["Was anything done to the data?"] == said


def test_answers_that_a_round_added_are_told(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["task"]["added"] = "/somewhere/added.parquet"
    settings["self_training"] = {"name": "star", "round": 2, "samples": 4, "temperature": 1.0}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert dict(checklist([study_of(tmp_path)], []))["Was anything done to the data?"] == (
        "answers added that the model of the round before drew to training problems (star round 2, 4 drawn at 1.0)."
    )


@pytest.mark.parametrize(("overrides", "results", "words"), [
    (["schedule.keep=best"], {}, "on the validation examples that are reported"),
    (["schedule.keep=best"], {"selected_on": "held_out"}, "on a part of the training split that was held out"),
    (["schedule.keep=last"], {}, "No epoch was selected"),
    (["schedule.keep=last"], {"selected_on": "nothing"}, "No epoch was selected"),
])  # fmt: skip
def test_which_split_selected_is_told(
    overrides: list[str], results: dict[str, Any], words: str, tmp_path: Path
) -> None:
    make_run(tmp_path, *overrides, **results)
    assert words in selection(study_of(tmp_path))


def test_seeds_are_counted_where_methods_have_different_ones(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, "method=vanilla", f"seed={seed}")
    make_run(tmp_path, "method=kd", "seed=1")
    assert seeds(study_of(tmp_path)) == "1 to 3 of the seeds 0, 1 and 2"
    assert searched(study_of(tmp_path)) == []


def test_data_are_named_without_places_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "mine.csv").write_text("text,label\na,0\nb,1\n")
    file = tmp_path / "secret" / "mine.csv"
    hub, local = "nyu-mll/glue/rte (train), nyu-mll/glue/rte (validation)", "/home/me/rte/train.csv, /x/validation.csv"
    for number, (data, said) in enumerate(
        (
            (hub, "nyu-mll/glue rte"),
            (local, "files (train.csv and validation.csv)"),  # the Hub is named and was not asked
            ("nyu-mll/glue/rte (train), /home/me/dev.csv", "nyu-mll/glue rte and files (dev.csv)"),
            (None, None),
        )
    ):
        run = make_run(tmp_path / str(number), "task=rte", synthetic=False, data=data)
        assert data_source(read_run(run)) == said
    own = make_run(tmp_path / "own", "task=rte", synthetic=False)
    settings = yaml.safe_load((own / "config.yaml").read_text())
    settings["task"]["path"] = str(file)
    (own / "config.yaml").write_text(yaml.safe_dump(settings))
    assert data_source(read_run(own)) == "files of our own (mine.csv)"


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ("1", "clipped to norm 1,"),
        (("null",), "gradients not clipped,"),
        (("1", "null"), "clipped to norm 1 or not at all,"),
    ],
)
def test_gradients_that_are_not_clipped_are_said_to_be_so(norms: tuple[str, ...], said: str, tmp_path: Path) -> None:
    for norm in norms:
        make_run(tmp_path, f"schedule.max_grad_norm={norm}")
    (_, words), *_ = methods_paragraphs([study_of(tmp_path)])
    assert said in words


def test_runs_without_a_gpu_beside_those_with_one_are_told(tmp_path: Path) -> None:
    for seed, gpu in enumerate((None, "a card")):
        (made(tmp_path, f"seed={seed}") / "environment.json").write_text(json.dumps(ENVIRONMENT | {"gpu": gpu}))
    *_, (_, software) = methods_paragraphs([study_of(tmp_path)])
    assert "computed on a card and a chip (4 threads), without a GPU, operating system" in software


def test_stages_of_a_sequence_are_in_the_paper_as_in_the_report(tmp_path: Path) -> None:
    for seed in (0, 1):
        sequence(tmp_path / "runs", seed, [(0.5, 0.5), (0.9, 0.5), (0.7, 0.8)])
    report([str(tmp_path / "runs"), "--paper", "--out", str(tmp_path / "paper")])
    assert "alone" not in (tmp_path / "paper" / "checklist.md").read_text()
    assert "Training lasts 0 epochs" not in (tmp_path / "paper" / "methods.tex").read_text()


def test_costs_are_sums_and_operations_are_given_only_where_every_run_counted_them(tmp_path: Path) -> None:
    for seed, seconds in enumerate((1800.0, 5400.0)):
        make_run(tmp_path, f"seed={seed}", seconds=seconds, compute={"total": {"flops": 10**12}})
    runs = find_runs([tmp_path])
    assert hours(runs) == "2.0 hours for 2 runs (1,800 to 5,400 s each)"
    assert operations(runs) == "2.00e+12 floating-point operations"
    shared = {"total": {"flops": 10**12}, "teacher": {"flops": 10**11}}
    make_run(tmp_path / "kd", "method=kd", compute=shared)
    said = "1.00e+12 floating-point operations, each run counted with its own teacher"
    assert operations(find_runs([tmp_path / "kd"])) == said
    make_run(tmp_path, "seed=2", compute={"total": {}})
    assert operations(find_runs([tmp_path])) is None


@pytest.mark.parametrize(
    ("words", "sentence"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists_read_like_sentences(words: list[str], sentence: str) -> None:
    assert listed(words) == sentence


def test_units_have_their_plural() -> None:
    assert [counted(n, "run") for n in (0, 1, 1000)] == ["0 runs", "1 run", "1,000 runs"]
    assert [counted(n, "epoch") for n in ("1", "3", "1 and 3")] == ["1 epoch", "3 epochs", "1 and 3 epochs"]


def anchors(file: Path) -> set[str]:
    """Of a Markdown file, as the web makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_on_the_papers_names_experiments_and_places_that_exist() -> None:
    page = REPOSITORY / "docs" / "papers.md"
    text = page.read_text(encoding="utf-8")
    files = {
        path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "conf" / "experiment").glob("*.yaml")
    }
    named = set(re.findall(r"\+experiment=(\w+)", text))
    assert named <= files.keys()
    assert {name for name, words in files.items() if "Claim tested" in words} <= named
    for file, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", text):
        assert (page.parent / file).is_file()
        assert not anchor or anchor in anchors(page.parent / file), anchor
    methods = {path.stem for path in (REPOSITORY / "conf" / "method").glob("*.yaml")}
    assert {name for names in re.findall(r"method=([\w,]+)", text) for name in names.split(",")} <= methods


def test_without_a_finished_run_there_is_no_paper(tmp_path: Path) -> None:
    (make_run(tmp_path / "runs") / "results.json").unlink()
    with pytest.raises(UserError, match="no run has finished: there is nothing to write a paper of"):
        report([str(tmp_path / "runs"), "--paper", "--out", str(tmp_path / "paper")])
    assert not (tmp_path / "paper").exists()
