"""When the next checkpoint is due: by steps, epochs or minutes as asked, or so that all of them cost little time."""

from __future__ import annotations

from selfdistill_cli.config.checks import checkpoint_interval

COST_SHARE = 0.02
"""`auto`: the share of a run's time that checkpoints may take."""
SHORTEST_SECONDS = 30.0
"""`auto`: checkpoints of small models are not written more often."""
BYTES_PER_SECOND = 250e6
"""The speed assumed for the first checkpoint, before one was measured: that of an ordinary disk, flushed."""


class CheckpointCadence:
    """Follows one run and answers whether a checkpoint is due. Times are seconds of the run's own clock."""

    def __init__(self, every: str, steps_per_epoch: int, state_bytes: int) -> None:
        amount, self.unit = checkpoint_interval(every)
        self.steps = amount * steps_per_epoch if self.unit == "epochs" else amount
        self.seconds = 60 * amount
        self.cost = state_bytes / BYTES_PER_SECOND  # of the next checkpoint
        self.saved_step, self.saved_at = 0, 0.0

    def due(self, step: int, now: float) -> bool:
        """Whether to write a checkpoint after this step."""
        if self.unit in ("steps", "epochs"):
            return step - self.saved_step >= self.steps
        return now - self.saved_at >= (self.interval if self.unit == "auto" else self.seconds)

    @property
    def interval(self) -> float:
        """`auto`: seconds between checkpoints, of which the next one takes COST_SHARE."""
        return max(SHORTEST_SECONDS, self.cost / COST_SHARE)

    def saved(self, step: int, now: float, cost: float | None = None) -> None:
        """A checkpoint of this step exists since `now`; writing it took `cost` seconds."""
        self.saved_step, self.saved_at = step, now
        if cost is not None:
            self.cost = cost
