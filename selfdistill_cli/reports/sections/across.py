"""Over all studies: how scores move with the number of training examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from selfdistill_cli.reports.content import Figure, Section, file_name
from selfdistill_cli.reports.lines import scale, shown
from selfdistill_cli.reports.naming import identity
from selfdistill_cli.reports.panels import Curves, Line
from selfdistill_cli.reports.statistics import mean_interval
from selfdistill_cli.reports.studies import what_is_constant
from selfdistill_cli.reports.variants import Study

WORDS = "The same task, model and schedule with several numbers of training examples; bars are 95 % intervals of the mean over seeds."


def section(studies: Sequence[Study]) -> Section | None:
    """A figure for each task that was run with several numbers of training examples."""
    by_rest: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        settings = what_is_constant(study.groups[0].settings)
        settings.pop("task.train_examples", None)
        by_rest[identity(settings)].append(study)
    figures = [_over_sizes(sorted(same, key=_size)) for same in by_rest.values() if len(same) > 1]
    return Section("What do more training examples do?", WORDS, figures) if figures else None


def _size(study: Study) -> int:
    return int(study.groups[0].first.results["train_examples"])


def _over_sizes(studies: list[Study]) -> Figure:
    title = " · ".join(part for part in studies[0].name.split(" · ") if not part.endswith(" examples"))

    lines = []
    for variant in dict.fromkeys(group.variant for study in studies for group in shown(study.groups)):
        found = [(study, g) for study in studies if (g := study.group(variant))]
        means = scale(studies[0].metric) * np.array([fmean(group.scores) for _, group in found])
        halves = scale(studies[0].metric) * np.array([mean_interval(group.scores) for _, group in found])
        look = found[0][0].look(found[0][1])
        lines.append(Line(variant, look, [_size(study) for study, _ in found], means, means - halves, means + halves))
    ticks = sorted(map(_size, studies))
    panel = Curves(title, "training examples", studies[0].metric, lines, log_x=True, bars=True, ticks=ticks)
    return Figure(
        file_name("training-examples", title), f"{title}: score over the number of training examples.", [panel]
    )
