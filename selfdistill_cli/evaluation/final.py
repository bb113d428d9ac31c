"""What the chosen model scores at the end: on what chose it, on what is reported, and on a test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from torch import nn

from selfdistill_cli.engine.progress import Outcome
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.base import Evaluator

VALIDATION, TEST = "validation", "test"
"""What may be scored at the end alone."""


@dataclass(frozen=True)
class Final:
    """Scores of the weights that are kept."""

    outcome: Outcome
    reported: dict[str, float]
    """All metrics of the validation splits."""
    selected: dict[str, float] | None
    """Those of the held-out part that selected; None where the first validation split did."""
    test: dict[str, float] | None
    remarks: list[str]
    predictions: list[pa.Table]
    """Of the validation splits, and last of the test set."""

    @property
    def metrics(self) -> dict[str, Any]:
        """As results.json has them: `best` and `last` are of what selects."""
        progress = self.outcome.progress
        found: dict[str, Any] = {"final": self.reported, "best": progress.best_metrics, "last": progress.last_metrics}
        more = {"selection": self.selected, "test": self.test}
        return found | {name: scores for name, scores in more.items() if scores is not None}


def final_scores(
    model: nn.Module, outcome: Outcome, while_training: Evaluator, at_the_end: Mapping[str, Evaluator]
) -> Final:
    """Score the chosen weights, which are in the model, on what no evaluation has seen yet.

    Where nothing is held out, the reported split was scored while training: its scores of then count. Raises
    `UserError` if a prediction is not a finite number.
    """
    try:
        found = {name: evaluator.scored(model) for name, evaluator in at_the_end.items()}
    except FloatingPointError as error:
        raise UserError(
            f"{error} with the chosen weights. Try a lower schedule.lr or runtime.precision=fp32."
        ) from error
    scores = {name: of_split for name, (of_split, _) in found.items()}
    validation, test = scores.get(VALIDATION), scores.get(TEST)
    shown = found[VALIDATION][1] if VALIDATION in found else while_training.predictions(model)
    return Final(
        outcome=outcome,
        reported=outcome.final_metrics if validation is None else validation.metrics,
        selected=None if validation is None else outcome.final_metrics,
        test=None if test is None else test.metrics,
        remarks=[*outcome.remarks, *(remark for of_split in scores.values() for remark in of_split.remarks)],
        predictions=[*shown, *(found[TEST][1] if TEST in found else [])],
    )
