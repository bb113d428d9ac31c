"""What is known of metrics before anything is computed: which way is better, and which search that asks for.

The one place that says so: the choice of the best epoch, verdicts and best cells of reports, and Optuna ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError

LOSS = "loss"
"""The mean supervised loss on a validation split: computed in every evaluation, and a metric like any other."""
SMALLER_IS_BETTER = frozenset({LOSS, "mse", "mae"})


def larger_is_better(metric: str) -> bool:
    """Whether a larger value of this metric is the better one."""
    return metric not in SMALLER_IS_BETTER


def in_percent(metric: str) -> bool:
    """Whether papers print a hundred times this metric: all that are shares or correlations, and no error."""
    return metric not in SMALLER_IS_BETTER


def improves(metric: str, value: float, best: float | None) -> bool:
    """Whether `value` is better than the best one so far; the first one always is."""
    return best is None or (value > best if larger_is_better(metric) else value < best)


def forgotten(metric: str | None, scores: Sequence[float]) -> float:
    """How much worse the last of a task's scores is than the best of those before it (Chaudhry et al., 2018).

    Negative where what came after made it better. metric: None is one of which more is better.
    """
    *before, last = scores
    if metric is None or larger_is_better(metric):
        return max(before) - last
    return last - min(before)


def asked_metrics(task: DictConfig) -> list[str]:
    """The metrics that the settings name, `task.metric` among them."""
    return list(dict.fromkeys([*(task.metrics or []), *([task.metric] if task.metric else [])]))


def main_metric(task: DictConfig) -> str | None:
    """The main metric that the settings name (`task`: cfg.task); None: the first default of the task's kind."""
    named = task.metric or next(iter(task.metrics or []), None)
    return None if named is None else str(named)


def require_direction(cfg: DictConfig) -> None:
    """Raise `UserError` if Optuna would search for the worst score (`cfg`: with its `hydra` part).

    Every kind's default metric is one of which more is better.
    """
    direction: Any = OmegaConf.select(cfg, "hydra.sweeper.direction", throw_on_missing=False)
    towards = str(getattr(direction, "name", direction)).lower()  # Optuna's own default is an enumeration's member
    if towards not in ("minimize", "maximize"):
        return  # another sweeper, or a search for several values
    metric = main_metric(cfg.task)
    more = metric is None or larger_is_better(metric)
    right = "maximize" if more else "minimize"
    if towards != right:
        of = f"task.metric={metric}" if metric else "this task's metric"
        raise UserError(
            f"hydra.sweeper.direction={towards}: of {of} {'more' if more else 'less'} is better. "
            f"Type hydra.sweeper.direction={right}."
        )
