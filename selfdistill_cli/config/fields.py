"""How a setting is declared in a dataclass: its bounds, its words, what is neutral. Values come from conf/."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

from omegaconf import MISSING

BOUNDS = (
    ("above", "greater than", operator.gt),
    ("at_least", "at least", operator.ge),
    ("at_most", "at most", operator.le),
    ("below", "less than", operator.lt),
)
"""What `number` may be given, in words, and as a comparison of the value with the bound."""
SEVERAL = {"several": True}
"""Of a setting that is one name, a list of names, or null."""


@dataclasses.dataclass(frozen=True)
class Acts:
    """Where a setting does something; elsewhere its value does not change a run's key."""

    acts_with: tuple[str, str] | None = None
    """Another setting of the same part, and the value of it without which this one does nothing."""
    acts_in: tuple[str, ...] = ()
    """The kinds of task; none: all of them."""
    or_with: tuple[str, str] | None = None
    """Another setting of the same part, and the value of it with which this one acts in other kinds too."""
    void_as: float | str | None = None
    """Its default, if that stands in a key where the setting does nothing, as in keys made before this was known."""


def number(
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    neutral: float | None = None,
    acts: Acts | None = None,
) -> Any:
    """A number within bounds; the value comes from conf/.

    `neutral`: the value at which the setting does nothing, and is no part of a run's key (runs/keys.py). Null and an
    empty list or mapping are always neutral; the default of a setting that always acts never is.
    `acts`: where it does anything, if not everywhere.
    """
    bounds = {"above": above, "at_least": at_least, "at_most": at_most, "below": below}
    where = dataclasses.asdict(acts or Acts())
    return dataclasses.field(default=MISSING, metadata={**bounds, "neutral": neutral, **where})


def switch(*, neutral: bool = False) -> Any:
    """True or false, one of which changes nothing; the value comes from conf/."""
    return dataclasses.field(default=MISSING, metadata={"neutral": neutral})


def choice(*allowed: str, neutral: str | None = None, acts: Acts | None = None) -> Any:
    """One of these words; the value comes from conf/. `neutral` and `acts`: as of `number`."""
    where = dataclasses.asdict(acts or Acts())
    return dataclasses.field(default=MISSING, metadata={"choices": allowed, "neutral": neutral, **where})


def location(default: Any = MISSING) -> Any:
    """A file or folder; `~` at its beginning is the home folder. The value comes from conf/."""
    return dataclasses.field(default=default, metadata={"location": True})
