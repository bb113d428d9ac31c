"""Each figure and table has files, caption and values of its own, and what a run records decides what is shown of it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfdistill_cli.reports import report
from selfdistill_cli.reports.content import Chapter, Figure, Section, Table
from selfdistill_cli.reports.panels import Cells, Curves
from selfdistill_cli.reports.report import chapters, write_report
from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.reports.sections import discordance, dynamics, learning, other_tasks, sensitivity
from selfdistill_cli.reports.studies import gather
from tests.helpers.made_runs import make_run, study_of

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models × two tasks × two schedules, each with dcs at two λ, and scores that no two runs share."""
    folder = tmp_path_factory.mktemp("crossed")
    tasks = (["task=synth_entailment"], ["task=synth_similarity", "task.kind=classification"])
    cells = itertools.product(("minilm", "tiny_bert"), tasks, ("1e-5", "2e-5"), (1, 2))
    for number, (model, task, lr, lambda_) in enumerate(cells):
        words = (f"model={model}", *task, f"schedule.lr={lr}", f"method.lambda_={lambda_}")
        row = {"kind": "train", "step": 31, "epoch": 3.1, "loss": 1.0, "discordant/fraction": 0.1}
        make_run(folder, "method=dcs", *words, draw=number, score=0.1 + number / 100, rows=[row])
    return folder


def test_each_figure_of_two_models_tasks_and_schedules_has_its_own_name_and_values(crossed: Path) -> None:
    runs = find_runs([crossed])
    studies = gather(runs).studies
    assert len(studies) == 4
    for study in studies:
        found = sensitivity.section(study)
        assert found is not None
        (figure,) = (part for part in found.parts if isinstance(part, Figure))
        (cells,) = figure.panels
        assert isinstance(cells, Cells)
        model = study.groups[0].settings["model.name"]
        shown = {(record["lr"], record["lambda"]): record["value"] for record in cells.records()}
        own = {
            (f"{run.settings['schedule.lr']:.4g}", f"{run.settings['method.lambda_']:.4g}"): 100 * run.results["score"]
            for run in runs
            if (run.settings["model.name"], run.task) == (model, study.task)
        }
        assert len(own) == 4
        assert shown == pytest.approx(own)


@pytest.mark.slow
def test_every_figure_and_table_of_crossed_runs_has_its_own_files_and_caption(crossed: Path, tmp_path: Path) -> None:
    made = write_report(find_runs([crossed]), "crossed", tmp_path)
    parts = [part for one in made for section in one.sections for part in section.parts if not isinstance(part, str)]
    figures, tables = ([p for p in parts if isinstance(p, kind)] for kind in (Figure, Table))
    assert sorted(path.stem for path in (tmp_path / "figures").glob("*.svg")) == sorted(f.name for f in figures)
    assert sorted(path.stem for path in (tmp_path / "tables").glob("*.csv")) == sorted(t.name for t in tables)
    assert len(figures) == 4 * 2  # of each study: a sweep, learning


def test_settings_that_begin_alike_for_long_have_names_of_their_own(tmp_path: Path) -> None:
    train = {"kind": "train", "step": 31, "epoch": 3.1, "uncertainty/mean": 0.5}
    for path in ("a", "b"):  # their titles are alike for more than 80 characters
        words = ("task=custom", f"task.path={'x' * 100}/{path}.csv", "task.text=a", "task.kind=classification")
        make_run(tmp_path, "method=kd", *words, rows=[train])
    made = chapters(find_runs([tmp_path]))
    parts = [p.name for one in made for section in one.sections for p in section.parts if not isinstance(p, str)]
    assert len(parts) == len(set(parts))
    assert sum("-trajectories-" in name for name in parts) == 2
    assert all(len(name) < 200 for name in parts)


def test_names_that_differ_in_signs_alone_have_files_of_their_own(tmp_path: Path) -> None:
    words = ("task=custom", "task.path=x.csv", "task.kind=classification", "task.label=l")
    for template in ("{a}, {b}", "{a} {b}"):
        make_run(tmp_path, "method=kd", *words, f"task.text='{template}'")
        make_run(tmp_path, "method=vanilla", *words, f"task.text='{template}'", draw=1)
    made = write_report(find_runs([tmp_path]), "signs", tmp_path / "report")
    titles = [chapter.title for chapter in made if "x.csv" in chapter.title]
    assert len(set(titles)) == 2
    assert len(list((tmp_path / "report" / "tables").glob("x-csv-*-scores.csv"))) == 2


def test_sizes_of_two_kinds_of_runs_are_two_figures_and_lines_are_joined_by_settings(tmp_path: Path) -> None:
    for selection in ("validation", "held_out"):
        for examples in (50, 100):
            words = (f"task.selection={selection}", f"task.train_examples={examples}")
            make_run(tmp_path, "method=vanilla", *words, train_examples=examples)
            for tau in (2, 4):
                own = f"method.tau={tau}"
                make_run(tmp_path, "method=dynsdpb", *words, own, draw=1, train_examples=examples)
    made = write_report(find_runs([tmp_path]), "sizes", tmp_path / "report")
    (section,) = (one for one in made[0].sections if "more training examples" in one.title)
    figures = [part for part in section.parts if isinstance(part, Figure)]
    assert len({figure.name for figure in figures}) == len({figure.caption for figure in figures}) == 2
    for figure in figures:
        (curves,) = figure.panels
        assert isinstance(curves, Curves)
        lines = {line.label: list(line.x) for line in curves.lines}
        assert lines == {"vanilla": [50, 100], "dynsdpb (tau=2)": [50, 100], "dynsdpb (tau=4)": [50, 100]}


def test_tables_of_other_tasks_belong_to_their_study(tmp_path: Path) -> None:
    for examples in (50, 100):
        run = make_run(tmp_path, "method=vanilla", f"task.train_examples={examples}", train_examples=examples)
        (run / "evaluations").mkdir()
        shutil.copy(run / "predictions.parquet", run / "evaluations" / "snli.parquet")
        (run / "evaluations" / "snli.json").write_text(f'{{"score": 0.{examples}, "metric": "accuracy"}}')
    made = {one.title: one for one in chapters(find_runs([tmp_path]))}
    for examples, score in ((50, "0.5000 (1)"), (100, "0.1000 (1)")):
        chapter = made[f"synth_entailment · minilm · {examples} examples · 3 epochs"]
        (section,) = (one for one in chapter.sections if "carry over" in one.title)
        assert [part.cells[0][2].text for part in section.parts if isinstance(part, Table)] == [score]


def scored_elsewhere(run: Path, score: float, **record: Any) -> None:
    """An evaluation on snli beside the run's own."""
    (run / "evaluations").mkdir()
    shutil.copy(run / "predictions.parquet", run / "evaluations" / "snli.parquet")
    (run / "evaluations" / "snli.json").write_text(json.dumps({"score": score, "metric": "accuracy", **record}))


def test_scores_on_other_data_of_one_name_are_neither_averaged_nor_compared(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"settings": {"max_length": 128}}
    for seed in (0, 1):
        scored_elsewhere(make_run(tmp_path, "method=vanilla", f"seed={seed}"), 0.5, fingerprint="m" * 16, **asked)
        scored_elsewhere(make_run(tmp_path, "method=kd", f"seed={seed}", draw=1), 0.6, fingerprint="a" * 16, **asked)
        scored_elsewhere(make_run(tmp_path, "method=rdrop", f"seed={seed}", draw=3), 0.9, fingerprint="m" * 16, **asked)
        scored_elsewhere(make_run(tmp_path, "method=dcs", f"seed={seed}", draw=2), 0.7, fingerprint="a" * 16)
        longer = {"settings": {"max_length": 256}}
        scored_elsewhere(make_run(tmp_path, "method=ema", f"seed={seed}"), 0.8, fingerprint="m" * 16, **longer)
    section = other_tasks.section(study_of(tmp_path))
    assert section is not None
    (table,) = section.parts
    assert isinstance(table, Table)
    assert list(table.header[2:]) == [
        "snli (data=mmmmmmmm, max_length=128), accuracy",
        "snli (data=aaaaaaaa, max_length=128), accuracy",
        "snli (data=mmmmmmmm, max_length=256), accuracy",
    ]
    cells = {row[0].text: [cell.text[:6] for cell in row[2:]] for row in table.cells}
    none = "– (not"
    assert cells == {
        "vanilla": ["0.5000", none, none],
        "dcs": [none, "0.7000", none],  # of a version that did not record its settings
        "ema": [none, none, "0.8000"],
        "kd": [none, "0.6000", none],
        "rdrop": ["0.9000", none, none],
    }
    assert [row[0].text for row in table.cells if any("[" in cell.text for cell in row[2:])] == ["rdrop"]


def test_two_parts_of_one_name_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [Table("one", caption, ["a"], [["b"]]) for caption in ("first", "second")]
    monkeypatch.setattr(report, "chapters", lambda runs: [Chapter("c", "w", [Section("t", "w", tables)])])
    with pytest.raises(ValueError, match="two parts of the report would write the same files: one"):
        write_report([], "title", tmp_path / "report")
    assert not (tmp_path / "report").exists()


# --- columns decide, not names ---------------------------------------------------------------------


def test_a_plugin_is_shown_by_the_columns_that_it_records(tmp_path: Path) -> None:
    names = ("uncertainty", "discrimination", "tau", "alpha")
    moving = {f"{name}/{part}": 0.5 for name in names for part in ("mean", "p10", "p50", "p90")}
    train = [{"kind": "train", "step": s, "epoch": s / 10, "loss": 1.0, **moving} for s in range(31, 40)]
    weights = {"discordant/fraction": 0.1, "discordant/teacher_right": 0.5, "weights/effective_sample_size": 90.0}
    for seed in (0, 1):
        make_run(tmp_path, f"seed={seed}", "method=static_sd", "method.name=mine", rows=train)
        make_run(tmp_path, f"seed={seed}", "method=dynsdpb", "method.name=my_rules", rows=train)
        make_run(tmp_path, f"seed={seed}", "method=kd", "method.name=a_teacher")
        rows = [{"kind": "train", "step": 31, "epoch": 3.1, "loss": 1.0, **weights}]
        make_run(tmp_path, f"seed={seed}", "method=dcs", "method.name=my_weights", "method.tau=2", rows=rows)
    made = study_of(tmp_path)
    learnt, moved, weighed = (part.section(made) for part in (learning, dynamics, discordance))
    assert learnt is not None
    assert moved is not None
    assert weighed is not None
    (partings,) = (part for part in learnt.parts if isinstance(part, Table))
    assert [[cell.text for cell in row[:3]] for row in partings.cells] == [["my_rules", "mine", "2"]]
    assert "my_rules" in moved.finding
    assert "my_weights from 10.0% to 10.0%" in weighed.finding
