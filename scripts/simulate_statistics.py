"""How often reports find a difference that is not there, and one that is: simulated comparisons of two methods.

python scripts/simulate_statistics.py

Each comparison has 400 examples and 2, 3 or 5 seeds. A cell (example, seed) is won, lost or drawn; examples and seeds
shift the odds by normal noise of the stated size. Ours is reports/statistics.py; beside it stands what is often done,
a percentile bootstrap that resamples examples and seeds alike.
"""

from __future__ import annotations

import numpy as np

from selfdistill_cli.reports.statistics import combined

EXAMPLES = 400
COMPARISONS = 1000
DRAWS = 400
NOISE = {"none": (0.0, 0.0), "examples": (0.0, 0.1), "seeds": (0.04, 0.0), "both": (0.015, 0.1)}
"""Standard deviations of the shifts that a seed and an example bring."""


def cells(rng: np.random.Generator, seeds: int, noise: tuple[float, float], effect: float) -> np.ndarray:
    """1 (won), 0 (drawn) or −1 (lost) for each seed and example [S, n]."""
    shift = rng.normal(0, noise[0], (seeds, 1)) + rng.normal(0, noise[1], (1, EXAMPLES)) + effect
    draw = rng.random((seeds, EXAMPLES))
    return (draw < 0.06 + shift / 2).astype(float) - (draw > 0.94 + shift / 2)


def ours(d: np.ndarray) -> bool:
    """Whether p < 0.05. The covariance of means over bootstrap draws is known, which saves the draws."""
    return combined(d.mean(1), np.atleast_2d(np.cov(d)) / EXAMPLES, EXAMPLES).p < 0.05


def percentile(rng: np.random.Generator, d: np.ndarray) -> bool:
    """Whether the 95 % percentile interval of both resampled leaves 0 out."""
    seeds = len(d)
    counts = rng.multinomial(EXAMPLES, np.full(EXAMPLES, 1 / EXAMPLES), DRAWS)
    means = counts @ d.T / EXAMPLES
    chosen = np.take_along_axis(means, rng.integers(0, seeds, (DRAWS, seeds)), axis=1).mean(1)
    low, high = np.percentile(chosen, [2.5, 97.5])
    return bool(low > 0 or high < 0)


def main() -> None:
    """Print a Markdown table."""
    print("| seeds | noise | false positives | percentile bootstrap's | power at 0.04 | percentile bootstrap's |")
    print("|---|---|---|---|---|---|")
    for seeds in (2, 3, 5):
        for name, noise in NOISE.items():
            found = []
            for effect in (0.0, 0.04):
                rng = np.random.default_rng([seeds, int(effect * 100)])
                made = [cells(rng, seeds, noise, effect) for _ in range(COMPARISONS)]
                found += [np.mean([ours(d) for d in made]), np.mean([percentile(rng, d) for d in made])]
            print(f"| {seeds} | {name} | {' | '.join(f'{value:.3f}' for value in found)} |")


if __name__ == "__main__":
    main()
