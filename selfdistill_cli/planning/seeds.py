"""How many seeds a wanted difference needs, by the spread between seeds that finished runs have shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from selfdistill_cli.config.metrics import in_percent
from selfdistill_cli.planning.cells import Cell
from selfdistill_cli.planning.costs import SIZES
from selfdistill_cli.reports.naming import identity
from selfdistill_cli.reports.runs import read_run, settings_of
from selfdistill_cli.reports.scoring import Scored, scored
from selfdistill_cli.reports.statistics import (
    MOST_SEEDS,
    POWER,
    Spread,
    combined,
    detectable,
    paired_difference,
    pooled,
    resampled,
    seeds_needed,
)
from selfdistill_cli.reports.studies import DATA, PATHS, WEIGHTS, gather, what_is_constant
from selfdistill_cli.reports.variants import Group, Study
from selfdistill_cli.system.words import counted


@dataclass(frozen=True)
class Seen:
    """The spread that the runs of a study have shown."""

    study: str
    metric: str
    spread: Spread
    pairs: int
    """Pairs of methods that it is the mean of."""


def seeds_for(cells: Sequence[Cell], points: float, trial_seed: int | None = None) -> list[str]:
    """In words: how many seeds show a difference of so many points, and what those of this plan show.

    trial_seed: by which settings are chosen, if any are; nothing is compared on it.
    A line for each task and model; the spread is that of the plan's own study, else that of studies of other sizes.
    """
    asked = [cell for cell in cells if cell.jobs]
    lines = []
    for about in {(str(cell.cfg.task.name), str(cell.cfg.model.name)): cell for cell in asked}.values():
        alike = [cell for cell in asked if _place(cell) == _place(about)]
        seen = [found for study in _studies(about) if (found := spread_of(study)) is not None]
        seeds = len({int(cell.cfg.seed) for cell in alike} - {trial_seed})
        lines.append(in_words(seen[0], points, seeds) if seen else _unknown(about, points))
    return lines


def _place(cell: Cell) -> Path:
    return cell.directory.path.parent.parent


def _studies(cell: Cell) -> list[Study]:
    """Of this run's task and model: its own first, then those that differ in sizes and length alone, the largest first."""
    runs = [read_run(file.parent) for file in sorted(_place(cell).glob("*/*/results.json"))]
    node: Any = OmegaConf.to_container(cell.cfg, resolve=True)
    own = what_is_constant(settings_of(node)[0] | {"processes": 1})
    studies = gather(runs).studies
    typed = {run.path: _places(run.settings) for run in runs}  # a study has one spelling for all
    related = [
        study
        for study in studies
        if _but_sizes(_constant(study)) == _but_sizes(own)
        and _places(own) in {typed[run.path] for group in study.groups for run in group.runs.values()}
    ]
    return sorted(related, key=lambda study: _given(_constant(study)) != _given(own))


def _constant(study: Study) -> dict[str, Any]:
    return what_is_constant(study.groups[0].settings)


def _but_sizes(settings: dict[str, Any]) -> str:
    sizes = {f"task.{name}" for name in SIZES}
    return _given(
        {key: value for key, value in settings.items() if key not in sizes and not key.startswith("schedule.")}
    )


def _given(settings: dict[str, Any]) -> str:
    """Equal for equal settings but files (`_places`); one that is null or empty is as one that is not there.

    Which data will be read, and which weights, is not known of a plan.
    """
    unknown = (DATA, WEIGHTS, *PATHS)
    return identity(
        {key: value for key, value in settings.items() if key not in unknown and value not in (None, {}, [])}
    )


def _places(settings: dict[str, Any]) -> tuple[str, ...]:
    """Its files, however their paths are typed."""
    return tuple(str(Path(settings[key]).expanduser().absolute()) if settings.get(key) else "" for key in PATHS)


def spread_of(study: Study) -> Seen | None:
    """The mean over pairs of groups with two common seeds: with vanilla where it is there, else with the first group."""
    metric = study.metric
    groups = [group for group in study.groups if len(group.runs) > 1]
    first, others = groups[:1], groups[1:]
    spreads = [found for group in others if (found := _between(group, first[0], metric)) is not None]
    return Seen(study.name, metric, pooled(spreads), len(spreads)) if spreads else None


def _between(a: Group, b: Group, metric: str) -> Spread | None:
    common = sorted(set(a.runs) & set(b.runs))
    if len(common) < 2:
        return None
    tables = {(of, s): scored(group.runs[s].path / "predictions.parquet", metric) for of, group in enumerate((a, b)) for s in common}  # fmt: skip
    whole: dict[tuple[int, int], Scored] = {key: one for key, one in tables.items() if one is not None}
    if len(whole) < len(tables):  # a metric that no bootstrap is made of: the seeds alone tell
        differences = np.array([a.runs[s].results["score"] - b.runs[s].results["score"] for s in common])
        return combined(differences, np.zeros((len(common), len(common))), 2).spread
    drawn = resampled(whole)
    found = paired_difference({s: drawn[0, s] for s in common}, {s: drawn[1, s] for s in common})
    return None if found is None else found.spread


# --- words ----------------------------------------------------------------------------------------


def in_words(seen: Seen, points: float, seeds: int) -> str:
    """`A difference of 1 point (accuracy; power 0.8) needs 7 seeds a method; the 3 of this command show 1.9. …`"""
    scale = 100 if in_percent(seen.metric) else 1
    wanted = points / scale
    needed = seeds_needed(seen.spread, wanted)
    unit = (" point" if points == 1 else " points") if scale == 100 else ""
    what = f"a difference of {points:g}{unit} in {seen.metric} (power {POWER:g}, two-sided 5 %)"
    if needed is not None:
        said = f"To show {what} takes {counted(needed, 'seed')} a method"
    elif seen.spread.examples == 0:  # of a metric that is not resampled, the seeds alone are known to vary
        said = f"Not even {MOST_SEEDS:,} seeds show {what}"
    else:
        said = f"No number of seeds shows {what}: {seen.spread.size:,} validation examples are too few for it"
    shown = f"the {seeds} of this command show {scale * detectable(seen.spread, seeds):.3g}" if seeds > 1 else (
        "one seed shows nothing about other seeds"
    )  # fmt: skip
    pairs = f"{counted(seen.pairs, 'pair')} of methods"
    return f"{said}; {shown}. The spread is that of {pairs} in {seen.study}."


def _unknown(cell: Cell, points: float) -> str:
    where = f"{cell.directory.path.parts[-4]} · {cell.directory.path.parts[-3]}"
    return (
        f"How many seeds show {counted(points, 'point')} is not known yet: no two methods have finished on two common seeds of "
        f"{where}. Run two methods with seed=0,1 first."
    )
