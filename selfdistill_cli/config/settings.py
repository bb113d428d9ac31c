"""Every setting with what is known of it: value and comment from conf/, type and bounds from the schema.

Read from the files themselves: nothing is composed, and it takes milliseconds.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from selfdistill_cli.config import schema
from selfdistill_cli.config.fields import BOUNDS
from selfdistill_cli.config.methods import methods
from selfdistill_cli.config.options import default_groups, folders, options_of

LAUNCHER = "hydra/launcher"
WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true | false",
    list: "list",
    dict: "names and values",
}
"""What types are called on a screen."""


@dataclass(frozen=True)
class Setting:
    """One key, as one option of its group has it."""

    key: str
    value: str
    """As it is written in conf/; empty for one that has none."""
    meaning: str
    """Its comment."""
    allowed: str
    """What values it takes, in words; empty where no schema says so."""


@dataclass(frozen=True)
class Option:
    """One file of a group."""

    description: str
    settings: dict[str, Setting]


def prefix_of(group: str) -> str:
    """What the keys of a group begin with: `method.`, `hydra.launcher.`."""
    return group.replace("/", ".") + "."


@cache
def read_option(group: str, name: str, places: tuple[Path, ...] = ()) -> Option:
    """An option with all its settings, those of the files that it builds on as well."""
    files = [folder / group / f"{name}.yaml" for folder in (*places, *folders())]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return Option("", {})
    text = path.read_text(encoding="utf-8")
    lines = [line[1:].strip() for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    found: dict[str, Setting] = {}
    declared: Any = None
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if not isinstance(entry, str):
            continue
        named = entry.partition("@")[0]
        if named.startswith("/schema/"):
            declared = _declared(named)
        elif named != "_self_":
            where, _, base = named.lstrip("/").rpartition("/")
            found |= read_option(where or group, base, places).settings
    prefix = f"{name}." if group == "base" else prefix_of(group)
    for key, value, meaning in _written(text):
        before = found.get(prefix + key)
        allowed = _allowed(declared, key) or (before.allowed if before else "")
        found[prefix + key] = Setting(prefix + key, value, meaning or (before.meaning if before else ""), allowed)
    return Option(" ".join(lines), found)


@cache
def run_settings() -> dict[str, Setting]:
    """The settings that belong to no group: seed, paths and the like."""
    text = (schema.CONF_DIR / "config.yaml").read_text(encoding="utf-8")
    rows = [row for row in _written(text) if not row[0].startswith("hydra")]
    return {key: Setting(key, value, meaning, _allowed(schema.Config, key)) for key, value, meaning in rows}


def setting_groups() -> list[str]:
    """The groups whose options have settings of their own."""
    return [*default_groups(), LAUNCHER]


def holders(group: str, words: Sequence[str] = ()) -> dict[str, dict[str, Setting]]:
    """By key, the options of a group that have it, and how."""
    found: dict[str, dict[str, Setting]] = {}
    places = tuple(folders(words))
    for name in options_of(group, words):
        for key, setting in read_option(group, name, places).settings.items():
            if key != f"{prefix_of(group)}name" or group in ("model", "task"):
                found.setdefault(key, {})[name] = setting
    return found


def every_key(words: Sequence[str] = ()) -> list[str]:
    """All keys of all options."""
    return [*run_settings(), *(key for group in setting_groups() for key in holders(group, words))]


def field_of(key: str) -> Any:
    """(type, metadata) of a key's declaration in the schema; (None, {}) if none declares it."""
    group, _, rest = key.partition(".")
    declared: list[Any] = methods() if group == "method" and rest else [schema.Config]
    for one in declared:
        found = _field(one, rest if group == "method" and rest else key)
        if found is not None:
            return found
    return None, {}


# --- files ----------------------------------------------------------------------------------------


def _written(text: str) -> Iterator[tuple[str, str, str]]:
    """(key, value, comment) of each line that sets something; keys of nested settings have dots."""
    lines = text.splitlines()
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode):
        return
    waiting = [("", document)]
    while waiting:
        prefix, node = waiting.pop(0)
        for name, value in node.value:
            key = f"{prefix}{name.value}"
            if key == "defaults" or name.value.startswith("_"):
                continue
            nested = isinstance(value, yaml.MappingNode) and not value.flow_style
            if nested:
                waiting.append((f"{key}.", value))
                continue
            begin, end = value.start_mark, value.end_mark
            comment = re.search(r"\s#\s?(.*)$", lines[end.line][end.column :] if end.line < len(lines) else "")
            written = text[begin.index : end.index].strip()
            yield key, "" if written == "???" else written, comment[1].strip() if comment else ""


# --- the schema -----------------------------------------------------------------------------------


def _declared(name: str) -> Any:
    """The dataclass that the schema of this name is, `/schema/method/DCS`."""
    node: Any = ConfigStore.instance().repo
    for part in name.strip("/").split("/"):
        node = node.get(f"{part}.yaml") or node.get(part) if isinstance(node, dict) else None
    return OmegaConf.get_type(node.node) if node is not None else None


def _field(declared: Any, key: str) -> Any:
    """(type, metadata) of a key below a dataclass; None if it has no such key."""
    first, _, rest = key.partition(".")
    fields = {field.name: field for field in dataclasses.fields(declared)} if declared is not None else {}
    if first not in fields:
        return None
    hint = typing.get_type_hints(declared)[first]
    if not rest:
        return hint, fields[first].metadata
    below = [one for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one)]
    return _field(below[0], rest) if below else None


def _allowed(declared: Any, key: str) -> str:
    found = _field(declared, key)
    return "" if found is None else allowed_of(*found)


def allowed_of(hint: Any, metadata: Any) -> str:
    """What values a setting of this type and metadata (`field_of`) takes, in words; empty where that is open."""
    arguments = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = [one for one in arguments if one is not type(None)]
    name = WORDS.get(typing.get_origin(plain[0]) or plain[0], "")
    if metadata.get("choices"):
        return " | ".join(metadata["choices"])
    if metadata.get("location"):
        name = "file or folder"
    bounds = [f"{words} {metadata[bound]}" for bound, words, _ in BOUNDS if metadata.get(bound) is not None]
    return " ".join([name, " and ".join(bounds)]).strip() + (" | null" if len(plain) < len(arguments) and name else "")
