"""What a report compares: groups of runs that differ in the seed alone, side by side in a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from selfdistill_cli.reports.compute import cost
from selfdistill_cli.reports.numbers import count
from selfdistill_cli.reports.origins import ROUND
from selfdistill_cli.reports.panels import Look
from selfdistill_cli.reports.runs import Run, Settings

BASELINE = "vanilla"
SAME_COMPUTE = 0.05
"""Two groups whose costs differ by at most this share count as equal in compute."""


@dataclass(frozen=True)
class Group:
    """Runs of one variant on one task, which differ in the seed alone. Nothing else is ever averaged."""

    task: str
    """The task's name, or the name of a user's file."""
    variant: str
    """Unique in its study, and named by what differs there."""
    runs: dict[int, Run]
    """By seed."""

    @property
    def first(self) -> Run:
        """Any of them: for what they share."""
        return next(iter(self.runs.values()))

    @property
    def settings(self) -> Settings:
        """What they share."""
        return self.first.settings

    @property
    def is_vanilla(self) -> bool:
        """Whether it is plain training, of however many passes; a round of self-training is none."""
        return self.settings["method.name"] == BASELINE and ROUND not in self.settings

    @property
    def scores(self) -> list[float]:
        """Of the main metric, in the order of the seeds."""
        return [self.runs[seed].results["score"] for seed in sorted(self.runs)]

    @property
    def compute(self) -> float:
        """What a run cost, its teachers included, mean over seeds."""
        return fmean(map(cost, self.runs.values()))


@dataclass(frozen=True)
class Study:
    """Groups that can be compared: one task and data size, one model, one length of training."""

    name: str
    """`rte · minilm · 2,490 examples · 3 epochs`; no other study of the report has it."""
    task: str
    """Its first part alone."""
    groups: list[Group]
    """In the order in which they are shown: vanilla first."""
    methods: Sequence[str] = ()
    """All methods of the report, vanilla first: a method's place gives its colour and marker in every figure."""
    slug: str = ""
    """The name as the beginning of names of files; no other study of the report has it."""

    @property
    def size(self) -> int:
        """Number of runs."""
        return sum(len(group.runs) for group in self.groups)

    @property
    def runs(self) -> list[Run]:
        """All of them, group by group."""
        return [run for group in self.groups for run in group.runs.values()]

    @property
    def remarks(self) -> list[str]:
        """What runs say of their start and their scores, each once: `Three runs: …`."""
        counts = Counter(remark for run in self.runs for remark in run.results.get("remarks") or [])
        return [f"{count(number, 'run').capitalize()}: {remark}" for remark, number in counts.items()]

    @property
    def metric(self) -> str:
        """What all groups are scored by."""
        return str(self.groups[0].first.results["metric"])

    def group(self, variant: str) -> Group | None:
        """The runs of a variant, if there are any."""
        return next((group for group in self.groups if group.variant == variant), None)

    def look(self, group: Group) -> Look:
        """How its lines and marks look: like no other's of this study, and like the method's in other studies."""
        method = group.settings["method.name"]
        settings = [one.variant for one in self.groups if one.settings["method.name"] == method]
        return Look(self.methods.index(method), settings.index(group.variant))

    def baseline(self, group: Group) -> Group | None:
        """Vanilla with one pass under the same schedule."""
        return next((g for g in self._vanilla_beside(group) if g.settings.get("method.passes", 1) == 1), None)

    def equal_compute_baseline(self, group: Group) -> Group | None:
        """Vanilla under the same schedule that cost as much, within SAME_COMPUTE."""
        return of_equal_compute(self._vanilla_beside(group), group)

    def _vanilla_beside(self, group: Group) -> list[Group]:
        wanted = but_the_method(group.settings)
        return [other for other in self.groups if other.is_vanilla and but_the_method(other.settings) == wanted]


def of_equal_compute(groups: Iterable[Group], group: Group) -> Group | None:
    """The one that cost most nearly what `group` did, if that is within SAME_COMPUTE."""

    def distance(other: Group) -> float:
        return abs(other.compute - group.compute)

    nearest = min(groups, key=distance, default=None)
    return nearest if nearest and distance(nearest) <= SAME_COMPUTE * group.compute else None


def has(group: Group, kind: str, column: str) -> bool:
    """Whether any run's records of a kind have this column: what a method records decides what is shown of it."""
    return any(column in row for run in group.runs.values() for row in run.rows.get(kind, []))


def but_the_method(settings: Settings) -> Settings:
    """Model, task, schedule and number of processes."""
    return {key: value for key, value in settings.items() if not key.startswith("method.")}


def each_once(studies: Iterable[Study]) -> list[Run]:
    """Their runs. One that was asked for in several words stands in several studies."""
    return list({run.path: run for study in studies for run in study.runs}.values())
