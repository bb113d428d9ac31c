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
    """What makes the run's probes, once its number of steps is known."""
    names = diagnostics_of(runtime.settings.diagnostics)

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
    first = split.take(np.arange(min(MOST_EXAMPLES, len(split))))
    tokens = task.kind.encode(task, loaded, first).predicted
    if first.choices is not None:  # each is a row of its own
        sizes = np.array([len(offered) for offered in first.choices])
        tokens = np.add.reduceat(tokens, sizes.cumsum() - sizes)
    few = task.kind.encode(task, loaded, first.take(np.arange(examples_within_memory(tokens, len(loaded.tokenizer)))))

    def keep(rows: TokenRows) -> TokenRows:
        return TokenRows(rows.lengths, {"log_p": losses.log_probabilities(rows).float()}).cpu()

    def predict(model: nn.Module) -> TokenRows:
        found: TokenRows = runtime.predict(model, few, keep)
        return found

    return predict
