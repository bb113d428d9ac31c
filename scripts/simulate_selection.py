"""What choosing does to comparisons: false positives and power of the whole procedure, selection included. Simulated.

python scripts/simulate_selection.py

Vanilla has one setting, the other method nine that are all alike, as in a sweep. Each run is scored after five epochs
that are all alike too; the best epoch of each run and the best setting (by the mean over seeds) are chosen on the
examples that are reported, or on a held-out part. Examples differ in how often they are right; each evaluation draws
anew. The comparison is that of reports/statistics.py.
"""

from __future__ import annotations

import numpy as np

from selfdistill_cli.reports.statistics import combined

REPORTED, HELD_OUT = 400, 50
SETTINGS, EPOCHS = 9, 5
COMPARISONS = 1000
EFFECT = 0.04


def outcomes(
    rng: np.random.Generator, often: np.ndarray, settings: int, seeds: int, effect: float
) -> tuple[np.ndarray, np.ndarray]:
    """Right or not, of reported and of held-out examples [settings, S, epochs, n].

    often: how often each is right [REPORTED + HELD_OUT]; `effect` is added to it.
    """
    drawn = rng.random((settings, seeds, EPOCHS, REPORTED + HELD_OUT)) < np.clip(often + effect, 0, 1)
    return drawn[..., :REPORTED].astype(float), drawn[..., REPORTED:].astype(float)


def chosen(reported: np.ndarray, selects: np.ndarray) -> np.ndarray:
    """The reported outcomes of the best setting, each run at its best epoch [S, n], by the means over `selects`."""
    scores = selects.mean(-1)  # [settings, S, epochs]
    epochs = scores.argmax(-1)
    best = scores.max(-1).mean(-1).argmax()
    return np.stack([reported[best, seed, epoch] for seed, epoch in enumerate(epochs[best])])


def rates(seeds: int, on_reported: bool, effect: float) -> tuple[float, float, float]:
    """How often the other method is called better, how often worse, and its mean difference in points."""
    better, worse, differences = 0, 0, []
    for number in range(COMPARISONS):
        rng = np.random.default_rng([seeds, number])
        often = rng.beta(4, 1.5, REPORTED + HELD_OUT)
        plain, other = outcomes(rng, often, 1, seeds, 0.0), outcomes(rng, often, SETTINGS, seeds, effect)
        a, b = (chosen(reported, reported if on_reported else held) for reported, held in (plain, other))
        d = b - a
        found = combined(d.mean(1), np.atleast_2d(np.cov(d)) / REPORTED, REPORTED)
        differences.append(float(d.mean()))
        better += found.p < 0.05 and found.estimate > 0
        worse += found.p < 0.05 and found.estimate < 0
    return better / COMPARISONS, worse / COMPARISONS, 100 * float(np.mean(differences))


def main() -> None:
    """Print a Markdown table."""
    print("| seeds | chosen on | called better, though alike | called worse | mean difference | power at 0.04 |")
    print("|---|---|---|---|---|---|")
    for seeds in (2, 3, 5):
        for words, on_reported in (("the reported examples", True), ("50 held-out ones", False)):
            better, worse, points = rates(seeds, on_reported, 0.0)
            power = rates(seeds, on_reported, EFFECT)[0]
            print(f"| {seeds} | {words} | {better:.3f} | {worse:.3f} | {points:+.2f} | {power:.3f} |", flush=True)


if __name__ == "__main__":
    main()
