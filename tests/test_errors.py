"""An error in one line, whatever it says."""

from __future__ import annotations

import pytest

from selfdistill_cli.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no\nmore"), "no"),
        (ValueError("\n\n  at last \nmore"), "at last"),
        (ValueError(), "ValueError"),
        (ValueError(" \n\t\n"), "ValueError"),
        (KeyError("name"), "'name'"),
        (RuntimeError(""), "RuntimeError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line
