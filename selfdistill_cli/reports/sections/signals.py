"""Do the signals mean anything? u and d against correctness on held-out data, at each evaluation."""

from __future__ import annotations

from statistics import fmean

from selfdistill_cli.reports.content import Figure, Section, Table, spread
from selfdistill_cli.reports.curves import series
from selfdistill_cli.reports.lines import extremes, lines, over, pages, part, shown
from selfdistill_cli.reports.panels import Curves
from selfdistill_cli.reports.variants import Group, Study, has

WORDS = """u: uncertainty of a validation prediction (0: sure, 1: a guess). Margin: top probability minus the second. AUROC \
is the chance that of a right and a wrong prediction the right one has the smaller u (the larger margin): 0.5 says nothing."""
TWO_CLASSES = """With two classes u and the margin put predictions into the same order, and d in its gold form is computed from \
the label, so that its AUROC is 1 by construction: only u is shown."""
OF_ANSWERS = "In generation the signals are those of the gold answer."

NAMES = {"uncertainty": "u", "margin": "margin", "discrimination": "d (gold)"}


def section(study: Study) -> Section | None:
    """Where a method uses the signals: AUROC over training, and a table of the last evaluation, of all methods."""
    if not any(has(group, "train", "uncertainty/mean") for group in study.groups):
        return None  # no method here uses them
    groups = [group for group in shown(study.groups) if has(group, "eval", "signal/uncertainty/auroc")]
    if not groups:
        return None
    two = len(groups[0].first.results.get("labels") or []) == 2
    signals = ["uncertainty"] if two else [name for name in NAMES if has(groups[0], "eval", f"signal/{name}/auroc")]
    split = pages(groups)
    header = ["method", *[f"{NAMES[name]}: {measure}" for name in signals for measure in ("AUROC", "Spearman's ρ")]]
    parts: list[str | Table | Figure] = [
        *(figure for number, members in enumerate(split) if (figure := _figure(study, members, signals, number, len(split))).panels),
        Table(
            "signals-at-the-end", "At the last evaluation, mean ± standard deviation over seeds.", header,
            [_row(group, signals) for group in groups],
        ),
    ]  # fmt: skip
    words = [
        WORDS,
        *([TWO_CLASSES] if two else []),
        *([OF_ANSWERS] if has(groups[0], "eval", "eval/exact_match") else []),
    ]
    return Section("Do the signals mean anything?", " ".join(words), parts, _sentence(groups))


def _last(group: Group, column: str) -> list[float]:
    curves = [series(run.rows.get("eval", []), column) for run in group.runs.values()]
    return [float(y[-1]) for _, y in curves if len(y)]


def _sentence(groups: list[Group]) -> str:
    means = {group.variant: fmean(_last(group, "signal/uncertainty/auroc")) for group in groups}
    return f"At the last evaluation u tells right from wrong predictions with an AUROC of {extremes(means, '.2f')}."


def _figure(study: Study, groups: list[Group], signals: list[str], number: int, of: int) -> Figure:
    curves = [
        Curves(
            f"AUROC of {NAMES[name]}",
            "epoch",
            "",
            lines(study, groups, "eval", f"signal/{name}/auroc"),
            share=True,
            level=0.5,
        )
        for name in signals
        if name != "discrimination"  # knows the label
    ]
    panels = [one for one in curves if one.moves]
    caption = (
        f"How well u{'' if len(panels) == 1 else ' and the margin'} tell{'s' if len(panels) == 1 else ''} right predictions from "
        f"wrong ones{part(number, of)}: {over(groups)}."
    )
    return Figure(f"signals-{number + 1}" if number else "signals", caption, panels)


def _row(group: Group, signals: list[str]) -> list[str]:
    found = [_last(group, f"signal/{name}/{measure}") for name in signals for measure in ("auroc", "spearman")]
    return [group.variant, *(spread(values, 3) if values else "–" for values in found)]
