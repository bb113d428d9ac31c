"""What a run cost, with all that had to be done before it: its teacher, earlier rounds of self-training.

Imports nothing heavy at the top: launchers read results before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.self_training.rounds import ABOUT
from selfdistill_cli.system.files import read_json

if TYPE_CHECKING:
    from selfdistill_cli.engine.compute import Compute


def compute_by_part(own: Compute, teacher: Path | None, added: Path | None = None) -> dict[str, Passes]:
    """What a run computed by part, what its teacher took to make where a run of ours made it, and the total.

    added: the file of what a round of self-training drew; the rounds before and their drawing are part of its cost.
    """
    parts = {"training": Passes(), **own.parts}
    if teacher is not None:
        parts["teacher"] = parts.get("teacher", Passes()) + _total_of(teacher.parent)
    drawn = None if added is None else read_json(added.with_name(ABOUT))
    if added is not None and drawn is not None:
        parts["earlier_rounds"] = _total_of(added.parent.parent.parent) + _drawing(drawn)  # <run>/rounds/<key>/<file>
    total = sum((passes for name, passes in parts.items() if name != "evaluation"), Passes())
    return {**parts, "total": total}


def total_compute(results: Mapping[str, Any]) -> Passes:
    """What a results.json says the run cost, its teachers included; of an earlier version, what it knows of that:
    examples of its training and its teacher's, and its own tokens."""
    if "compute" in results:
        return Passes.of(results["compute"]["total"])
    forwarded = results["examples_forwarded"] + ((results.get("teacher") or {}).get("examples_forwarded") or 0)
    return Passes(forwarded, forwarded, results.get("tokens", 0), None)


def _total_of(run: Path) -> Passes:
    """Of a folder that is no run of ours, nothing is known, and nothing counted."""
    results = read_json(run / "results.json")
    return Passes() if results is None else total_compute(results)


def _drawing(drawn: dict[str, Any]) -> Passes:
    """Of a round.json; an earlier version did not count operations."""
    if "compute" in drawn:
        return Passes.of(drawn["compute"])
    return Passes(forward=drawn["drawn"], tokens=drawn["generated_tokens"], flops=None)
