"""`method.passes`: a factor on a method's epochs, and no other computation than those epochs would be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict
from safetensors.torch import load_file

from selfdistill_cli import experiment
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.runs.keys import effective_schedule, run_key
from selfdistill_cli.teacher import teacher_config
from tests.helpers.runs import SMALL, composed, only_run, results, rows, without_times

pytestmark = pytest.mark.thorough

BRIEF = tuple(word for word in SMALL if "epochs" not in word)


def without_passes(cfg: DictConfig) -> DictConfig:
    """The configuration of a plugin whose YAML does not name `passes`."""
    with open_dict(cfg):
        cfg.method = OmegaConf.create({"_target_": "theirs.Penalty", "name": "penalty"})
    return cfg


@pytest.mark.parametrize(
    ("override", "epochs", "max_steps"),
    [
        ("method=vanilla", 3.0, None),
        ("method=vanilla_matched", 6.0, None),
        ("method.passes=0.5", 1.5, None),
        ("method=vanilla_matched schedule.max_steps=7", 6.0, 14),
        ("method.passes=0.5 schedule.max_steps=7", 1.5, 4),  # 3.5 steps: the fraction is finished
        ("method=vanilla method.passes=3 schedule.epochs=0.1", 0.3, None),  # 0.30000000000000004 in binary
    ],
)
def test_passes_multiply_epochs_and_steps(override: str, epochs: float, max_steps: int | None) -> None:
    schedule = effective_schedule(composed(*override.split()))
    assert (schedule.epochs, schedule.max_steps) == (epochs, max_steps)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("method=vanilla_matched", "method=vanilla schedule.epochs=6"),
        ("method=vanilla_matched schedule.max_steps=50", "method=vanilla schedule.max_steps=100"),
        ("method=vanilla schedule.max_steps=9", "method=vanilla schedule.max_steps=9 schedule.epochs=1"),
        ("method=dynsdpb method.passes=2 schedule.epochs=0.5", "method=dynsdpb schedule.epochs=1"),
    ],
)
def test_one_computation_has_one_key(one: str, other: str) -> None:
    assert run_key(composed(*one.split())) == run_key(composed(*other.split()))


def test_other_lengths_have_other_keys() -> None:
    asked = ("method=vanilla", "method=vanilla_matched", "schedule.epochs=5 method=vanilla")
    assert len({run_key(composed(*words.split())) for words in asked}) == 3


def test_a_plugin_without_passes_has_one_pass() -> None:
    cfg = without_passes(composed())
    assert effective_schedule(cfg).epochs == 3
    check(cfg)
    with_one = without_passes(composed())
    with open_dict(with_one):
        with_one.method.passes = 1
    assert run_key(with_one) == run_key(cfg)


@pytest.mark.parametrize("passes", [0, -1, math.inf, math.nan, True, "two"])
def test_a_plugin_s_passes_are_held_to_the_same_bounds(passes: object) -> None:
    cfg = without_passes(composed())
    with open_dict(cfg):
        cfg.method.passes = passes
    with pytest.raises(UserError, match=r"method\.passes=.*greater than 0"):
        check(cfg)


def test_the_teacher_has_one_pass_whatever_its_student_has() -> None:
    student = composed("method=dcs", "method.passes=3", "method.teacher.epochs=2")
    vanilla = composed("method=vanilla", "schedule.epochs=2", "schedule.keep=last")
    assert run_key(teacher_config(student)) == run_key(vanilla)


@pytest.mark.parametrize("method", ["dynsdpb", pytest.param("vanilla", marks=pytest.mark.slow)])
def test_two_passes_over_one_epoch_are_two_epochs_bit_for_bit(method: str, tmp_path: Path) -> None:
    ends = []
    for name, words in {"passes": ("passes=2", "epochs=1"), "epochs": ("passes=1", "epochs=2")}.items():
        passes, epochs = words
        outputs = tmp_path / name
        overrides = (f"method={method}", f"method.{passes}", f"schedule.{epochs}", f"paths.outputs={outputs}")
        experiment.run(composed(*overrides, *BRIEF))
        run = only_run(outputs)
        ends.append((run.name, results(run)["steps"], [without_times(row) for row in rows(run)], run))
    (*one, first), (*other, second) = ends
    assert one[1] == 10
    assert len(one[2]) == 12  # ten steps, two evaluations
    assert one == other
    weights = [load_file(run / "model" / "model.safetensors") for run in (first, second)]
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())
