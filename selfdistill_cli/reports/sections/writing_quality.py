"""Does the writing collapse? What written answers are like over training, right or wrong."""

from __future__ import annotations

from statistics import fmean

from selfdistill_cli.reports.content import Figure, Section
from selfdistill_cli.reports.curves import series
from selfdistill_cli.reports.lines import lines, pages, part, seeds, shown
from selfdistill_cli.reports.panels import Curves
from selfdistill_cli.reports.variants import Group, Study, has

PREFIX = "eval/writing/"
PANELS = {
    "distinct_1": "different tokens, share",
    "distinct_2": "different token pairs, share",
    "length": "tokens of an answer",
    "empty": "empty answers, share",
    "cut": "answers without an end, share",
    "repeated": "answers written before, share",
    "entropy": "entropy of the next token, nats",
}
WORDS = """A model that collapses writes the same for everything, writes nothing, or finds no end; a score alone shows that late. \
Different tokens and pairs of neighbouring tokens are shares of all that was written; an answer was written before if an \
earlier example got it word for word, as it may by right where answers are numbers or letters; entropy is of the next \
token, given the gold answer before it."""


def section(study: Study) -> Section | None:
    """A sentence on the last evaluation, and a panel for each measure."""
    groups = [group for group in shown(study.groups) if has(group, "eval", f"{PREFIX}length")]
    if not groups:
        return None
    parts: list[str | Figure] = []
    split = pages(groups)
    for number, members in enumerate(split):
        panels = [
            Curves(
                title,
                "epoch",
                "",
                lines(study, members, "eval", PREFIX + name),
                share=name not in ("length", "entropy"),
            )
            for name, title in PANELS.items()
        ]
        caption = f"What written answers are like over training{part(number, len(split))}: mean and one standard deviation over {seeds(members)}."
        parts.append(Figure("writing" + (f"-{number + 1}" if number else ""), caption, panels))
    return Section("Does the writing collapse?", WORDS, parts, " ".join(map(_told, groups)))


def _told(group: Group) -> str:
    def last(name: str) -> float:
        curves = [series(run.rows.get("eval", []), PREFIX + name)[1] for run in group.runs.values()]
        return fmean(values[-1] for values in curves if len(values))  # an earlier version wrote none

    return (
        f"{group.variant} ends with answers of {last('length'):.3g} tokens, whose different pairs are "
        f"{100 * last('distinct_2'):.3g}% of all; {last('cut'):.0%} of the answers have no end, {last('empty'):.0%} are empty, {last('repeated'):.0%} were "
        "written before."
    )
