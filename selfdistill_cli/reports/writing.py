"""A report's sections as one HTML page, as Markdown, and its tables as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from selfdistill_cli.reports.content import Cell, Figure, Section, Table, slug

LATEX = {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "±": r"$\pm$", "τ": r"$\tau$", "α": r"$\alpha$", "λ": r"$\lambda$",
         "−": "$-$", "–": "--", "…": r"\dots{}", "<": "$<$", ">": "$>$", "×": r"$\times$", "▼": r"$\downarrow$", "{": r"\{", "}": r"\}"}  # fmt: skip


def page(title: str, sections: Sequence[Section], pictures: Mapping[str, str]) -> str:
    """One page that needs nothing else: no script, no font, no picture from another place. `pictures`: SVG by name."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.tests |= {
        "table": lambda part: isinstance(part, Table),
        "figure": lambda part: isinstance(part, Figure),
    }
    environment.filters["slug"] = slug
    safe = {name: Markup(svg) for name, svg in pictures.items()}  # drawn by matplotlib, which escapes what it writes
    return environment.get_template("page.html").render(title=title, sections=sections, pictures=safe)


def markdown(title: str, sections: Sequence[Section]) -> str:
    """With links to figures/."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", section.words]
        for part in section.parts:
            if isinstance(part, Table):
                parts += [part.caption, _markdown_table(part)]
            elif isinstance(part, Figure):
                parts.append(f"![{part.caption}](figures/{part.name}.png)\n\n{part.caption}")
            else:
                parts.append(part)
    return "\n\n".join(parts) + "\n"


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


def latex_table(table: Table) -> str:
    """A table of the booktabs package."""

    def escape(text: str) -> str:
        return "".join(LATEX.get(letter, letter) for letter in text)

    def line(cells: Sequence[Cell]) -> str:
        texts = [(escape(_worse(cell)), cell.verdict == "better") for cell in cells]
        return " & ".join(rf"\textbf{{{text}}}" if better else text for text, better in texts) + r" \\"

    rows = "\n".join(line(row) for row in table.cells)
    columns = "l" * len(table.header)
    head = line([Cell(name) for name in table.header])
    return (
        f"\\begin{{table}}\n\\caption{{{escape(table.caption)}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\n\\midrule\n"
        f"{rows}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )
