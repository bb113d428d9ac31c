"""A report's chapters as one HTML page, as Markdown, and its tables as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from selfdistill_cli.reports.content import Cell, Chapter, Figure, Table, slug


def page(title: str, chapters: Sequence[Chapter], pictures: Mapping[str, str]) -> str:
    """One page that needs nothing else: no script, no font, no picture from another place. `pictures`: SVG by name."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.tests |= {
        "table": lambda part: isinstance(part, Table),
        "figure": lambda part: isinstance(part, Figure),
    }
    environment.filters["slug"] = slug
    safe = {name: Markup(svg) for name, svg in pictures.items()}  # drawn by matplotlib, which escapes what it writes
    titles = [chapter.title for chapter in chapters]
    return environment.get_template("page.html").render(title=title, chapters=chapters, pictures=safe, titles=titles)


def markdown(title: str, chapters: Sequence[Chapter]) -> str:
    """With links to figures/."""
    parts = [f"# {title}"]
    for chapter in chapters:
        parts += [f"## {chapter.title}", chapter.words]
        for section in chapter.sections:
            title = f"### {section.title}" if section.title else ""
            parts += [title, section.finding, section.words, *map(_markdown_part, section.parts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_part(part: str | Table | Figure) -> str:
    if isinstance(part, Table):
        return f"{part.caption}\n\n{_markdown_table(part)}".strip()
    if isinstance(part, Figure):
        return f"![{part.caption}](figures/{part.name}.svg)\n\n{part.caption}"
    return part


def _worse(cell: Cell) -> str:
    return f"{cell.text} ▼" if cell.verdict == "worse" else cell.text


def _markdown_table(table: Table) -> str:
    def cell(one: Cell) -> str:
        text = _worse(one).replace("|", "\\|")
        return f"**{text}**" if one.verdict == "better" else text

    lines = [[Cell(name) for name in table.header], [Cell("---")] * len(table.header), *table.cells]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def csv_table(table: Table) -> str:
    """Header and rows; what is significantly better has a star, what is worse a ▼."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.header)
    writer.writerows(
        [[_worse(cell) + (" *" if cell.verdict == "better" else "") for cell in row] for row in table.cells]
    )
    return text.getvalue()
