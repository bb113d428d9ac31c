"""Length of a run, evaluation points, weight decay groups, learning-rate curves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from selfdistill_cli.config.checks import checkpoint_interval, evaluation_steps
from selfdistill_cli.engine.checkpoint import Checkpoints
from selfdistill_cli.engine.optimization import make_lr_scheduler, make_optimizer, restore_optimizer
from selfdistill_cli.engine.progress import total_steps
from selfdistill_cli.errors import UserError


def schedule(**changes: Any) -> Any:
    values = {
        "epochs": 3,
        "max_steps": None,
        "optimizer": "adamw",
        "lr": 0.1,
        "weight_decay": 0.01,
        "warmup_ratio": 0.1,
        "scheduler": "linear",
    }
    return OmegaConf.create(values | changes)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 30),
        ({"epochs": 0.25}, 3),  # 2.5 steps: the fraction is finished
        ({"max_steps": 7}, 7),
        ({"epochs": 0}, 0),
    ],
)
def test_total_steps(changes: dict[str, Any], steps: int) -> None:
    assert total_steps(schedule(**changes), 10) == steps


@pytest.mark.parametrize(("every", "steps"), [("epoch", 10), (0.5, 5), (0.01, 1), (1, 1), (200, 200)])
def test_evaluation_points(every: Any, steps: int) -> None:
    assert evaluation_steps(every, steps_per_epoch=10) == steps


@pytest.mark.parametrize("every", ["never", 0, -1, 1.5, True, None])
def test_other_evaluation_points_are_refused(every: Any) -> None:
    with pytest.raises(UserError, match="evaluate_every"):
        evaluation_steps(every, 10)


def test_checkpoint_intervals() -> None:
    assert checkpoint_interval("2 minutes") == (2.0, "minutes")
    assert checkpoint_interval("1 epoch") == (1.0, "epochs")
    for wrong in ("often", "0 steps", "5", "-1 minutes"):
        with pytest.raises(UserError, match="checkpoint_every"):
            checkpoint_interval(wrong)


def test_biases_and_normalisation_weights_have_no_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    decayed, plain = make_optimizer(model, schedule()).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 4)]
    assert decayed["weight_decay"] == 0.01
    assert len(plain["params"]) == 3
    assert plain["weight_decay"] == 0


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_every_optimizer_lowers_a_loss(optimizer: str) -> None:
    torch.manual_seed(0)
    model, x = torch.nn.Linear(4, 1), torch.randn(16, 4)
    opt = make_optimizer(model, schedule(optimizer=optimizer, lr=0.05))
    losses = []
    for _ in range(20):
        loss = (model(x) - 1).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("name", "middle", "end"), [("linear", 0.5, 0.0), ("cosine", 0.5, 0.0), ("constant", 1.0, 1.0)]
)
def test_learning_rate_rises_then_follows_its_curve(name: str, middle: float, end: float) -> None:
    optimizer = make_optimizer(torch.nn.Linear(2, 2), schedule(lr=1.0))
    scheduler = make_lr_scheduler(optimizer, schedule(scheduler=name), total_steps=100)
    rates = []
    for _ in range(101):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[0] == 0
    assert rates[5] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(middle)
    assert rates[100] == pytest.approx(end)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_an_optimizer_of_bfloat16_weights_goes_on_from_a_checkpoint_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8, dtype=torch.bfloat16)
    gradients = [[torch.randn_like(p) for p in model.parameters()] for _ in range(20)]
    own = make_optimizer(model, schedule(optimizer=optimizer))
    stepped(model, own, gradients[:10])
    Checkpoints(tmp_path).save(10, {"optimizer": own.state_dict()})
    other = copy.deepcopy(model)
    again = make_optimizer(other, schedule(optimizer=optimizer))
    saved = Checkpoints(tmp_path).load_newest()
    assert saved is not None
    restore_optimizer(again, saved["optimizer"])
    stepped(model, own, gradients[10:])
    stepped(other, again, gradients[10:])
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def stepped(model: torch.nn.Module, optimizer: torch.optim.Optimizer, gradients: list[list[torch.Tensor]]) -> None:
    for step in gradients:
        for parameter, gradient in zip(model.parameters(), step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
