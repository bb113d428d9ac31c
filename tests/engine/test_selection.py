"""Which evaluation is the best one, by the direction of the metric; and what is said of a run that went wrong."""

from __future__ import annotations

import logging

import hydra.utils
import pytest
from hydra_plugins.hydra_optuna_sweeper.config import Direction
from omegaconf import DictConfig
from torch import nn

from selfdistill_cli.config.metrics import require_direction
from selfdistill_cli.engine.checkpoint import trained_weights
from selfdistill_cli.engine.progress import Progress, Scores
from selfdistill_cli.engine.selection import Selection
from selfdistill_cli.errors import UserError
from tests.helpers.given_logits import classification
from tests.helpers.runs import composed


def chosen(metric: str, values: list[float], patience: int | None = None, begins_at: float = 0) -> Progress:
    """The progress of a run whose evaluations, one a step, found these values."""
    progress, selection = Progress(), Selection("best", patience, begins_at)
    for value in values:
        progress.step += 1
        selection.see(progress, Scores({metric: value}, metric, {}), dict)
        if progress.stopped_early:
            break
    return progress


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 2), ("loss", 3), ("mse", 3), ("mae", 3), ("pearson", 2)])
def test_the_best_evaluation_is_the_largest_or_the_smallest(metric: str, best: int) -> None:
    progress = chosen(metric, [0.5, 0.9, 0.2, 0.7])
    assert progress.best_step == best
    assert progress.evaluations_without_gain == 4 - best


def test_patience_counts_what_is_no_gain_in_the_metrics_direction() -> None:
    assert chosen("loss", [0.5, 0.4, 0.45, 0.5, 0.1], patience=2).step == 4
    assert chosen("accuracy", [0.5, 0.4, 0.45, 0.5], patience=2).step == 3


def test_a_remark_is_said_when_it_arises_and_kept_with_the_weights_it_is_of(caplog: pytest.LogCaptureFixture) -> None:
    progress, selection, model = Progress(), Selection("best", None), nn.Linear(1, 1)
    with caplog.at_level(logging.INFO):
        for accuracy, remarks in ((0.5, ["all 'yes'"]), (0.4, ["all 'yes'"]), (0.8, []), (0.7, ["all 'no'"])):
            progress.step += 1
            selection.see(
                progress, Scores({"accuracy": accuracy}, "accuracy", {}, remarks), lambda: trained_weights(model)
            )
    assert [record.getMessage() for record in caplog.records] == ["after step 1: all 'yes'", "after step 4: all 'no'"]
    assert selection.choose(progress, model) == ({"accuracy": 0.8}, [])
    assert Selection("last", None).choose(progress, model) == ({"accuracy": 0.7}, ["all 'no'"])


def test_a_loss_that_ends_far_above_its_beginning_is_said() -> None:
    def after(losses: list[float]) -> str | None:
        progress = Progress()
        for loss in losses:
            progress.stepped(8, 80)
            progress.saw(0.1, loss)
        assert (progress.step, progress.examples_forwarded) == (len(losses), 8 * len(losses))
        return progress.rise()

    assert after([0.7] * 20) is None
    assert after([0.7 - 0.01 * step for step in range(60)]) is None
    said = after([0.7] * 100 + [5.0] * 100)
    assert said == "the training loss ended at 5, far above the 0.7 where it began"
    assert after([0.7] * 11 + [9.0]) is None  # one step says nothing
    assert after([0.7] * 25 + [5.0, 5.0] + [0.7] * 3) is None  # nor does what is over


@pytest.mark.parametrize(
    ("metric", "direction", "right"),
    [("null", "minimize", "maximize"), ("mse", "maximize", "minimize"), ("loss", "maximize", "minimize")],
)
def test_a_search_for_the_worst_score_is_refused(metric: str, direction: str, right: str) -> None:
    def search(towards: str) -> None:
        task = {"metric": None if metric == "null" else metric, "metrics": None}
        require_direction(DictConfig({"task": task, "hydra": {"sweeper": {"direction": towards}}}))

    search(right)
    with pytest.raises(UserError, match=f"Type hydra.sweeper.direction={right}"):
        search(direction)
    require_direction(DictConfig({"task": {"metric": None, "metrics": ["mse"]}, "hydra": {"sweeper": {}}}))
    enumerated = DictConfig({"task": {"metric": "f1"}, "hydra": {"sweeper": {"direction": Direction.minimize}}})
    with pytest.raises(UserError, match=r"of task\.metric=f1 more is better"):  # what Optuna's plugin does unasked
        require_direction(enumerated)


def test_the_best_evaluation_is_one_after_the_method_began() -> None:
    """In the first two steps it is plain training: its score is never the method's."""
    progress = chosen("accuracy", [0.6, 0.9, 0.7, 0.8, 0.75], begins_at=2)
    assert (progress.best_step, progress.best_score) == (4, 0.8)
    assert (progress.early_step, progress.early_score) == (2, 0.9)
    _, remarks = Selection("best", None, 2).choose(progress, nn.Linear(1, 1))
    assert remarks == ["before the method began accuracy was 0.9000 (step 2), better than the 0.8000 chosen after it"]
    _, remarks = Selection("last", None, 2).choose(progress, nn.Linear(1, 1))
    assert remarks == []


def test_patience_does_not_count_what_came_before_the_method_began() -> None:
    assert chosen("accuracy", [0.9, 0.8, 0.7, 0.5, 0.4, 0.3], patience=2, begins_at=3).step == 6


def test_training_that_ends_before_the_method_began_keeps_its_last_weights() -> None:
    progress = chosen("loss", [0.5, 0.4, 0.6], begins_at=9)
    metrics, _ = Selection("best", None, 9).choose(progress, nn.Linear(1, 1))
    assert metrics == {"loss": 0.6}
    assert (progress.best_step, progress.best_score) == (3, 0.6)


@pytest.mark.parametrize(
    ("words", "begins_at"),
    [
        (("method=vanilla",), 0),
        (("method=static_sd", "method.start_epoch=1.5"), 1.5),
        (("method=dcs", "method.warmup_epochs=2"), 2),
        (("method=reweight",), 1),
    ],
)
def test_methods_say_when_they_begin(words: tuple[str, ...], begins_at: float) -> None:
    settings = composed(*words).method
    own = {key: value for key, value in settings.items() if key not in ("name", "passes", "teacher")}
    assert hydra.utils.instantiate(own, _partial_=True)(context=classification()).begins_at == begins_at
