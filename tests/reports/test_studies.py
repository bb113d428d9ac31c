"""What is compared and averaged, and what is not: runs are gathered by what they are, and named by what sets them apart."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfdistill_cli.reports.command import chosen
from selfdistill_cli.reports.differences import compare
from selfdistill_cli.reports.naming import names, short_values
from selfdistill_cli.reports.paper.checklist import checklist
from selfdistill_cli.reports.report import chapters
from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.reports.sections import across, comparison, left_out
from selfdistill_cli.reports.studies import Gathered, gather
from selfdistill_cli.reports.variants import Study
from selfdistill_cli.runs.directory import RunDirectory
from tests.helpers.made_runs import make_run, study_of, variants
from tests.helpers.runs import composed

pytestmark = pytest.mark.thorough


def gathered(outputs: Path) -> Gathered:
    """The runs below a folder in studies."""
    return gather(find_runs([outputs]))


def every_study(outputs: Path) -> list[Study]:
    """Those of one run too."""
    made = gathered(outputs)
    return [*made.studies, *made.alone]


# --- what is one study -------------------------------------------------------------------------------


def test_a_study_is_one_task_size_model_and_length_and_says_so(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla")
    make_run(tmp_path, "method=dynsdpb", "schedule.lr=1e-4")  # tuned within the study
    make_run(tmp_path, "method=vanilla", "model=tiny_bert", model="tiny_bert")
    make_run(tmp_path, "method=vanilla", "task.train_examples=50", train_examples=2490)
    make_run(tmp_path, "method=vanilla", "schedule.epochs=1")
    make_run(tmp_path, "method=vanilla", "schedule.max_steps=4000")
    make_run(tmp_path, "method=vanilla", "schedule.keep=last")
    found = {study.name: variants(study) for study in every_study(tmp_path)}
    base = "synth_entailment · minilm · 100 examples"
    assert found == {
        f"{base} · 3 epochs (keep=best)": ["vanilla", "dynsdpb"],
        f"{base} · 3 epochs (keep=last)": ["vanilla"],
        f"{base} · 1 epoch": ["vanilla"],
        f"{base} · 4,000 steps": ["vanilla"],
        "synth_entailment · tiny_bert · 100 examples · 3 epochs": ["vanilla"],
        "synth_entailment · minilm · 2,490 examples · 3 epochs": ["vanilla"],
    }
    assert len({study.slug for study in every_study(tmp_path)}) == len(found)


def test_a_file_of_ones_own_is_called_by_its_name(tmp_path: Path) -> None:
    for fold in ("fold1", "fold2"):
        path = f"/a/long/way/to/the/data/{fold}/reviews.csv"
        make_run(tmp_path, "task=custom", f"task.path={path}", "task.text=a", "task.kind=classification")
    plain = "reviews.csv · minilm · 100 examples · 3 epochs"
    assert sorted(study.name for study in gathered(tmp_path).studies) == [
        f"{plain} (path=…/fold1/reviews.csv)",
        f"{plain} (path=…/fold2/reviews.csv)",
    ]


def test_a_file_that_a_benchmark_is_scored_on_is_not_what_was_learned_from(tmp_path: Path) -> None:
    make_run(tmp_path, "task=rte", "task.validation_path=/somewhere/dev.csv")
    assert study_of(tmp_path).task == "rte, scored on dev.csv"


def test_settings_of_a_model_set_studies_apart(tmp_path: Path) -> None:
    for way in ("model.dropout=null", "model.lora.rank=4", "model.dropout=0.2"):
        make_run(tmp_path, "method=vanilla", way)
    plain = "synth_entailment · minilm · 100 examples · 3 epochs"
    assert sorted(study.name for study in gathered(tmp_path).studies) == [
        f"{plain} (dropout=0.2, lora.rank=none)",
        f"{plain} (dropout=none, lora.rank=4)",
        f"{plain} (dropout=none, lora.rank=none)",
    ]


def test_runs_by_one_and_by_two_processes_are_never_together(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", "seed=0")
    make_run(tmp_path, "method=vanilla", "seed=1", processes=1)
    make_run(tmp_path, "method=vanilla", "seed=2", processes=2)
    found = {study.name[-13:]: list(study.groups[0].runs) for study in every_study(tmp_path)}
    assert found == {"(processes=1)": [0, 1], "(processes=2)": [2]}


def with_data(data: str) -> dict[str, str]:
    """Fingerprints of a run that read these data; weights differ from machine to machine."""
    return {"data": data * 16, "weights": f"of {data}"}


def test_runs_that_read_other_data_are_never_together(tmp_path: Path) -> None:
    for seed, data in enumerate(("aaaa", "aaaa", "bbbb", "bbbb")):  # labels were corrected between two commands
        make_run(tmp_path, "method=vanilla", f"seed={seed}", fingerprints=with_data(data))
    make_run(tmp_path / "again", "method=vanilla", "seed=0", fingerprints=with_data("bbbb"))
    make_run(tmp_path, "method=kd", "seed=2", fingerprints=with_data("aaaa"))
    made = gathered(tmp_path)
    assert made.duplicates == []
    plain = "synth_entailment · minilm · 100 examples · 3 epochs"
    assert {study.name: {group.variant: list(group.runs) for group in study.groups} for study in made.studies} == {
        f"{plain} (data=aaaaaaaa)": {"vanilla": [0, 1], "kd": [2]},
        f"{plain} (data=bbbbbbbb)": {"vanilla": [0, 2, 3]},
    }
    words = [comparison.section(compare(study)).words for study in made.studies]
    assert all("read other data" in said for said in words)


def test_a_curve_over_sizes_is_of_one_state_of_the_data(tmp_path: Path) -> None:
    for size, data in ((50, "aaaa"), (100, "aaaa"), (200, "bbbb")):
        known: dict[str, Any] = {"train_examples": size, "fingerprints": with_data(data)}
        make_run(tmp_path, "method=vanilla", f"task.train_examples={size}", **known)
    section = across.section(gathered(tmp_path).studies)
    assert section is not None
    (figure,) = section.parts
    (line,) = figure.panels[0].lines  # type: ignore[union-attr]
    assert list(line.x) == [50, 100]


def test_one_and_the_same_data_are_not_spoken_of_and_a_run_without_a_fingerprint_stands_beside_it(
    tmp_path: Path,
) -> None:
    for seed in (0, 1):
        make_run(tmp_path, "method=vanilla", f"seed={seed}", fingerprints=with_data("aaaa"))
    make_run(tmp_path, "method=vanilla", "seed=2")
    study = study_of(tmp_path)
    assert list(study.groups[0].runs) == [0, 1, 2]
    assert study.name == "synth_entailment · minilm · 100 examples · 3 epochs"
    assert "data" not in comparison.section(compare(study)).words


def test_runs_that_start_from_other_weights_are_never_together(tmp_path: Path) -> None:
    for weights, method in (("aaaa", "vanilla"), ("bbbb", "dynsdpb"), ("bbbb", "vanilla")):  # pretrained again between
        known = {"data": "d", "weights": weights * 16}
        make_run(tmp_path / weights, f"method={method}", "model.name=./pre", fingerprints=known, model="pre")
    made = gathered(tmp_path)
    assert made.duplicates == []
    plain = "synth_entailment · pre · 100 examples · 3 epochs"
    assert {study.name: variants(study) for study in [*made.studies, *made.alone]} == {
        f"{plain} (weights=aaaaaaaa)": ["vanilla"],
        f"{plain} (weights=bbbbbbbb)": ["vanilla", "dynsdpb"],
    }
    assert "started from other weights" in comparison.section(compare(made.studies[0])).words


def test_a_file_and_a_model_by_two_spellings_are_one_study(tmp_path: Path) -> None:
    known = {"data": "d", "weights": "w", "tokenizer": "t"}
    for method, where in (("vanilla", ""), ("kd", f"{tmp_path}/"), ("dcs", "")):
        files = (f"task.path={where}data.csv", f"task.validation_path={where}dev.csv", f"model.name={where or './'}pre")
        read: dict[str, Any] = {} if method == "dcs" else {"fingerprints": known}  # of a version that took none
        make_run(tmp_path, "task=custom", "task.kind=classification", f"method={method}", *files, model="pre", **read)
    study = study_of(tmp_path)
    assert (study.name, variants(study)) == ("data.csv · pre · 100 examples · 3 epochs", ["vanilla", "dcs", "kd"])


def test_a_run_stands_beside_all_runs_of_its_length_in_whatever_words_that_was_asked_for(tmp_path: Path) -> None:
    for seed in (0, 1):
        made = make_run(tmp_path, "method=vanilla_matched", "schedule.epochs=3", f"seed={seed}")
        for epochs in (3, 6):
            make_run(tmp_path, "method=dynsdpb", f"schedule.epochs={epochs}", f"seed={seed}")
            asked = "vanilla_matched" if epochs == 3 else "vanilla"
            words = [f"method={asked}", f"schedule.epochs={epochs}", f"seed={seed}", f"paths.outputs={tmp_path}"]
            same = RunDirectory(composed(*words))
            assert same.path == made
            same.note_asked(composed(*words))
    made_of = gathered(tmp_path)
    found = {study.name: {group.variant: sorted(group.runs) for group in study.groups} for study in made_of.studies}
    assert found == {
        "synth_entailment · minilm · 100 examples · 3 epochs": {"vanilla": [0, 1], "dynsdpb": [0, 1]},
        "synth_entailment · minilm · 100 examples · 6 epochs": {"vanilla": [0, 1], "dynsdpb": [0, 1]},
    }
    assert sorted(study.groups[0].settings["method.passes"] for study in made_of.studies) == [1, 2]
    assert not made_of.duplicates
    runs = find_runs([tmp_path])
    assert chapters(runs)[0].words == "six runs, all in two studies."
    hours = next(said for asked, said in checklist(made_of.studies, []) if asked.startswith("How much computation"))
    assert "for 6 runs" in hours
    of_length = {"3": {"3 epochs"}, "6": {"6 epochs"}, "3,6": {"3 epochs", "6 epochs"}}
    for value, lengths in of_length.items():
        names = [study.name for study in gather(chosen(runs, [f"schedule.epochs={value}"])).studies]
        assert {name.rpartition(" · ")[2] for name in names} == lengths
        assert all(len(study.groups) == 2 for study in gather(chosen(runs, [f"schedule.epochs={value}"])).studies)


def test_epochs_that_do_nothing_beside_steps_are_no_other_length(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", "schedule.max_steps=9", "schedule.epochs=3")
    words = ["method=vanilla", "schedule.max_steps=9", "schedule.epochs=5", f"paths.outputs={tmp_path}"]
    RunDirectory(composed(*words)).note_asked(composed(*words))
    make_run(tmp_path, "method=dynsdpb", "schedule.max_steps=9", "schedule.epochs=5")
    (study,) = every_study(tmp_path)
    assert study.name == "synth_entailment · minilm · 100 examples · 9 steps"
    assert sorted(study.groups[0].runs) == sorted(study.groups[1].runs) == [0]


def test_a_file_that_is_read_in_another_form_is_another(tmp_path: Path) -> None:
    for ending in ("csv", "tsv"):
        make_run(
            tmp_path, "task=custom", "task.kind=classification", f"task.path=data.{ending}", fingerprints={"data": "d"}
        )
    assert sorted(study.task for study in every_study(tmp_path)) == ["data.csv", "data.tsv"]


# --- names -------------------------------------------------------------------------------------------


def test_runs_of_different_settings_are_never_one_group_and_say_how_they_differ(tmp_path: Path) -> None:
    for words in (["method.tau=1"], ["method.tau=2"], ["method.tau=2", "schedule.lr=1e-4"], ["method.tau=2", "seed=1"]):
        make_run(tmp_path, "method=dynsdpb", *words)
    made = study_of(tmp_path)
    assert variants(made) == ["dynsdpb (tau=1, lr=5e-05)", "dynsdpb (tau=2, lr=5e-05)", "dynsdpb (tau=2, lr=0.0001)"]
    assert [len(group.runs) for group in made.groups] == [1, 2, 1]


def test_beside_the_default_setting_others_are_called_by_what_they_change(tmp_path: Path) -> None:
    for words in ([], ["method.tau=1"], ["method.alpha_rule=constant", "method.tau=1"], ["schedule.lr=1e-4"]):
        make_run(tmp_path, "method=dynsdpb", *words)
    make_run(tmp_path, "method=vanilla")
    make_run(tmp_path, "method=vanilla_matched", passes=2)
    assert variants(study_of(tmp_path)) == [
        "vanilla",
        "vanilla (passes=2)",
        "dynsdpb",
        "dynsdpb (alpha_rule=constant, tau=1)",
        "dynsdpb (lr=0.0001)",
        "dynsdpb (tau=1)",
    ]


def test_different_settings_never_have_one_name() -> None:
    parts = [{"method.name": "m", "method.a": value} for value in (0.123456, 0.123457, 0.1, "0.1")]
    found = names(parts, "method.name", lambda part: {"method.a": 0.1})
    assert len(set(found)) == 4
    assert found[2] == "m"


def test_long_paths_keep_as_much_of_their_end_as_tells_them_apart() -> None:
    one, other, third = "/home/somebody/x/fold1/a/train.csv", "/home/somebody/x/fold2/a/train.csv", "short/b.csv"
    assert short_values([one, other, third, None, 2.0]) == {
        one: "…/fold1/a/train.csv",
        other: "…/fold2/a/train.csv",
        third: third,
        "None": "none",
        "2.0": "2",
    }


# --- what counts ---------------------------------------------------------------------------------------


def test_a_run_that_was_found_twice_counts_once_and_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "here", accuracy=0.9)
    make_run(tmp_path / "here", "seed=1")
    again = make_run(tmp_path / "there", accuracy=0.5)
    runs = find_runs([tmp_path])
    made = gather(runs)
    assert [(kept.path, other.path) for kept, other in made.duplicates] == [(run, again)]
    (group,) = made.studies[0].groups
    assert group.runs[0].path == run
    (section,) = (one for one in left_out.sections(made, runs) if one.title == "Found twice")
    (table,) = section.parts
    assert not isinstance(table, str)
    assert [cell.text for cell in table.cells[0]] == [  # type: ignore[union-attr]
        str(again), f"{made.duplicates[0][1].results['score']:.4f}", str(run), f"{group.runs[0].results['score']:.4f}"
    ]  # fmt: skip


def test_a_copied_folder_of_runs_has_no_run_of_its_own(tmp_path: Path) -> None:
    make_run(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    made = gathered(tmp_path)
    (group,) = made.studies[0].groups
    assert (len(group.runs), len(made.duplicates)) == (1, 1)


def test_a_run_beside_which_there_is_no_other_is_listed_unless_all_are_so(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", "schedule.epochs=1")
    assert (len(gathered(tmp_path).studies), gathered(tmp_path).alone) == (1, [])
    make_run(tmp_path, "method=vanilla")
    make_run(tmp_path, "method=kd")
    made = gathered(tmp_path)
    assert [variants(study) for study in made.studies] == [["vanilla", "kd"]]
    assert [study.name.split(" · ")[-1] for study in made.alone] == ["1 epoch"]
    (section,) = left_out.sections(made, find_runs([tmp_path]))
    assert section.title == "Alone"


def test_a_study_with_an_answer_comes_before_a_larger_one_without(tmp_path: Path) -> None:
    for tau in (1, 2, 4, 5, 6):
        make_run(tmp_path, "method=dynsdpb", f"method.tau={tau}")
    for seed in (0, 1):
        make_run(tmp_path, "method=vanilla", "schedule.epochs=1", f"seed={seed}")
        make_run(tmp_path, "method=kd", "schedule.epochs=1", f"seed={seed}")
    assert [study.size for study in gathered(tmp_path).studies] == [4, 5]


def test_a_run_of_a_version_that_had_fewer_options_stands_beside_a_later_one(tmp_path: Path) -> None:
    older, _ = (make_run(tmp_path, "method=dynsdpb", f"seed={seed}") for seed in (0, 1))
    settings = yaml.safe_load((older / "config.yaml").read_text())
    for part, name in (
        ("task", "selection"),
        ("task", "selection_share"),
        ("task", "folds"),
        ("method", "start_epoch"),
    ):
        del settings[part][name]
    (older / "config.yaml").write_text(yaml.safe_dump(settings))
    (group,) = study_of(tmp_path).groups
    assert sorted(group.runs) == [0, 1]
    settings["task"]["selection"] = "held_out"
    (older / "config.yaml").write_text(yaml.safe_dump(settings))
    assert len(every_study(tmp_path)) == 2


def test_vanilla_is_first_and_other_methods_follow_by_the_alphabet(tmp_path: Path) -> None:
    for method in ("static_sd", "kd", "vanilla", "dcs"):
        make_run(tmp_path, f"method={method}")
    make_run(tmp_path, "method=kd", "method.name=a_plugin")
    assert variants(study_of(tmp_path)) == ["vanilla", "a_plugin", "dcs", "kd", "static_sd"]


def test_baselines_are_told_by_passes_and_by_examples_forwarded(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", examples_forwarded=300)
    make_run(tmp_path, "method=vanilla", passes=2, examples_forwarded=600)
    make_run(tmp_path, "method=vanilla", passes=3, examples_forwarded=900)
    make_run(tmp_path, "method=vanilla", "schedule.lr=1e-4", passes=2, examples_forwarded=590)
    make_run(tmp_path, "method=static_sd", examples_forwarded=590)
    make_run(tmp_path, "method=static_sd", "seed=1", examples_forwarded=598)
    make_run(tmp_path, "method=kd", examples_forwarded=300)
    make_run(tmp_path, "method=dynsdpb", examples_forwarded=760)  # 15 % from what is nearest
    make_run(tmp_path, "method=dcs", "schedule.lr=1e-4", examples_forwarded=590)
    made = study_of(tmp_path)
    found = {}
    for group in made.groups:
        if (method := group.settings["method.name"]) != "vanilla":
            baselines = made.baseline(group), made.equal_compute_baseline(group)
            found[method] = [(b.settings["method.passes"], b.settings["schedule.lr"]) if b else None for b in baselines]
    assert found == {
        "static_sd": [(1, 5e-5), (2, 5e-5)],
        "kd": [(1, 5e-5), (1, 5e-5)],
        "dynsdpb": [(1, 5e-5), None],
        "dcs": [None, (2, 1e-4)],
    }
