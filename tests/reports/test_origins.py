"""Runs that go on from others: named alike whatever the seed; rounds beside their method, stages in a matrix of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from selfdistill_cli.reports.origins import sequences
from selfdistill_cli.reports.report import chapters
from selfdistill_cli.reports.runs import Run, find_runs
from selfdistill_cli.reports.sections import forgetting
from selfdistill_cli.reports.studies import gather
from tests.helpers.made_runs import make_run

FIRST, SECOND = "synth_entailment", "rte"


def scored(run: Path, other: str, score: float) -> Path:
    (run / "evaluations").mkdir()
    (run / "evaluations" / f"{other}.json").write_text(
        json.dumps({"task": other, "metric": "accuracy", "score": score})
    )
    (run / "evaluations" / f"{other}.parquet").write_bytes((run / "predictions.parquet").read_bytes())
    return run


def sequence(outputs: Path, seed: int, scores: list[tuple[float, float]]) -> None:
    """The start, a stage on FIRST and one on SECOND, with the scores of both tasks after each."""
    same = (f"seed={seed}", "method=static_sd")
    (a0, b0), (a1, b1), (a2, b2) = scores
    start = make_run(
        outputs, f"seed={seed}", "method=vanilla", f"task={FIRST}", "schedule.epochs=0", score=a0, examples_forwarded=0
    )
    scored(start, SECOND, b0)
    first = scored(make_run(outputs, *same, f"task={FIRST}", score=a1), SECOND, b1)
    scored(make_run(outputs, *same, f"task={SECOND}", f"model.name={first}", score=b2), FIRST, a2)


def test_a_run_is_named_by_what_it_started_from_not_by_a_path(tmp_path: Path) -> None:
    for seed in (0, 1):
        sequence(tmp_path, seed, [(0.5, 0.5), (0.9, 0.5), (0.7, 0.8)])
    last = [run for run in find_runs([tmp_path]) if run.start is not None]
    assert {run.settings["model.name"] for run in last} == {f"minilm after {FIRST} by static_sd"}
    assert len({run.start for run in last}) == 2


def test_what_is_forgotten_is_the_best_of_before_minus_the_end(tmp_path: Path) -> None:
    sequence(tmp_path, 0, [(0.5, 0.4), (0.9, 0.45), (0.7, 0.8)])
    sequence(tmp_path, 1, [(0.5, 0.5), (0.8, 0.55), (0.8, 0.6)])
    chains = sequences(find_runs([tmp_path]))
    section = forgetting.section(chains)
    assert section is not None
    (table,) = section.parts
    cells = [[cell.text for cell in row] for row in table.cells]  # type: ignore[union-attr]
    assert cells == [
        ["static_sd", "start", "0.5000 ± 0.0000", "0.4500 ± 0.0707", "2"],
        ["static_sd", f"after {FIRST}", "0.8500 ± 0.0707", "0.5000 ± 0.0707", "2"],
        ["static_sd", f"after {SECOND}", "0.7500 ± 0.0707", "0.7000 ± 0.1414", "2"],
        ["static_sd", "forgotten", "0.1000 ± 0.1414", "–", "2"],
    ]


def matrix(*folders: Path) -> list[list[str]]:
    """The cells of the only table of what is forgotten."""
    section = forgetting.section(sequences(find_runs(folders)))
    assert section is not None
    (table,) = section.parts
    return [[cell.text for cell in row] for row in table.cells]  # type: ignore[union-attr]


def test_a_sequence_is_found_again_where_its_runs_were_moved_or_copied_to_and_counts_once(tmp_path: Path) -> None:
    outputs, copy, moved = (tmp_path / name for name in ("outputs", "copy", "moved"))
    for seed in (0, 1):
        sequence(outputs, seed, [(0.5, 0.4), (0.9 - seed / 10, 0.45), (0.7, 0.8)])
    as_it_was = matrix(outputs)
    assert {row[-1] for row in as_it_was} == {"2"}
    shutil.copytree(outputs, copy)
    assert matrix(outputs, copy) == matrix(copy, outputs) == matrix(copy) == as_it_was
    said = chapters(find_runs([outputs, copy]))[0].words
    assert said == "twelve runs, 2 in one study. The others: two found twice, eight in sequences."
    outputs.rename(moved)
    shutil.rmtree(copy)
    assert matrix(moved) == as_it_was
    made = chapters(find_runs([moved]))
    assert [chapter.title for chapter in made[1:] if SECOND in chapter.title] == []


def test_sequences_of_other_settings_are_rows_of_their_own(tmp_path: Path) -> None:
    for tau, passes in ((1, None), (4, None), (4, 2)):
        for seed in (0, 1):
            words = ("method=dynsdpb", f"method.tau={tau}", f"seed={seed}")
            first = make_run(tmp_path, *words, f"task={FIRST}", score=0.9, passes=passes)
            scored(first, SECOND, 0.5)
            last = make_run(tmp_path, *words, f"task={SECOND}", f"model.name={first}", score=0.8, passes=passes)
            scored(last, FIRST, 0.7)
    words = ("method=dynsdpb", "method.tau=1", "task.train_examples=50")
    first = scored(make_run(tmp_path, *words, f"task={FIRST}", score=0.9), SECOND, 0.5)
    scored(make_run(tmp_path, *words, f"task={SECOND}", f"model.name={first}", score=0.8), FIRST, 0.7)
    section = forgetting.section(sequences(find_runs([tmp_path])))
    assert section is not None
    (table,) = section.parts
    named = {row[0].text: row[-1].text for row in table.cells}  # type: ignore[union-attr]
    expected = {f"dynsdpb (passes={p}, tau={t}, train_examples=none)": "2" for p, t in ((1, 1), (1, 4), (2, 4))}
    assert named == expected | {"dynsdpb (passes=1, tau=1, train_examples=50)": "1"}


def test_runs_that_start_from_other_settings_are_never_averaged(tmp_path: Path) -> None:
    for tau in (1, 4):
        for seed in (0, 1):
            first = make_run(tmp_path, "method=dynsdpb", f"method.tau={tau}", f"seed={seed}", f"task={FIRST}")
            make_run(tmp_path, "method=vanilla", f"seed={seed}", f"task={SECOND}", f"model.name={first}", draw=tau)
    found = gather(find_runs([tmp_path]))
    after = [study for study in found.studies if study.task == SECOND]
    assert [[len(group.runs) for group in study.groups] for study in after] == [[2], [2]]
    assert found.duplicates == []


def test_stages_are_no_studies_of_their_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        sequence(tmp_path, seed, [(0.5, 0.5), (0.9, 0.5), (0.7, 0.8)])
        make_run(tmp_path, f"seed={seed}", "method=vanilla", f"task={FIRST}", score=0.8)
    made = chapters(find_runs([tmp_path]))
    assert "four in sequences" in made[0].words
    assert [chapter.title for chapter in made[1:] if SECOND in chapter.title] == []


def test_a_sequence_whose_tasks_were_not_all_scored_is_none(tmp_path: Path) -> None:
    first = make_run(tmp_path, "method=static_sd", f"task={FIRST}")
    make_run(tmp_path, "method=static_sd", f"task={SECOND}", f"model.name={first}")
    assert sequences(find_runs([tmp_path])) == []


@pytest.fixture
def rounds(tmp_path: Path) -> list[Run]:
    """Vanilla, and a round of it that learned from what it wrote, for two seeds."""
    for seed in (0, 1):
        make_run(tmp_path, f"seed={seed}", "method=vanilla", score=0.7)
        added = f"task.added={tmp_path}/{seed}/added.parquet"
        run = make_run(tmp_path, f"seed={seed}", "method=vanilla", "self_training=star", added, score=0.8)
        cfg = OmegaConf.load(run / "config.yaml")
        cfg.self_training.round = 1
        (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    return find_runs([tmp_path])


def test_a_round_stands_beside_the_method_that_it_adds_to(rounds: list[Run]) -> None:
    (study,) = gather(rounds).studies
    assert [group.variant for group in study.groups] == [
        "vanilla",
        "vanilla (self_training=star round 1, 4 drawn at 1.0)",
    ]
    plain, learned = study.groups
    assert study.baseline(learned) == plain
    assert study.baseline(plain) == plain  # a round is nobody's baseline
    assert sorted(learned.runs) == [0, 1]
