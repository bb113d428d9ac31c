"""What a file holds is read as it stands, whatever its format; what cannot be cut into rows is refused with its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.data_files import files_of
from selfdistill_cli.tasks.readers import Read, Reading, read_table, require_settings_used
from selfdistill_cli.tasks.readers.base import ROWS_AT_ONCE
from selfdistill_cli.tasks.sources import reading_of
from tests.helpers.runs import composed
from tests.helpers.task_files import load
from tests.tasks.test_data import refused

WANTED = frozenset({"text", "label"})


def read(path: Path, content: str | bytes | None = None, columns: frozenset[str] | None = WANTED, **how: Any) -> Read:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(files_of(path), Reading(columns=columns, **how))


def cells(*given: Any, **how: Any) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = read(*given, **how).table.to_pydict()
    return columns


def words_of(*given: Any, **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(*given, **how)
    return str(caught.value)


AS_WRITTEN = ["0870", "1.10", "true", "07:30", "2021-01-10", "1200000", "NA", "null", "", "1e3", "98765432109876543210"]


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "txt", "json", "jsonl", "ndjson.gz"])
def test_a_text_format_gives_what_is_written(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{form}"
    if "js" in form:
        content = "\n".join(json.dumps({"text": f"t{i}", "label": word}) for i, word in enumerate(AS_WRITTEN))
        content = "[" + content.replace("\n", ",\n") + "]" if form == "json" else content
    else:
        content = "text\tlabel\n" if form in ("tsv", "txt") else "text,label\n"
        content += "".join(f"t{i}{content[4]}{word}\n" for i, word in enumerate(AS_WRITTEN))
    written = gzip.compress(content.encode()) if form.endswith(".gz") else content.encode()
    assert cells(path, written) == {"text": [f"t{i}" for i in range(len(AS_WRITTEN))], "label": AS_WRITTEN}


def test_lists_that_begin_late_are_lists(tmp_path: Path) -> None:
    lines = ['{"text": "a", "label": null}'] * (ROWS_AT_ONCE + 1) + ['{"text": "b", "label": ["x", "y"]}']
    found = cells(tmp_path / "t.jsonl", "\n".join(lines))["label"]
    assert (found[0], found[-1], len(found)) == (None, ["x", "y"], len(lines))


def test_numbers_and_truths_of_json_are_read_as_they_are_written(tmp_path: Path) -> None:
    values = ["1.10", "0.30000000000000004", "98765432109876543210", "1E5", "-0", "true", "false"]
    lines = [f'{{"text": "a", "label": {value}}}' for value in values]
    assert cells(tmp_path / "t.jsonl", "\n".join(lines))["label"] == values
    nothing = '{"text": null, "label": NaN}\n{"label": "NaN"}'
    assert cells(tmp_path / "t.jsonl", nothing) == {"text": [None, None], "label": [None, "NaN"]}


def test_lists_and_records_of_json_keep_their_shape(tmp_path: Path) -> None:
    lines = '{"text": [], "label": {"a": 1.50}}\n\n{"text": ["x", 2], "label": {"b": [true]}}\n'
    assert cells(tmp_path / "t.jsonl", lines) == {
        "text": [[], ["x", "2"]],
        "label": [{"a": "1.50", "b": None}, {"a": None, "b": ["true"]}],
    }


def test_only_the_columns_that_are_used_are_read(tmp_path: Path) -> None:
    lines = '{"text": "a", "label": "x", "source": 1}\n{"text": "b", "label": "y", "source": ["p"], "more": {}}\n'
    found = read(tmp_path / "t.jsonl", lines)
    assert found.table.column_names == ["text", "label"]
    assert found.columns == ("text", "label", "source", "more")
    odd = pa.table({"text": ["a"], "label": ["x"], "bytes": [b"\xff"]})
    parquet.write_table(odd, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").columns == ("text", "label", "bytes")


def test_rows_of_any_length(tmp_path: Path) -> None:
    long = "word " * 600_000
    for path, content in (("t.csv", f"text,label\n{long},a\n"), ("t.jsonl", json.dumps({"text": long, "label": "a"}))):
        assert cells(tmp_path / path, content) == {"text": [long], "label": ["a"]}


def test_in_tsv_a_quote_is_a_character_unless_the_task_says_otherwise(tmp_path: Path) -> None:
    content = 'text\tlabel\n"so far\tgood\nan "inch"\tbad\n"all of it"\t"x"\n'
    found = read(tmp_path / "t.tsv", content)
    assert found.table["text"].to_pylist() == ['"so far', 'an "inch"', '"all of it"']
    assert found.notes == ("2 cells stand in quotes, which are kept; task.quoting=double takes them off",)
    content = 'text\tlabel\n"one\ttwo"\tgood\n"say ""hi"""\tbad\n'
    assert cells(tmp_path / "t.tsv", content, quoting="double")["text"] == ["one\ttwo", 'say "hi"']
    assert "line 2 has 3 fields, the first line has 2 (text, label)" in words_of(tmp_path / "t.tsv")
    assert "task.quoting=double" in words_of(tmp_path / "t.tsv")


MISQUOTED = {
    "unclosed": ('text,label\nfine,a\n"open,a\nmore,b\n', ["line 3", "never closed (read up to line 4)"]),
    "after": ('text,label\n"a"b,c\n', ["line 2", "text follows the quote that closes a field", "task.quoting=none"]),
    "inside": ('text,label\n5" pipe,c\n', ["line 2", "a quote stands inside of a field", '"5"" pipe"']),
    "after a space": ('text,label\nx,a\ny, "b"\n', ["line 3", "a quote stands inside of a field"]),
    "backslash": ('text,label\n"he said \\"hi\\"",c\n', ["line 2", "a backslash is a character"]),
    "escaped delimiter": ("text,label\none\\, two,c\n", ["line 2 has 3 fields", "A backslash escapes nothing here"]),
    "too many": ("text,label\none, two,c\n", ["line 2 has 3 fields, the first line has 2", "stands in double quotes"]),
    "too few": ('text,label\n"a\nb",x\nc\n', ["line 4 has 1 field, the first line has 2 (text, label): 'c'"]),
}


@pytest.mark.parametrize("case", MISQUOTED)
def test_a_row_that_cannot_be_cut_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    content, parts = MISQUOTED[case]
    words = words_of(tmp_path / "t.csv", content)
    assert words.startswith(f"{tmp_path}/t.csv, line ")
    for part in parts:
        assert part in words


RECOGNISED = {
    "semicolons": ("csv", "text;label\na, b;x\n", "delimiter ';'"),
    "tabs": ("csv", "text\tlabel\na, b\tx\n", "delimiter tab"),
    "bars": ("txt", "text|label\na, b|x\n", "delimiter '|'"),
    "Excel's line": ("csv", "sep=;\ntext;label\na, b;x\n", "delimiter ';'"),
    "mark": ("csv", "\ufefftext;label\na, b;x\n", "encoding UTF-8 with a mark, delimiter ';'"),
    "quoted header": ("tsv", '"text"\t"label"\n"a, b"\t"x"\n', "quotes around cells, as around the header"),
    "usual": ("csv", 'text,label\n"a, b",x\n', ""),
    "two ends": ("csv", 'text,label\n"a, b",x\r\n', "lines end in two ways (1 not as the first; a carriage return there is no part of a cell)"),
}  # fmt: skip


@pytest.mark.parametrize("case", RECOGNISED)
def test_a_dialect_is_recognised_and_said(case: str, tmp_path: Path) -> None:
    ending, content, note = RECOGNISED[case]
    found = read(tmp_path / f"t.{ending}", content)
    assert found.table.to_pydict() == {"text": ["a, b"], "label": ["x"]}
    assert ", ".join(found.notes) == note


def test_below_excels_line_quotes_are_characters_where_the_task_says_so(tmp_path: Path) -> None:
    content = 'sep=;\ntext;label\nan "inch";x\n"a;"b"\n'
    assert "a quote stands inside of a field" in words_of(tmp_path / "t.csv", content)
    assert cells(tmp_path / "t.csv", content, quoting="none") == {"text": ['an "inch"', '"a'], "label": ["x", '"b"']}
    assert cells(tmp_path / "t.csv", 'sep=;\ntext;label\n"a;b";x\n', quoting="double")["text"] == ["a;b"]
    with pytest.raises(UserError, match="line 3 has 3 fields"):
        cells(tmp_path / "t.csv", "sep=;\ntext;label\na;b;x\n", quoting="none")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_an_encoding_is_known_by_its_mark(encoding: str, tmp_path: Path) -> None:
    for name, content in (("t.csv", "text,label\ncafé,ü\n"), ("t.jsonl", '{"text": "café", "label": "ü"}')):
        found = read(tmp_path / name, content.encode(encoding))
        assert found.table.to_pydict() == {"text": ["café"], "label": ["ü"]}
        assert found.notes[0].startswith("encoding ")


def test_an_encoding_can_be_said(tmp_path: Path) -> None:
    content = "text,label\nfein,a\ncafé €,b\n".encode("cp1252")
    words = words_of(tmp_path / "t.csv", content)
    assert "line 3: byte 0xe9 is not UTF-8" in words
    assert "task.encoding=cp1252" in words
    assert cells(tmp_path / "t.csv", encoding="cp1252")["text"] == ["fein", "café €"]
    for given, note in (
        (content, "encoding cp1252"),
        ("text,label\ncafé,b\n".encode(), "encoding cp1252, although it is UTF-8 throughout"),
    ):
        assert read(tmp_path / "n.csv", given, encoding="cp1252").notes == (note,)
    assert "there is no such encoding" in words_of(tmp_path / "t.csv", encoding="utf-9")
    assert "is not in ascii" in words_of(tmp_path / "t.csv", encoding="ascii")
    assert "task.encoding=utf-16-le reads it" in words_of(tmp_path / "t.csv", "text,label\n".encode("utf-16-le"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8"])
def test_a_mark_is_no_part_of_the_first_column_whatever_encoding_was_said(encoding: str, tmp_path: Path) -> None:
    written = "utf-8-sig" if encoding == "utf-8" else "utf-16"
    found = cells(tmp_path / "t.csv", "text,label\ncafé,ü\n".encode(written), encoding=encoding)
    assert found == {"text": ["café"], "label": ["ü"]}


@pytest.mark.parametrize("encoding", ["hex", "base64", "rot13", "utf-99"])
def test_what_is_no_encoding_of_texts_is_refused(encoding: str, tmp_path: Path) -> None:
    assert f"task.encoding={encoding}: there is no such encoding" in words_of(
        tmp_path / "t.csv", "text,label\na,b\n", encoding=encoding
    )


def test_a_file_without_a_header(tmp_path: Path) -> None:
    wanted = frozenset({"c0", "c1"})
    found = read(tmp_path / "t.csv", "a;x\nb;y\n", wanted, header=False)
    assert found.table.to_pydict() == {"c0": ["a", "b"], "c1": ["x", "y"]}
    assert found.notes == ("delimiter ';'", "no header: columns c0, c1")


@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_without_a_header_what_can_be_cut_in_two_ways_is_refused(ending: str, tmp_path: Path) -> None:
    path, wanted, prices = tmp_path / f"t.{ending}", frozenset({"c0", "c1"}), "Ein Satz;0,5\nNoch einer;0,75\n"
    words = words_of(path, prices, wanted, header=False)
    assert words.startswith(f"{path}: task.header=false: 'Ein Satz;0,5' can be cut at ',' or ';'")
    assert cells(path, prices, wanted, header=False, delimiter=";")["c1"] == ["0,5", "0,75"]
    told_apart = read(path, "Ein Satz;0,5\nNoch, einer;0,75", wanted, header=False)
    assert told_apart.table.to_pydict() == {"c0": ["Ein Satz", "Noch, einer"], "c1": ["0,5", "0,75"]}
    assert told_apart.notes[0] == "delimiter ';'"
    assert cells(path, "a; b,x\nc,y\n", wanted, header=False) == {"c0": ["a; b", "c"], "c1": ["x", "y"]}
    assert cells(path, '"a; b",x\n"c; d",y\n', wanted, header=False)["c1"] == ["x", "y"]


QUOTED_TEXTS = (
    '0,"First line; then\nsecond line"\n1,"b"\n',
    '0,a; b\n1,"x\ny"\n',
    '1,a|b,"x\n\ny"\n2,c|d,z\n',
    '1,"A, b; film"\n0,"Bad; film, good"\n',
    '"a; b",1\n"he said ""c; d""",2\n',
)


@pytest.mark.parametrize("content", QUOTED_TEXTS)
def test_without_a_header_quoted_cells_say_what_is_between_cells(content: str, tmp_path: Path) -> None:
    expected = list(zip(*csv.reader(io.StringIO(content)), strict=True))
    names = [f"c{place}" for place in range(len(expected))]
    found = cells(tmp_path / "t.csv", content, frozenset(names), header=False)
    assert found == {name: list(column) for name, column in zip(names, expected, strict=True)}


def test_without_a_header_a_tab_is_between_the_cells_of_a_tsv(tmp_path: Path) -> None:
    found = read(tmp_path / "t.tsv", "so, so\tx\nwell; yes, no\ty\n", frozenset({"c0", "c1"}), header=False)
    assert found.table.to_pydict() == {"c0": ["so, so", "well; yes, no"], "c1": ["x", "y"]}
    assert found.notes == ("no header: columns c0, c1",)


def test_a_delimiter_of_the_users(tmp_path: Path) -> None:
    assert cells(tmp_path / "t.txt", 'text || label\nsay "a" || b\n', frozenset({"text"}), delimiter=" || ")[
        "text"
    ] == ['say "a"']
    assert cells(tmp_path / "t.csv", "text\tlabel\na\tb\n", delimiter="tab")["label"] == ["b"]
    assert "must be a character" in words_of(tmp_path / "t.csv", delimiter="")


def test_a_text_file_is_one_text_a_line(tmp_path: Path) -> None:
    found = read(tmp_path / "t.txt", 'one, two\n\n"three\n', frozenset({"text"}))
    assert found.table.to_pydict() == {"text": ["one, two", "", '"three']}
    assert found.notes == ("one text a line",)


JSON = {
    "array over lines": ("json", '[\n {"text": "a",\n "label": 1.0}\n]'),
    "lines in .json": ("json", '{"text": "a", "label": 1.0}\n{"text": "b", "label": 2}\n'),
    "array in .jsonl": ("jsonl", '[{"text": "a", "label": 1.0}]'),
    "one field of records": ("json", '{"version": 2, "data": [{"text": "a", "label": 1.0}]}'),
    "one record": ("json", '{\n"text": "a",\n"label": 1.0}'),
    "blank lines": ("ndjson", '\n{"text": "a", "label": 1.0}\n\n'),
}


@pytest.mark.parametrize("case", JSON)
def test_json_of_every_usual_form(case: str, tmp_path: Path) -> None:
    ending, content = JSON[case]
    found = cells(tmp_path / f"t.{ending}", content)
    assert (found["text"][0], found["label"][0]) == ("a", "1.0")


BROKEN = {
    "cut off": ('{"text": "a", "label": "b"}\n{"text": "a", "la', ["line 2 is cut off"]),
    "two on a line": ('{"text": "a"} {"text": "b"}', ["line 1: more follows the record at character 15"]),
    "Python's quotes": ("{'text': 'a'}", ["line 1 is no JSON", "JSON has double quotes"]),
    "no record": ('\n[{"text": "a"}, 7]', ["record 2 of its array is none"]),
    "text": ('{"text": "a"}\nhello', ["line 2 is no JSON"]),
    "number": ('{"text": "a"}\n7', ["line 2 is no record: '7'"]),
    "two shapes": ('{"text": "a"}\n{"text": null}\n{"text": ["b"]}', ["line 3: 'text' is a list, and text in line 1"]),
    "inner shapes": ('{"text": {"a": "b"}}\n{"text": {"a": []}}', ["what is inside of 'text' has not one shape"]),
    "twice": ('{"text": "a", "x": 1, "x": 2}\n{"text": "b", "text": "c"}', ["line 2: 'text' stands in it twice"]),
    "surrogate": ('{"text": "a"}\n{"text": "\\ud800"}', ["line 2: 'text' holds half of a character"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    content, parts = BROKEN[case]
    words = words_of(tmp_path / "t.jsonl", content)
    assert words.startswith(f"{tmp_path}/t.jsonl, ")
    for part in parts:
        assert part in words


def test_a_field_inside_is_read_whatever_shapes_others_have(tmp_path: Path) -> None:
    others: list[Any] = ["c", [1], {}, None, 2]
    given = [{"meta": {"a": str(n), "b": other}, "label": "xy"[n % 2]} for n, other in enumerate(others)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    task = load("task=custom", f"task.path={path}", "task.text='is {meta[a]}'", f"task.validation_path={path}")
    assert list(task.train.texts) == [f"is {n}" for n in range(5)]
    with pytest.raises(UserError, match="what is inside of 'meta' has not one shape"):
        load("task=custom", f"task.path={path}", "task.text='is {meta[b]}'")


def test_an_object_of_columns_is_no_table(tmp_path: Path) -> None:
    for content in ('{"text": {"0": "a"}, "label": {"0": 1}}', '{"text": ["a"], "label": [1]}'):
        words = words_of(tmp_path / "t.json", content)
        assert "holds one object (text, label), not records" in words
        assert 'orient="records"' in words
    assert "line 2: this is no JSON" in words_of(tmp_path / "t.json", '[{"text": "a"},\n{"text": oh}]')


def write_shards(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        table = pa.table({"text": [f"t{number}", "u"], "label": ["a", "b"]})
        if name.endswith("parquet"):
            parquet.write_table(table, folder / name)
        else:
            (folder / name).write_text("\n".join(map(json.dumps, table.to_pylist())))
    return folder


def test_the_shards_of_a_folder_or_a_pattern_are_one_table(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "p", "b.parquet", "a.parquet", "_SUCCESS", ".hidden.parquet", "state.json")
    for path in (folder, folder / "*.parquet"):
        found = read(path)
        assert found.table["text"].to_pylist() == ["t1", "u", "t0", "u"]
        assert found.notes == ("2 files",)


def test_files_that_are_no_parts_of_one_table_are_refused(tmp_path: Path) -> None:
    mixed = write_shards(tmp_path / "m", "a.parquet", "b.jsonl")
    assert "files of several formats (a.parquet, b.jsonl)" in words_of(mixed)
    zipped = write_shards(tmp_path / "z", "a.csv.gz", "b.jsonl.gz")
    assert f"'{zipped}/*.csv.gz'" in words_of(zipped)
    splits = write_shards(tmp_path / "s", "train-0.jsonl", "train-1.jsonl", "test-0.jsonl")
    assert "files of several splits" in words_of(splits)
    assert "*train*" in words_of(splits)
    assert read(splits / "*train*").table.num_rows == 4
    lacking = write_shards(tmp_path / "l", "a.parquet", "b.parquet")
    parquet.write_table(pa.table({"text": ["x"]}), lacking / "b.parquet")
    assert "b.parquet has no column 'label'" in words_of(lacking)
    assert "There is no file that fits" in words_of(tmp_path / "*.csv")


def test_shards_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    """As the Hub numbers them, in a folder, or of a split in the data folder; whoever names files gets these."""
    shards = write_shards(tmp_path / "s", "train-00000-of-00003.parquet", "train-00002-of-00003.parquet")
    for path in (shards, shards / "train-*-of-*.*"):
        assert "holds 2 of 3 shards of train.parquet; missing: 00001" in words_of(path)
    assert read(shards / "train-0000?-of-00003.parquet").table.num_rows == 4
    assert read(shards / "train-00002-of-00003.parquet").table.num_rows == 2
    (shards / "train-00002-of-00003.parquet").rename(shards / "train-00001-of-00002.parquet")
    assert "shards of train.parquet out of 2 and out of 3" in words_of(shards)
    (shards / "train-00000-of-00003.parquet").rename(shards / "train-00000-of-00002.parquet")
    assert read(shards).table.num_rows == 4


def test_shards_are_known_by_the_hubs_older_names(tmp_path: Path) -> None:
    old = write_shards(tmp_path / "o", "train-00000-of-00002-6b5f4b2d3a1c9f77.parquet")
    assert "holds 1 of 2 shards of train.parquet; missing: 00001" in words_of(old)
    c4 = write_shards(tmp_path / "c", "c4-train.00001-of-00002.jsonl")
    assert "holds 1 of 2 shards of c4-train.jsonl; missing: 00000" in words_of(c4)
    of_two = [
        f"train-0000{number}-of-00002-{digest}.parquet" for number, digest in enumerate(("6b5f4b2d3a1c9f77", "0" * 16))
    ]
    assert read(write_shards(tmp_path / "w", *of_two)).table.num_rows == 4
    again = write_shards(tmp_path / "a", *of_two, of_two[0].replace("6b5f", "aaaa"))
    assert "holds one shard twice, train-00000-of-00002-6b5f4b2d3a1c9f77.parquet and" in words_of(again)
    for language in ("de", "en"):  # each folder has shards of its own
        write_shards(tmp_path / "many" / language, "train-00000-of-00001.parquet")
    assert len(files_of(tmp_path / "many" / "*" / "train-*-of-*.parquet")) == 2


def test_of_a_data_set_that_was_saved_its_own_files_are_read_and_no_cache_beside_them(tmp_path: Path) -> None:
    from datasets import Dataset, load_from_disk

    rows = {"text": list("abcd"), "label": [0, 1, 0, 1]}
    Dataset.from_dict(rows).save_to_disk(tmp_path / "saved", num_shards=2)
    saved = load_from_disk(tmp_path / "saved")
    saved.map(lambda row: {"text": row["text"].upper()})
    saved.filter(lambda row: row["label"] == 1)
    assert len(list((tmp_path / "saved").glob("cache-*.arrow"))) == 2
    assert cells(tmp_path / "saved") == rows
    assert cells(tmp_path / "saved" / "*.arrow") == rows
    (tmp_path / "saved" / "data-00000-of-00001.arrow").touch()  # saved before, in another number of files
    assert cells(tmp_path / "saved") == rows
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    assert "state.json names data-00001-of-00002.arrow, which is not there" in words_of(tmp_path / "saved")
    (tmp_path / "saved" / "data-00000-of-00001.arrow").unlink()
    (tmp_path / "saved" / "state.json").unlink()
    assert "holds 1 of 2 shards of data.arrow" in words_of(tmp_path / "saved")


def hub_metadata(**features: Any) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def test_names_of_classes_in_the_metadata_are_kept(tmp_path: Path) -> None:
    about = hub_metadata(
        label={"names": ["neg", "pos"], "_type": "ClassLabel"}, text={"dtype": "string", "_type": "Value"}
    )
    table = pa.table({"text": list("abc"), "label": [1, 0, -1]}).replace_schema_metadata(about)
    parquet.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_stream(tmp_path / "t.arrow", table.schema) as stream:  # as `datasets` writes it
        stream.write_table(table)
    for name in ("t.parquet", "t.arrow"):
        assert cells(tmp_path / name)["label"] == ["pos", "neg", None]
        for labels in (("pos", "neg"), ("bad", "pos", "neg")):
            assert cells(tmp_path / name, labels=labels, label_columns=["label"])["label"] == ["pos", "neg", None]
        spelled = cells(tmp_path / name, labels=("Pos", "Neg"), label_columns=["label"])
        assert spelled["label"] == ["Pos", "Neg", None]
        numbers = cells(tmp_path / name, labels=("bad", "good"), label_columns=["label"])
        assert numbers["label"] == [1, 0, -1]  # the task has names for the numbers
        assert cells(tmp_path / name, labels=("bad", "good"))["label"] == ["pos", "neg", None]  # of another column
        words = words_of(tmp_path / name, labels=("POS", "bad"), label_columns=["label"])
        assert (
            "has the classes neg, pos in this order, and task.labels has POS, bad: 'POS' stands in another place"
            in words
        )
    parquet.write_table(pa.table({"text": ["a"], "label": [2]}).replace_schema_metadata(about), tmp_path / "t.parquet")
    assert "column 'label' holds class 2, and the file names only 2" in words_of(tmp_path / "t.parquet")


@pytest.mark.parametrize(("kind", "names", "label"), [
    ("multiple_choice", "ABCD", [1, 3, None]), ("multiple_choice", "1234", [1, 3, None]),
    ("regression", ["bad", "so-so", "good", "best"], [1, 3, None]), ("regression", "1234", ["2", "4", None]),
    ("classification", "ABCD", ["B", "D", None]),
])  # fmt: skip
def test_a_number_that_is_a_choice_or_a_target_is_no_name(
    kind: str, names: Sequence[str], label: list[Any], tmp_path: Path
) -> None:
    about = hub_metadata(answer={"names": list(names), "_type": "ClassLabel"})
    table = pa.table({"text": list("abc"), "answer": [1, 3, -1]}).replace_schema_metadata(about)
    parquet.write_table(table, tmp_path / "t.parquet")
    task = composed("task=custom", f"task.kind={kind}", "task.text=text", "task.label=answer").task
    assert read_table([tmp_path / "t.parquet"], reading_of(task)).table["answer"].to_pylist() == label
    task.update(rename={"answer": "right"}, label="right")
    assert read_table([tmp_path / "t.parquet"], reading_of(task)).table["answer"].to_pylist() == label


def test_columns_of_parquet_keep_their_types_without_bytes_and_dictionaries(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["é".encode(), b"b"]),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "nested": pa.array([{"a": [b"p"]}, {"a": []}]),
            "price": [Decimal("1.10"), None],
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    assert cells(tmp_path / "t.parquet", columns=None) == {
        "text": ["é", "b"],
        "label": ["x", "y"],
        "nested": [{"a": ["p"]}, {"a": []}],
        "price": [Decimal("1.10"), None],
    }
    views = pa.table({"text": pa.array(["a", ""], pa.string_view()), "label": pa.array([b"x", b"y"], pa.binary_view())})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_file(file, views.schema) as writer:
        writer.write_table(views)
    found = read(tmp_path / "t.arrow").table
    assert found.schema.types == [pa.string(), pa.string()]  # what is empty in them is looked for in strings
    assert found.to_pydict() == {"text": ["a", ""], "label": ["x", "y"]}
    parquet.write_table(pa.table({"text": [b"\xff"], "label": ["x"]}), tmp_path / "t.parquet")
    assert "column 'text' holds bytes that are no UTF-8 text" in words_of(tmp_path / "t.parquet")
    (tmp_path / "t.parquet.gz").write_bytes(gzip.compress(b"no"))
    assert "cannot be read as parquet.gz" in words_of(tmp_path / "t.parquet.gz")
    (tmp_path / "t.csv.gz").write_bytes(b"text,label\n")
    assert "cannot be read as csv.gz" in words_of(tmp_path / "t.csv.gz")


def test_a_setting_that_no_file_is_read_by_is_refused(tmp_path: Path) -> None:
    lines, table = tmp_path / "t.jsonl", tmp_path / "t.parquet"
    for how in (Reading(delimiter=";"), Reading(header=False), Reading(quoting="none")):
        with pytest.raises(UserError, match="says how csv, tsv, txt files are read"):
            require_settings_used([lines], how)
        require_settings_used([lines, tmp_path / "t.csv"], how)
    require_settings_used([lines], Reading(encoding="latin-1"))
    assert "task.delimiter says how" in refused("task=synth_entailment", "task.delimiter='|'")
    with pytest.raises(UserError, match=r"task\.encoding says how csv, tsv, txt, json, jsonl files"):
        require_settings_used([table], Reading(encoding="latin-1"))


def test_a_column_that_is_not_there_is_named_with_how_the_file_was_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("body;mark;notes\na;x;n\nb;y;n\n")
    words = refused("task=custom", f"task.path={tmp_path}/t.csv", "task.text=body", "task.label=marks")
    assert "has no column 'marks'. Did you mean 'mark'? It has body, mark, notes." in words
    assert "It was read with delimiter ';'." in words
    (tmp_path / "t.csv").write_text("a,x\nb,y\n")
    words = refused("task=custom", f"task.path={tmp_path}/t.csv", "task.text=body", "task.label=mark")
    assert "It has a, x. It was read with the first line as names; if it holds none: task.header=false." in words
