"""Over all studies: how scores move with the number of training examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from selfdistill_cli.reports.content import Figure, Section, file_name
from selfdistill_cli.reports.drawing import legend_below, line_style, panels
from selfdistill_cli.reports.naming import identity
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

    def draw() -> Any:
        figure, (axes,) = panels(1)
        figure.set_size_inches(5.4, 3.8)
        variants = dict.fromkeys(variant for study in studies for variant in study.variants)
        for number, variant in enumerate(variants):
            found = [(_size(s), g) for s in studies if (g := s.group(s.task, variant))]
            means, errors = [fmean(g.scores) for _, g in found], [mean_interval(g.scores) for _, g in found]
            sizes = [size for size, _ in found]
            axes.errorbar(sizes, means, yerr=errors, capsize=3, label=variant, **line_style(number))
        axes.set_xscale("log")
        every = sorted(map(_size, studies))
        axes.set_xticks(every, [f"{size:,}" for size in every])
        axes.minorticks_off()
        axes.set(xlabel="training examples", ylabel=studies[0].metric, title=title)
        legend_below(figure, axes)
        return figure

    return Figure(file_name("training-examples", title), f"{title}: score over the number of training examples.", draw)
