"""Which looks into training a run takes: `runtime.diagnostics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from omegaconf import DictConfig
from torch import nn

from selfdistill_cli.config.checks import diagnostics_of
from selfdistill_cli.diagnostics.maps import MOST_EXAMPLES, examples_within_memory, retention
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.prediction import predict
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.probes import AgainProbe, ExampleProbe, GradientProbe, Probe
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.labelled import Terms
from selfdistill_cli.models import LoadedModel
from selfdistill_cli.problem import encode_split
from selfdistill_cli.tasks import TaskData


def make_probes(
    cfg: DictConfig,
    task: TaskData,
    loaded: LoadedModel,
    terms: Terms,
    batching: Batching,
    accelerator: Accelerator,
) -> Callable[[int], Sequence[Probe]]:
    """What makes the run's probes, once its number of steps is known. Raises `UserError` if one does not fit the task."""
    names = diagnostics_of(cfg.runtime.diagnostics)
    if "maps" in names and not task.is_language_modeling:
        raise UserError(
            "runtime.diagnostics=maps compares vocabulary maps, which only generation and multiple choice have. "
            "Allowed here are gradients, examples."
        )

    def make(total_steps: int) -> Sequence[Probe]:
        makers: dict[str, Callable[[], Probe]] = {
            "gradients": lambda: GradientProbe(total_steps, accelerator),
            "examples": ExampleProbe,
            "maps": lambda: _map_probe(cfg, task, loaded, terms, batching, accelerator, total_steps),
        }
        return [makers[name]() for name in names]

    return make


def _map_probe(
    cfg: DictConfig,
    task: TaskData,
    loaded: LoadedModel,
    terms: Any,
    batching: Batching,
    accelerator: Accelerator,
    total_steps: int,
) -> Probe:
    """The first validation examples, their gold answers forced, dropout off."""
    split = task.validation[0]
    whole = encode_split(
        cfg.task, task, loaded.model, loaded.tokenizer, split.take(np.arange(min(MOST_EXAMPLES, len(split))))
    )
    count = examples_within_memory(whole.labels, len(loaded.tokenizer))
    few = encode_split(cfg.task, task, loaded.model, loaded.tokenizer, split.take(np.arange(count)))

    def keep(rows: TokenRows) -> TokenRows:
        return TokenRows(rows.lengths, {"log_p": terms.log_probabilities(rows).float()}).cpu()

    def predicted(model: nn.Module) -> TokenRows:
        found: TokenRows = predict(model, few, batching, accelerator, keep)
        return found

    return AgainProbe("maps", total_steps, predicted, retention, terms.to_state, terms.from_state)
