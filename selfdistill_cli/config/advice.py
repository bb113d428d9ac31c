"""What to type instead of what is no command line, told from the form of the words, before Hydra reads them."""

from __future__ import annotations

import difflib
import re
import shlex
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfdistill_cli.config import naming
from selfdistill_cli.config.command_line import (
    SETTING,
    command,
    hydras_flags,
    is_text,
    named_options,
    parsed_word,
    quoted,
    shows_settings,
    sweeps,
)
from selfdistill_cli.config.options import groups, options_of
from selfdistill_cli.config.settings import field_of, run_settings
from selfdistill_cli.errors import did_you_mean

PROGRAMS = {"sdevaluate": ("eval", "evaluate", "test"), "sdpredict": ("predict",), "sdreport": ("report", "watch")}
"""The other commands of this package, by the words with which they are asked for."""
ONE_RUN = "--cfg and --info show the settings of one run: leave out -m and lists such as seed=0,1."


def advice(words: Sequence[str]) -> str | None:
    """What to type instead, ready to copy, of a command line that Hydra cannot read; None if it can.

    Names that do not exist are `messages.explain`'s affair: here everything is told from the form of the words.
    """
    fixed: list[str] = []
    reasons: list[str] = []
    waiting = _without_spaces_around_equals(words, reasons)
    flags = hydras_flags()
    while waiting:
        word = waiting.pop(0)
        if word.partition("=")[0] in flags:
            fixed.append(word)
            if flags[word.partition("=")[0]] and "=" not in word and waiting:
                fixed.append(waiting.pop(0))
        elif word.startswith("-"):
            fixed += _of_a_flag(word, waiting, reasons, flags)
        elif not SETTING.fullmatch(word) and not word.startswith("~"):
            fixed += _of_a_bare_word(word, waiting, reasons)
        else:
            fixed.append(_of_a_setting(word, words, reasons) if "=" in word else word)
    if not reasons:
        return None
    if any(reason == "-m" for reason in reasons):
        fixed = ["-m", *fixed]
        reasons = [
            reason if reason != "-m" else "several values of a setting want -m: one run of each." for reason in reasons
        ]
    said = "\n".join(dict.fromkeys(reasons))
    wrong = [word for word in fixed if "…" in word]
    return said if wrong or fixed == list(words) else f"{said}\nType:\n  {command(fixed)}"


def _without_spaces_around_equals(words: Sequence[str], reasons: list[str]) -> list[str]:
    joined: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        ends = word.endswith("=") and not word.startswith("-") and waiting and "=" not in waiting[0]
        if waiting and (ends or (waiting[0].startswith("=") and "=" not in word)):
            word += waiting.pop(0)
            if word.endswith("=") and waiting and "=" not in waiting[0]:
                word += waiting.pop(0)
            reasons.append("a setting is one word: no spaces around '='.")
        joined.append(word)
    return joined


def _of_a_flag(word: str, waiting: list[str], reasons: list[str], flags: dict[str, bool]) -> list[str]:
    """--lr 1e-4, --method=dynsdpb, --rerun."""
    name, equals, value = word.lstrip("-").partition("=")
    alike = difflib.get_close_matches(word, flags, n=1, cutoff=0.8) if not equals else []
    found = naming.full_names(name)
    if alike and not found:
        reasons.append(f"there is no flag {word}. Did you mean '{alike[0]}'?")
        return [word]
    if not equals and waiting and not re.match(r"--|-[A-Za-z]", waiting[0]) and "=" not in waiting[0]:
        value = waiting.pop(0)
    elif not equals:
        value = "true"
    told = naming.told(name, found) if found else "`sdrun --explain` lists all."
    reasons.append(f"{word}: settings are written <name>=<value>, without dashes. {told}".strip())
    return [f"{naming.one_of(found) or f'{name}…'}={value}"]


def _of_a_bare_word(word: str, waiting: list[str], reasons: list[str]) -> list[str]:
    """method dynsdpb, lr 1e-4, list, train, reviews.csv."""
    follows = waiting[0] if waiting and "=" not in waiting[0] and not waiting[0].startswith("-") else None
    found = naming.full_names(word, near=False)
    group = naming.group_of_option(word)
    program = next((name for name, asked in PROGRAMS.items() if word.lower() in asked), None)
    if found and follows is not None and (len(found) == 1 or word in found) and not program:
        reasons.append(f"'{word} {follows}': settings are written <name>=<value>.")
        return [f"{naming.one_of(found)}={waiting.pop(0)}"]
    if word.lower() in ("help", "version"):
        reasons.append(f"'{word}': sdrun --{word.lower()}")
        waiting.clear()
        return [f"--{word.lower()}"]
    if program:
        reasons.append(
            f"'{word}' is another command:\n  {shlex.join([program, *waiting])}\n`{program} --help` says more."
        )
        waiting.clear()
        return [f"{word}…"]
    if word in groups():
        names = ", ".join(options_of(word))
        reasons.append(f"'{word}' alone: which one? {naming.plus(word)}{word}=<one of {names}>")
        return [f"{naming.plus(word)}{word}=…"]
    elif group:
        reasons.append(f"'{word}' is an option of {group}.")
        return [f"{naming.plus(group)}{group}={word}"]
    elif Path(word).suffix and Path(word).exists():
        reasons.append(f"'{word}': a file of yours is named by task.path, and its columns by task.text and task.label.")
        return ["task=custom", f"task.path={word}", "task.text=…", "task.label=…"]
    elif word.lower() in ("list", "ls", "options", "settings", "config", "explain"):
        reasons.append(
            f"'{word}': `sdrun --help` lists groups and their options, `sdrun --explain` each setting, "
            "`sdrun --explain task` those of one group."
        )
        return [f"{word}…"]
    elif word.lower() in ("train", "run", "fit", "start", "finetune", "sdrun"):
        reasons.append(f"'{word}': sdrun trains by itself, without a word for it.")
        return []
    else:
        reasons.append(
            f"'{word}': a word is <group>=<option> or <setting>=<value>.{did_you_mean(word, naming.choices())} "
            "A value with spaces is quoted: 'task.text=two words'. `sdrun --help` shows groups and examples."
        )
        return [f"{word}…"]
    return []


def _of_a_setting(word: str, words: Sequence[str], reasons: list[str]) -> str:
    typed: Any = SETTING.fullmatch(word)
    plus, key, value = typed["plus"], typed["key"], typed["value"]
    parsed = parsed_word(word)
    if key == "experiment" and (named := named_options(key, value, words)) != [value]:
        each = [command(f"+{key}={name}" if one == word else one for one in words) for name in named]
        reasons.append(
            "\n  ".join([f"{word}: each experiment says itself what is swept, so it is a command of its own:", *each])
        )
        return f"{plus}{key}=…"
    if _is_of_rows(key) and "${" in value:
        reasons.append(
            f"{word}: `${{` begins the name of another setting, whose value would stand there. A text with these two "
            "characters cannot be given: write a space between them, or what they belong to into the rows themselves."
        )
        return f"{plus}{key}=…"
    if parsed is None and plus != "~":
        better = _list_with_quotes(value) if value.startswith("[") else quoted(value)
        if parsed_word(f"{key}={value.strip(',')}"):
            reasons.append(f"{word}: a comma stands between two values.")
            return _of_a_setting(f"{plus}{key}={value.strip(',')}", words, reasons)
        reasons.append(f"{word}: the characters of this value mean something to the command line; quote it.")
        return f"{plus}{key}={better}"
    if parsed is not None and parsed.is_sweep_override() and not sweeps(words):
        if _is_list(key):
            reasons.append(f"{word}: a list stands in brackets.")
            return f"{plus}{key}=[{value}]"
        if is_text(key) and not key.endswith((".name", ".path")):
            reasons.append(f"{word}: a text with a comma is quoted (several values, one run of each, want -m).")
            return f"{plus}{key}={quoted(value)}"
        if shows_settings(words):
            reasons.append(f"{word}: {ONE_RUN}")
            return f"{plus}{key}={next(iter(parsed.sweep_string_iterator()))}"
        reasons.append("-m")
    if parsed is not None and is_text(key) and isinstance(parsed.value(), list | dict):
        reasons.append(f"{word}: this setting is one text; with brackets or braces in it, it is quoted.")
        return f"{plus}{key}={quoted(value)}"
    return word


def _list_with_quotes(value: str) -> str:
    """[a b, c (d)] with each element quoted that needs it; an open list is closed."""
    inside = value[1:-1] if value.endswith("]") else value[1:]
    parts = [part.strip() for part in inside.split(",")]
    return f"[{','.join(part if parsed_word(f'x={part}') else quoted(part) for part in parts)}]"


def _is_of_rows(key: str) -> bool:
    """Whether it is a text that says what is read off rows or put around it: a column, a template, a label."""
    place = key.startswith(("task.hub.", "task.train_hub.")) or field_of(key)[1].get("location")
    return key.startswith(("task.", "self_training.")) and is_text(key) and not place


def _is_list(key: str) -> bool:
    hint, metadata = field_of(key)
    setting = run_settings().get(key)
    return bool(metadata.get("several") or (setting and setting.value.startswith("["))) or list in {
        typing.get_origin(one) for one in (hint, *typing.get_args(hint))
    }
