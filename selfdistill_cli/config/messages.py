"""Hydra's complaints about a command line, said with the name that was meant and the command to copy."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import hydra.conf
from hydra.errors import MissingConfigException

from selfdistill_cli.config import naming
from selfdistill_cli.config.advice import advice
from selfdistill_cli.config.command_line import OPEN_MAPPINGS, SETTING, command, sweeps
from selfdistill_cli.config.options import added_groups, default_groups, groups, keys, options_of
from selfdistill_cli.config.schema import nodes
from selfdistill_cli.config.settings import allowed_of, every_key, field_of, holders, prefix_of, setting_groups
from selfdistill_cli.errors import did_you_mean
from selfdistill_cli.system.words import listed


def explain(error: Exception, overrides: list[str]) -> str:
    """One message for an error of composition: what was wrong, what is allowed, the nearest name, what to type."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"there is no {group}={option}.{did_you_mean(option, error.options)} Allowed are {', '.join(error.options)}."
    unknown = re.search(r"Could not (?:override|append to config\. An item is already at) '([^']+)'", str(error))
    if unknown:
        return _of_an_unknown_name(unknown[1], overrides)
    in_file = re.search(r"In '([^']+)': .*\nKey '([^']+)' not in '(\w+)'", str(error))
    if in_file:
        return _of_a_key_in_a_file(*in_file.groups())
    told = advice(overrides)
    if told:
        return told
    value = re.match(r"Error merging override \+*([^=\s]+)=(.*)", str(error))
    if value and (allowed := allowed_of(*field_of(value[1]))):
        return _of_a_value(value[1], value[2], allowed, overrides)
    lines = [line.strip() for line in [*str(error).splitlines(), *str(error.__cause__ or "").splitlines()]]
    # OmegaConf's notes on its own types mean nothing to somebody who typed a value.
    noise = ("reference_type", "object_type", "full_key", "See https")
    return "\n".join(line for line in lines if line and not line.startswith(noise))


def _of_a_value(key: str, value: str, allowed: str, words: list[str]) -> str:
    """Of a value that a setting cannot have. allowed: the values that it can have, in words."""
    said = f"{key}={value}: allowed: {allowed}."
    numbers = re.fullmatch(r"\[?(\d+)((?:\s*,\s*\d+)+|\s*(?:-|\.\.|:)\s*(\d+))\]?", value)
    if allowed.startswith("list"):
        better, flag = f"{key}=[{value}]", []
    elif numbers and "number" in allowed:
        values = f"range({numbers[1]},{int(numbers[3]) + 1})" if numbers[3] else ",".join(re.findall(r"\d+", value))
        said += " Several values, one run of each, want -m."
        better, flag = f"{key}={values}", [] if sweeps(words) else ["-m"]
    else:
        return said
    return f"{said}\nType:\n  {command([*flag, *(better if word.startswith(f'{key}=') else word for word in words)])}"


def _of_an_unknown_name(name: str, words: list[str]) -> str:
    if mapping := _open_mapping(name):
        return mapping
    if name in added_groups():
        return f"{name} is chosen with a plus.{_instead(words, name, f'+{name}')}"
    if name in every_key(words):
        return lacking(name, words)
    typed = next((one for one in map(SETTING.fullmatch, words) if one and one["key"] == name), None)
    if "." not in name:
        group = naming.group_of_option(typed["value"]) if typed else None
        found = naming.full_names(name)
        exact = bool(found) and found[0] not in groups() and found[0].rpartition(".")[2].rstrip("_") == name
        if group and typed and not exact:
            now = f"{naming.plus(group)}{group}"
            first = f"there is no setting '{name}'.{did_you_mean(name, groups())}"
            return f"{first} {typed['value']} is an option of {group}.{_instead(words, name, now)}"
        if found and found[0] not in groups():
            first = "" if exact else f"there is no setting '{name}'. "
            return f"{first}{naming.told(name, found)}{_with_an_option(words, name, found)}"
    of_hydra = name.startswith("hydra.")
    of_launcher = name.startswith("hydra.launcher.")
    own = list(holders("hydra/launcher")) if of_launcher else of_hydra_itself()
    names = own if of_hydra else [*groups(), *keys(words)]
    parent, _, last = name.rpartition(".")
    if parent and (meant := naming.full_names(last)[:1]) and meant[0].rpartition(".")[0] == parent:
        return f"there is no setting '{name}'. Did you mean '{meant[0]}'?{_instead(words, name, meant[0])}"
    beside = sorted(
        {key[len(parent) + 1 :].partition(".")[0] for key in names if key.startswith(f"{parent}.")} - {"name"}
    )
    if parent.count(".") and beside and not of_hydra:
        return f"there is no setting '{name}'. {parent} has {listed(beside)}; `sdrun --explain {parent}` explains them."
    shown_by = f"sdrun --cfg hydra{' hydra/launcher=slurm' * of_launcher}" if of_hydra else "sdrun --cfg job"
    return f"there is no setting '{name}'.{did_you_mean(name, names)} `{shown_by}` shows them all."


def _open_mapping(name: str) -> str | None:
    mapping = next((one for one in OPEN_MAPPINGS if name == one or name.startswith(f"{one}.")), None)
    if mapping is None:
        return None
    added = name if name != mapping else f"{mapping}.<name>"
    return f"{mapping} takes any name, but a new one wants a plus: +{added}=<value>."


def _of_a_key_in_a_file(file: str, key: str, kind: str) -> str:
    """Of an option's or an experiment's file. `kind`: the name of the dataclass that lacks the key."""
    declared = next(
        (one for one in (*vars(hydra.conf).values(), *nodes()) if getattr(one, "__name__", "") == kind), None
    )
    known = [field.name for field in dataclasses.fields(declared) if not field.name.startswith("_")] if declared else []
    there = f" Allowed there are {', '.join(sorted(known))}." if known else ""
    return f"{file}.yaml: there is no setting '{key}'.{did_you_mean(key, known)}{there}"


def of_hydra_itself() -> list[str]:
    """Hydra's own settings, two levels deep: `hydra.sweeper`, `hydra.sweep.dir`."""
    found = []
    for field in dataclasses.fields(hydra.conf.HydraConf):
        inside = getattr(hydra.conf, str(field.type).rpartition(".")[2], field.type)
        below = dataclasses.fields(inside) if dataclasses.is_dataclass(inside) else ()
        found += [f"hydra.{field.name}", *(f"hydra.{field.name}.{one.name}" for one in below)]
    return found


def lacking(key: str, words: Sequence[str]) -> str:
    """What to say of a setting that the chosen options do not have, and others do."""
    if mapping := _open_mapping(key):
        return mapping
    group = next(group for group in setting_groups() if key.startswith(prefix_of(group)))
    having = list(holders(group, words)[key])
    chosen = next((word.partition("=")[2] for word in reversed(words) if word.startswith(f"{group}=")), None)
    chosen = chosen or default_groups().get(group, "basic")
    verb = "has" if len(having) == 1 else "have"
    return (
        f"{group}={chosen} has no {key.removeprefix(prefix_of(group))}: "
        f"{listed(having)} {verb} it. `sdrun --explain {key}` says what it does."
    )


def _with_an_option(words: list[str], name: str, found: Sequence[str]) -> str:
    """The command with the full name, and with the one option that has it where the chosen one has not."""
    key = naming.one_of(found)
    if key is None:
        return ""
    having, group = naming.options_with(key), key.partition(".")[0]
    chosen = next(
        (word.partition("=")[2] for word in words if word.startswith(f"{group}=")), default_groups().get(group)
    )
    if having and chosen not in having and not sweeps(words):
        if len(having) > 1 or chosen not in options_of(group):
            return ""
        words = [f"{group}={having[0]}", *(word for word in words if not word.startswith(f"{group}="))]
    return _instead(words, name, key)


def _instead(words: Sequence[str], name: str, now: str) -> str:
    """The command to copy, with this name replaced and other short names made whole."""
    return f"\nType:\n  {command(_renamed(word, name, now) for word in words)}"


def _renamed(word: str, name: str, now: str) -> str:
    typed = SETTING.fullmatch(word)
    if not typed:
        return word
    if typed["key"] == name:
        return f"{now}={typed['value']}"
    if "." in typed["key"] or typed["key"] in every_key() or typed["key"] in groups():
        return word
    return f"{naming.one_of(naming.full_names(typed['key'])) or typed['key']}={typed['value']}"
