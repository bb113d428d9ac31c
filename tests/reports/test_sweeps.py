"""Sweeps: what is a grid, a line or a search, on which seeds cells are compared, and when settings matter at all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from selfdistill_cli.reports.panels import Cells, Curves, Intervals
from selfdistill_cli.reports.runs import Run, find_runs
from selfdistill_cli.reports.sections import sensitivity
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.reports.sweep_figures import figures_of
from selfdistill_cli.reports.sweeps import on_same_seeds, range_of_chance, slices, sweeps
from selfdistill_cli.reports.variants import Group, Study
from tests.helpers.made_runs import make_run


def group(scores: Sequence[float] | dict[int, float], **settings: Any) -> Group:
    """Runs of dynsdpb with these settings, by seed."""
    of_seed = scores if isinstance(scores, dict) else dict(enumerate(scores))
    named = {"method.name": "dynsdpb", **{f"method.{key}": value for key, value in settings.items()}}
    results = {"metric": "accuracy", "examples_forwarded": 600, "kind": "classification"}
    runs = {
        seed: Run(Path("run"), "finished", settings=named, seed=seed, results=results | {"score": score})
        for seed, score in of_seed.items()
    }
    return Group("rte", ", ".join(f"{k}={v}" for k, v in settings.items()) or "dynsdpb", runs)


def study(groups: list[Group]) -> Study:
    """All of them."""
    return Study("rte · minilm", "rte", groups, ("vanilla", "dynsdpb"))


def grid(scores: Sequence[float] = (0.7, 0.72)) -> list[Group]:
    """τ × α."""
    return [
        group(scores, tau=tau, alpha=alpha, alpha_rule="discrimination")
        for tau, alpha in itertools.product((1.0, 2.0, 4.0), (0.5, 1.0))
    ]


def test_a_grid_and_a_line_of_one_method_are_a_heat_map_and_intervals() -> None:
    rules = [group((0.7, 0.74), tau=2.0, alpha=1.0, alpha_rule=rule) for rule in ("constant", "certainty", "product")]
    (sweep,) = sweeps([*grid(), *rules])
    found, left = slices(sweep)
    assert [(one.keys, len(one.groups)) for same in found for one in same] == [
        (("method.tau", "method.alpha"), 6),
        (("method.alpha_rule",), 4),  # with the cell of the grid that has the same τ and α
    ]
    assert left == []
    maps, lines = figures_of(study(sweep.groups), sweep)
    assert [type(panel) for panel in (*maps.panels, *lines.panels)] == [Cells, Intervals]
    assert isinstance(lines.panels[0], Intervals)
    assert "2 seeds, at equal compute" in lines.caption
    mark = next(mark for mark in lines.panels[0].marks if mark.row == "product")
    assert mark.value == pytest.approx(72)
    assert mark.high - mark.value == pytest.approx(
        12.706 * np.std([70, 74], ddof=1) / 2**0.5, rel=1e-3
    )  # t with one degree


def test_every_cell_of_three_crossed_settings_is_drawn_once() -> None:
    crossed = [
        group((0.7,), tau=t, alpha=a, start_epoch=s)
        for t, a, s in itertools.product((1.0, 2.0), (0.5, 1.0), (0.0, 0.5, 1.0))
    ]
    (sweep,) = sweeps(crossed)
    (figure,) = figures_of(study(crossed), sweep)
    drawn = [record["value"] for panel in figure.panels for record in panel.records()]
    assert len(drawn) == len(crossed)


def test_trials_of_a_random_search_are_dots_against_each_setting() -> None:
    rng = np.random.default_rng(0)
    taus, alphas = rng.uniform(1, 8, 12), 10 ** rng.uniform(-3, 1, 12)
    trials = [
        group((float(0.6 + 0.01 * tau),), tau=float(tau), alpha=float(alpha))
        for tau, alpha in zip(taus, alphas, strict=True)
    ]
    (sweep,) = sweeps(trials)
    (figure,) = figures_of(study(trials), sweep)
    by_tau, by_alpha = figure.panels
    assert isinstance(by_tau, Curves)
    assert isinstance(by_alpha, Curves)
    assert (by_tau.dots, by_tau.log_x, by_alpha.log_x) == (True, False, True)
    dots, middle = by_tau.lines
    assert dict(zip(dots.x, dots.y, strict=True)) == pytest.approx({float(tau): 60 + tau for tau in taus})
    assert np.all(np.diff(np.asarray(middle.y)) > 0)  # the marginal rises as the scores were made to


def test_cells_are_compared_on_the_seeds_that_all_have() -> None:
    one, *others = grid((0.5,))
    more = group(
        {0: 0.5, 1: 0.9, 2: 0.9}, **{k.split(".")[1]: v for k, v in one.settings.items() if k != "method.name"}
    )
    scores = on_same_seeds([more, *others])
    assert scores.of(more) == [0.5]
    assert scores.marked == set()
    (figure,) = figures_of(study([more, *others]), sweeps([more, *others])[0])
    assert "on the one seed that all have" in figure.caption


def test_cells_on_other_seeds_are_marked_where_hardly_a_seed_is_common() -> None:
    *usual, odd = grid((0.7, 0.72, 0.71))
    odd = group({7: 0.99}, **{k.split(".")[1]: v for k, v in odd.settings.items() if k != "method.name"})
    scores = on_same_seeds([*usual, odd])
    assert scores.marked == {odd.variant}
    (sweep,) = sweeps([*usual, odd])
    (figure,) = figures_of(study(sweep.groups), sweep)
    (cells,) = figure.panels
    assert isinstance(cells, Cells)
    assert "†" in "".join(itertools.chain(*cells.words))
    assert "†" in figure.caption
    found = sensitivity.section(study(sweep.groups))
    assert found is not None
    assert odd.variant.split(",")[0] not in str(found.parts[0]).split("best at")[1]


def test_equal_settings_differ_by_more_than_chance_in_one_sweep_of_twenty() -> None:
    rng = np.random.default_rng(0)
    beyond = 0
    for _ in range(300):
        cells = [group(rng.normal(0.7, 0.02, 3).tolist(), tau=float(tau)) for tau in range(6)]
        scores = on_same_seeds(cells)
        means = [scores.mean(cell) for cell in cells]
        chance = range_of_chance(scores)
        assert chance is not None
        beyond += max(means) - min(means) > chance
    assert 5 <= beyond <= 28  # 15 expected; a binomial's 0.4 % and 99.8 %


def test_one_seed_each_says_nothing_of_chance() -> None:
    found = sensitivity.section(study(grid((0.7,))))
    assert found is not None
    assert "nothing says how much of this is chance" in str(found.parts[0])


def test_colours_of_a_heat_map_start_from_the_spread_between_seeds() -> None:
    cells = [
        group((0.70 + 0.001 * n, 0.74 + 0.001 * n), tau=t, alpha=a)
        for n, (t, a) in enumerate(itertools.product((1.0, 2.0), (0.5, 1.0)))
    ]
    (figure,) = figures_of(study(cells), sweeps(cells)[0])
    (panel,) = figure.panels
    assert isinstance(panel, Cells)
    low, high = panel.range()
    assert high - low >= 8 * 100 * np.std([0.70, 0.74], ddof=1) - 1e-9


def test_of_one_seed_they_start_from_the_noise_of_the_split_that_is_scored(tmp_path: Path) -> None:
    for tau, alpha in itertools.product((1, 2), (0.5, 1)):
        run = make_run(tmp_path, "method=dynsdpb", f"method.tau={tau}", f"method.alpha={alpha}", score=0.75)
        scored = parquet.read_table(run / "predictions.parquet")
        tested = scored.set_column(0, "split", pa.array(["test"] * len(scored)))
        parquet.write_table(pa.concat_tables([scored, *[tested] * 9]), run / "predictions.parquet")
    (found,) = gather(find_runs([tmp_path])).studies
    (figure,) = figures_of(found, sweeps(found.groups)[0])
    (panel,) = figure.panels
    assert isinstance(panel, Cells)
    low, high = panel.range()
    assert high - low >= 8 * 100 * (0.75 * 0.25 / 100) ** 0.5 - 1e-9
