"""Sensitivity: how a score moves with τ, α, λ and whatever else a sweep varied."""

from __future__ import annotations

from statistics import fmean

from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.lines import said
from selfdistill_cli.reports.naming import short_key, short_values
from selfdistill_cli.reports.numbers import count
from selfdistill_cli.reports.rows import best_of
from selfdistill_cli.reports.sweep_figures import figures_of
from selfdistill_cli.reports.sweeps import Scores, Sweep, neighbours, on_same_seeds, range_of_chance, sweeps
from selfdistill_cli.reports.variants import Group, Study

WORDS = "The best of many settings is better by chance: judge it by its neighbours, which differ from it in one step of one setting."


def section(study: Study) -> Section | None:
    """For each method with several settings: what came of them in a sentence, and figures."""
    found = sweeps(study.groups)
    if not found:
        return None
    header = ["method", "settings", "the best", "its score (seeds)", "its neighbours", "all", "spread over seeds"]
    caption = f"{WORDS} Spread over seeds: standard deviation of {study.metric}, pooled over settings."
    parts: list[str | Table | Figure] = []
    rows = []
    for sweep in found:
        scores = on_same_seeds(sweep.groups)
        best = best_of(sweep.groups)
        near = [group for group in sweep.groups if group is not best and neighbours(best, group, sweep)]
        parts += [_sentence(sweep, scores, best, near, study.metric), *figures_of(study, sweep)]
        rows.append(_row(sweep, scores, best, near, study.metric))
    parts.append(Table("best-settings", caption, header, rows))
    return Section("How sensitive is it?", "", parts)


def _at(group: Group, sweep: Sweep) -> str:
    words = {key: short_values(one.settings.get(key) for one in sweep.groups) for key in sweep.keys}
    return ", ".join(f"{short_key(key)}={words[key][str(group.settings.get(key))]}" for key in sweep.keys)


def _sentence(sweep: Sweep, scores: Scores, best: Group, near: list[Group], metric: str) -> str:
    """The best setting, its neighbours, and whether settings differ by more than seeds do."""
    every = [scores.mean(group) for group in sweep.groups]
    beside = (
        f"; {count(len(near), 'neighbour')} on average {said([fmean(map(scores.mean, near))], metric)}" if near else ""
    )
    fewer = any(len(scores.of(group)) < len(group.runs) for group in sweep.groups)
    words = (
        f"{sweep.method}, {len(every)} settings of {', '.join(map(short_key, sweep.keys))}"
        f"{', on the seeds that all have' if fewer else ''}: {metric} from "
        f"{said([min(every)], metric)} to {said([max(every)], metric)}, best at {_at(best, sweep)} "
        f"({said(scores.of(best), metric)}){beside}."
    )
    chance = range_of_chance(scores)
    if chance is None:
        return f"{words} One seed each: nothing says how much of this is chance."
    if max(every) - min(every) <= chance:
        words += f" Seeds alone make {len(every)} means differ by up to {said([chance], metric)}: no setting is shown to matter."
    else:
        words += (
            f" Seeds alone make {len(every)} means differ by {said([chance], metric)} at most: some setting matters."
        )
    return words


def _row(sweep: Sweep, scores: Scores, best: Group, near: list[Group], metric: str) -> list[str]:
    every = [scores.mean(group) for group in sweep.groups]
    return [
        sweep.method,
        str(len(every)),
        _at(best, sweep),
        f"{said(scores.of(best), metric)} ({len(scores.of(best))})",
        f"{said([fmean(map(scores.mean, near))], metric)} ({len(near)})" if near else "–",
        f"{said([min(every)], metric)} to {said([max(every)], metric)}",
        "one seed" if scores.spread is None else said([scores.spread], metric),
    ]
