"""Which diagnostics a run records: `runtime.diagnostics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from selfdistill_cli.config.checks import diagnostics_of
from selfdistill_cli.diagnostics.gradients import GradientProbe
from selfdistill_cli.diagnostics.maps import MOST_EXAMPLES, MapProbe, examples_within_memory
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.probes import Probe
from selfdistill_cli.engine.results import StepResult
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.errors import UserError
from selfdistill_cli.models import LoadedModel
from selfdistill_cli.tasks import TaskData


class ExampleProbe:
    """What the method computed of single examples, τ_i and α_i and the signals behind them, in every step."""

    kind = "examples"

    def observe(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        columns = result.per_example
        rounded = {name: [round(value, 5) for value in values] for name, values in columns.items()}
        return {**rounded, "examples": columns["examples"]} if columns else None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def make_probes(task: TaskData, loaded: LoadedModel, losses: Any, runtime: Runtime) -> Callable[[int], Sequence[Probe]]:
    """What makes the run's probes, once its number of steps is known. Raises `UserError` if one does not fit the task."""
    names = diagnostics_of(runtime.settings.diagnostics)
    allowed = task.kind.diagnostics
    for name in names:
        if name not in allowed:
            raise UserError(
                f"runtime.diagnostics={name} compares vocabulary maps, which only generation and multiple choice have. "
                f"Allowed here are {', '.join(allowed)}."
            )

    def make(total_steps: int) -> Sequence[Probe]:
        makers: dict[str, Callable[[], Probe]] = {
            "gradients": lambda: GradientProbe(total_steps, runtime.accelerator),
            "examples": ExampleProbe,
            "maps": lambda: MapProbe(total_steps, _predict_few(task, loaded, losses, runtime)),
        }
        return [makers[name]() for name in names]

    return make


def _predict_few(
    task: TaskData, loaded: LoadedModel, losses: Any, runtime: Runtime
) -> Callable[[nn.Module], TokenRows]:
    """Predicts the first validation examples, their gold answers forced, dropout off."""
    split = task.validation[0]
    whole = task.kind.encode(task, loaded, split.take(np.arange(min(MOST_EXAMPLES, len(split)))))
    count = examples_within_memory(whole.predicted, len(loaded.tokenizer))
    few = task.kind.encode(task, loaded, split.take(np.arange(count)))

    def keep(rows: TokenRows) -> TokenRows:
        return TokenRows(rows.lengths, {"log_p": losses.log_probabilities(rows).float()}).cpu()

    def predict(model: nn.Module) -> TokenRows:
        found: TokenRows = runtime.predict(model, few, keep)
        return found

    return predict
