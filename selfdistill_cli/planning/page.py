"""A plan as text: what is there, what is left, what it takes, and where these figures come from."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfdistill_cli.planning.cells import Cell
from selfdistill_cli.planning.estimates import Estimate, Plan
from selfdistill_cli.sweeps.plan import varied_settings
from selfdistill_cli.sweeps.summary import ABSENT, columns_of_settings
from selfdistill_cli.system import words
from selfdistill_cli.tracking.terminal import about, duration, say, shorter_evaluations, shortest

if TYPE_CHECKING:
    from rich.console import Console

    from selfdistill_cli.tracking.tables import Column


def print_plan(console: Console, plan: Plan, outputs: Path) -> None:
    """Print a row for each run, then what everything that is left takes."""
    from selfdistill_cli.tracking.tables import print_table

    print_table(console, f"Plan: {_counted(plan.cells)}. Nothing was run.", _table(plan))
    for line in [*_totals(plan, outputs), *_sources(plan)]:
        say(console, line)


def _counted(cells: Sequence[Cell]) -> str:
    asked = [cell for cell in cells if cell.jobs]
    teachers = [cell for cell in cells if not cell.jobs]
    told = f"{words.counted(len(asked), 'run')}: {_states(asked)}"
    return told + (f"; {words.counted(len(teachers), 'teacher')}: {_states(teachers)}" if teachers else "")


def _states(cells: Sequence[Cell]) -> str:
    counts = Counter(cell.state for cell in cells)
    return ", ".join(f"{count} {state}" if len(counts) > 1 else state for state, count in counts.items())


def _table(plan: Plan) -> list[Column]:
    from selfdistill_cli.tracking.tables import Column

    rows = list(zip(plan.cells, plan.estimates, strict=True))
    overrides = [cell.overrides for cell in plan.cells if cell.jobs]
    tasks = [str(cell.cfg.task.name) for cell, _ in rows]
    of_stages = [Column("task", tasks)] if not all(cell.known for cell, _ in rows) and len(set(tasks)) > 1 else []
    return [
        Column("job", [",".join(map(str, cell.jobs)) or "teacher" for cell, _ in rows], right=True),
        Column("state", [_state(cell, estimate) for cell, estimate in rows]),
        *of_stages,
        *columns_of_settings([cell.overrides for cell, _ in rows], varied_settings(overrides)),
        Column("steps", [_shown(estimate, lambda e: f"{e.steps:,}") for _, estimate in rows], right=True, leaves=3),
        Column("examples", [_shown(estimate, lambda e: f"{e.examples:,}") for _, estimate in rows], right=True, leaves=2),
        Column("time", [_shown(estimate, lambda e: duration(e.seconds)) for _, estimate in rows], right=True),
        Column("memory", [_shown(estimate, lambda e: size(e.memory_mb * 1e6)) for _, estimate in rows], right=True, leaves=1),
        Column("key", [cell.directory.key if cell.known else ABSENT for cell, _ in rows], leaves=4),
    ]  # fmt: skip


def _state(cell: Cell, estimate: Estimate | None) -> str:
    if estimate is None or not cell.step:
        return cell.state
    return f"at {cell.step:,} of {estimate.total_steps:,}"


def _shown(estimate: Estimate | None, tell: Callable[[Estimate], str]) -> str:
    return ABSENT if estimate is None else tell(estimate)


def _totals(plan: Plan, outputs: Path) -> list[str]:
    left = plan.left
    if not left:
        return ["Nothing is left to do: the command shows what is there."]
    steps, examples = sum(e.steps for e in left), sum(e.examples for e in left)
    disk, most = sum(e.run_bytes for e in left), max(e.checkpoint_bytes for e in left)
    free = shutil.disk_usage(next(path for path in (outputs, *outputs.parents) if path.is_dir())).free
    at_once = plan.side_by_side
    side_by_side = f", {about(plan.seconds_side_by_side)} with {at_once} jobs at once" * (at_once > 1)
    lines = [
        f"Left to do: {about(plan.seconds)}{side_by_side}; {examples:,} examples in {steps:,} steps; "
        f"up to {size(1e6 * max(e.memory_mb for e in left))} of memory.",
        f"On disk: {size(disk)}, and up to {size(most)} of checkpoints while a run trains; {size(free)} are free in "
        f"{shortest(outputs)}.",
    ]
    scoring = sum(e.evaluation_seconds for e in left)
    if scoring > plan.seconds / 2:
        lines.append(
            f"Evaluations are {about(scoring)} of it: "
            f"{shorter_evaluations(any(cell.cfg.task.selection == 'held_out' for cell in plan.cells if cell.left))}."
        )
    if not all(cell.known for cell in plan.cells):
        lines.append(
            "Runs without a key begin from what earlier ones are yet to make, and are counted as if they were there "
            "without it: a round of self-training takes longer, by the answers that it draws and adds."
        )
    if disk + most > free:
        lines.append("That is more than there is room for: paths.outputs=<folder> names another place.")
    return lines


def _sources(plan: Plan) -> list[str]:
    counted = Counter(estimate.source for estimate in plan.left)
    if not counted:
        return []
    told = "; ".join(f"{source} ({words.counted(count, 'run')})" for source, count in counted.items())
    stops = any(cell.left and cell.cfg.schedule.patience is not None for cell in plan.cells)
    early = " With schedule.patience a run may end earlier." * stops
    return [f"Times are from {told}, on this machine as busy as it was then.{early}"]


def size(count: float) -> str:
    """`350 MB`, `1.2 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 999.5e6 else f"{count / 1e6:.0f} MB"
