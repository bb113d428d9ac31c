"""A study's table and the figure beside it: methods, a dot a seed, differences to vanilla and to vanilla at equal compute."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from selfdistill_cli.reports.compute import UNITS
from selfdistill_cli.reports.content import Cell, Figure, Section, Table
from selfdistill_cli.reports.differences import BASELINES, PLAIN, Compared, Comparison
from selfdistill_cli.reports.numbers import Scale, scale
from selfdistill_cli.reports.panels import Intervals, Mark
from selfdistill_cli.reports.rows import REPORTED, Row
from selfdistill_cli.reports.statistics import mean_interval
from selfdistill_cli.reports.studies import DATA, WEIGHTS
from selfdistill_cli.reports.variants import Study

NOTHING = "–"


def section(found: Comparison) -> Section:
    """The table, its figure, and which runs stand behind each number."""
    shown = scale_of(found)
    parts: list[str | Table | Figure] = [_scores(found, shown)]
    if len(found.rows) > 1:
        parts.append(_dots(found, shown))
    parts += [f"{which}: {why}." for which, why in found.not_compared.items()]
    if found.compared:
        parts.append(_tests(found, shown))
    parts.append(_behind(found))
    return Section("Scores", _words(found), [*parts[:2], *found.study.remarks, *parts[2:]])


def scale_of(found: Comparison) -> Scale:
    """One number of digits for the whole study, by the spread over seeds."""
    every = [group.scores for row in found.rows for group in row.groups if len(group.runs) > 1]
    return scale(found.study.metric, [stdev(scores) for scores in every])


def _words(found: Comparison) -> str:
    """What is the same for all and how the numbers came about, once."""
    study = found.study
    results = study.groups[0].first.results
    said = [_constant(study)]
    for setting, otherwise in ((DATA, "read other data"), (WEIGHTS, "started from other weights")):
        if setting in study.groups[0].settings:
            said.append(
                f"Runs that were asked for alike {otherwise} (fingerprints in results.json): they are another study."
            )
    majority = results.get("majority")
    if majority:
        shown = scale_of(found)
        said.append(f"Always '{majority['label']}' would score {shown.value(majority['score'])}.")
    if results.get("synthetic"):
        said.append("The task is generated: its scores compare with nothing but themselves.")
    if any(run.results.get("selected_on", REPORTED) == REPORTED and _chose(run) for run in study.runs):
        said.append("The epoch was chosen on the reported split (task.selection=held_out chooses it elsewhere).")
    precisions = sorted({str(run.results.get("precision", "fp32")) for run in study.runs})
    if len(precisions) > 1:
        said.append(f"Runs were computed in different precisions: {', '.join(precisions)}.")
    return " ".join(said)


def _chose(run: Any) -> bool:
    """Whether there was a choice: the best of several epochs is kept, and not the last."""
    return run.settings.get("schedule.keep") == "best"


SAID = {
    "lr": "learning rate {}",
    "batch_size": "batch size {}",
    "optimizer": "{}",
    "scheduler": "{} schedule",
    "keep": "{} epoch kept",
}
"""Settings of a schedule that everybody asks for, in words."""


def _constant(study: Study) -> str:
    """`The same for all: learning rate 5e-05, batch size 16, adamw, linear schedule, best epoch kept.`"""
    told = []
    for name, words in SAID.items():
        values = {str(group.settings.get(f"schedule.{name}")) for group in study.groups}
        if len(values) == 1:
            told.append(words.format(values.pop()))
    return f"The same for all: {', '.join(told)}." if told else ""


# --- the table -------------------------------------------------------------------------------------


def _scores(found: Comparison, shown: Scale) -> Table:
    study = found.study
    plain = next((g for g in study.groups if g.is_vanilla and g.settings["method.passes"] == 1), None)
    used = [name for name in BASELINES if any(c.baseline == name for c in found.compared)]
    rows: list[list[str | Cell]] = []
    for row in found.rows:
        cells: list[str | Cell] = [row.name, _score(row, found, shown), _seeds(row)]
        cells += [_difference(found.of(row, baseline), row, shown) for baseline in used]
        if plain is not None:
            cells.append(_relative([group.compute for group in row.groups], plain.compute))
        rows.append(cells)
    header = ["method", shown.title, "seeds", *[f"to {name}" for name in used]]
    header += ["compute"] if plain is not None else []
    counted = UNITS[plain.first.cost_unit] if plain is not None else None
    return Table("scores", _caption(found, used, counted), header, rows)


def _relative(costs: Sequence[float], to: float) -> str:
    """`2×`, of several `1–3×`; of nothing that was forwarded (epochs=0) no multiple."""
    if to == 0:
        return NOTHING
    ratios = [f"{cost / to:.2g}" for cost in sorted({min(costs), max(costs)})]
    return f"{'–'.join(dict.fromkeys(ratios))}×"


def _caption(found: Comparison, used: list[str], counted: str | None) -> str:
    said = ["Mean ± standard deviation over seeds."]
    if used:
        said.append("Differences with 95 % intervals; bold: better than chance would have it, ▼: worse.")
    if any(row.chosen_of and not row.unbiased for row in found.rows):
        said.append(
            "The best of several settings was chosen on these same examples, which favours it: it is not tested."
        )
    if any(row.chosen_of and row.unbiased for row in found.rows):
        said.append("The best of several settings was chosen on other examples than these.")
    if counted is not None:
        said.append(f"Compute: {counted} in training, teachers included, relative to vanilla.")
    return " ".join(said)


def _score(row: Row, found: Comparison, shown: Scale) -> Cell:
    if row.group is None:  # a sweep with one seed each is a range, and no setting of it is better than another
        means = [fmean(group.scores) for group in row.groups]
        return Cell(shown.interval(min(means), max(means)))
    compared = found.of(row, PLAIN)
    return Cell(shown.spread(row.group.scores), compared.verdict if compared else "")


def _seeds(row: Row) -> str:
    counts = sorted({len(group.runs) for group in row.groups})
    return "–".join(str(one) for one in counts[:: max(1, len(counts) - 1)])


def _difference(compared: Compared | None, row: Row, shown: Scale) -> Cell:
    if compared is None:
        return Cell(NOTHING)
    said = shown.signed(compared.difference.estimate)
    if compared.difference.seeds == 1:
        return Cell(f"{said} (one seed)")
    return Cell(f"{said} ({shown.interval(*compared.difference.interval)})", compared.verdict)


def _tests(found: Comparison, shown: Scale) -> Table:
    rows: list[list[str | Cell]] = [
        [
            c.row.name,
            c.against.variant,
            Cell(shown.signed(c.difference.estimate), c.verdict),
            str(c.difference.seeds),
            _p(c.difference.p),
            _why_not(c) if c.corrected is None else _p(c.corrected),
        ]
        for c in found.tests
    ]
    header = ["method", "baseline", "difference", "seeds", "p", "p (Holm)"]
    return Table("tests", "The same differences with their p-values, corrected for their number.", header, rows)


def _why_not(compared: Compared) -> str:
    return "one seed" if compared.difference.seeds == 1 else "chosen here"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _behind(found: Comparison) -> Table:
    behind = {(group.variant, *group.runs): group for row in found.rows for group in row.groups}
    rows = [
        [
            group.variant,
            ", ".join(map(str, group.runs)),
            f"{fmean(run.results['seconds'] for run in group.runs.values()):,.0f}",
            ", ".join(run.path.name for run in group.runs.values()),
        ]
        for group in behind.values()
    ]
    caption = "The runs behind each number: they differ in nothing but their seed."
    return Table("runs", caption, ["method", "seeds", "seconds a run", "keys"], rows)


# --- the figure -----------------------------------------------------------------------------------


def dots(found: Comparison, rows: Sequence[Row], shown: Scale) -> list[Mark]:
    """A dot a seed for each of these rows, and the mean with its 95 % interval over seeds."""
    marks = []
    for row in rows:
        scores = [shown.factor * score for group in row.groups for score in group.scores]
        mean, half = fmean(scores), mean_interval(scores) if row.group is not None else float("nan")
        marks.append(Mark(row.name, found.study.look(row.groups[0]), mean, mean - half, mean + half, dots=scores))
    return marks


def _dots(found: Comparison, shown: Scale) -> Figure:
    caption = "The same scores: a small dot is one run, the mark their mean with its 95 % interval over seeds."
    return Figure("seeds", caption, [Intervals("", shown.title, dots(found, found.rows, shown))])
