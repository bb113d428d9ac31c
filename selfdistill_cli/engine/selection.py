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

    def __init__(self, keep: str, patience: int | None, begins_at: float = 0.0) -> None:
        """`begins_at`: the step at which the method departs from plain training; evaluations up to it are not chosen."""
        self.keep = keep
        self.patience = patience
        self.begins_at = begins_at
        self.weights: dict[str, Tensor] | None = None
        """Those of the best evaluation, on the CPU; part of every checkpoint."""

    def see(self, progress: Progress, found: Scores, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Take note of an evaluation: of the best score so far, and of what belongs to it, in `progress`.

        A remark is said at once, and not again while evaluations go on to make it.
        """
        for remark in found.remarks:
            if remark not in progress.last_remarks:
                log.info("after step %d: %s", progress.step, remark)
        progress.main, progress.last_metrics, progress.last_remarks = found.main, found.metrics, found.remarks
        if 0 < progress.step <= self.begins_at:
            if improves(found.main, found.score, progress.early_score):
                progress.early_score, progress.early_step = found.score, progress.step
        elif improves(found.main, found.score, progress.best_score):
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
        """Put the weights that count into the model; their metrics, and what is to be said of them and of training.

        Where training ended before the method began, those are the last ones.
        """
        if progress.best_metrics is None and progress.last_metrics is not None:
            progress.best_step, progress.best_metrics = progress.step, progress.last_metrics
            progress.best_score, progress.best_remarks = progress.last_metrics[progress.main], progress.last_remarks
        if self.weights is not None and progress.best_step != progress.step:
            load_trained_weights(model, self.weights)
        best = self.keep == "best"
        final = progress.best_metrics if best else progress.last_metrics
        assert final is not None
        of_training = [words for words in (self._better_before(progress), progress.rise()) if words]
        return final, [*(progress.best_remarks if best else progress.last_remarks), *of_training]

    def _better_before(self, progress: Progress) -> str | None:
        """In words, that plain training was ahead before the method began; None if it was not, or nothing is chosen."""
        early = progress.early_score
        if self.keep != "best" or early is None or not improves(progress.main, early, progress.best_score):
            return None
        return (
            f"before the method began {progress.main} was {early:.4f} (step {progress.early_step}), better than the "
            f"{progress.best_score:.4f} chosen after it"
        )
