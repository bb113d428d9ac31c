"""What was typed, before Hydra reads it: texts as they stand, homes, whether it is a sweep."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from selfdistill_cli.config.options import options_of
from selfdistill_cli.config.settings import field_of
from selfdistill_cli.errors import UserError

OPEN_MAPPINGS = ("model.config", "task.rename", "task.label_map", "hydra.launcher.additional_parameters")
"""Settings with names of somebody else's, which no schema knows."""
SETTING = re.compile(r"(?P<plus>\+{0,2}|~)(?P<key>[A-Za-z_][\w./@:-]*)=(?P<value>.*)", re.DOTALL)
SHOWN = ("-c", "--cfg", "-i", "--info")
"""Flags that show one run's settings, also those of an experiment that is multirun by itself."""


def command(words: Iterable[str]) -> str:
    """The line to copy into a shell."""
    return shlex.join(["sdrun", *words])


def sweeps(words: Sequence[str]) -> bool:
    """Whether a command line may be one of several runs."""
    if shows_settings(words) or "hydra.mode=RUN" in words:
        return False
    return any(word in ("-m", "--multirun") or word.startswith(("+experiment=", "hydra.mode=")) for word in words)


def shows_settings(words: Sequence[str]) -> bool:
    """Whether the settings are asked for, and no run."""
    return any(word.partition("=")[0] in SHOWN for word in words)


def hydras_flags() -> dict[str, bool]:
    """Hydra's flags, and whether a value follows."""
    actions = get_args_parser()._actions
    return {flag: action.nargs != 0 for action in actions for flag in action.option_strings}


def flags_first(words: Sequence[str]) -> list[str]:
    """The same words; flags may stand between settings, which Hydra's own parser stumbles over."""
    flags, first, others, waiting = hydras_flags(), list[str](), list[str](), list(words)
    while waiting:
        word = waiting.pop(0)
        (first if word.startswith("-") else others).append(word)
        if flags.get(word) and waiting:
            first.append(waiting.pop(0))
    return [*first, *others]


def named_options(group: str, value: str, words: Sequence[str] = ()) -> list[str]:
    """The options that a group's value names: itself alone, or those of a list or of `glob(…)`."""
    parsed = parsed_word(f"{group}={value}")
    if parsed is None or not parsed.is_discrete_sweep():
        return [value]
    asked: Any = parsed.value()
    return asked.filter(options_of(group, words)) if isinstance(asked, Glob) else list(parsed.sweep_string_iterator())


# --- texts and homes ------------------------------------------------------------------------------


def readable(words: Sequence[str]) -> list[str]:
    """The words as Hydra has to be given them.

    The value of a setting that is a text (a column, a template, a path) is what was typed, character by character,
    also where Hydra's grammar would read more into it or stumble over it; `~` at the beginning of a path is the home
    folder, which shells leave alone behind a `=`; and +model.config.x=4 is said alike whether a model's option names x
    itself or not. Raises `UserError` on the home folder of somebody who is not known here.
    """
    return [_readable(word, sweeps(words)) for word in words]


def _readable(word: str, sweeping: bool) -> str:
    typed = SETTING.fullmatch(word)
    if not typed:
        return word
    plus, key, value = typed["plus"], typed["key"], typed["value"]
    if plus == "+" and key.startswith(tuple(f"{mapping}." for mapping in OPEN_MAPPINGS)):
        return f"+{word}"
    if key in OPEN_MAPPINGS and plus != "~" and value.startswith("{"):
        return f"++{key}={value}"  # Hydra would take the names in it for settings that are not there
    if not is_text(key):
        return word
    if field_of(key)[1].get("location") and re.search(r"(^|,)\s*~", value):
        parts = [home(part) for part in value.split(",")] if sweeping else [home(value)]
        return f"{plus}{key}={','.join(part if parsed_word(f'{key}={part}') else quoted(part) for part in parts)}"
    parsed = parsed_word(word)
    if parsed is None:
        return word if sweeping and "," in value else f"{plus}{key}={quoted(value)}"
    if not parsed.is_sweep_override() and (isinstance(parsed.value(), bool | int | float) or value != value.strip()):
        return f"{plus}{key}={quoted(value)}"  # a column named 1.10 is not named 1.1, nor is ` a` the column `a`
    return word


def home(path: str) -> str:
    """A path with the home folder for `~`. Raises `UserError` if nobody of the name is known here."""
    try:
        return str(Path(path.strip()).expanduser())
    except RuntimeError as error:
        name = path.strip().partition("/")[0]
        raise UserError(
            f"{path}: {name} is the home folder of a user, and there is none of that name here. "
            f"A folder that is named so: ./{path.strip()}"
        ) from error


def is_text(key: str) -> bool:
    hint, metadata = field_of(key)
    return hint in (str, str | None) and not metadata.get("choices")


def quoted(value: str) -> str:
    """A value as Hydra's grammar takes it literally."""
    mark = "'" if '"' in value and "'" not in value else '"'
    escaped = re.sub(rf"(\\*)(?={mark}|$)", r"\1\1", value).replace(mark, f"\\{mark}")
    return f"{mark}{escaped}{mark}"


def parsed_word(word: str) -> Override | None:
    try:
        override = OverridesParser.create().parse_override(word)
        override.value()
        return override
    except (HydraException, ValueError, RecursionError):
        return None
