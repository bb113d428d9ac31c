"""Is a difference more than noise? Paired over validation examples and seeds, corrected for many comparisons.

Two methods are compared on the same examples and seeds. A score differs from run to run for two reasons: which
examples were drawn, and which seed. The first is estimated by a paired bootstrap over examples, the second from the
differences of the seeds. Resampling seeds as well would be wrong for a handful of them: with three seeds that all
happen to gain, every replicate gains. So the variance of the mean difference is put together,

    V = V_examples + max(0, V_seeds − V_both),

where V_examples is the bootstrap variance of the difference averaged over seeds, V_seeds the variance between the
seeds' differences over their number, and V_both what is counted in both (Cameron, Gelbach, Miller 2011, two-way
clustering); interval and p-value are Student's t with Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import optimize, stats

from selfdistill_cli.reports.scoring import Scored

DRAWS = 2000
"""Bootstrap replicates."""
FEATURES = 2**24
"""So many features of examples are multiplied at a time: 128 MB."""
BLOCK = 2**20
"""So many counts are held at a time: of 40,000 examples, those of 26 draws."""
LEVEL = 0.05
"""Of significance, after Holm's correction; intervals are 1 − LEVEL."""
POWER = 0.8
"""What a comparison is asked for where seeds are counted."""
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Spread:
    """Where the variance of a mean difference comes from; what more seeds would be worth follows from it."""

    examples: float
    """Variance that is the same for all seeds: which examples were drawn. No number of seeds makes it smaller."""
    seed: float
    """Variance of one seed's difference beside it; the mean over n seeds has an n-th of it."""
    size: int
    """Validation examples."""


@dataclass(frozen=True)
class Difference:
    """A mean difference, its variance and what that is worth."""

    estimate: float
    variance: float
    freedom: float
    """Degrees of freedom."""
    seeds: int
    """Pairs of seeds. One says nothing about other seeds: then the interval holds for this seed alone."""
    spread: Spread | None = None
    """None of one seed, whose spread nobody knows, and of an average over tasks."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence."""
        half = float(stats.t.ppf(1 - LEVEL / 2, self.freedom)) * self.variance**0.5
        return self.estimate - half, self.estimate + half

    @property
    def p(self) -> float:
        """Two-sided; 1 where nothing differs at all."""
        if self.variance == 0:
            return 1.0 if self.estimate == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.estimate) / self.variance**0.5, self.freedom))


@dataclass(frozen=True)
class Resampled:
    """A run's metric, observed and under draws of validation examples."""

    index: np.ndarray
    """Row numbers of the examples in the source [n], ascending."""
    observed: float
    drawn: np.ndarray
    """The metric of each bootstrap replicate [DRAWS]."""


Key = TypeVar("Key")


def resampled(runs: Mapping[Key, Scored]) -> dict[Key, Resampled]:
    """Bootstrap all these runs at once: those on as many examples are given the same draws.

    To draw is what takes time, so runs that are compared with each other belong into one call.
    """
    by_size: dict[int, list[Key]] = defaultdict(list)
    for key, scored in runs.items():
        by_size[len(scored.index)].append(key)
    found = {}
    for n, keys in by_size.items():
        ones = np.ones((1, n))
        for part in _parts(runs, keys):
            drawn = _metrics([runs[key] for key in part], _draws(n))
            for place, key in enumerate(part):
                found[key] = Resampled(runs[key].index, float(runs[key].value(ones)[0]), drawn[place])
    return found


def _parts(runs: Mapping[Key, Scored], keys: Sequence[Key]) -> Iterator[list[Key]]:
    """As many runs at a time as make FEATURES numbers."""
    part: list[Key] = []
    size = 0
    for key in keys:
        size += runs[key].features.size  # of sparse ones, those that are not 0
        if part and size > FEATURES:
            yield part
            part, size = [], runs[key].features.size
        part.append(key)
    yield part


def _metrics(runs: Sequence[Scored], draws: Iterator[np.ndarray]) -> np.ndarray:
    """Each run's metric under each row of counts, all sums of a block in one matrix product. [runs, DRAWS]."""
    summed = [run for run in runs if not run.apart]
    features = np.concatenate([run.features for run in summed], axis=1).astype(float) if summed else None
    edges = np.cumsum([run.features.shape[1] for run in summed])[:-1]
    blocks = []
    for counts in draws:
        n = counts.sum(1)
        sums = iter(np.split(counts @ features, edges, axis=1) if features is not None else ())
        blocks.append([run.value(counts) if run.apart else run.of_sums(next(sums), n) for run in runs])
    return np.concatenate([np.stack(block) for block in blocks], axis=1)


def _draws(n: int) -> Iterator[np.ndarray]:
    """How often each of n examples is drawn, in blocks [b, n] of DRAWS rows in all and BLOCK counts at most each."""
    rng, left = np.random.default_rng(0), DRAWS
    while left:
        size = min(left, max(1, BLOCK // n))
        # Counting n numbers is some twenty times as fast as drawing from the multinomial distribution that they follow.
        yield np.stack([np.bincount(drawn, minlength=n) for drawn in rng.integers(0, n, (size, n))]).astype(float)
        left -= size


def paired_difference(a: Mapping[int, Resampled], b: Mapping[int, Resampled]) -> Difference | None:
    """Mean over common seeds of a's metric minus b's; None if no seed is common or the examples are not the same."""
    common = sorted(set(a) & set(b))
    if not common:
        return None
    index = a[common[0]].index
    if any(not np.array_equal(one.index, index) for s in common for one in (a[s], b[s])):
        return None
    observed = np.array([a[s].observed - b[s].observed for s in common])
    drawn = np.stack([a[s].drawn - b[s].drawn for s in common])
    return combined(observed, np.atleast_2d(np.cov(drawn)), len(index))


def combined(differences: np.ndarray, covariance: np.ndarray, examples: int) -> Difference:
    """From the seeds' differences [S] and their covariance over draws of examples [S, S]."""
    count = len(differences)
    by_examples = float(covariance.mean())
    if count == 1:
        return Difference(float(differences[0]), by_examples, examples - 1, 1)
    both = max(0.0, (float(np.diag(covariance).mean()) - by_examples) / (count - 1))
    by_seeds = float(differences.var(ddof=1)) / count
    variance = by_examples + max(0.0, by_seeds - both)
    parts = by_examples**2 / (examples - 1) + by_seeds**2 / (count - 1) + both**2 / ((count - 1) * (examples - 1))
    freedom = variance**2 / parts if parts > 0 else float(examples - 1)
    spread = Spread(max(0.0, by_examples - both), count * max(by_seeds, both), examples)
    return Difference(float(differences.mean()), variance, max(1.0, freedom), count, spread)


def average(differences: Sequence[Difference]) -> Difference:
    """The unweighted mean over tasks, whose examples are independent of each other."""
    count = len(differences)
    variances = np.array([d.variance for d in differences]) / count**2
    total = float(variances.sum())
    parts = float(sum(v**2 / d.freedom for v, d in zip(variances, differences, strict=True)))
    return Difference(
        float(np.mean([d.estimate for d in differences])),
        total,
        total**2 / parts if parts > 0 else float("inf"),
        min(d.seeds for d in differences),
    )


def pooled(spreads: Sequence[Spread]) -> Spread:
    """The mean of several, of methods on the same examples: a spread seen over two seeds alone is hardly known."""
    mean = np.mean([(one.examples, one.seed) for one in spreads], axis=0)
    return Spread(float(mean[0]), float(mean[1]), spreads[0].size)


def power(spread: Spread, difference: float, seeds: int) -> float:
    """The chance that this true difference has p < LEVEL, and its own sign, with so many seeds of this spread.

    The noncentral t distribution; degrees of freedom are Satterthwaite's, as in `combined`. Raises `ValueError` for
    fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"power needs at least two seeds, not {seeds}")
    of_seeds = spread.seed / seeds
    variance = spread.examples + of_seeds
    if variance == 0:
        return 1.0 if difference else 0.0
    parts = spread.examples**2 / (spread.size - 1) + of_seeds**2 / (seeds - 1)
    freedom = max(1.0, variance**2 / parts)
    return float(stats.nct.sf(stats.t.ppf(1 - LEVEL / 2, freedom), freedom, abs(difference) / variance**0.5))


def detectable(spread: Spread, seeds: int) -> float:
    """The smallest true difference that so many seeds find with power `POWER`; 0 where nothing varies."""
    scale = (spread.examples + spread.seed / max(1, seeds)) ** 0.5
    if scale == 0:
        return 0.0
    high = 4.0
    while power(spread, high * scale, seeds) < POWER:
        high *= 2
    return float(optimize.brentq(lambda x: power(spread, x * scale, seeds) - POWER, 0.0, high)) * scale


def seeds_needed(spread: Spread, difference: float) -> int | None:
    """How many seeds find this true difference with power `POWER`; None if `MOST_SEEDS` are too few, as the examples may be."""
    if power(spread, difference, MOST_SEEDS) < POWER:
        return None
    few, enough = 1, MOST_SEEDS
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if power(spread, difference, middle) >= POWER else (middle, enough)
    return enough


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): adjusted p-values, in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * float(p[place])))
        adjusted[place] = largest
    return adjusted.tolist()


def mean_interval(values: Sequence[float]) -> float:
    """Half the 95 % interval of a mean over seeds (Student's t); NaN for a single one."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
