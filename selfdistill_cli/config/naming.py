"""The full names of what was named in short, and which options have it: lr is schedule.lr, tau is a setting of some methods."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache

from selfdistill_cli.config.options import added_groups, folders, groups, options_of
from selfdistill_cli.config.settings import holders, prefix_of, read_option, run_settings, setting_groups
from selfdistill_cli.system.words import listed


def plus(group: str) -> str:
    """A plus for a group that no run has by itself."""
    return "+" if group in added_groups() else ""


def choices() -> list[str]:
    """Every <group>=<option>, as it is typed, and every group."""
    return [*groups(), *(f"{plus(group)}{group}={name}" for group in groups() for name in options_of(group))]


def group_of_option(name: str) -> str | None:
    """The group that has an option of this name; the first one of several."""
    return next((group for group in groups() if name in options_of(group)), None)


def full_names(name: str, near: bool = True) -> list[str]:
    """Settings (or the group) that somebody can mean by this name, the shortest first: by the end of their names, and
    if `near` by the words of their comments and by likeness."""
    name = name.replace("-", "_").lstrip("+")
    if name in groups():
        return [name]
    meanings = _meanings()
    if name in meanings:
        return [name]
    plain = name.rstrip("_").lower()
    found = [key for key in meanings if key.rpartition(".")[2].rstrip("_") == plain]
    found = found or [key for key in meanings if key.endswith(f".{plain}") and "." in plain]
    if not found and near and len(plain) > 3:
        words = plain.replace("_", " ")
        found = [key for key, meaning in meanings.items() if re.search(rf"\b{re.escape(words)}\b", meaning.lower())]
        found = sorted(found, key=lambda key: len(meanings[key]))[:1]  # the comment that says least beside it
    if not found and near:
        short = {key.rpartition(".")[2]: key for key in meanings}
        alike = difflib.get_close_matches(plain, [*short, *groups()], n=1, cutoff=0.75) if len(plain) > 3 else []
        found = [short.get(one, one) for one in alike]
    return sorted(found, key=lambda key: (key.count("."), list(meanings).index(key) if key in meanings else 0))


def one_of(found: Sequence[str]) -> str | None:
    """The one that is meant: the only one, or the only one that lies highest."""
    if not found:
        return None
    highest = [key for key in found if key.count(".") == found[0].count(".")]
    return f"{plus(found[0])}{found[0]}" if len(highest) == 1 else None


def told(name: str, found: Sequence[str]) -> str:
    """What is said of the settings that a short name can mean."""
    if not found or list(found) == [name] or found[0] in groups():
        return ""
    return f"'{name}' is {' or '.join(f'{key}{_whose(key)}' for key in found[:4])}."


def options_with(key: str) -> list[str]:
    """The options of a setting's group that have it; empty if all have, or none."""
    for group in setting_groups():
        if key.startswith(prefix_of(group)):
            having = list(holders(group).get(key, {}))
            return [] if len(having) == len(options_of(group)) else having
    return []


def _whose(key: str) -> str:
    having = options_with(key)
    return f" ({listed(having)} {'has' if len(having) == 1 else 'have'} it)" if having and len(having) < 8 else ""


@cache
def _meanings() -> dict[str, str]:
    """Every key, with its comment."""
    found = {key: setting.meaning for key, setting in run_settings().items()}
    for group in setting_groups():
        for key, options in holders(group).items():
            found[key] = " ".join(dict.fromkeys(setting.meaning for setting in options.values()))
    return found


def description(group: str, name: str, words: Sequence[str] = ()) -> str:
    """What an option's file says of it first."""
    return read_option(group, name, tuple(folders(words))).description
