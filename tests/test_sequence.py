"""Tasks one after the other: what each stage starts from, is scored on, and what was forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.sequence import forgetting, run_sequence, sequence_of, stages
from tests.helpers.runs import composed


def noted(cfg: DictConfig) -> tuple[list[tuple[DictConfig, list[str]]], list[Any]]:
    """The stages as a run would get them, and the matrix; the score of a task in stage s is s plus its place / 10."""
    seen: list[tuple[DictConfig, list[str]]] = []

    def run(stage: DictConfig, others: list[DictConfig]) -> dict[str, Any]:
        number, order = len(seen), list(cfg.sequence)
        seen.append((stage, [task.name for task in others]))
        scores = {name: number + order.index(name) / 10 for name in order}
        own = scores.pop(stage.task.name)
        return {"score": own, "other_tasks": scores, "directory": f"runs/{number}"}

    _, matrix = stages(cfg, run)
    return seen, matrix


def test_each_stage_starts_from_the_one_before_and_is_scored_on_all() -> None:
    cfg = composed("sequence=[synth_arithmetic,synth_facts]", "model=tiny_llama", "method=static_sd", "seed=3",
                   "task.train_examples=40", "schedule.epochs=2")  # fmt: skip
    seen, matrix = noted(cfg)
    (start, _), (first, others), (second, before) = seen
    assert (start.task.name, start.method.name, start.schedule.epochs) == ("synth_arithmetic", "vanilla", 0)
    assert (start.model.name, first.model.name, second.model.name) == ("tiny_llama", "tiny_llama", "runs/1")
    assert first.model.config
    assert not second.model.config  # a folder has a configuration of its own
    assert (first.task.name, others, second.task.name, before) == (
        "synth_arithmetic", ["synth_facts"], "synth_facts", ["synth_arithmetic"],
    )  # fmt: skip
    for stage, _ in seen[1:]:
        assert (stage.method.name, stage.schedule.epochs, stage.seed) == ("static_sd", 2, 3)
    assert {stage.task.train_examples for stage, _ in seen} == {40}
    assert first.task.answer_rule == "after_hashes"
    assert second.task.answer_rule == "normalized"
    assert {stage.task.max_length for stage, _ in seen} == {256}  # of the longer task: each is scored on the other's
    assert matrix == [
        ("start", {"synth_arithmetic": 0.0, "synth_facts": 0.1}),
        ("synth_arithmetic", {"synth_arithmetic": 1.0, "synth_facts": 1.1}),
        ("synth_facts", {"synth_arithmetic": 2.0, "synth_facts": 2.1}),
    ]


def test_what_is_changed_inside_a_part_is_changed_in_every_stage_and_nothing_else_of_it() -> None:
    cfg = composed("sequence=[synth_arithmetic,synth_facts,squad]", "model=tiny_llama",
                   "task.generator.train_examples=50", "task.decoding.num_beams=2")  # fmt: skip
    arithmetic, facts, squad = (stage.task for stage, _ in noted(cfg)[0][1:])
    assert [task.generator and task.generator.name for task in (arithmetic, facts, squad)] == [
        "synth_arithmetic", "synth_facts", None,
    ]  # fmt: skip
    assert arithmetic.generator.train_examples == facts.generator.train_examples == 50
    assert {task.decoding.num_beams for task in (arithmetic, facts, squad)} == {2}
    assert facts.decoding.max_new_tokens != arithmetic.decoding.max_new_tokens


def test_forgetting_is_the_best_of_before_minus_the_end() -> None:
    matrix = [
        ("start", {"a": 0.1, "b": 0.2, "c": 0.0}),
        ("a", {"a": 0.9, "b": 0.1, "c": 0.0}),
        ("b", {"a": 0.7, "b": 0.5, "c": 0.1}),
        ("c", {"a": 0.4, "b": 0.6, "c": 0.8}),
    ]
    assert forgetting(matrix) == {"a": pytest.approx(0.5), "b": pytest.approx(-0.1)}
    errors = forgetting(matrix, {"a": "mse", "b": "accuracy"})  # of which less is better
    assert errors == {"a": pytest.approx(0.3), "b": pytest.approx(-0.1)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sequence=[synth_facts]"], "name two tasks or more"),
        (["sequence=synth_facts"], "name two tasks or more"),
        (["sequence=[synth_facts,synth_facts]"], "each once"),
        (["sequence=[synth_facts,synth_arithmetic]", "eval_tasks=[synth_facts]"], "leave eval_tasks out"),
        (["sequence=[custom,rte]", "task=custom", "task.path=x.csv", "task.text=body"], "custom has no data by itself"),
        (["sequence=[rte,mrpc]", "eval_tasks=chat"], "eval_tasks: chat has no data by itself"),
    ],
)
def test_a_wrong_sequence_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        sequence_of(composed(*words))


def test_every_stage_is_checked_before_the_first_one_runs() -> None:
    asked = composed("sequence=[synth_arithmetic,rtte]", "model=tiny_llama")
    with pytest.raises(UserError, match=r"there is no task 'rtte'.*rte"):
        noted(asked)
    asked = composed("sequence=[synth_arithmetic,synth_facts]", "model=tiny_llama")
    asked.method.alpha = -1
    with pytest.raises(UserError, match=r"method\.alpha"):
        noted(asked)


@pytest.mark.slow
def test_a_sequence_leaves_runs_that_it_finds_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sequence=[synth_arithmetic,synth_facts]", "model=tiny_llama", "method=vanilla", "task.train_examples=8",
             "task.validation_examples=4", "schedule.max_steps=2", "tracking=none", "runtime.device=cpu",
             "task.decoding.max_new_tokens=4", f"paths.outputs={tmp_path}")  # fmt: skip
    first = run_sequence(composed(*words))
    runs = sorted(tmp_path.glob("*/*/*/*/results.json"))
    assert len(runs) == 3
    capsys.readouterr()
    again = run_sequence(composed(*words))
    assert (again["key"], again["status"]) == (first["key"], "finished earlier")
    assert sorted(tmp_path.glob("*/*/*/*/results.json")) == runs
    printed = capsys.readouterr().out
    for words_said in ("start", "after synth_arithmetic", "after synth_facts", "forgotten"):
        assert words_said in printed
    assert first["model"].startswith("tiny_llama-vanilla-")  # the second stage went on from the first one's model
