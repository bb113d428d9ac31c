"""Plans made by hand: what runs take, and the runs that a command would do."""

from __future__ import annotations

from pathlib import Path

from selfdistill_cli.planning.cells import Cell, cells_of
from selfdistill_cli.planning.costs import Cost
from tests.helpers.runs import composed

COST = Cost(
    example_seconds=0.01,
    fresh_per_step=16,
    passes_at_first=1,
    passes=2,
    predicted_per_epoch=0,
    evaluation_seconds=0.002,
    overhead_seconds=3,
    memory_mb=1500,
    run_bytes=90e6,
    step_bytes=1000,
    prediction_bytes=100,
    checkpoint_bytes=700e6,
)


def cells(outputs: Path, *jobs: tuple[str, ...]) -> list[Cell]:
    """The runs of these jobs."""
    return cells_of([(composed(f"paths.outputs={outputs}", *job), job) for job in jobs])
