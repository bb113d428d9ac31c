"""Vocabulary Map Matching: how much a map keeps of what its tokens said."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from selfdistill_cli.reports.content import Figure, Section, Table, file_name
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.drawing import legend_below, line, panels
from selfdistill_cli.reports.variants import Group, Study

WORDS = """Runs with runtime.diagnostics=maps predict the same validation examples again and again (gold answers forced, \
dropout off). KL between an example's maps at two times against the mean KL of its tokens: their ratio is the part of the \
change that a map still shows; it cannot exceed 1. Retrieval: for how many examples the nearest among all maps of now is \
their own. By tokens (without maps), answers are compared place by place over the places that both have."""

NAMES = {
    "map_kl": "KL of maps",
    "token_kl": "mean KL of tokens",
    "retrieval/map": "retrieval by map",
    "retrieval/token": "retrieval by tokens",
}


def section(study: Study) -> Section | None:
    """Divergences and retrieval over training, and their means."""
    parts: list[str | Table | Figure] = []
    rows: list[list[str]] = []
    for task in study.tasks:
        groups = [g for g in study.of_task(task) if g.first.rows.get("maps")]
        if groups:
            parts.append(_figure(task, groups))
            rows += [_row(task, group) for group in groups]
    if rows:
        header = ["method", "task", *NAMES.values(), "kept by the map", "chance"]
        parts.append(Table("maps", "Means over all records and seeds.", header, rows))
    return Section("What does a vocabulary map keep?", WORDS, parts) if parts else None


def _figure(task: str, groups: list[Group]) -> Figure:
    def draw() -> Any:
        figure, axes = panels(4)
        for axis, (name, title) in zip(axes, NAMES.items(), strict=True):
            for number, group in enumerate(groups):
                curves = [series(run.rows.get("maps", []), name) for run in group.runs.values()]
                x, mean, sd = over_seeds(curves)
                line(axis, x, mean, 0 * sd if "kl" in name else sd, group.variant, number)
            if "kl" in name:
                axis.set_yscale("log")
            axis.set(xlabel="epoch", title=title)
        legend_below(figure, axes[0])
        return figure

    return Figure(file_name("maps", task), f"{task}: maps and tokens of the same examples between two records.", draw)


def _row(task: str, group: Group) -> list[str]:
    records = [row for run in group.runs.values() for row in run.rows.get("maps", [])]
    means = {name: fmean(row[name] for row in records) for name in NAMES}
    kept = means["map_kl"] / means["token_kl"] if means["token_kl"] else float("nan")
    cells = [f"{means[name]:.3g}" for name in NAMES]
    return [group.variant, task, *cells, f"{kept:.3f}", f"{records[0]['retrieval/chance']:.3f}"]
