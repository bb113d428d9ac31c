"""Vocabulary Map Matching: how much a map keeps of what its tokens said."""

from __future__ import annotations

from statistics import fmean

from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.lines import extremes, lines, over, pages, part, shown
from selfdistill_cli.reports.panels import Curves
from selfdistill_cli.reports.variants import Group, Study

WORDS = """The same validation examples were predicted again and again (gold answers forced, dropout off). KL of maps: how far \
an example's map moved between two records; mean KL of tokens: how far its tokens did. Their ratio is the part of the change that a \
map still shows; it cannot exceed 1. Retrieval: for how many examples the nearest among all maps of now is their own; by \
tokens, answers are compared place by place."""

NAMES = {
    "map_kl": "KL of maps, nats",
    "token_kl": "mean KL of tokens, nats",
    "retrieval/map": "retrieval by map",
    "retrieval/token": "retrieval by tokens",
}


def section(study: Study) -> Section | None:
    """Divergences and retrieval over training, and their means."""
    groups = [group for group in shown(study.groups) if group.first.rows.get("maps")]
    if not groups:
        return None
    kept = extremes({group.variant: _kept(group) for group in groups}, ".0%")
    header = ["method", *NAMES.values(), "kept by the map", "chance"]
    split = pages(groups)
    parts: list[str | Table | Figure] = [
        *(
            figure
            for number, members in enumerate(split)
            if (figure := _figure(study, members, number, len(split))).panels
        ),
        Table("maps-means", "Means over all records and seeds.", header, [_row(group) for group in groups]),
    ]
    return Section(
        "What does a vocabulary map keep?", WORDS, parts, f"Of what tokens say between two records, maps keep {kept}."
    )


def _figure(study: Study, groups: list[Group], number: int, of: int) -> Figure:
    panels = [
        Curves(
            title, "epoch", "", lines(study, groups, "maps", name), log_y=name.endswith("kl"), share="retrieval" in name
        )
        for name, title in NAMES.items()
    ]
    panels = [panel for panel in panels if panel.moves]
    caption = f"Maps and tokens over training{part(number, of)}: {over(groups)}."
    return Figure(f"maps-{number + 1}" if number else "maps", caption, panels)


def _means(group: Group) -> dict[str, float]:
    records = [row for run in group.runs.values() for row in run.rows.get("maps", [])]
    return {name: fmean(row[name] for row in records) for name in (*NAMES, "retrieval/chance")}


def _kept(group: Group) -> float:
    means = _means(group)
    return means["map_kl"] / means["token_kl"] if means["token_kl"] else float("nan")


def _row(group: Group) -> list[str]:
    means = _means(group)
    return [
        group.variant,
        *(f"{means[name]:.3g}" for name in NAMES),
        f"{_kept(group):.3f}",
        f"{means['retrieval/chance']:.3f}",
    ]
