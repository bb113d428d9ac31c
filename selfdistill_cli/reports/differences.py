"""Every row of a study against its baselines: vanilla, and vanilla at equal compute; corrected for their number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.reports.rows import Row, best_vanillas, rows
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.scoring import scored
from selfdistill_cli.reports.statistics import (
    LEVEL,
    Difference,
    Resampled,
    Spread,
    holm,
    paired_difference,
    pooled,
    resampled,
)
from selfdistill_cli.reports.variants import Group, Study, of_equal_compute

PLAIN = "vanilla"
EQUAL_COMPUTE = "vanilla at equal compute"
BASELINES = (PLAIN, EQUAL_COMPUTE)


@dataclass(frozen=True)
class Compared:
    """One row against one baseline."""

    row: Row
    baseline: str
    """PLAIN or EQUAL_COMPUTE."""
    against: Group
    difference: Difference
    corrected: float | None
    """p after Holm's correction; None where nothing may be concluded: of one seed, or of a setting that was chosen on
    the examples that are reported."""
    metric: str

    @property
    def test(self) -> tuple[Any, ...]:
        """The same for equal tests: the same runs against the same runs."""
        return _test(self.row, self.against)

    @property
    def verdict(self) -> Literal["", "better", "worse"]:
        """What may be said of it."""
        return verdict(self.difference, self.corrected, self.metric)


@dataclass(frozen=True)
class Comparison:
    """What the tables, figures and sentences of a study stand on."""

    study: Study
    rows: list[Row]
    compared: list[Compared]
    not_compared: dict[str, str]
    """Which rows with which baseline, in words, and why."""

    def of(self, row: Row, baseline: str) -> Compared | None:
        """A row's difference to a baseline, where it has one."""
        return next((c for c in self.compared if c.row is row and c.baseline == baseline), None)

    @property
    def tests(self) -> list[Compared]:
        """One where both baselines are the same runs, or the default setting is the best one too."""
        return list({c.test: c for c in reversed(self.compared)}.values())[::-1]

    @property
    def spread(self) -> Spread | None:
        """Of differences to vanilla, the mean over methods; None if all have one seed."""
        known = [c.difference.spread for c in self.compared if c.baseline == PLAIN and c.difference.spread]
        return pooled(known) if known else None


def verdict(difference: Difference, corrected: float | None, metric: str) -> Literal["", "better", "worse"]:
    """Better or worse where the corrected p is below LEVEL; else nothing."""
    if corrected is None or corrected >= LEVEL:
        return ""
    return "better" if (difference.estimate > 0) == larger_is_better(metric) else "worse"


def compare(study: Study) -> Comparison:
    """Paired over common seeds and validation examples, Holm-corrected over all differences of the study.

    One difference that stands for both baselines is one test; and so is one that stands in two rows.
    """
    shown = rows(study)
    pairs = [
        (row, baseline, row.group, other)
        for row in shown
        if row.group is not None
        for baseline, other in baselines(study, row).items()
    ]
    samples = _samples([group for _, _, mine, theirs in pairs for group in (mine, theirs)])
    found: list[tuple[Row, str, Group, Difference]] = []
    not_compared: dict[str, str] = {}
    for row, baseline, mine, theirs in pairs:
        a, b = ({seed: one for seed, one in samples[g.variant].items() if seed in g.runs} for g in (mine, theirs))
        difference = paired_difference(a, b) if a and b else None
        if difference is None:
            why = "they have no seed in common, or other validation examples"
            if not a or not b:
                why = f"{study.metric} cannot be told again from resampled predictions"
            not_compared[f"{row.name} is not compared with {baseline}"] = why
            continue
        found.append((row, baseline, theirs, difference))
    tested = {_test(row, against): d.p for row, _, against, d in found if d.seeds > 1 and row.unbiased}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    compared = [
        Compared(row, baseline, against, d, corrected.get(_test(row, against)) if row.unbiased else None, study.metric)
        for row, baseline, against, d in found
    ]
    return Comparison(study, shown, compared, not_compared)


def _test(row: Row, against: Group) -> tuple[Any, ...]:
    return tuple((group.variant, *group.runs) for group in (*row.groups, against))


def baselines(study: Study, row: Row) -> dict[str, Group]:
    """What a row is compared with, by PLAIN and EQUAL_COMPUTE, as far as it is there.

    A setting that was chosen is compared with vanilla's best, where vanilla was swept as well; else with vanilla under
    the same schedule.
    """
    group = row.group
    if group is None:
        return {}
    best = best_vanillas(study) if row.chosen_of else []
    plain = next((other for other in best if other.settings["method.passes"] == 1), None)
    both = {
        PLAIN: plain or study.baseline(group),
        EQUAL_COMPUTE: of_equal_compute(best, group) or study.equal_compute_baseline(group),
    }
    return {name: other for name, other in both.items() if other is not None and other.variant != group.variant}


def _samples(groups: Iterable[Group]) -> dict[str, dict[int, Resampled]]:
    """By variant: each seed's resampled metric. Empty where the metric is no function of sums over examples."""
    needed: dict[str, dict[int, Run]] = defaultdict(dict)
    for group in groups:
        needed[group.variant] |= group.runs  # what was chosen stands there without a seed that others have
    ready = {
        (variant, seed): one
        for variant, runs in needed.items()
        for seed, run in runs.items()
        if (one := scored(run.path / "predictions.parquet", str(run.results["metric"]))) is not None
    }
    drawn = resampled(ready)
    return {variant: {seed: one for (name, seed), one in drawn.items() if name == variant} for variant in needed}
