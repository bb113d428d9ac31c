"""The first screen: what was compared, what came out, what is missing; every difference to vanilla in one figure."""

from __future__ import annotations

from collections.abc import Sequence

from selfdistill_cli.config.metrics import in_percent
from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.differences import EQUAL_COMPUTE, PLAIN, Compared, Comparison
from selfdistill_cli.reports.panels import Intervals, Look, Mark
from selfdistill_cli.reports.rows import Row
from selfdistill_cli.reports.sections.comparison import scale_of
from selfdistill_cli.reports.sentences import finding

LOOKS = {PLAIN: Look(0), EQUAL_COMPUTE: Look(0, 4)}
"""Differences to vanilla are filled, those to vanilla at equal compute hollow."""


NAME = "verdict"
"""Of the table of sentences."""


def section(comparisons: Sequence[Comparison]) -> Section:
    """A sentence a study, and a forest plot of the differences that rest on two seeds or more."""
    rows = []
    for found in comparisons:
        said = finding(found, scale_of(found))
        rows.append([found.study.name, said.said, said.missing])
    parts: list[str | Table | Figure] = [Table(NAME, "", ["study", "what came out", "what is missing"], rows)]
    for unit, members in _by_unit(comparisons):
        parts.append(_forest(members, unit))
    return Section("", "", parts)


def _by_unit(comparisons: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    """Studies whose differences are counted in points together; of other metrics, those of each."""
    found: dict[str, list[Comparison]] = {}
    for one in comparisons:
        if _drawn(one):
            unit = "points" if in_percent(one.study.metric) else one.study.metric
            found.setdefault(unit, []).append(one)
    return list(found.items())


def _drawn(found: Comparison) -> list[Compared]:
    """Not those of a setting that was chosen on the examples that are reported: they stand in the study's table."""
    return [c for c in found.compared if c.difference.seeds > 1 and c.row.unbiased]


def _forest(comparisons: Sequence[Comparison], unit: str) -> Figure:
    counts = {c.difference.seeds for found in comparisons for c in _drawn(found)}
    same = len(counts) == 1
    marks = [mark for found in comparisons for row in found.rows for mark in _marks(found, row, with_seeds=not same)]
    of = f", {counts.pop()} seeds" if same else ""
    panel = Intervals("", f"difference in {unit}, 95 % interval{of}", marks, level=0)
    caption = f"Every difference to vanilla that rests on two seeds or more{'' if same else ' (n seeds)'}. Where an interval holds 0, chance alone may have made it."
    return Figure("forest" if unit == "points" else f"forest-{unit}", caption, [panel])


def _marks(found: Comparison, row: Row, with_seeds: bool) -> list[Mark]:
    """A row's differences to both baselines; to one where vanilla itself forwards as many examples."""
    to = [c for c in _drawn(found) if c.row is row]
    if len({c.against.variant for c in to}) == 1:
        to = to[:1]
    factor = 100 if in_percent(found.study.metric) else 1
    made = []
    for c in to:
        low, high = c.difference.interval
        name = f"{row.name}, n={c.difference.seeds}" if with_seeds else row.name
        made.append(
            Mark(name, LOOKS[c.baseline], factor * c.difference.estimate, factor * low, factor * high,
                 label=f"to {c.baseline}", block=found.study.name)
        )  # fmt: skip
    return made
