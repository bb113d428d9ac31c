"""Curves over training: thinned out, put on common places, summed up over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

POINTS = 100
"""A run's steps are thinned out to so many, each the mean of its neighbours."""
ABSENT = float("nan")
TIMES = ("examples_per_s", "tokens_per_s")


def thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `POINTS` rows, each with the means of as many consecutive ones; where a value is absent it is passed over."""
    if not rows:
        return []
    names = sorted(
        {name for row in rows for name, value in row.items() if isinstance(value, (int, float))} - set(TIMES)
    )
    groups = np.array_split(np.arange(len(rows)), min(POINTS, len(rows)))
    starts = [group[0] for group in groups]
    found: list[dict[str, Any]] = [{} for _ in groups]
    for name in names:
        values = np.array([row.get(name, ABSENT) for row in rows], dtype=np.float64)
        there = np.array([name in row for row in rows])
        sums, counts = np.add.reduceat(np.where(there, values, 0), starts), np.add.reduceat(there.astype(int), starts)
        for place in np.flatnonzero(counts):
            found[place][name] = float(f"{sums[place] / counts[place]:.6g}")
    return found


def series(rows: Sequence[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Where and how large a value is: [k], [k]; empty if no row has it."""
    pairs = [(row["epoch"], row[name]) for row in rows if name in row and "epoch" in row]
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def over_seeds(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, mean and standard deviation over seeds, on the places of the first curve that all reach. [k] each."""
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return np.empty(0), np.empty(0), np.empty(0)
    end = min(places[-1] for places, _ in curves)
    places = curves[0][0][curves[0][0] <= end + 1e-9]
    values = np.stack([np.interp(places, x, y) for x, y in curves])
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(places))
    return places, values.mean(0), spread
