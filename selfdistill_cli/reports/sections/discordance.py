"""Examples on which student and teacher disagree: how many, who is right, and whether weights find replaced labels."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.curves import series
from selfdistill_cli.reports.lines import line_of, lines, over, pages, part, shown
from selfdistill_cli.reports.panels import Curves
from selfdistill_cli.reports.variants import Group, Study, has

WORDS = """Discordant are training examples on which student and teacher predict differently; their weights grow. The effective \
sample size is how many equally weighted examples would count as much as the weighted ones do."""


def section(study: Study) -> Section | None:
    """Curves over training, and a table of the weights at its end."""
    groups = [group for group in shown(study.groups) if has(group, "train", "discordant/fraction")]
    if not groups:
        return None
    split = pages(groups)
    parts: list[str | Table | Figure] = [
        *(
            figure
            for number, members in enumerate(split)
            if (figure := _figure(study, members, number, len(split))).panels
        ),
    ]
    weighed = [row for group in groups if (row := _row(group))]
    if weighed:
        columns = max(map(len, weighed))
        header = ["method", "discordant at the end", "of them the teacher right", "the student right",
                  "labels replaced", "of the heaviest tenth", "AUROC of the weight for replaced labels"]  # fmt: skip
        caption = "Training examples by the weights at the end of training, mean over seeds."
        rows = [row + ["–"] * (columns - len(row)) for row in weighed]
        parts.append(Table("discordant-at-the-end", caption, header[:columns], rows))
    return Section("Where do student and teacher disagree?", WORDS, parts, _sentence(groups))


def _ends(group: Group, column: str) -> tuple[float, float]:
    """First and last value of a column, mean over seeds."""
    curves = [y for run in group.runs.values() if len(y := series(run.rows.get("train", []), column)[1])]
    return fmean(float(y[0]) for y in curves), fmean(float(y[-1]) for y in curves)


def _sentence(groups: list[Group]) -> str:
    told = []
    for group in groups:
        first, last = _ends(group, "discordant/fraction")
        right = ""
        if last and has(group, "train", "discordant/teacher_right"):
            right = f"; of these the teacher has {_ends(group, 'discordant/teacher_right')[1]:.0%} right"
        told.append(f"{group.variant} from {first:.1%} to {last:.1%}{right}")
    return f"Share of training examples on which student and teacher disagree: {', '.join(told)}."


def _figure(study: Study, groups: list[Group], number: int, of: int) -> Figure:
    panels = [
        Curves(title, "epoch", "", found, share=True)
        for name, title in (
            ("discordant/fraction", "discordant share of training examples"),
            ("discordant/teacher_right", "of them the teacher right"),
        )
        if (found := lines(study, groups, "train", name))
    ]
    sizes = []
    for group in groups:
        curves = [series(run.rows.get("train", []), "weights/effective_sample_size") for run in group.runs.values()]
        examples = group.first.results["train_examples"]
        sizes.append(line_of(study, group, [(x, y / examples) for x, y in curves]))
    if any(sizes):
        panels.append(
            Curves("effective sample size / examples", "epoch", "", [one for one in sizes if one], share=True)
        )
    panels = [panel for panel in panels if panel.moves]
    caption = f"Discordant examples and their weights over training{part(number, of)}: {over(groups)}."
    return Figure(f"discordant-{number + 1}" if number else "discordant", caption, panels)


def _row(group: Group) -> list[str] | None:
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
    cells = ["–" if np.isnan(value) else f"{value:.3f}" for value in told]
    noisy = [table["label"] != table["clean_label"] for table in tables if "clean_label" in table]
    if not noisy:
        return [group.variant, *cells]  # without task.label_noise nobody knows of a replaced label
    heavy = [np.argsort(-table["weights"], kind="stable")[: max(1, len(table["weights"]) // 10)] for table in tables]
    auroc = fmean(float(roc_auc_score(n, t["weights"])) for n, t in zip(noisy, tables, strict=True))
    share = fmean(float(n[h].mean()) for n, h in zip(noisy, heavy, strict=True))
    return [group.variant, *cells, f"{fmean(float(n.mean()) for n in noisy):.3f}", f"{share:.3f}", f"{auroc:.3f}"]


def _numbers_in(path: Path) -> list[str]:
    """The columns of a file that hold no texts."""
    return [field.name for field in parquet.read_schema(path) if not pa.types.is_string(field.type)]


def _mean_where(values: list[np.ndarray], where: list[np.ndarray]) -> float:
    chosen = np.concatenate([v[w] for v, w in zip(values, where, strict=True)])
    return float(chosen.mean()) if len(chosen) else float("nan")
