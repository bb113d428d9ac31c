"""All figures of a report as pictures and files, drawn in this process or in several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from selfdistill_cli.reports.content import Figure
from selfdistill_cli.reports.panels import csv_of
from selfdistill_cli.system.files import new_file

WORTH_A_PROCESS = 12
"""Figures that take as long to draw as a process takes to start and import matplotlib."""


def draw_all(figures: Sequence[Figure], folder: Path, processes: int = 1) -> dict[str, str]:
    """Each figure by its name as SVG for a page, a picture a panel; beside it `<name>.svg` and `<name>.csv` in `folder`.

    At most so many `processes` share the work. They import the program that was started, so more than one is for a
    program that does nothing when it is imported, as our commands.
    """
    names = [figure.name for figure in figures]
    draw = partial(_draw, folder=folder)
    processes = min(processes, len(figures) // WORTH_A_PROCESS)
    if processes < 2:
        return dict(zip(names, map(draw, figures), strict=True))
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        pictures = pool.map(draw, figures, chunksize=max(1, len(figures) // (4 * processes)))
        return dict(zip(names, pictures, strict=True))


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _draw(figure: Figure, folder: Path) -> str:
    from selfdistill_cli.reports import drawing  # matplotlib: in the process that draws

    svgs = drawing.pictures(figure.panels, figure.name)
    for ending, text in (("svg", drawing.together(svgs)), ("csv", csv_of(figure.panels))):
        with new_file(folder / f"{figure.name}.{ending}") as beside:
            beside.write_text(text, encoding="utf-8")
    return drawing.on_a_page("".join(svgs))
