"""The sentence of a study and what it says is missing; rows, roles and numbers that these stand on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfdistill_cli.reports.content import Figure, Table
from selfdistill_cli.reports.differences import Compared, Comparison, compare
from selfdistill_cli.reports.numbers import Scale, count, scale
from selfdistill_cli.reports.panels import Intervals
from selfdistill_cli.reports.rows import Row, rows
from selfdistill_cli.reports.runs import Run, find_runs
from selfdistill_cli.reports.sections import over_tasks, verdict
from selfdistill_cli.reports.sections.comparison import scale_of, section
from selfdistill_cli.reports.sentences import Finding, _more_seeds, finding
from selfdistill_cli.reports.statistics import Difference, Spread, detectable
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.reports.variants import Group, Study
from selfdistill_cli.sweeps.summary import means_over_seeds
from tests.helpers.made_runs import make_run, study_of, variants
from tests.helpers.runs import composed

pytestmark = pytest.mark.thorough


def said(outputs: Path) -> Finding:
    """What the only study says."""
    found = compare(study_of(outputs))
    return finding(found, scale_of(found))


def make(outputs: Path, *words: str, seeds: int = 3, **of_run: Any) -> None:
    """Runs of one setting with so many seeds."""
    for seed in range(seeds):
        make_run(outputs, f"seed={seed}", *words, **{"examples": 300, **of_run})


# --- sentences ---------------------------------------------------------------------------------------


def test_a_clear_difference_is_said_with_its_interval_and_nothing_is_missing(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.6)
    make(tmp_path, "method=kd", accuracy=0.9, draw=1)
    compared = compare(study_of(tmp_path)).compared[0]
    low, high = (100 * end for end in compared.difference.interval)
    amount = 100 * compared.difference.estimate
    told = said(tmp_path)
    assert told.said == (
        f"kd is {amount:.1f} points above vanilla (95 % interval {low:.1f} to {high:.1f}, three seeds): "
        "better, and hardly by chance."
    )
    assert told.missing == ""


def test_no_evidence_is_said_so_with_what_more_seeds_would_show(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.7)
    make(tmp_path, "method=kd", accuracy=0.7, draw=1)
    told = said(tmp_path)
    assert told.said.endswith("three seeds): no evidence.")
    assert told.missing.startswith(("two more seeds, which would show a difference of ", "more validation examples"))


def test_several_unclear_methods_are_one_sentence(tmp_path: Path) -> None:
    for draw, method in enumerate(("vanilla", "kd", "dcs", "static_sd", "dynsdpb")):
        make(tmp_path, f"method={method}", accuracy=0.7, draw=draw, seeds=2)
    told = said(tmp_path).said
    assert told.startswith("No evidence that ")
    assert " or one more differs from vanilla (95 % intervals, two seeds)." in told


def test_one_seed_ranks_nothing(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.5, seeds=1)
    make(tmp_path, "method=kd", accuracy=0.9, seeds=1)
    told = said(tmp_path)
    assert told.said.startswith("One seed for each of two settings of vanilla and kd, which ranks nothing: accuracy ")
    assert told.missing == "more seeds: three are the least (seed=0,1,2), five are better"


def test_a_metric_that_is_not_compared_is_the_reason_and_not_the_seeds(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", metric="rougeL", score=0.4)
    make(tmp_path, "method=kd", metric="rougeL", score=0.5, draw=1)
    assert said(tmp_path).said == (
        "No difference of two settings of vanilla and kd is tested, since rougeL cannot be told again from resampled "
        "predictions: rougeL 40.0 to 50.0."
    )


def test_a_best_that_was_chosen_where_it_is_reported_is_the_reason_and_not_the_seeds(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.5, score=0.5)
    for tau, score in ((1, 0.6), (2, 0.6), (4, 0.6), (5, 0.7)):  # the default is not among them
        make(tmp_path, "method=dynsdpb", f"method.tau={tau}", score=score)
    assert said(tmp_path).said == (
        "No difference of five settings of vanilla and dynsdpb is tested, since the best setting was chosen on the "
        "examples that are reported: accuracy 50.0 to 70.0."
    )
    assert said(tmp_path).missing == "settings that are chosen on other examples (task.selection=held_out)"


def test_a_missing_baseline_and_one_at_equal_compute_are_asked_for_as_one_types_them(tmp_path: Path) -> None:
    make(tmp_path, "method=dynsdpb", examples_forwarded=598)
    assert "vanilla under the same settings (method=vanilla)" in said(tmp_path).missing
    make(tmp_path, "method=vanilla", draw=1, examples_forwarded=300)
    assert "vanilla at equal compute (method=vanilla method.passes=2)" in said(tmp_path).missing
    make(tmp_path, "method=vanilla", draw=2, passes=2, examples_forwarded=600)
    told = said(tmp_path)
    assert "at equal compute" not in told.missing
    assert "Against vanilla at equal compute: " in told.said


def test_vanilla_of_no_epochs_has_no_multiple_of_its_cost(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", "schedule.epochs=0", examples_forwarded=0)
    make(tmp_path, "method=kd", "schedule.epochs=0", draw=1, examples_forwarded=0, teacher={"key": "t", "examples_forwarded": 300})  # fmt: skip
    found = compare(study_of(tmp_path))
    (table, *_) = section(found).parts
    assert isinstance(table, Table)
    assert [(row[0].text, row[-1].text) for row in table.cells] == [("vanilla", "–"), ("kd", "–")]
    assert "at equal compute" not in said(tmp_path).missing


def test_the_cost_of_a_range_of_settings_is_a_range(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", seeds=1, examples_forwarded=300)
    for tau, forwarded in zip((1, 2, 4, 5), (3600, 600, 600, 900), strict=True):  # as words, 12 is less than 2
        make(tmp_path, "method=dynsdpb", f"method.tau={tau}", seeds=1, examples_forwarded=forwarded)
    (table, *_) = section(compare(study_of(tmp_path))).parts
    assert isinstance(table, Table)
    assert [row[-1].text for row in table.cells] == ["1×", "2–12×"]


def test_where_nothing_was_learned_differences_are_not_discussed(tmp_path: Path) -> None:
    majority = {"label": "a", "score": 0.8}
    make(tmp_path, "method=vanilla", accuracy=0.7, majority=majority)
    make(tmp_path, "method=kd", accuracy=0.7, draw=1, majority=majority)
    assert said(tmp_path).said == (
        "Nothing was learned: no method is a point above always 'a' (80.0), so differences say nothing."
    )


@pytest.mark.parametrize(
    ("forwarded", "steps", "asked"),
    [(80, 3, "passes=1.66"), (30, 1, ""), (72, 2, "passes=1.5"), (112, 100, "passes=2.33")],
)
def test_passes_that_are_asked_for_are_such_as_whole_steps_make(
    forwarded: int, steps: int, asked: str, tmp_path: Path
) -> None:
    make(tmp_path, "method=vanilla", examples_forwarded=48, steps=steps)
    make(tmp_path, "method=kd", draw=1, examples_forwarded=forwarded, steps=steps)
    missing = said(tmp_path).missing
    assert asked in missing
    assert ("at equal compute" in missing) == bool(asked)
    passes = float(asked.partition("=")[2] or 1)
    cost = 48 * math.ceil(passes * steps) / steps
    assert (abs(cost - forwarded) <= 0.05 * forwarded) == bool(asked)


def test_exactly_a_point_above_was_learned(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", score=0.53, majority={"label": "a", "score": 0.52})
    assert "Nothing was learned" not in said(tmp_path).said


def test_a_perfect_score_above_a_large_majority_was_learned_and_a_clear_difference_is_always_discussed(
    tmp_path: Path,
) -> None:
    rare, common = {"label": "a", "score": 0.992}, {"label": "a", "score": 0.95}
    make(tmp_path / "rare", "method=vanilla", accuracy=1.0, majority=rare)
    make(tmp_path / "rare", "method=kd", accuracy=0.99, draw=1, majority=rare)
    make(tmp_path / "clear", "method=vanilla", accuracy=0.6, majority=common)
    make(tmp_path / "clear", "method=kd", accuracy=0.9, draw=1, majority=common)
    assert "Nothing was learned" not in said(tmp_path / "rare").said
    told = said(tmp_path / "clear")
    assert told.said.startswith("Nothing was learned: no method is a point above always 'a' (95.0). kd is ")
    assert told.said.endswith("better, and hardly by chance.")
    assert told.missing == "longer training, or more examples"


def described(spread: Spread, seeds: int) -> str:
    """What is missing where a difference is open, of this spread and so many seeds."""
    group = Group("task", "kd", {0: Run(Path("run"), "finished", results={"metric": "accuracy", "score": 0.5})})
    row = Row("kd", [group])
    one = Compared(row, "vanilla", group, Difference(0.001, 1.0, 10, seeds, spread), 1.0, "accuracy")
    found = Comparison(Study("task", "task", [group]), [row], [one], {})
    return "; ".join(_more_seeds(found, [one], Scale("accuracy", 2)))


@pytest.mark.parametrize(("seeds", "total"), [(2, 5), (4, 5), (5, 10), (8, 16), (9, 18), (10, 20)])
def test_examples_are_asked_for_where_no_number_of_seeds_would_do(seeds: int, total: int) -> None:
    of_seeds = described(Spread(examples=0.0, seed=1e-4, size=400), seeds)
    assert of_seeds.startswith(f"{count(total - seeds, 'more seed')}, which would show")
    few = described(Spread(examples=1e-4, seed=1e-7, size=400), seeds)
    limit = 100 * detectable(Spread(examples=1e-4, seed=1e-7, size=400), 10**6)
    assert (
        few
        == f"more validation examples: these 400 hide what is below {limit:.2f} points, whatever the number of seeds"
    )


def test_tests_that_are_counted_are_those_that_are_corrected_for(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.7)
    for draw, method in enumerate(("kd", "dcs"), start=1):
        make(tmp_path, f"method={method}", accuracy=0.7, draw=draw)
    make(tmp_path, "method=ema", accuracy=0.7, draw=3, seeds=1)
    found = compare(study_of(tmp_path))
    assert len(found.tests) == 3
    first = found.compared[0]
    open_again = replace(first, difference=replace(first.difference, estimate=1.0, variance=1e-4), corrected=0.06)
    told = finding(replace(found, compared=[open_again, *found.compared[1:]]), scale_of(found)).said
    assert "no evidence once corrected for two tests." in told


def test_of_many_differences_at_equal_compute_none_that_is_clear_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.7)
    make(tmp_path, "method=vanilla", accuracy=0.7, passes=2, examples_forwarded=600)
    for draw, method in enumerate(("dynsdpb", "static_sd", "rdrop", "ema", "label_smoothing"), start=1):
        make(tmp_path, f"method={method}", accuracy=0.95 - draw / 100, draw=draw, examples_forwarded=600)
    make(tmp_path, "method=focal", accuracy=0.7, draw=9, examples_forwarded=600)
    found = compare(study_of(tmp_path))
    clear = [replace(c, corrected=1.0 if c.row.name == "focal" else 0.001) for c in found.compared]
    told = finding(replace(found, compared=clear), scale_of(found)).said.partition(". Against ")[2]
    assert told.count(": better)") == 5
    assert told.endswith(" and one more.")


def test_the_verdict_has_a_row_a_study_and_all_differences_on_two_seeds(tmp_path: Path) -> None:
    for task in ("synth_entailment", "synth_similarity"):
        make(tmp_path, "method=vanilla", f"task={task}", "task.kind=classification", seeds=2)
        make(tmp_path, "method=kd", f"task={task}", "task.kind=classification", draw=1, seeds=2)
    make(tmp_path, "method=dcs", draw=2, seeds=1)
    found = [compare(study) for study in gather(find_runs([tmp_path])).studies]
    table, figure = verdict.section(found).parts
    assert isinstance(table, Table)
    assert [row[0].text for row in table.cells] == [one.study.name for one in found]
    assert isinstance(figure, Figure)
    (panel,) = figure.panels
    assert isinstance(panel, Intervals)
    assert [mark.row for mark in panel.marks] == ["kd", "kd"]
    expected = next(c for c in found[0].compared if c.row.name == "kd").difference
    assert (panel.marks[0].value, panel.marks[0].low) == pytest.approx(
        (100 * expected.estimate, 100 * expected.interval[0])
    )
    assert [block.split(" · ")[0] for block, row in panel.places if not row] == [one.study.task for one in found]


def test_one_score_over_tasks_is_the_mean_of_each_seed_and_never_mixes_metrics(tmp_path: Path) -> None:
    for task, metric in (("synth_entailment", "accuracy"), ("sst2", "accuracy"), ("rte", "matthews")):
        make(tmp_path, "method=vanilla", f"task={task}", seeds=2, metric=metric)
        make(tmp_path, "method=kd", f"task={task}", seeds=2, draw=1, metric=metric)
    make(tmp_path, "method=dcs", draw=2, seeds=2)  # on one task alone: no row
    found = [compare(study) for study in gather(find_runs([tmp_path])).studies]
    section = over_tasks.section(found)
    assert section is not None
    table, figure = section.parts
    assert isinstance(table, Table)
    assert isinstance(figure, Figure)
    assert [panel.title for panel in figure.panels] == list(table.header[1:3])
    for panel in figure.panels:
        assert isinstance(panel, Intervals)
        (one,) = (found_of for found_of in found if found_of.study.task == panel.title)
        assert [mark.row for mark in panel.marks] == ["vanilla", "kd"]
        for mark in panel.marks:
            of_seeds = [100 * score for score in one.study.group(mark.row).scores]  # type: ignore[union-attr]
            assert list(mark.dots) == pytest.approx(of_seeds)
            assert mark.value == pytest.approx(np.mean(of_seeds))
    assert list(table.header[1:3]) == [one.study.task for one in found if one.study.metric == "accuracy"]
    assert [row[0].text for row in table.cells] == ["vanilla", "kd"]
    of_accuracy = [one for one in found if one.study.metric == "accuracy"]
    scores = np.array([one.study.group("kd").scores for one in of_accuracy])  # type: ignore[union-attr]
    mean, deviation = (float(table.cells[1][3].text.split(" ± ")[part]) for part in (0, 1))
    assert mean == pytest.approx(100 * scores.mean(), abs=0.06)
    assert deviation == pytest.approx(100 * scores.mean(0).std(ddof=1), abs=0.06)
    estimates = [next(c for c in one.compared if c.row.name == "kd").difference.estimate for one in of_accuracy]
    said = float(table.cells[1][4].text.split()[0].replace("−", "-"))
    assert said == pytest.approx(100 * np.mean(estimates), abs=0.06)


def test_tasks_of_other_sizes_are_not_averaged(tmp_path: Path) -> None:
    for task, examples in (("synth_entailment", 50), ("synth_entailment", 100), ("sst2", 100), ("rte", None)):
        for method in ("vanilla", "kd"):
            make(tmp_path, f"method={method}", f"task={task}", f"task.train_examples={examples or 'null'}", seeds=2)
    section = over_tasks.section([compare(study) for study in gather(find_runs([tmp_path])).studies])
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, Table))
    assert sorted(table.header[1:3]) == ["sst2", "synth_entailment"]


# --- rows --------------------------------------------------------------------------------------------


def sweep(outputs: Path, seeds: int, **of_run: Any) -> None:
    """Four settings of dynsdpb, the default among them, the last one the best."""
    for number, tau in enumerate((1, 2, 3, 4)):
        make(outputs, "method=dynsdpb", f"method.tau={tau}", accuracy=0.5 + number / 10, seeds=seeds, **of_run)


def test_a_sweep_is_its_default_and_its_best_which_is_not_tested_where_it_was_chosen(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.5, draw=1)
    sweep(tmp_path, 3)
    found = compare(study_of(tmp_path))
    assert [(row.name, row.unbiased) for row in found.rows] == [
        ("vanilla", True),
        ("dynsdpb", True),
        ("dynsdpb (tau=4), best of 4 settings", False),
    ]
    best = found.of(found.rows[2], "vanilla")
    assert best is not None
    assert (best.corrected, best.verdict) == (None, "")
    (table, *_) = section(found).parts
    assert isinstance(table, Table)
    assert "it is not tested" in table.caption


def test_the_best_is_chosen_by_the_selection_score_and_then_tested(tmp_path: Path) -> None:
    make(tmp_path, "method=vanilla", accuracy=0.5, draw=1)
    for number, tau in enumerate((1, 2, 4, 5)):
        scores: dict[str, Any] = {"selected_on": "held_out", "selection_score": 0.9 - number / 10}
        make(tmp_path, "method=dynsdpb", f"method.tau={tau}", accuracy=0.5 + number / 10, **scores)
    found = compare(study_of(tmp_path))
    assert [row.name for row in found.rows] == ["vanilla", "dynsdpb (tau=1), best of 4 settings"]
    best = found.of(found.rows[1], "vanilla")
    assert best is not None
    assert best.corrected is not None


@pytest.mark.parametrize("default_is_best", [False, True])
def test_what_was_tuned_is_compared_with_vanilla_that_was_tuned_on_seeds_that_chose_neither(
    default_is_best: bool, tmp_path: Path
) -> None:
    default = composed().schedule.lr
    rates = (1e-5, 2e-5, default, 7e-5)
    best_of_vanilla = default if default_is_best else 2e-5

    def trial(method: str, lr: float, seed: int, **of_run: Any) -> None:
        chosen: dict[str, Any] = {"selected_on": "held_out", "selection_score": 0.9}
        make_run(tmp_path, f"method={method}", f"schedule.lr={lr}", f"seed={seed}", examples=400, **chosen, **of_run)

    for method, best, accuracy in (("vanilla", best_of_vanilla, 0.6), ("dynsdpb", 7e-5, 0.8)):
        for lr in rates:
            trial(method, lr, 0, accuracy=0.95 if lr == best else 0.5)  # luck, for one of them
        for seed in (1, 2, 3):
            trial(method, best, seed, accuracy=accuracy)
    found = compare(study_of(tmp_path))
    chosen = [row for row in found.rows if row.chosen_of and row.group and row.group.first.method == "dynsdpb"]
    (compared,) = (c for c in found.compared if c.row in chosen and c.baseline == "vanilla")
    assert compared.against.settings["schedule.lr"] == best_of_vanilla
    assert [sorted(group.runs) for group in (compared.row.group, compared.against) if group] == [[1, 2, 3]] * 2
    assert compared.difference.seeds == 3
    assert compared.difference.estimate == pytest.approx(0.2, abs=0.08)


def tuned_elsewhere(outputs: Path, method: str, best: float, rates: tuple[float, ...], **of_run: Any) -> None:
    """Settings of the learning rate with three seeds each, one of them the best on held-out examples."""
    for lr in rates:
        chosen: dict[str, Any] = {"selected_on": "held_out", "selection_score": 0.9 if lr == best else 0.5}
        make(outputs, f"method={method}", f"schedule.lr={lr}", **chosen, **of_run)


def test_a_method_tuned_over_many_settings_is_compared_with_the_best_of_two_of_vanilla(tmp_path: Path) -> None:
    default = composed().schedule.lr
    tuned_elsewhere(tmp_path, "vanilla", 2e-5, (2e-5, 7e-5))
    tuned_elsewhere(tmp_path, "dynsdpb", 7e-5, (1e-5, 2e-5, default, 7e-5), draw=1)
    found = compare(study_of(tmp_path))
    (row,) = (row for row in found.rows if row.chosen_of)
    compared = found.of(row, "vanilla")
    assert row.name == "dynsdpb (lr=7e-05), best of 4 settings"
    assert compared is not None
    assert compared.against.settings["schedule.lr"] == 2e-5


def test_the_default_that_is_the_best_stands_beside_both_vanillas(tmp_path: Path) -> None:
    default = composed().schedule.lr
    tuned_elsewhere(tmp_path, "vanilla", 2e-5, (2e-5, default))
    tuned_elsewhere(tmp_path, "dynsdpb", default, (1e-5, 2e-5, default, 7e-5), draw=1)
    found = compare(study_of(tmp_path))
    against = {c.row.name: c.against.settings["schedule.lr"] for c in found.compared if c.baseline == "vanilla"}
    assert against == {"dynsdpb": default, "dynsdpb, best of 4 settings": 2e-5}
    assert len(found.tests) == 2


def test_one_difference_in_two_rows_is_one_test(tmp_path: Path) -> None:
    default = composed().schedule.lr
    tuned_elsewhere(tmp_path, "vanilla", default, (2e-5, default))
    tuned_elsewhere(tmp_path, "dynsdpb", default, (1e-5, 2e-5, default, 7e-5), draw=1)
    found = compare(study_of(tmp_path))
    ours = {c.row.name: c for c in found.compared if c.baseline == "vanilla"}
    assert list(ours) == ["dynsdpb", "dynsdpb, best of 4 settings"]
    assert len(found.tests) == 1
    assert {c.corrected for c in ours.values()} == {
        c.difference.p for c in ours.values()
    }  # of one test nothing is corrected


def tried(outputs: Path, scores: dict[int, tuple[float, ...]]) -> None:
    """Settings of dynsdpb by τ: the score of seed 0, by which the trials are chosen, and those of further seeds."""
    for tau, of_seeds in scores.items():
        for seed, score in enumerate(of_seeds):
            make_run(outputs, "method=dynsdpb", f"method.tau={tau}", f"seed={seed}", score=score, selection_score=score, selected_on="held_out")  # fmt: skip


@pytest.mark.parametrize("others", [(1,), (1, 2)])
def test_of_few_trials_too_the_seed_that_chose_is_no_part_of_the_score(others: tuple[int, ...], tmp_path: Path) -> None:
    tried(tmp_path, {**dict.fromkeys(others, (0.5,)), 4: (0.9, 0.6, 0.7)})
    *plain, chosen = rows(study_of(tmp_path))
    assert [(row.name, row.chosen_of) for row in plain] == [(f"dynsdpb (tau={tau})", 0) for tau in others]
    assert (chosen.name, chosen.chosen_of) == (f"dynsdpb (tau=4), best of {len(others) + 1} settings", len(others) + 1)
    assert chosen.unbiased
    records = [
        {"job": 1 + seed, "overrides": ["method.tau=4", f"seed={seed}"], "key": str(seed), "score": score,
         "status": "finished", "metric": "accuracy"}
        for seed, score in ((1, 0.6), (2, 0.7))
    ]  # fmt: skip
    (score,) = (column.cells for column in means_over_seeds(records) if column.name == "accuracy")
    assert chosen.group is not None
    assert score == [f"{np.mean(chosen.group.scores):.4f} ± {np.std(chosen.group.scores, ddof=1):.4f}"]


def test_a_default_that_was_chosen_on_a_seed_stands_without_it_alone(tmp_path: Path) -> None:
    tried(tmp_path, {1: (0.5,), 2: (0.5,), 3: (0.9, 0.6, 0.7), 4: (0.5,)})
    (row,) = rows(study_of(tmp_path))
    assert (row.name, row.chosen_of) == ("dynsdpb, best of 4 settings", 4)
    assert row.group is not None
    assert row.group.scores == [0.6, 0.7]


def test_a_default_beside_one_that_was_tried_once_was_not_chosen(tmp_path: Path) -> None:
    tried(tmp_path, {1: (0.5,), 3: (0.9, 0.6, 0.7)})
    assert [(row.name, row.chosen_of, len(row.groups[0].runs)) for row in rows(study_of(tmp_path))] == [
        ("dynsdpb", 0, 3),
        ("dynsdpb (tau=1)", 0, 1),
    ]


def test_a_sweep_that_is_not_through_has_chosen_nothing(tmp_path: Path) -> None:
    tried(tmp_path, {1: (0.5, 0.6, 0.7), 2: (0.9,)})  # the second setting is better on the seed that both have
    assert [(row.name, row.chosen_of, len(row.groups[0].runs)) for row in rows(study_of(tmp_path))] == [
        ("dynsdpb (tau=1)", 0, 3),
        ("dynsdpb (tau=2)", 0, 1),
    ]


def test_settings_with_one_seed_are_a_range_and_none_is_the_best(tmp_path: Path) -> None:
    for number, tau in enumerate((1, 2, 4, 5)):
        make(tmp_path, "method=dynsdpb", f"method.tau={tau}", accuracy=0.5 + number / 10, seeds=1)
    (row,) = rows(study_of(tmp_path))
    assert (row.name, row.group, len(row.groups)) == ("dynsdpb, 4 settings", None, 4)


def test_few_settings_have_a_row_each(tmp_path: Path) -> None:
    for tau in (1, 2, 4):
        make(tmp_path, "method=dynsdpb", f"method.tau={tau}", seeds=1)
    assert [row.name for row in rows(study_of(tmp_path))] == [f"dynsdpb (tau={tau})" for tau in (1, 2, 4)]


# --- roles -------------------------------------------------------------------------------------------


def test_a_teacher_is_no_baseline_but_a_vanilla_of_the_same_schedule_is_one_that_was_a_teacher_too(
    tmp_path: Path,
) -> None:
    teacher = make_run(tmp_path, "method=vanilla", "schedule.epochs=2", "schedule.keep=last")
    for method in ("kd", "dcs"):
        make_run(tmp_path, f"method={method}", teacher={"key": teacher.name})
    made = gather(find_runs([tmp_path]))
    assert [variants(study) for study in made.studies] == [["dcs", "kd"]]
    assert [(one.run.path, one.role, len(one.by)) for one in made.served] == [(teacher, "teacher", 2)]
    plain = make_run(tmp_path, "method=vanilla")
    make_run(tmp_path, "method=kd", "method.tau=1", teacher={"key": plain.name})
    assert variants(gather(find_runs([tmp_path])).studies[0]) == ["vanilla", "dcs", "kd", "kd (tau=1)"]


def test_an_earlier_generation_is_no_row_beside_the_last(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla")
    first = make_run(tmp_path, "method=kd", "method.name=generations", "method.tau=1")
    make_run(tmp_path, "method=kd", "method.name=generations", "method.tau=2", teacher={"key": first.name})
    made = gather(find_runs([tmp_path]))
    assert variants(made.studies[0]) == ["vanilla", "generations"]
    assert [one.run.path for one in made.served] == [first]


# --- numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "scores", "written"),
    [
        ("accuracy", [0.721, 0.745], "73.3 ± 1.7"),
        ("accuracy", [0.7331, 0.7345], "73.38 ± 0.10"),
        ("accuracy", [0.6, 0.8], "70.0 ± 14.1"),
        ("accuracy", [0.5], "50.0"),
        ("matthews", [-0.02, -0.04], "−3.0 ± 1.4"),
        ("mse", [0.1, 0.12], "0.110 ± 0.014"),
        ("mse", [120.0, 150.0], "135 ± 21"),
    ],
)
def test_scores_are_written_as_papers_print_them(metric: str, scores: list[float], written: str) -> None:
    deviations = [float(np.std(scores, ddof=1))] if len(scores) > 1 else []
    assert scale(metric, deviations).spread(scores) == written


def test_signs_and_counts() -> None:
    shown = Scale("accuracy", 1)
    assert [shown.signed(value) for value in (0.006, -0.004, 0.0, -0.0001)] == ["+0.6", "−0.4", "+0.0", "0.0"]
    assert [count(1, "seed"), count(4, "seed"), count(13, "seed"), count(2, "study", "studies")] == [
        "one seed",
        "four seeds",
        "13 seeds",
        "two studies",
    ]
