"""What is recorded of steps, whenever their figures are fetched."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from selfdistill_cli.engine import step_records
from selfdistill_cli.engine.loop import TrainingLoop
from selfdistill_cli.engine.method import PerExampleLoss
from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.engine.progress import Progress
from selfdistill_cli.engine.results import StepResult
from selfdistill_cli.engine.step_records import StepRecord, StepRecords, train_row
from selfdistill_cli.errors import UserError
from tests.helpers.loops import Rows, make_loop
from tests.helpers.runs import composed
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import make_examples, make_methods, make_model

LOSSES = [0.9, 0.8, 0.7, math.nan, 0.5]


def made_record(step: int, loss: float, grad_norm: float = 1.0) -> StepRecord:
    total = torch.tensor([loss / 2, loss / 2])
    of_batch = PerExampleLoss(total, {"ce": total}, {"tau": torch.tensor([1.0, 3.0])}, torch.tensor([4, 7]))
    result = StepResult([of_batch], [], None, 2, Passes(), tokens=10, padded_tokens=12)
    return StepRecord(step, step / 6, (step - 1) / 6, result, torch.tensor(grad_norm), 1e-3, (1.0, 1.5), [])


def made_records(at_once: int) -> tuple[StepRecords, Rows]:
    rows = Rows()
    records = StepRecords(cpu_runtime(), rows, composed().schedule)
    records.at_once = at_once
    return records, rows


def test_a_gradient_that_overflowed_in_fp16_leaves_a_row_that_json_can_hold() -> None:
    """The gradient scaler leaves the weights as they are then; the norm is infinite, which JSON has no number for."""
    record = made_record(3, 0.5)
    skipped = json.loads(json.dumps(train_row(record, record.result, math.inf, 1.0), allow_nan=False))
    assert skipped["update_skipped"] is True
    assert "grad_norm" not in skipped
    ordinary = train_row(record, record.result, 0.7, 1.0)
    assert ordinary["grad_norm"] == 0.7
    assert "update_skipped" not in ordinary


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_the_step_that_diverged_is_named_and_all_before_it_are_recorded(at_once: int) -> None:
    records, rows = made_records(at_once)
    progress = Progress()

    def train() -> None:
        for number, loss in enumerate(LOSSES):
            records.add(made_record(number + 1, loss))
            if records.due:
                records.write(progress)
        records.write(progress)

    with pytest.raises(UserError, match=r"The loss is nan at step 4 \(epoch 0.50\): training diverged"):
        train()
    assert [row["step"] for row in rows.rows] == [1, 2, 3]
    assert [row["loss"] for row in rows.rows] == pytest.approx(LOSSES[:3])
    assert progress.first_losses == pytest.approx(LOSSES[:3])
    records.write(progress)  # nothing of what came after is left to be written
    assert len(rows.rows) == 3


def test_a_gradient_without_a_norm_is_an_error_except_where_the_scaler_skips_the_step() -> None:
    records, rows = made_records(16)
    records.add(made_record(1, 0.5, math.inf))
    with pytest.raises(UserError, match="The gradient norm is inf at step 1"):
        records.write(Progress())
    records, rows = made_records(16)
    records.overflow_is_skipped = True
    records.add(made_record(1, 0.5, math.inf))
    records.write(Progress())
    assert rows.rows[0]["update_skipped"] is True


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes loops of vanilla whose figures are fetched so many steps at a time."""

    def make(at_once: int, breaks_at: int | None = None, **schedule: Any) -> TrainingLoop:
        examples, model = make_examples("classification"), make_model("classification")
        method = make_methods("classification", examples, model)["vanilla"]
        loop = make_loop(model, method, examples, cpu_runtime(), tmp_path / str(at_once), max_steps=9, **schedule)
        loop.records.at_once = at_once
        monkeypatch.setattr(step_records, "LONGEST_WAIT", math.inf)
        clip = loop.accelerator.clip_grad_norm_

        def broken(parameters: Any, limit: float) -> Tensor:
            norm: Tensor = clip(parameters, limit)
            return norm * math.nan if loop.progress.step + 1 == breaks_at else norm

        monkeypatch.setattr(loop.accelerator, "clip_grad_norm_", broken)
        return loop

    return make


def kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not name.endswith("_per_s")} for row in rows]


def test_when_figures_are_fetched_changes_nothing_of_what_is_recorded(training: Any) -> None:
    loops = [training(at_once, evaluate_every=4) for at_once in (1, 4)]
    outcomes = [loop.run() for loop in loops]
    one, other = (kept(loop.recorder.rows) for loop in loops)
    assert one == other
    assert [row["kind"] for row in one].count("train") == 9
    assert outcomes[0].progress.recent_losses == outcomes[1].progress.recent_losses


def test_no_checkpoint_holds_what_came_after_a_divergence(training: Any) -> None:
    loop = training(16, breaks_at=4, evaluate_every=8)
    with pytest.raises(UserError, match="The gradient norm is nan at step 4"):
        loop.run()
    assert [row["step"] for row in loop.recorder.rows] == [1, 2, 3]
    later = training(16, breaks_at=4, evaluate_every=8)
    later.cadence.due = lambda step, seconds: step == 5
    with pytest.raises(UserError, match="at step 4"):
        later.run()
    assert later.checkpoints.load_newest() is None


def test_an_error_that_a_divergence_led_to_does_not_hide_it(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = training(16, breaks_at=4, evaluate_every=8)
    plan = loop.method.plan

    def failing(fresh: Any, epoch: float) -> Any:
        if loop.progress.step == 5:
            raise RuntimeError("probabilities are no numbers")
        return plan(fresh, epoch)

    monkeypatch.setattr(loop.method, "plan", failing)
    with pytest.raises(UserError, match="The gradient norm is nan at step 4"):
        loop.run()
