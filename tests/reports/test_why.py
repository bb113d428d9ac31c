"""The sections that say why: what their sentences say is what was recorded, and nothing is drawn where nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.lines import MOST, pages, shown
from selfdistill_cli.reports.panels import Curves, Look
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.sections import distillation, dynamics, gradients, learning, maps, signals
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.reports.variants import Group, Study

METHODS = ("vanilla", "dynsdpb", "kd", "static_sd")
Column = Callable[[float, int], float]
"""What a column holds, by epoch and seed."""
EPOCHS = np.linspace(0.1, 3, 30)


def group(
    method: str, columns: dict[str, Column] | None = None, kind: str = "classification", labels: int = 2, seeds: int = 2
) -> Group:
    """Runs with these columns in the rows of training: functions of the epoch and the seed."""
    results = {
        "metric": "accuracy",
        "score": 0.7,
        "kind": kind,
        "labels": [str(n) for n in range(labels)],
        "examples_forwarded": 1,
    }
    runs = {}
    for seed in range(seeds):
        train = [{"epoch": e} | {name: of(e, seed) for name, of in (columns or {}).items()} for e in EPOCHS]
        evaluations = [
            {"epoch": float(e), "eval/accuracy": 0.5 + 0.1 * e + 0.02 * seed, "signal/uncertainty/auroc": 0.6 + 0.01 * seed,
             "signal/margin/auroc": 0.6, "signal/uncertainty/spearman": -0.1, "signal/margin/spearman": 0.1}
            for e in (1, 2, 3)
        ]  # fmt: skip
        settings = {"method.name": method}
        runs[seed] = Run(
            Path("run"),
            "finished",
            settings=settings,
            seed=seed,
            results=results,
            rows={"train": train, "eval": evaluations},
        )
    return Group("task", method, runs)


def study(*groups: Group) -> Study:
    """These groups."""
    return Study("task · model", "task", list(groups), METHODS)


def figures(section: Section | None) -> list[Figure]:
    """Of a section that is there."""
    assert section is not None
    return [part for part in section.parts if isinstance(part, Figure)]


def test_the_share_of_the_distillation_term_is_the_mean_of_what_was_recorded() -> None:
    strong = group("dynsdpb", {"grad_share/kd": lambda e, seed: 0.1 * e + 0.02 * seed})
    weak = group("kd", {"grad_share/kd": lambda e, seed: 0.004})
    made = study(group("vanilla"), strong, weak)
    found = distillation.section(made)
    assert found is not None
    expected = 100 * (0.1 * EPOCHS.mean() + 0.01)
    assert f"dynsdpb {expected:.3g} %" in found.finding
    assert "kd 0.4 %" in found.finding
    (figure,) = figures(found)
    (curves,) = figure.panels
    assert isinstance(curves, Curves)
    line = curves.lines[0]
    assert line.low is not None
    assert np.asarray(line.y) - np.asarray(line.low) == pytest.approx(100 * np.std([0, 0.02], ddof=1))
    assert distillation.section(study(group("vanilla"))) is None


def test_a_share_that_stands_in_some_rows_only_is_shown() -> None:
    sparse = group("dynsdpb", {"grad_share/kd": lambda e, seed: 0.05})
    for run in sparse.runs.values():
        for row in run.rows["train"][1::2]:  # the last one among them
            del row["grad_share/kd"]
    assert "dynsdpb 5 %" in str(distillation.section(study(sparse)))


def test_with_two_classes_u_alone_is_shown_and_with_three_the_margin_too() -> None:
    moving: dict[str, Column] = {"uncertainty/mean": lambda e, seed: 0.5}
    titles = {}
    for labels in (2, 3):
        (figure,) = figures(signals.section(study(group("dynsdpb", moving, labels=labels))))
        titles[labels] = [panel.title for panel in figure.panels]
    assert titles == {2: ["AUROC of u"], 3: ["AUROC of u", "AUROC of margin"]}
    two = signals.section(study(group("dynsdpb", moving)))
    assert two is not None
    assert "0.60 (dynsdpb)" in two.finding or "0.61 (dynsdpb)" in two.finding
    assert "only u is shown" in two.words
    assert signals.section(study(group("vanilla"))) is None, "no method here uses them"


def test_a_regressions_loss_is_not_called_cross_entropy() -> None:
    loss: dict[str, Column] = {"loss/ce": lambda e, seed: 1 / e}
    (figure,) = figures(learning.section(study(group("vanilla", loss, kind="regression"))))
    assert "squared error" in figure.panels[0].title
    (figure,) = figures(learning.section(study(group("vanilla", loss))))
    assert "cross-entropy" in figure.panels[0].title


def test_a_single_evaluation_is_no_curve() -> None:
    once = group("vanilla")
    for run in once.runs.values():
        del run.rows["eval"][1:]
    found = learning.section(study(once))
    assert figures(found) == []
    assert "vanilla 61.0 ± 1.4" in found.finding if found else False


def test_trajectories_say_where_they_begin_and_end_and_draw_one_of_two_that_are_alike() -> None:
    def u(epoch: float, seed: int) -> float:
        return 1 - epoch / 6

    def d(epoch: float, seed: int) -> float:
        return float(np.sqrt(epoch / 4))

    means: dict[str, Column] = {
        "uncertainty": u,
        "tau": lambda e, s: 3 * (1 + u(e, s)),
        "discrimination": d,
        "alpha": u,
    }
    columns = {f"{name}/{part}": of for name, of in means.items() for part in ("mean", "p10", "p90")}
    found = dynamics.section(study(group("dynsdpb", columns)))
    assert found is not None
    first, last = EPOCHS[:3].mean(), EPOCHS[-3:].mean()
    assert f"τ_i from {3 * (2 - first / 6):.3g} to {3 * (2 - last / 6):.3g}" in found.finding
    (figure,) = figures(found)
    assert [(panel.title[0], isinstance(panel, Curves) and panel.share) for panel in figure.panels] == [
        ("τ", False),
        ("d", True),
    ]
    assert "α_i as τ_i, u as τ_i" in figure.caption


def test_the_ratio_of_gradients_in_the_sentence_is_that_of_what_was_recorded() -> None:
    one = group("vanilla")
    for run in one.runs.values():
        run.rows["gradients"] = [{"epoch": e, "norm/layer 0": 0.2, "norm/layer 1": 2.0 * e} for e in (1.0, 2.0, 4.0)]
    found = gradients.section(study(one))
    assert found is not None
    assert "0.10 (vanilla) in the first third of training, 0.03 (vanilla) in the last" in found.finding


def test_what_a_map_keeps_is_the_ratio_of_the_means() -> None:
    one = group("vanilla")
    for run in one.runs.values():
        run.rows["maps"] = [
            {"epoch": float(e), "map_kl": 0.1, "token_kl": 0.4, "retrieval/map": 1.0, "retrieval/token": 0.9, "retrieval/chance": 0.1}
            for e in (1, 2)
        ]  # fmt: skip
    found = maps.section(study(one))
    assert found is not None
    assert "maps keep 25% (vanilla)" in found.finding
    assert any(isinstance(part, Table) for part in found.parts)


def test_no_figure_has_more_than_eight_lines_and_none_is_without_the_baseline() -> None:
    groups = [group("vanilla"), *(group(f"method {n}") for n in range(17))]
    split = pages(groups)
    assert all(len(page) <= MOST and page[0].variant == "vanilla" for page in split)
    assert [g.variant for page in split for g in page[1:]] == [g.variant for g in groups[1:]]


def test_of_a_sweep_other_figures_show_its_default() -> None:
    cells = [
        Group("task", name, group("dynsdpb").runs)
        for name in ("dynsdpb (tau=1)", "dynsdpb (tau=2)", "dynsdpb", "dynsdpb (tau=4)")
    ]
    assert [one.variant for one in shown([group("vanilla"), *cells])] == ["vanilla", "dynsdpb"]


def test_a_method_looks_alike_in_every_study() -> None:
    settings = {"model.name": "m", "schedule.epochs": 3, "method.passes": 1.0}
    runs = [
        Run(Path(f"{task}{method}{seed}"), "finished", seed=seed, settings=settings | {"task.name": task, "method.name": method},
            results={"metric": "accuracy", "score": 0.5, "train_examples": 10, "model": "m", "examples_forwarded": 30})
        for task, methods in (("a", ("vanilla", "kd")), ("b", ("dynsdpb", "kd")))
        for method in methods for seed in (0, 1)
    ]  # fmt: skip
    looks = {(s.task, g.variant): s.look(g) for s in gather(runs).studies for g in s.groups}
    assert looks["a", "kd"] == looks["b", "kd"] == Look(2)
    assert looks["a", "vanilla"] == Look(0)
