"""How an answer is read off a text, by each benchmark's own rule. None: there is no answer in it.

after_hashes("23 + 15 = 38\\n#### 1,038")  # "1038"
"""

from __future__ import annotations

import contextlib
import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction


def stripped(text: str) -> str | None:
    """The whole text, without space around it."""
    return text.strip() or None


def normalized(text: str) -> str | None:
    """SQuAD's normalisation: lower case, without punctuation, articles and superfluous space (its evaluate-v1.1.py)."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split()) or None


def is_right(rule: Callable[[str], str | None], text: str, references: Iterable[str]) -> bool:
    """Whether the answer that the rule reads off a text is that of a reference.

    References in which it reads none do not count; where there is no other, nothing is right but an empty text, as
    SQuAD 2's evaluate-v2.0.py has it (empty once it is normalised).
    """
    accepted = {rule(reference) for reference in references} - {None}
    return rule(text) in accepted if accepted else normalized(text) is None


def after_hashes(text: str) -> str | None:
    """The number after the first `####` that has one, as GSM8K's own code (grade_school_math/dataset.py) finds it.

    Wider than that code in what people write there: without the space, with a currency sign, as a fraction.
    """
    found = re.search(rf"####\s*{NUMBER}", _on_a_line(text))
    return _plain(found) if found else None


def number(text: str) -> str | None:
    """The last number in the text, as `_plain` writes it: 8, 8.0 and 16/2 are the same."""
    found = list(re.finditer(NUMBER, _on_a_line(text)))
    return _plain(found[-1]) if found else None


NUMBER = (
    # Between digits or after a word it is a subtraction, a date or a hyphen; before a space, but for "= - 7", a bullet.
    r"(?P<sign>(?<![\w.)])[-−]|(?:(?<=[=:(#])|(?<=[=:(#] ))[-−]\s)?(?:[$€£]\s?(?P<minus>[-−])?)?"
    r"(?P<whole>\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)|\d+)?(?P<part>(?(whole)(?:\.\d+)?|(?<!\w)\.\d+))"
    r"(?:[eE](?P<power>[+-]?\d{1,3})(?!\w))?(?: (?P<above>\d{1,2})(?=/[1-9]))?(?:\s?/\s?(?P<below>[1-9]\d*)(?![\d/]))?"
)
"""A number as people write it: −7, $29.00, 1,234, 8{,}000 and 8\\,000 (TeX), .5, 1e5, 1/2, 1 1/2."""


_ABOVE, _BELOW = (rf"\s*(?:\{{\s*({digits})\s*\}}|(\d))" for digits in (r"[-−]?[\d.,]+", r"\d+"))
FRACTION = re.compile(rf"(?:(?<![\w.^])(\d+))?( {{0,2}})\\[cdt]?frac{_ABOVE}{_BELOW}")
"""TeX's \\frac{3}{4} and \\frac34, with the digit before it that makes it a mixed number."""


def _on_a_line(text: str) -> str:
    """The text with TeX's fractions of two numbers as 3/4, or behind a whole number as 1 3/4."""

    def written(found: re.Match[str]) -> str:
        whole, space, *parts = found.groups()
        above, below = filter(None, parts)
        if whole:
            return f"{whole} {above}/{below}"
        apart = "  " if space or found.string[: found.start()][-1:].isdigit() else ""  # of an exponent, no mixed number
        return f"{apart}{above}/{below}"

    return FRACTION.sub(written, text) if "frac" in text else text


def _plain(found: re.Match[str]) -> str:
    """The value, exactly: a whole number, a decimal that ends, or a fraction in lowest terms."""
    with _integers_of_any_length():
        return _written(found)


def _written(found: re.Match[str]) -> str:
    whole = re.sub(r"\D", "", found["whole"] or "0")
    value = Fraction(f"{whole}{found['part']}") * Fraction(10) ** int(found["power"] or 0)
    below = int(found["below"] or 1)
    value = value + Fraction(int(found["above"]), below) if found["above"] else value / below
    if found["sign"] or found["minus"]:
        value = -value
    places = 0
    while (value * 10**places).denominator % 2 == 0 or (value * 10**places).denominator % 5 == 0:
        places += 1
    shifted = value * 10**places
    if shifted.denominator != 1:
        return str(value)  # its decimals never end
    digits = str(abs(shifted.numerator)).rjust(places + 1, "0")
    return "-" * (value < 0) + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


@contextlib.contextmanager
def _integers_of_any_length() -> Iterator[None]:
    """Without Python's limit of some thousand digits, which a model that repeats itself may exceed."""
    if not hasattr(sys, "set_int_max_str_digits"):  # Python 3.10 before 3.10.7 has none
        yield
        return
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(limit)


def letter(text: str) -> str | None:
    """The letter of a choice, A to E: the last one after `####`, "answer is" or "option", else the last one at all.

    A small letter counts in brackets or quotes, before a bracket or full stop, or at the end of a line; so does a
    capital A, which may begin a sentence, except after `####` and "answer is". The article is no answer: a line that
    ends in "a" is one that was cut.
    """
    begun, ended = r"[*'\"(\[]", r"(?=[*'\".):,\]])"
    marked = re.finditer(
        rf"(?:####|[Aa]nswer is)\s*:?\s*{begun}*([A-E])\b"
        rf"|(?:####|[Aa]nswer is|[Aa]nswer:|option)\s*:?\s*{begun}*(?:([B-E])\b|([Aa-e])(?:{ended}|(?=\s*$)))",
        text,
        re.MULTILINE,
    )
    loose = re.finditer(
        rf"(?<![\w'])(?:{begun}+([A-Ea-e]){ended}|([B-E])\b|([Aa-e]){ended}|([Ab-e])(?=\s*$))|^\s*(a)\s*$",
        text,
        re.MULTILINE,
    )
    found = [next(filter(None, match.groups())) for match in marked] or [
        next(filter(None, match.groups())) for match in loose
    ]
    return found[-1].upper() if found else None


RULES: dict[str, Callable[[str], str | None]] = {
    "text": stripped,
    "normalized": normalized,
    "number": number,
    "after_hashes": after_hashes,
    "letter": letter,
}
"""By the names of `task.answer_rule`."""
