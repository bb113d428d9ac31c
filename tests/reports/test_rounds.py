"""Rounds of self-training in a report: one family, told apart in lists, earlier rounds made for later ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from selfdistill_cli.reports.content import Table
from selfdistill_cli.reports.differences import compare
from selfdistill_cli.reports.listing import what_they_are
from selfdistill_cli.reports.report import chapters
from selfdistill_cli.reports.rows import best_vanillas, rows
from selfdistill_cli.reports.runs import Run, find_runs
from selfdistill_cli.reports.sections import rounds
from selfdistill_cli.reports.sections.comparison import scale_of
from selfdistill_cli.reports.sentences import finding
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.sweeps.summary import jobs, means_over_seeds
from tests.helpers.made_runs import make_run, study_of
from tests.helpers.runs import composed


def made(outputs: Path, seed: int, before: Path, number: int, score: float, *overrides: str) -> Path:
    """A round of correction that learned from what the run `before` wrote."""
    about = {"name": "correction", "round": number, "before": before.name, "temperature": 1.0, "drawn": 10,
             "right": 4 + number, "problems": 10, "added": 9}  # fmt: skip
    words = (
        f"seed={seed}",
        "method=vanilla",
        "self_training=correction",
        f"task.added={before}/{number}/added.parquet",
        *overrides,
    )
    run = make_run(outputs, *words, score=score, self_training=about)
    cfg = OmegaConf.load(run / "config.yaml")
    cfg.self_training.round = number
    (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    second = {"first": score, "second": score + 0.1, "wrong_to_right": 0.2, "right_to_wrong": 0.1, "examples": 10}
    (run / "second_attempts.json").write_text(json.dumps(second))
    return run


@pytest.fixture
def families(tmp_path: Path) -> list[Run]:
    """Round 0 and two rounds of correction, for two seeds."""
    for seed in (0, 1):
        first = make_run(tmp_path, f"seed={seed}", "method=vanilla", score=0.5 + seed / 10)
        second = made(tmp_path, seed, first, 1, 0.6)
        made(tmp_path, seed, second, 2, 0.7)
    return find_runs([tmp_path])


def only_table(runs: list[Run]) -> Table:
    found = rounds.section(gather(runs).studies, runs)
    assert found is not None
    (table,) = found.parts
    assert isinstance(table, Table)
    return table


def test_a_family_is_one_table_by_round(families: list[Run]) -> None:
    table = only_table(families)
    how = "correction, 1 drawn at 1.0"
    assert [[cell.text for cell in row] for row in table.cells] == [
        ["vanilla", how, "0", "0.5500 ± 0.0707", "–", "–", "–", "–", "–", "2"],
        ["vanilla", how, "1", "0.6000 ± 0.0000", "0.5000 ± 0.0000", "9", "0.7000 ± 0.0000", "0.2000 ± 0.0000",
         "0.1000 ± 0.0000", "2"],
        ["vanilla", how, "2", "0.7000 ± 0.0000", "0.6000 ± 0.0000", "9", "0.8000 ± 0.0000", "0.2000 ± 0.0000",
         "0.1000 ± 0.0000", "2"],
    ]  # fmt: skip
    assert "What do rounds of self-training add?" in [section.title for section in chapters(families)[0].sections]


def test_rounds_that_asked_otherwise_are_never_together(tmp_path: Path) -> None:
    asked = (composed("self_training=correction").self_training.request, "Check it.", "Is that right?")
    for seed in (0, 1):
        first = make_run(tmp_path, f"seed={seed}", "method=vanilla", score=0.5)
        for number, request in enumerate(asked):
            round_ = made(tmp_path / str(number), seed, first, 1, 0.6)
            cfg = OmegaConf.load(round_ / "config.yaml")
            cfg.self_training.request = request
            (round_ / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    runs = find_runs([tmp_path])
    found = gather(runs)
    assert found.duplicates == []
    assert [len(group.runs) for group in found.studies[0].groups] == [2, 2, 2, 2]
    hows = {row[1].text for row in only_table(runs).cells}
    digests = (hashlib.sha256(request.encode()).hexdigest()[:8] for request in asked[1:])
    plain = "correction, 1 drawn at 1.0"
    assert hows == {plain, *(f"{plain}, request {digest}" for digest in digests)}


def test_earlier_rounds_were_made_for_later_ones_and_round_0_stands_for_itself(families: list[Run]) -> None:
    found = gather(families)
    (study,) = found.studies
    assert [group.variant for group in study.groups] == [
        "vanilla",
        "vanilla (self_training=correction round 2, 1 drawn at 1.0)",
    ]
    assert {(one.role, one.run.results["self_training"]["round"]) for one in found.served} == {("earlier round", 1)}


def test_a_round_of_vanilla_is_compared_with_it_and_the_study_is_named_by_what_the_task_has(tmp_path: Path) -> None:
    for seed in (0, 1):
        learned = made(tmp_path / "before", seed, make_run(tmp_path, f"seed={seed}", "method=vanilla"), 1, 0.6)
        results = json.loads((learned / "results.json").read_text())
        (learned / "results.json").write_text(json.dumps(results | {"train_examples": 109}))
    found = compare(study_of(tmp_path))
    told = finding(found, scale_of(found))
    assert told.said.startswith(
        "vanilla (self_training=correction round 1, 1 drawn at 1.0) is level with vanilla (95 %"
    )
    assert "a method beside vanilla" not in told.missing
    assert found.study.name == "synth_entailment · minilm · 100 examples · 3 epochs"


def test_a_round_is_no_tuned_setting_of_its_method_and_no_vanilla_of_a_sweep(tmp_path: Path) -> None:
    default = composed().schedule.lr
    for seed in (0, 1):
        for lr, score in ((2e-5, 0.7), (default, 0.6)):
            first = make_run(tmp_path, f"seed={seed}", f"schedule.lr={lr}", "method=vanilla", score=score)
            made(tmp_path, seed, first, 1, 0.9, f"schedule.lr={lr}")
    study = study_of(tmp_path)
    assert len(study.groups) == 4
    assert [row.chosen_of for row in rows(study)] == [0, 0, 0, 0]
    (best,) = best_vanillas(study)
    assert (best.settings["schedule.lr"], best.scores) == (2e-5, [0.7, 0.7])


def test_rounds_of_many_settings_are_a_range_of_their_own(tmp_path: Path) -> None:
    for lr in (1e-5, 2e-5, 3e-5, 7e-5):
        first = make_run(tmp_path, f"schedule.lr={lr}", "method=vanilla")
        made(tmp_path, 0, first, 1, 0.9, f"schedule.lr={lr}")
    assert [(row.name, len(row.groups)) for row in rows(study_of(tmp_path))] == [
        ("vanilla, 4 settings", 4),
        ("vanilla (correction round 1, 1 drawn at 1.0), 4 settings", 4),
    ]


def test_a_round_that_added_nothing_is_shown_without_a_score(tmp_path: Path) -> None:
    run = make_run(tmp_path, "method=vanilla", score=0.5)
    about = {"name": "star", "round": 1, "temperature": 1.0, "drawn": 40, "right": 0, "problems": 10, "added": 0}
    (run / "rounds" / "x").mkdir(parents=True)
    (run / "rounds" / "x" / "round.json").write_text(json.dumps(about))
    (run / "rounds" / "y").mkdir()
    (run / "rounds" / "y" / "round.json").write_text("{")  # damaged: passed over
    assert [[cell.text for cell in row] for row in only_table(find_runs([tmp_path])).cells] == [
        ["vanilla", "star, 4 drawn at 1.0", "0", "0.5000", "–", "–", "1"],
        ["vanilla", "star, 4 drawn at 1.0", "1", "–", "0.0000", "0", "0 of 1"],
    ]


def nothing_joined(run: Path, number: int) -> None:
    """What a run wrote for a round of correction, none of which was learned."""
    about = {"name": "correction", "round": number, "temperature": 1.0, "drawn": 10, "right": 0, "problems": 10, "added": 0}  # fmt: skip
    (run / "rounds" / "x").mkdir(parents=True)
    (run / "rounds" / "x" / "round.json").write_text(json.dumps(about))


def test_a_score_of_one_seed_among_three_says_so(tmp_path: Path) -> None:
    first = [make_run(tmp_path, f"seed={seed}", "method=vanilla", score=0.5) for seed in range(3)]
    made(tmp_path, 0, made(tmp_path, 0, first[0], 1, 0.6), 2, 0.9)
    nothing_joined(first[1], 1)
    nothing_joined(made(tmp_path, 2, first[2], 1, 0.7), 2)
    rows = {row[2].text: (row[3].text, row[-1].text) for row in only_table(find_runs([tmp_path])).cells}
    assert rows == {
        "0": ("0.5000 ± 0.0000", "3"),
        "1": ("0.6500 ± 0.0707", "2 of 3"),
        "2": ("0.9000", "1 of 3"),
    }


def test_runs_without_rounds_have_no_such_section(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla")
    runs = find_runs([tmp_path])
    assert rounds.section(gather(runs).studies, runs) is None


def test_a_list_tells_rounds_apart(tmp_path: Path) -> None:
    first = make_run(tmp_path, "method=vanilla", score=0.5)
    made(tmp_path, 0, first, 1, 0.6)
    told, _ = what_they_are(sorted(find_runs([tmp_path]), key=lambda run: run.results["score"]))
    assert told == ["vanilla · seed 0", "vanilla · self_training=correction round 1, 1 drawn at 1.0 · seed 0"]


def test_a_sweeps_table_has_the_score_of_each_round() -> None:
    record = {"job": 1, "overrides": [], "status": "finished", "metric": "accuracy", "score": 0.6, "seconds": 1.0}
    record |= {"best_epoch": 1.0, "examples_forwarded": 10}
    family = record | {"job": 2, "rounds": [{"round": 0, "score": 0.5}, {"round": 1, "score": 0.6}]}
    columns = {column.name: column.cells for column in jobs([record, family])}
    assert (columns["round 0"], columns["round 1"]) == (["–", "0.5000"], ["–", "0.6000"])
    assert not [column for column in jobs([record]) if column.name.startswith("round")]


def test_a_sweeps_means_have_those_of_each_round() -> None:
    record = {"status": "finished", "metric": "accuracy"}
    families = [
        record | {"overrides": [f"seed={seed}"], "key": str(seed), "score": last, "rounds": rounds_}
        for seed, last, rounds_ in (
            (0, 0.6, [{"round": 0, "score": 0.4}, {"round": 1, "score": 0.6}]),
            (1, 0.5, [{"round": 0, "score": 0.5}]),  # nothing joined
        )
    ]
    columns = {column.name: column.cells for column in means_over_seeds(families)}
    assert (columns["round 0"], columns["round 1"], columns["seeds"]) == (["0.4500"], ["0.6000 (1)"], ["2"])
