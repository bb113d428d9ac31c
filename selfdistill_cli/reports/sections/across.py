"""Over all studies: how scores move with the number of training examples."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from selfdistill_cli.reports.content import Figure, Section, file_name
from selfdistill_cli.reports.lines import scale, shown
from selfdistill_cli.reports.naming import identity, told_apart
from selfdistill_cli.reports.panels import Curves, Line, Look
from selfdistill_cli.reports.runs import Settings
from selfdistill_cli.reports.statistics import mean_interval
from selfdistill_cli.reports.studies import SIZE, names_of_variants, what_is_constant
from selfdistill_cli.reports.variants import Group, Study

WORDS = "The same task, model and schedule with several numbers of training examples; bars are 95 % intervals of the mean over seeds."


def section(studies: Sequence[Study]) -> Section | None:
    """A figure for each task that was run alike with several numbers of training examples."""
    by_rest: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        by_rest[identity(_but_the_size(study))].append(study)
    families = [sorted(same, key=_size) for same in by_rest.values() if len(same) > 1]
    titles = told_apart(
        [_without_size(same[0].name) for same in families], [_but_the_size(same[0]) for same in families]
    )
    figures = [_over_sizes(title, same) for title, same in zip(titles, families, strict=True)]
    return Section("What do more training examples do?", WORDS, figures) if figures else None


def _but_the_size(study: Study) -> Settings:
    """What all studies of one figure share."""
    constant = what_is_constant(study.groups[0].settings)
    return {key: value for key, value in constant.items() if key != SIZE}


def _without_size(name: str) -> str:
    parts = re.sub(r" \([^()]*\)$", "", name).split(" · ")  # what sets it apart from other studies is said anew
    return " · ".join(part for part in parts if not part.endswith((" example", " examples")))


def _size(study: Study) -> int:
    return int(study.groups[0].first.results["train_examples"])


def _over_sizes(title: str, studies: list[Study]) -> Figure:
    constant = {**_but_the_size(studies[0]), SIZE: None}

    def own(group: Group) -> str:
        return identity({key: value for key, value in group.settings.items() if key not in constant})

    by_setting: dict[str, list[tuple[Study, Group]]] = {own(g): [] for study in studies for g in shown(study.groups)}
    for study in studies:
        for group in study.groups:
            if own(group) in by_setting:
                by_setting[own(group)].append((study, group))
    lines, of_method = [], Counter[str]()
    names = names_of_variants([found[0][1].settings for found in by_setting.values()], constant)
    for name, found in zip(names, by_setting.values(), strict=True):
        means = scale(studies[0].metric) * np.array([fmean(group.scores) for _, group in found])
        halves = scale(studies[0].metric) * np.array([mean_interval(group.scores) for _, group in found])
        method = found[0][1].settings["method.name"]
        look = Look(studies[0].methods.index(method), of_method[method])
        of_method[method] += 1
        lines.append(Line(name, look, [_size(study) for study, _ in found], means, means - halves, means + halves))
    ticks = sorted(map(_size, studies))
    panel = Curves(title, "training examples", studies[0].metric, lines, log_x=True, bars=True, ticks=ticks)
    return Figure(
        file_name("training-examples", title), f"{title}: score over the number of training examples.", [panel]
    )
