"""What runs cost, so that methods are compared at equal cost: examples forwarded, or floating-point operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.runs.costs import total_compute

EXAMPLES, FLOPS = "examples", "flops"
UNITS = {EXAMPLES: "examples forwarded", FLOPS: "floating-point operations"}
"""What a cost may be counted in, and in words."""


def forwarded(results: Mapping[str, Any]) -> float:
    """Examples through a forward pass in training, for the method's predictions, and for its teachers."""
    return float(total_compute(results).forward)


def flops(results: Mapping[str, Any]) -> float | None:
    """Floating-point operations of the same; None: an earlier version did not count them."""
    return total_compute(results).flops


def counted_in(runs: Sequence[Run], unit: str) -> list[Run]:
    """These runs, their cost counted in this unit. Raises `UserError` if it is not known of one that finished."""
    if unit == FLOPS:
        unknown = [run for run in runs if run.finished and flops(run.results) is None]
        if unknown:
            raise UserError(
                f"--match {FLOPS}: operations were not counted in {len(unknown)} of these runs or of their teachers, which "
                f"an earlier version made (the first: {unknown[0].path}). Do them again with rerun=true, or leave --match "
                "out: it compares by examples forwarded."
            )
    return [replace(run, cost_unit=unit) for run in runs]


def cost(run: Run) -> float:
    """Of a finished run, its teachers included, in its unit."""
    if run.cost_unit == EXAMPLES:
        return forwarded(run.results)
    operations = flops(run.results)
    assert operations is not None, "counted_in refuses such runs"
    return float(operations)
