"""How an answer is read off a text, by each benchmark's own rule. None: there is no answer in it.

after_hashes("23 + 15 = 38\\n#### 1,038")  # "1038"
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable


def stripped(text: str) -> str | None:
    """The whole text, without space around it."""
    return text.strip() or None


def normalized(text: str) -> str | None:
    """SQuAD's normalisation: lower case, without punctuation, articles and superfluous space (its evaluate-v1.1.py)."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split()) or None


def after_hashes(text: str) -> str | None:
    """The number after `####`, commas removed (GSM8K's own: grade_school_math/dataset.py)."""
    found = re.search(r"#### (\-?[0-9\.\,]+)", text)
    return found.group(1).strip().replace(",", "") if found else None


def number(text: str) -> str | None:
    """The last number in the text, commas removed; 8.0 and 8 are the same."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    if not found:
        return None
    plain = found[-1].replace(",", "")
    return str(int(float(plain))) if float(plain).is_integer() else str(float(plain))


def letter(text: str) -> str | None:
    """The letter of a choice, A to E: the last one after `####`, "answer is" or "option", else the last capital."""
    marked = re.findall(r"(?:####|answer is|answer:|option)\s*\(?([A-Ea-e])\b", text)
    found = marked or re.findall(r"\b([A-E])\b", text)
    return found[-1].upper() if found else None


RULES: dict[str, Callable[[str], str | None]] = {
    "text": stripped,
    "normalized": normalized,
    "number": number,
    "after_hashes": after_hashes,
    "letter": letter,
}
"""By the names of `task.answer_rule`."""
