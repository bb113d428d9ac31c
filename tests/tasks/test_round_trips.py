"""Tables of arbitrary texts, written by well-known writers, are read back character by character, or refused."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.readers import Reading, read_table

pd: Any = pytest.importorskip("pandas")  # comes with `datasets`

Rows = list[tuple[str, str]]

AWKWARD = st.sampled_from(
    ["", " ", '"', '""', "a,b", "a;b", "a\tb", "line\nline", "a\r\nb", "0870", "1.10", "true", "07:30", "2021-01-10",
     "NA", "null", "nan", "12345678901234567890123", "\\", '\\"', "#", "'", "“", "é", "e\u0301", "\u2028", "\x85", "😀",
     "=1+1", "[1, 2]", "\ufeff", "1e5", "-0", '"quoted"', '5" pipe']
)  # fmt: skip
TEXTS = st.one_of(
    AWKWARD, st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
)
TABLES = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5)
"""Two columns; without NUL, which Python 3.10's csv cannot read."""


def written_by_csv(path: Path, rows: Rows, delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *rows])


def written_by_pandas(path: Path, rows: Rows, **how: Any) -> None:
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False, **how)


def written_as_tsv(path: Path, rows: Rows) -> None:
    """As the benchmarks do: cells between tabs, and nothing else."""
    path.write_bytes("".join(f"{a}\t{b}\n" for a, b in [("text", "label"), *rows]).encode())


def written_as_lines(path: Path, rows: Rows, ascii_only: bool = False) -> None:
    lines = [json.dumps({"text": a, "label": b}, ensure_ascii=ascii_only) for a, b in rows]
    path.write_bytes("\n".join(lines).encode())


def written_as_array(path: Path, rows: Rows) -> None:
    pd.DataFrame(rows, columns=["text", "label"]).to_json(path, orient="records", indent=1)


def written_as_parquet(path: Path, rows: Rows) -> None:
    parquet.write_table(pa.table({"text": [a for a, _ in rows], "label": [b for _, b in rows]}), path)


def written_compressed(path: Path, rows: Rows) -> None:
    plain = path.with_suffix("")
    written_as_lines(plain, rows, ascii_only=True)
    path.write_bytes(gzip.compress(plain.read_bytes()))


EXACT: dict[str, tuple[str, Callable[[Path, Rows], None], Reading]] = {
    "csv": ("t.csv", written_by_csv, Reading()),
    "pandas": ("t.csv", written_by_pandas, Reading()),
    "excel": ("t.csv", lambda p, r: written_by_pandas(p, r, sep=";", encoding="utf-8-sig"), Reading()),
    "utf-16": ("t.csv", lambda p, r: written_by_pandas(p, r, encoding="utf-16"), Reading()),
    "all in quotes": ("t.csv", lambda p, r: written_by_pandas(p, r, quoting=csv.QUOTE_ALL, lineterminator="\r\n"), Reading()),
    "tsv in quotes": ("t.tsv", lambda p, r: written_by_pandas(p, r, sep="\t"), Reading(quoting="double")),
    "json lines": ("t.jsonl", written_as_lines, Reading()),
    "json": ("t.json", written_as_array, Reading()),
    "parquet": ("t.parquet", written_as_parquet, Reading()),
    "gz": ("t.ndjson.gz", written_compressed, Reading()),
}  # fmt: skip


def read_back(name: str, write: Callable[[Path, Rows], None], rows: Rows, how: Reading) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name), rows)
        read = read_table([Path(folder, name)], how)
    found = list(zip(read.table["text"].to_pylist(), read.table["label"].to_pylist(), strict=True))
    if any(note.startswith("lines end in two ways") for note in read.notes):
        rows[:] = [(a, b.removesuffix("\r")) for a, b in rows]
    return found


@pytest.mark.parametrize("form", EXACT)
@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(rows=TABLES)
def test_a_table_is_read_as_it_was_written(form: str, rows: Rows) -> None:
    name, write, how = EXACT[form]
    refusal = ""
    try:
        assert read_back(name, write, rows, how) == rows
    except UserError as error:
        refusal = str(error)
    assert not refusal or (
        name in ("t.csv", "t.tsv") and "a carriage return stands inside of a field that is not in quotes" in refusal
    )


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(rows=TABLES)
def test_a_tsv_is_read_as_it_was_written_or_refused(rows: Rows) -> None:
    """What cannot stand in such a file: tabs and line feeds within a cell, a carriage return at the end of a row."""
    fits = all(set(a + b).isdisjoint("\t\n") and not b.endswith("\r") for a, b in rows)
    if fits and "\r" not in "".join(a + b for a, b in rows):
        assert read_back("t.tsv", written_as_tsv, rows, Reading()) == rows
    elif any("\t" in a + b or "\n" in a for a, b in rows):
        with pytest.raises(UserError, match=r"line \d+ has \d fields?, the first line has 2"):
            read_back("t.tsv", written_as_tsv, rows, Reading())


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(rows=TABLES)
def test_cells_without_the_quotes_that_they_need_are_refused_or_read_as_other_readers_do(rows: Rows) -> None:
    """Texts joined by commas: whatever is not refused is what pandas reads of it, and no quote was lost."""
    text = "text,label\n" + "".join(f"{a},{b}\n" for a, b in rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_bytes(text.encode())
        try:
            table = read_table([path], Reading(columns={"text", "label"})).table
        except UserError:
            return
        expected = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", engine="python", sep=",")
    assert table.column_names == ["text", "label"]
    assert table.num_rows == len(expected)
    assert table["text"].to_pylist() == expected["text"].tolist()
