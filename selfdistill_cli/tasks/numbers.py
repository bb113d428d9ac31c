"""Numbers and lists out of what a file says: `0.3`, `-2e5`, `["a", "b"]`; anything else stays the text that it is.

parsed_number("0.30")          # 0.3; of "1,5", "inf" or True: None
written_list("['red', 'blue']")  # ["red", "blue"]; of "red": None
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
import tokenize
from decimal import Decimal
from io import StringIO
from itertools import pairwise
from typing import Any

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
SIDE_BY_SIDE = re.compile(r"[\"']\s+[\"']")
NO_VALUE = frozenset({"na", "n/a", "nan", "null", "none"})
"""How programs write that a number is missing (R: NA; pandas, NumPy: nan). As texts and class names they are words."""


def parsed_number(value: Any) -> float | None:
    """A finite number, typed or written with digits and a point; None of anything else, booleans among them."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return None
    if not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def is_missing(value: Any) -> bool:
    """Whether a value is null, not a number (NaN), or blank."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and not value.strip()


def is_missing_number(value: Any) -> bool:
    """The same of what has to be a number, which a file may also say in words: NA, nan, null."""
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in NO_VALUE)


def written_list(value: Any) -> list[str] | None:
    """A list that is written as a text, in JSON or as Python shows it; None of any other text.

    Numbers in it keep the form in which they are written in JSON; of Python they are shown as Python does.
    """
    if not isinstance(value, str) or not (value.strip().startswith("[") and value.strip().endswith("]")):
        return None
    try:
        found = json.loads(value, parse_int=str, parse_float=str)
    except ValueError:
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    if not isinstance(found, list) or any(isinstance(one, list | dict | tuple | set) or one is None for one in found):
        return None
    return [one if isinstance(one, str) else str(one) for one in found]


def is_printed_array(value: str) -> bool:
    """Whether texts in brackets lack the commas between them, as NumPy and pandas print an array.

    Python reads texts that stand side by side as one.
    """
    text = value.strip()
    if not (text.startswith("[") and text.endswith("]") and SIDE_BY_SIDE.search(text)):
        return False
    found = []
    with contextlib.suppress(tokenize.TokenError, SyntaxError):  # what came before is enough
        for token in tokenize.generate_tokens(StringIO(text).readline):
            found.append(token.type)
    return (tokenize.STRING, tokenize.STRING) in pairwise(kind for kind in found if kind != tokenize.NL)
