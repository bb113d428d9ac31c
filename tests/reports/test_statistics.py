"""Intervals and p-values against SciPy, closed forms and simulations with a known effect."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_array

from selfdistill_cli.reports import statistics
from selfdistill_cli.reports.scoring import Scored
from selfdistill_cli.reports.statistics import (
    POWER,
    Resampled,
    Spread,
    average,
    combined,
    detectable,
    holm,
    mean_interval,
    paired_difference,
    power,
    resampled,
    seeds_needed,
)


def scores(values: np.ndarray) -> Scored:
    """Predictions that are right (1) or wrong (0)."""
    return Scored(np.arange(len(values)), values.astype(float)[:, None], "mean")


def right(values: np.ndarray) -> Resampled:
    """Their accuracy, observed and resampled."""
    return resampled({0: scores(values)})[0]


def test_one_seed_is_the_paired_t_test_over_examples() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(400) < 0.8, rng.random(400) < 0.7
    found = paired_difference({3: right(a)}, {3: right(b), 4: right(b)})
    assert found is not None
    expected = stats.ttest_rel(a.astype(float), b.astype(float))
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    assert found.p == pytest.approx(expected.pvalue, rel=0.25)  # a bootstrap of 2,000 draws
    low, high = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high), abs=0.004)
    assert found.seeds == 1


def test_the_bootstrap_of_a_difference_agrees_with_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(300) < 0.75, rng.random(300) < 0.7
    found = paired_difference({0: right(a)}, {0: right(b)})
    reference = stats.bootstrap((a.astype(float) - b.astype(float),), np.mean, n_resamples=2000, random_state=0)
    assert found is not None
    assert found.variance**0.5 == pytest.approx(reference.standard_error, rel=0.08)


def test_draws_in_blocks_are_the_draws_of_one_block() -> None:
    values = np.random.default_rng(3).random(700)
    drawn = np.random.default_rng(0).integers(0, 700, (statistics.DRAWS, 700))
    assert statistics.BLOCK // 700 < statistics.DRAWS  # more than one block
    assert right(values).drawn == pytest.approx(values[drawn].mean(1))  # with replacement, as a bootstrap is defined


def test_runs_of_several_metrics_resampled_together_are_those_resampled_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    label, prediction = rng.integers(0, 2, (2, 90))
    of_labels, of_predictions = (np.eye(2, dtype=np.uint8)[of] for of in (label, prediction))
    cells = np.hstack([of_labels, of_predictions, of_labels * of_predictions])
    together = {
        "f1": Scored(np.arange(90), cells, "f1"),
        "macro_f1": Scored(np.arange(90), csr_array(cells.astype(float)), "macro_f1"),
        "auroc": Scored(np.arange(90), np.stack([rng.permutation(90), label], axis=1).astype(float), "auroc"),
        "accuracy": scores(label == prediction),
    }
    alone = {name: resampled({0: one})[0].drawn for name, one in together.items()}
    for features in (statistics.FEATURES, 100):  # all in one product, and in several
        monkeypatch.setattr(statistics, "FEATURES", features)
        found = resampled(together)
        assert all(found[name].drawn == pytest.approx(drawn) for name, drawn in alone.items())


def test_the_bootstrap_of_a_large_split_needs_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 200)  # all at once were 200 × 40,430 × 8 bytes = 65 MB, twice
    runs = {seed: scores(np.random.default_rng(seed).random(40_430)) for seed in range(4)}
    tracemalloc.start()
    found = resampled(runs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
    assert found[3].observed == pytest.approx(np.random.default_rng(3).random(40_430).mean())
    assert found[3].drawn.std() == pytest.approx((1 / 12 / 40_430) ** 0.5, rel=0.2)  # of a uniform variable's mean


def test_without_noise_of_examples_it_is_the_t_test_over_seeds() -> None:
    differences = np.array([0.01, 0.03, 0.02, 0.05])
    found = combined(differences, np.zeros((4, 4)), examples=100)
    expected = stats.ttest_1samp(differences, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_noise_that_is_both_the_seeds_and_the_examples_is_counted_once() -> None:
    # Independent draws in every cell: the variance of the mean is that of one cell over all cells.
    seeds, cell = 4, 0.01**2
    rng = np.random.default_rng(2)
    variances = [combined(rng.normal(0, cell**0.5, seeds), np.eye(seeds) * cell, 10_000).variance for _ in range(3000)]
    assert (
        1 <= np.mean(variances) / (cell / seeds) < 1.5
    )  # the bound at 0 errs towards caution; twice counted it were 2


def simulated(seeds: int, seed_noise: float, effect: float, repetitions: int = 300, n: int = 200) -> float:
    """The share of simulated comparisons with p < 0.05: per-example differences of −1, 0, 1, seeds that shift them."""
    rng = np.random.default_rng([seeds, int(1000 * seed_noise)])
    found = 0
    for _ in range(repetitions):
        shift = rng.normal(0, seed_noise, (seeds, 1)) + rng.normal(0, 0.05, (1, n)) + effect
        draw = rng.random((seeds, n))
        d = (draw < 0.06 + shift / 2).astype(float) - (draw > 0.94 + shift / 2)
        # For means the covariance over bootstrap draws is this one; taken directly, it saves the draws.
        found += combined(d.mean(1), np.atleast_2d(np.cov(d)) / n, n).p < 0.05
    return found / repetitions


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_noise", [0.0, 0.04])
def test_false_positives_stay_near_five_percent(seeds: int, seed_noise: float) -> None:
    assert simulated(seeds, seed_noise, effect=0.0) <= 0.10


def test_an_effect_is_found_and_more_seeds_find_it_more_often() -> None:
    power = [simulated(seeds, 0.01, effect=0.06) for seeds in (2, 3, 5)]
    assert power == sorted(power)
    assert power[-1] > 0.9


def test_runs_without_common_seeds_or_examples_are_not_compared() -> None:
    some = right(np.ones(5))
    assert paired_difference({0: some}, {1: some}) is None
    assert paired_difference({0: some}, {0: right(np.ones(6))}) is None


def test_the_same_predictions_differ_by_nothing() -> None:
    some = right(np.array([1, 0, 1, 1]))
    found = paired_difference({0: some, 1: some}, {0: some, 1: some})
    assert found is not None
    assert (found.estimate, found.p) == (0.0, 1.0)


def test_holm_is_holms() -> None:
    # 0.01·4, then max with 0.02·3, 0.03·2, 0.04·1
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_positive() -> None:
    p = np.random.default_rng(0).random((2000, 10))
    assert np.mean([min(holm(row)) < 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)


def test_the_average_over_tasks_adds_independent_variances() -> None:
    one, other = combined(np.array([0.02]), np.array([[4e-4]]), 51), combined(np.array([0.04]), np.array([[4e-4]]), 51)
    both = average([one, other])
    assert both.estimate == pytest.approx(0.03)
    assert both.variance == pytest.approx(2e-4)
    assert both.freedom == pytest.approx(100)


def test_the_interval_of_a_mean_is_the_t_interval() -> None:
    values = [0.7, 0.72, 0.75]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((high - low) / 2)
    assert np.isnan(mean_interval([0.7]))


# --- power ---------------------------------------------------------------------------------------------

SEEDS_ALONE = Spread(examples=0.0, seed=1.0, size=1000)


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_are_those_of_published_tables_of_the_paired_t_test(effect: float, pairs: int) -> None:
    # Dependent t-test, two-sided, level 0.05, power 0.8: Cohen's small, medium and large effect.
    assert seeds_needed(SEEDS_ALONE, effect) == pairs


def test_with_many_seeds_power_is_that_of_the_normal_distribution() -> None:
    quantiles = stats.norm.ppf(0.975) + stats.norm.ppf(POWER)
    assert detectable(SEEDS_ALONE, 5000) == pytest.approx(quantiles / 5000**0.5, rel=1e-3)


def test_what_examples_hide_no_number_of_seeds_shows() -> None:
    spread = Spread(examples=0.01**2, seed=0.02**2, size=400)
    floor = (stats.norm.ppf(0.975) + stats.norm.ppf(POWER)) * 0.01
    assert seeds_needed(spread, 0.99 * floor) is None
    needed = seeds_needed(spread, 1.3 * floor)
    assert needed is not None
    assert detectable(spread, needed) <= 1.3 * floor < detectable(spread, needed - 1)
    assert detectable(spread, 100_000) == pytest.approx(floor, rel=0.01)


def test_power_without_an_effect_is_half_the_level_and_grows_with_effect_and_seeds() -> None:
    spread = Spread(examples=0.005**2, seed=0.02**2, size=300)
    assert power(spread, 0.0, 5) == pytest.approx(0.025)
    assert power(spread, 0.01, 5) < power(spread, 0.02, 5) < power(spread, 0.02, 10)
    with pytest.raises(ValueError, match="at least two seeds, not 1"):
        power(spread, 0.01, 1)


def test_the_power_that_is_told_is_the_power_that_simulated_comparisons_have() -> None:
    # Seeds shift all examples; examples differ; what belongs to one example in one seed is noise of both.
    rng = np.random.default_rng(4)
    n, seeds, effect, of_examples, of_seeds, of_cells = 200, 5, 0.1, 0.3, 0.05, 0.5
    spread = Spread(of_examples**2 / n, of_seeds**2 + of_cells**2 / n, n)
    found, seen = 0, []
    for _ in range(2000):
        cells = effect + rng.normal(0, of_examples, (1, n)) + rng.normal(0, of_seeds, (seeds, 1))
        cells = cells + rng.normal(0, of_cells, (seeds, n))
        one = combined(cells.mean(1), np.cov(cells) / n, n)
        found += one.p < statistics.LEVEL
        assert one.spread is not None
        seen.append((one.spread.examples, one.spread.seed))
    assert found / 2000 == pytest.approx(power(spread, effect, seeds), abs=0.04)
    assert np.mean(seen, axis=0) == pytest.approx([spread.examples, spread.seed], rel=0.05)
