"""Texts from rows: columns, fields inside them, templates with formats; what a template cannot mean is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.sources import RawSplit
from selfdistill_cli.tasks.templates import lists, render

RAW = RawSplit(
    "train",
    pa.table(
        {
            "question": ["how {many}?", "why?"],
            "options": [["A)1", "B)2"], ["A)3", "B)4"]],
            "answers": [{"text": ["one", "1"], "answer_start": [0, 1]}, {"text": ["two"], "answer_start": [3]}],
            "price": [2.5, 1234.0],
            "in.words": ["two", "many"],
        }
    ),
    "here",
)


def test_templates_reach_into_columns() -> None:
    template = "Q: {question} {options} – {answers[text][0]}"
    assert render(template, RAW) == ["Q: how {many}? A)1 B)2 – one", "Q: why? A)3 B)4 – two"]
    assert lists("answers[text]", RAW) == [["one", "1"], ["two"]]
    assert lists("{question}", RAW) == [["how {many}?"], ["why?"]]
    quoted = RawSplit("train", pa.table({"a": ['say "x", y', "]"], "b": ["\\\\", "it's"]}), "here")
    assert lists('["{a}", "{b}!", "neither"]', quoted) == [
        ['say "x", y', "\\\\!", "neither"],
        ["]", "it's!", "neither"],
    ]
    with pytest.raises(UserError, match=r"row 1: there is no 'answers\[text\]\[1\]'"):
        render("{answers[text][1]}", RAW)
    with pytest.raises(UserError, match=r"no column 'quetsion'.*Did you mean 'question'"):
        render("{quetsion}", RAW)


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        ("{price:.2f} EUR", ["2.50 EUR", "1234.00 EUR"]),
        ("{price:,.0f}", ["2", "1,234"]),
        ("{question!r}", ["'how {many}?'", "'why?'"]),
        ("{question!r:>10}", ["'how {many}?'", "    'why?'"]),
        ("{options!r}", ["['A)1', 'B)2']", "['A)3', 'B)4']"]),
        ("{options:>9}", ["  A)1 B)2", "  A)3 B)4"]),
        ("{{question}} {question}", ["{question} how {many}?", "{question} why?"]),
        ("{{{price}}}", ["{2.5}", "{1234.0}"]),
        ("{in.words}", ["two", "many"]),  # a dot is part of a column's name, not an attribute
        ("{question}{question}", ["how {many}?how {many}?", "why?why?"]),
        ("{{}}", ["{}", "{}"]),
    ],
)
def test_templates_mean_what_str_format_means(template: str, texts: list[str]) -> None:
    assert render(template, RAW) == texts


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("Q: {}", "a pair of braces names no column"),
        ("Q: {!r}", "a pair of braces names no column"),
        ("Q: {:.2f}", "a pair of braces names no column"),
        ("Q: {question", "expected '}' before end of string"),
        ("Q: question} {price}", "Single '}' encountered"),
        ("Q: {[text]}", "'[text]' is no column"),
        ("Q: {answers[]}", "'answers[]' is no column"),
        ("Q: {answers[text]x}", "'answers[text]x' is no column"),
        ("Q: {question!x}", "there is no conversion '!x'"),
        ("Q: {price:.{digits}f}", "braces inside a format"),
    ],
)
def test_a_template_that_cannot_be_read_is_shown_with_what_to_type(template: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        render(template, RAW)
    words = str(caught.value)
    assert says in words
    assert repr(template) in words
    assert "{column}" in words
    assert "{{ and }}" in words


@pytest.mark.parametrize("template", ["{question:.2f}", "{price:abc}", "{price:d}"])
def test_a_format_that_does_not_fit_a_value_names_its_row(template: str) -> None:
    with pytest.raises(UserError, match=r"here, row 0: .* cannot be written as") as caught:
        render(template, RAW)
    assert template in str(caught.value)


def test_an_empty_cell_in_a_template_is_refused_even_with_a_conversion() -> None:
    raw = RawSplit("train", pa.table({"text": ["a", None]}), "here", first_row=40)
    for template in ("text", "{text}", "{text!r}", "{text:>5}"):
        with pytest.raises(UserError, match="here, row 41: column 'text' is empty"):
            render(template, raw)
