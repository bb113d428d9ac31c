"""Scores and differences as papers print them: `73.3 ± 1.8`, with as many digits as their error leaves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfdistill_cli.config.metrics import in_percent, larger_is_better

MOST_DIGITS = 4
FEWEST_OF_PERCENT = 1
"""Digits after the point of a hundredfold metric, whatever its error."""


@dataclass(frozen=True)
class Scale:
    """How the values of one metric are written, the same way throughout a table."""

    metric: str
    digits: int
    """After the point."""

    @property
    def factor(self) -> int:
        """100 for shares and correlations."""
        return 100 if in_percent(self.metric) else 1

    @property
    def unit(self) -> str:
        """What a difference is counted in."""
        return "points" if in_percent(self.metric) else self.metric

    @property
    def title(self) -> str:
        """The metric as a column's head."""
        return self.metric if larger_is_better(self.metric) else f"{self.metric} (less is better)"

    def value(self, value: float) -> str:
        """`73.3`."""
        return _minus(f"{self.factor * value:.{self.digits}f}")

    def signed(self, value: float) -> str:
        """`+0.6`, `−0.4`."""
        return _minus(f"{self.factor * value:+.{self.digits}f}")

    def spread(self, values: Sequence[float]) -> str:
        """`73.3 ± 1.8`: mean and standard deviation; a single value alone."""
        mean = self.value(statistics.fmean(values))
        return f"{mean} ± {self.value(statistics.stdev(values))}" if len(values) > 1 else mean

    def interval(self, low: float, high: float) -> str:
        """`−0.9 to 2.1`."""
        return f"{self.value(low)} to {self.value(high)}"


def scale(metric: str, deviations: Iterable[float]) -> Scale:
    """Digits such that the middle one of these standard deviations keeps two that count below 0.355, else one.

    The rounding rule of the Particle Data Group (Review of Particle Physics, 5.3).
    """
    percent = in_percent(metric)
    known = [(100 if percent else 1) * one for one in deviations if one > 0]
    fewest = FEWEST_OF_PERCENT if percent else 0
    if not known:
        return Scale(metric, fewest or MOST_DIGITS)
    return Scale(metric, min(MOST_DIGITS, max(fewest, -math.floor(math.log10(statistics.median(known) / 3.55)))))


def _minus(text: str) -> str:
    """With the sign that is as wide as a plus; nothing is minus zero."""
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.replace("-", "")


SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def count(number: int, noun: str, several: str = "") -> str:
    """`three seeds`, `one run`, `46 runs`; `several` where the plural is not made by an s."""
    word = SMALL[number] if number < len(SMALL) else f"{number:,}"
    return f"{word} {noun if number == 1 else several or f'{noun}s'}"
