"""Which evaluation of a run counts, and the weights of that time."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor, nn

from selfdistill_cli.config.metrics import improves
from selfdistill_cli.engine.checkpoint import load_trained_weights
from selfdistill_cli.engine.progress import Progress, Scores

log = logging.getLogger(__name__)


class Selection:
    """Keeps the best weights (`keep=best`) and stops a run that no longer gets better (`patience`)."""

    def __init__(self, keep: str, patience: int | None) -> None:
        self.keep = keep
        self.patience = patience
        self.weights: dict[str, Tensor] | None = None
        """Those of the best evaluation, on the CPU; part of every checkpoint."""

    def see(self, progress: Progress, found: Scores, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Take note of an evaluation: of the best score so far, and of what belongs to it, in `progress`.

        A remark is said at once, and not again while evaluations go on to make it.
        """
        for remark in found.remarks:
            if remark not in progress.last_remarks:
                log.info("after step %d: %s", progress.step, remark)
        progress.last_metrics, progress.last_remarks = found.metrics, found.remarks
        if improves(found.main, found.score, progress.best_score):
            progress.best_score, progress.best_step, progress.best_metrics = found.score, progress.step, found.metrics
            progress.best_remarks = found.remarks
            progress.evaluations_without_gain = 0
            if self.keep == "best":
                self.weights = {name: tensor.to("cpu", copy=True) for name, tensor in weights().items()}
        else:
            progress.evaluations_without_gain += 1
            if self.patience and progress.evaluations_without_gain >= self.patience:
                progress.stopped_early = True

    def choose(self, progress: Progress, model: nn.Module) -> tuple[dict[str, float], list[str]]:
        """Put the weights that count into the model; their metrics, and what is to be said of them and of training."""
        if self.weights is not None and progress.best_step != progress.step:
            load_trained_weights(model, self.weights)
        best = self.keep == "best"
        final = progress.best_metrics if best else progress.last_metrics
        assert final is not None
        rise = progress.rise()
        return final, [*(progress.best_remarks if best else progress.last_remarks), *([rise] if rise else [])]
