"""Do the signals mean anything? u and d against correctness on held-out data; examples on which student and teacher disagree."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from selfdistill_cli.reports.content import Figure, Section, Table, file_name, spread
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.drawing import legend_below, line, panels
from selfdistill_cli.reports.variants import Group, Study, has

WORDS = """At each evaluation, u and d of the validation predictions are held against whether the same predictions are \
right. AUROC is the chance that a right prediction has the larger d (the smaller u) than a wrong one: 0.5 says nothing. d \
in its gold form is computed from the label: with two classes its AUROC is 1 by construction, which proves nothing. Its \
other form, the margin, does not know the label. In generation the signals are those of the gold answer. Discordant are training \
examples on which student and teacher predict differently."""

NAMES = {"uncertainty": "u", "discrimination": "d (gold)", "margin": "d (margin)"}
MOST = 6
"""Variants in one figure."""


def section(study: Study) -> Section | None:
    """AUROC over training, a table of the last evaluation, examples on which student and teacher disagree."""
    parts: list[str | Table | Figure] = []
    rows = [row for task in study.tasks for group in study.of_task(task) if (row := _last(group))]
    if rows:
        header = ["method", "task", *[f"{n}: {m}" for n in NAMES.values() for m in ("AUROC", "Spearman")]]
        parts.append(Table("signals", "At the last evaluation, mean ± standard deviation over seeds.", header, rows))
    for task in study.tasks:
        groups = [g for g in study.of_task(task) if has(g, "eval", "signal/uncertainty/auroc")]
        if groups:
            parts.append(_over_training(task, groups[:MOST], len(groups)))
        parts += _discordance(task, [g for g in study.of_task(task) if has(g, "train", "discordant/fraction")])
    weighed = [row for task in study.tasks for group in study.of_task(task) if (row := _noise(group))]
    if weighed:
        header = ["method", "task", "discordant at the end", "of them the teacher right", "the student right",
                  "labels replaced", "of the heaviest tenth", "AUROC of the weight for replaced labels"]  # fmt: skip
        caption = "Training examples by the weights at the end of training, mean over seeds; labels replaced by task.label_noise."
        parts.append(Table("discordant", caption, header, weighed))
    return Section("Do the signals mean anything?", WORDS, parts) if parts else None


def _last(group: Group) -> list[str] | None:
    cells = []
    for name in NAMES:
        for measure in ("auroc", "spearman"):
            values = [
                found[1][-1]
                for run in group.runs.values()
                if (found := series(run.rows.get("eval", []), f"signal/{name}/{measure}"))[0].size
            ]
            cells.append(spread(values, 3) if values else "–")
    return [group.variant, group.task, *cells] if any(cell != "–" for cell in cells) else None


def _over_training(task: str, groups: list[Group], of: int) -> Figure:
    def draw() -> Any:
        figure, axes = panels(2)
        for axis, signal in zip(axes, ("uncertainty", "margin"), strict=True):
            for number, group in enumerate(groups):
                curves = [series(run.rows.get("eval", []), f"signal/{signal}/auroc") for run in group.runs.values()]
                x, mean, sd = over_seeds(curves)
                line(axis, x, mean, sd, group.variant, number)
            axis.axhline(0.5, color="#8C8C8C", linewidth=0.8, linestyle=":")
            axis.set(xlabel="epoch", title=f"AUROC of {NAMES[signal]}")
        legend_below(figure, axes[0])
        return figure

    some = f" (the first {MOST} of {of} methods)" if of > MOST else ""
    caption = f"{task}: how well u and the margin tell right predictions from wrong ones on held-out data{some}."
    return Figure(file_name("signals", task), caption, draw)


def _discordance(task: str, groups: list[Group]) -> list[Figure]:
    if not groups:
        return []

    def draw() -> Any:
        figure, axes = panels(3, across=3)
        shown = ("discordant/fraction", "discordant/teacher_right", "weights/effective_sample_size")
        titles = ("discordant share of training examples", "of them the teacher right", "effective sample size / N")
        for axis, name, title in zip(axes, shown, titles, strict=True):
            for number, group in enumerate(groups[:MOST]):
                scale = group.first.results["train_examples"] if "sample_size" in name else 1
                curves = [_dots(run.rows.get("train", []), name, scale) for run in group.runs.values()]
                x, mean, sd = over_seeds(curves)
                line(axis, x, mean, sd, group.variant, number)
            axis.set(xlabel="epoch", title=title)
        legend_below(figure, axes[0])
        return figure

    some = f" (the first {MOST} of {len(groups)} settings)" if len(groups) > MOST else ""
    return [
        Figure(
            file_name("discordant", task), f"{task}: discordant examples and their weights over training{some}.", draw
        )
    ]


def _dots(rows: list[dict[str, Any]], name: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = series(rows, name)
    return x, y / scale


def _noise(group: Group) -> list[str] | None:
    """What weights and discordance say of each training example, from examples.parquet."""
    from sklearn.metrics import roc_auc_score  # half a second to import

    files = [path for run in group.runs.values() if (path := run.file("examples.parquet")) is not None]
    tables = [
        {name: table[name].to_numpy() for name in table.column_names}
        for table in (parquet.read_table(path, columns=_numbers_in(path)) for path in files)
        if "weights" in table.column_names
    ]
    if not tables:
        return None
    discordant = [table["discordant"] for table in tables]
    told = [fmean(map(float, (d.mean() for d in discordant)))]
    told += [_mean_where([t[who] for t in tables], discordant) for who in ("teacher_right", "student_right")]
    cells = [f"{value:.3f}" for value in told]
    noisy = [table["label"] != table["clean_label"] for table in tables if "clean_label" in table]
    if not noisy:
        return [group.variant, group.task, *cells, "none known", "–", "–"]
    heavy = [np.argsort(-table["weights"], kind="stable")[: max(1, len(table["weights"]) // 10)] for table in tables]
    auroc = fmean(float(roc_auc_score(n, t["weights"])) for n, t in zip(noisy, tables, strict=True))
    share = fmean(float(n[h].mean()) for n, h in zip(noisy, heavy, strict=True))
    return [
        group.variant,
        group.task,
        *cells,
        f"{fmean(float(n.mean()) for n in noisy):.3f}",
        f"{share:.3f}",
        f"{auroc:.3f}",
    ]


def _numbers_in(path: Path) -> list[str]:
    """The columns of a file that hold no texts."""
    return [field.name for field in parquet.read_schema(path) if not pa.types.is_string(field.type)]


def _mean_where(values: list[np.ndarray], where: list[np.ndarray]) -> float:
    chosen = np.concatenate([v[w] for v, w in zip(values, where, strict=True)])
    return float(chosen.mean()) if len(chosen) else float("nan")
