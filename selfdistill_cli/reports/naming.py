"""Short names for groups of runs: the method, and the settings in which a group differs from others of that method."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfdistill_cli.reports.runs import Settings

ABSENT = "(no such setting)"
"""In place of a setting that a part does not have."""


def identity(settings: Settings) -> str:
    """The same for equal settings, in whatever order; 2 and 2.0 are equal."""
    plain = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in settings.items()}
    return json.dumps(plain, sort_keys=True, default=str)


def differing(parts: Sequence[Settings]) -> list[str]:
    """The settings that are not the same in all parts."""
    keys = sorted({key for part in parts for key in part})
    return [key for key in keys if len({identity({"": part.get(key, ABSENT)}) for part in parts}) > 1]


def names(parts: Sequence[Settings], own: str, defaults: Callable[[Settings], Settings] = lambda part: {}) -> list[str]:
    """A name for each part: the setting `own`, and the settings in which others of that name differ from it.

    `defaults` gives a part's default settings, as far as they are known. Where one of the parts of a name stands at
    the defaults of all that differs between them, that part is called by the name alone, and the others by what
    differs from it. Equal parts have equal names, different parts different ones.
    """
    distinct = {identity(part): part for part in parts}
    found: dict[str, str] = {}
    for key, part in distinct.items():
        rivals = [other for other in distinct.values() if other[own] == part[own]]
        varied, known = set(differing(rivals)) - {own}, defaults(part)
        plain = [r for r in rivals if all(k in known and r.get(k, ABSENT) == known[k] for k in varied)]
        if plain:
            varied = {k for k in varied if part.get(k, ABSENT) != plain[0].get(k, ABSENT)}
        ordered = sorted((k for k in varied if k in part), key=lambda k: (not k.startswith("method."), k))
        said = ", ".join(f"{short_key(k)}={short_values([r.get(k) for r in rivals])[str(part[k])]}" for k in ordered)
        found[key] = f"{part[own]} ({said})" if said else str(part[own])
    taken: dict[str, int] = defaultdict(int)
    for key in sorted(found):  # only where values of two keys read alike
        taken[found[key]] += 1
        found[key] += f" #{taken[found[key]]}" if taken[found[key]] > 1 else ""
    return [found[identity(part)] for part in parts]


def told_apart(plain: Sequence[str], parts: Sequence[Settings]) -> list[str]:
    """These names; where several are alike, each followed by the settings of its part that set them apart."""
    found = []
    for name, own in zip(plain, parts, strict=True):
        rivals = [part for part, other in zip(parts, plain, strict=True) if other == name]
        said = ", ".join(
            f"{short_key(key)}={short_values([rival.get(key) for rival in rivals])[str(own.get(key))]}"
            for key in differing(rivals)
        )
        found.append(f"{name} ({said})" if said else name)
    return found


def short_key(key: str) -> str:
    """`method.tau` is called `tau`, `model.lora.rank` `lora.rank`, `model.name` `model`."""
    return "model" if key == "model.name" else key.split(".", 1)[-1].removesuffix("_")


def short_values(values: Iterable[Any]) -> dict[str, str]:
    """A setting's values in words, by `str` of them: of long paths as much of the end as tells them apart."""
    given = {str(value): value for value in values}
    parts = {word: word.split("/") for word in given if "/" in word and len(word) > 24}
    kept = next(
        (n for n in range(1, max(map(len, parts.values()), default=1)) if len({tuple(p[-n:]) for p in parts.values()}) == len(parts)),
        None,
    )  # fmt: skip
    shortened = {word: f"…/{'/'.join(p[-kept:])}" for word, p in parts.items() if kept and len(p) > kept}
    numbers = {word: f"{value:.4g}" for word, value in given.items() if isinstance(value, float)}
    if len(set(numbers.values())) < len(numbers):
        numbers = {}
    plain = {"None": "none", **shortened, **numbers}
    return {word: plain.get(word, word) for word in sorted(given)}


def sortable(name: str) -> list[tuple[int, float, str]]:
    """An order of names: by words, numbers by size."""
    found: list[tuple[int, float, str]] = []
    for word in name.replace("=", " ").split():
        try:
            found.append((0, float(word.strip("(),").replace(",", "")), ""))
        except ValueError:
            found.append((1, 0.0, word))
    return found
