"""Regression: one number an example. Outputs [m], squared error; a prediction is the mean of a Gaussian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.config.methods import declared
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.labelled import OF_NUMBERS, LabelledKind

if TYPE_CHECKING:
    import numpy as np

    from selfdistill_cli.losses.labelled import RegressionLosses
    from selfdistill_cli.tasks import TaskData


class Regression(LabelledKind):
    """Labels are floats."""

    name = "regression"
    metrics = OF_NUMBERS
    default_metrics = ("pearson", "spearman")

    def check(self, cfg: DictConfig, labels: Sequence[str] | None = None) -> None:
        super().check(cfg, labels)
        if getattr(declared(cfg.method), "needs_distribution", False):
            raise UserError(
                f"method={cfg.method.name} reads a distribution over classes, and a regression predicts a single number. "
                "Use it with classification, generation or multiple choice."
            )
        if cfg.method.get("standardize"):
            raise UserError(
                "method.standardize=true: a regression predicts a single number, which has no spread to be set to 1."
            )
        if cfg.method.get("discrimination") == "margin":
            raise UserError(
                "method.discrimination=margin reads class probabilities, and a regression task has none. Allowed is gold."
            )

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """Deciles."""
        import numpy as np

        return np.argsort(np.argsort(labels, kind="stable")) * 10 // len(labels)

    def head(self, label_names: Sequence[str]) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def losses(self, task: TaskData, model: Any) -> RegressionLosses:
        from selfdistill_cli.losses.labelled import RegressionLosses

        return RegressionLosses(task.label_range)

    def shown(self, task: TaskData, logits: Any) -> dict[str, Sequence[Any]]:
        return {"prediction": [float(f"{value:.7g}") for value in logits.tolist()]}  # what float32 knows
