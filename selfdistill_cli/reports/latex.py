"""Tables and words as LaTeX: booktabs, numbers aligned at the point, every sign of a user's names one that TeX prints."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from selfdistill_cli.reports.content import Cell, Table

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "−": "$-$", "–": "--", "—": "---", "…": r"\dots{}", "×": r"$\times$", "·": r"$\cdot$",
    "▼": r"$\downarrow$", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "√": r"$\surd$", "²": "$^2$",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\epsilon$", "θ": r"$\theta$",
    "λ": r"$\lambda$", "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$", "χ": r"$\chi$", "Δ": r"$\Delta$", "Σ": r"$\Sigma$",
    "₀": "$_0$", "₁": "$_1$", "₂": "$_2$", "ᵢ": "$_i$", "“": "``", "”": "''", "‘": "`", "’": "'", "\u00a0": "~",
    "°": r"$^\circ$", "[": "{[}", "*": "{*}",  # bare, behind \\ or \midrule these are its arguments
}  # fmt: skip
NUMBER = re.compile(r"([-−+]?\d[\d,]*(?:\.\d+)?)")
PARTS = re.compile(r"([-−+]?)([\d,]+)(\.\d+)?")
FITTING = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}"
"""As wide as it is, or, if that is wider, as the text."""
MOST_NUMBERS = 3
"""Of a cell that counts as a number: mean, deviation, seeds. What has more is a text with numbers in it."""
LONG_WORD = 20
"""Letters."""
LONG = 60
"""Characters of a text above which its column is set in paragraphs of half the text's width."""


def escape(text: str) -> str:
    """The text as TeX prints it with T1 fonts and UTF-8 input; what these cannot print stands by its code point."""
    return "".join(SIGNS.get(sign) or _letter(sign) for sign in text)


def running(text: str) -> str:
    """As `escape`; a long word (a command, a path) may be broken behind the signs in it."""
    words = (escape(word) if len(word) < LONG_WORD else _breakable(word) for word in text.split(" "))
    return " ".join(words)


def _breakable(word: str) -> str:
    return r"\allowbreak{}".join(escape(piece) for piece in re.findall(r"[^,=/._-]*[,=/._-]?", word) if piece)


def _letter(sign: str) -> str:
    if sign.isascii():
        return sign if sign.isprintable() else " "
    if unicodedata.name(sign, "").startswith("LATIN ") and ord(sign) < 0x180:
        return sign
    return rf"\texttt{{U+{ord(sign):04X}}}"


def latex_table(table: Table) -> str:
    """A table of the booktabs package and graphicx, no wider than the text, with caption and the label `tab:<name>`.

    In a column of numbers, alone or in one form (`73.3 ± 1.8 (3)`, `−0.9 to 2.1`), the points stand below each other:
    shorter numbers are filled up with room for the digits that they lack. Better cells are bold, worse have an arrow.
    """
    columns = [_Column([row[place] for row in table.cells]) for place in range(len(table.header))]
    kinds = "".join(column.kind for column in columns)
    end = r" \tabularnewline" if "{" in kinds else r" \\"  # \raggedright gives \\ another meaning
    lines = [" & ".join(cells) + end for cells in zip(*(column.written() for column in columns), strict=True)]
    head = " & ".join(escape(name) for name in table.header) + end
    tabular = "\n".join([rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head, r"\midrule", *lines, r"\bottomrule"])
    tabular += "\n\\end{tabular}"
    return (
        f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{escape(table.caption)}}}\n\\label{{tab:{table.name}}}\n"
        f"{FITTING}{{!}}{{%\n{tabular}}}\n\\end{{table}}\n"
    )


class _Column:
    """A column's cells, and for each number of their form the room that it needs: for the sign, before and behind the
    point. No room: the column holds other texts too, and is written as it is.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        forms = [NUMBER.split(cell.text) for cell in cells if not _says_nothing(cell)]
        self.form: list[str] = max(forms, key=len, default=[""])[::2]
        few = 1 < len(self.form) <= MOST_NUMBERS + 1 and not any(sign.isalpha() for sign in self.form[0])
        numeric = few and all(_is_beginning(form[::2], self.form) for form in forms)
        parts = [
            [_parts(form[2 * k + 1]) for form in forms if 2 * k + 1 < len(form)] for k in range(len(self.form) - 1)
        ]
        self.widths = [tuple(max(map(len, of)) for of in zip(*each, strict=True)) for each in parts] if numeric else []

    @property
    def kind(self) -> str:
        """What `tabular` is told of it."""
        if self.widths:
            return "c"
        return r"p{.5\textwidth}" if max((len(cell.text) for cell in self.cells), default=0) > LONG else "l"

    def written(self) -> list[str]:
        """Every cell as LaTeX."""
        return [self._cell(cell) for cell in self.cells]

    def _cell(self, cell: Cell) -> str:
        worse = escape(" ▼") if cell.verdict == "worse" else ""
        if not self.widths or _says_nothing(cell):
            return ("" if len(self.kind) == 1 else r"\raggedright ") + _bold(escape(cell.text), cell) + worse
        pieces = NUMBER.split(cell.text)
        said = ""
        for k, (sign, whole, part) in enumerate(self.widths):
            if 2 * k + 1 >= len(pieces):  # a mean without a deviation: room for what the others have here
                return said + worse + rf"\phantom{{{self._tail(k)}}}"
            number = pieces[2 * k + 1].replace("-", "−")
            found = _parts(number)
            said += escape(pieces[2 * k]) + _phantom("-", sign - len(found[0])) + _phantom("0", whole - len(found[1]))
            said += _bold(escape(number), cell) if k == 0 else escape(number)
            said += _behind(found[2], part)
        return said + escape(pieces[-1]) + worse

    def _tail(self, number: int) -> str:
        """As wide as what the longest cells say from a number on."""
        said = "".join(
            escape(self.form[k]) + "$-$" * sign + "0" * whole + "." * (part > 0) + "0" * (part - 1)
            for k, (sign, whole, part) in enumerate(self.widths)
            if k >= number
        )
        return said + escape(self.form[-1])


def _is_beginning(form: Sequence[str], of: Sequence[str]) -> bool:
    """Whether a cell's words between its numbers are those of the longest form, as far as it goes: `N` of `N ± N`."""
    return len(form) > 1 and list(form[:-1]) == list(of[: len(form) - 1]) and form[-1] in ("", of[len(form) - 1])


def _parts(number: str) -> tuple[str, str, str]:
    """Sign, digits before the point, the point and digits behind it."""
    match = PARTS.fullmatch(number)
    assert match is not None
    return match[1], match[2], match[3] or ""


def _says_nothing(cell: Cell) -> bool:
    return not any(sign.isalnum() for sign in cell.text) or cell.text == "no run"


def _bold(text: str, cell: Cell) -> str:
    return rf"\textbf{{{text}}}" if cell.verdict == "better" else text


def _behind(part: str, longest: int) -> str:
    """Room for the digits, and the point, that the longest number has behind the point and this one lacks."""
    return _phantom("0", longest - len(part)) if part else _phantom(".", longest > 0) + _phantom("0", longest - 1)


def _phantom(sign: str, times: int) -> str:
    if times <= 0:
        return ""
    return r"\phantom{$-$}" if sign == "-" else rf"\phantom{{{sign * times}}}"
