"""Equal tuning: the same draws for every method, the best by what selects, then seeds that chose nothing."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean

import pytest
from scipy import stats

from selfdistill_cli.errors import UserError
from selfdistill_cli.sweeps.plan import Plan
from selfdistill_cli.sweeps.tuned import best_of, draw
from tests.helpers.processes import Sdrun
from tests.helpers.runs import table


def drawn(key: str, values: str, count: int = 600) -> list[float]:
    return [float(draw(key, values, trial)) for trial in range(count)]


def test_draws_are_uniform_in_their_range() -> None:
    uniform = drawn("method.alpha", "interval(1, 4)")
    assert stats.kstest([(value - 1) / 3 for value in uniform], "uniform").pvalue > 0.01
    logarithmic = [math.log10(value) for value in drawn("schedule.lr", "tag(log, interval(1e-5, 1e-3))")]
    assert stats.kstest([(value + 5) / 2 for value in logarithmic], "uniform").pvalue > 0.01
    whole = drawn("schedule.batch_size", "int(interval(1, 4))")
    assert stats.chisquare([whole.count(number) for number in (1, 2, 3, 4)]).pvalue > 0.01
    chosen = [draw("method.tau_rule", "choice(uncertainty,constant)", trial) for trial in range(600)]
    assert set(chosen) == {"uncertainty", "constant"}
    assert chosen.count("constant") == pytest.approx(300, abs=60)


def test_a_draw_depends_on_its_setting_and_its_trial_alone() -> None:
    assert drawn("method.tau", "interval(0, 1)", 5) == drawn("method.tau", "interval(0, 1)", 9)[:5]
    tau, alpha = drawn("method.tau", "interval(0, 1)"), drawn("method.alpha", "interval(0, 1)")
    assert abs(stats.pearsonr(tau, alpha).statistic) < 0.12
    # Where one method's range is another, its draws lie at the same place of it.
    assert fmean(drawn("method.alpha", "interval(0, 2)")) == pytest.approx(2 * fmean(alpha), abs=1e-3)


@pytest.mark.parametrize(("values", "message"), [("3", "is one value"), ("interval(1", "is no range")])
def test_what_is_no_range_is_refused(values: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw("method.tau", values, 0)


def test_the_best_trial_is_that_of_what_selects_and_never_of_what_is_reported() -> None:
    tried = [(("method=a",), ["lr=1"]), (("method=b",), ["lr=1"]), (("method=a",), ["lr=2"]), (("method=b",), ["lr=2"])]
    scores = [(0.9, 0.1), (0.5, 0.5), (0.1, 0.2), (0.4, 0.5)]  # reported, held out
    records = [
        {"job": job, "status": "finished", "metric": "accuracy", "score": reported, "selection_score": held_out}
        for job, (reported, held_out) in enumerate(scores, start=1)
    ]
    assert best_of(tried, records) == {("method=a",): ["lr=2"], ("method=b",): ["lr=1"]}
    losses = [record | {"metric": "loss"} for record in records]
    assert best_of(tried, losses) == {("method=a",): ["lr=1"], ("method=b",): ["lr=1"]}
    failed = [{"job": 2, "status": "failed"}, {"job": 4, "status": "failed"}]
    assert best_of(tried, [records[0], failed[0], records[2], failed[1]]) == {("method=a",): ["lr=2"]}


def test_a_plan_says_which_jobs_are_trials() -> None:
    assert [Plan(4, [], trials=2).stage(number) for number in range(4)] == ["trial", "trial", "final", "final"]
    assert Plan(4, []).stage(0) == ""


COMMAND = (
    *("+experiment=tuned", "+size=one_step", "model=tiny_bert", "task=synth_entailment", "tracking=none"),
    *("method=vanilla,static_sd", "hydra.sweeper.trials=2"),
)


def test_trials_then_fresh_seeds_and_the_same_command_goes_on(sdrun: Sdrun, tmp_path: Path) -> None:
    first = sdrun(*COMMAND, "seed=1")
    assert first.code == 0, first.err
    again = sdrun(*COMMAND, "seed=1,2", "hydra.sweeper.trials=3")  # a larger budget keeps what is there
    assert again.code == 0, again.err
    assert "trial 6 of 6: " in again.out
    assert "each with the best of its trials (6 in all, which count in no mean)" in again.out
    jobs = table(tmp_path / "outputs")
    trials, finals = jobs[:6], jobs[6:]
    assert [job["status"] for job in trials] == ["finished earlier"] * 4 + ["finished"] * 2
    assert [job["stage"] for job in jobs] == ["trial"] * 6 + ["final"] * 4

    def settings(job: dict[str, str]) -> dict[str, str]:
        return dict(word.split("=") for word in job["settings"].split())

    for method in ("vanilla", "static_sd"):
        own = [job for job in trials if settings(job)["method"] == method]
        assert len(own) == 3
        assert {settings(job)["seed"] for job in own} == {"0"}
        best = max(own, key=lambda job: float(job["selection_score"]))
        chosen = [settings(job) for job in finals if settings(job)["method"] == method]
        assert [one.pop("seed") for one in chosen] == ["1", "2"]
        assert all(one == {k: v for k, v in settings(best).items() if k != "seed"} for one in chosen)
    # The same learning rates for both; what only one of them has is drawn for that one.
    rates = [settings(job)["schedule.lr"] for job in trials]
    assert rates[::2] == rates[1::2]
    assert len(set(rates)) == 3
    assert ["method.tau" in settings(job) for job in trials] == [False, True] * 3


def test_the_seed_of_the_trials_is_not_one_of_those_compared(sdrun: Sdrun) -> None:
    ended = sdrun(*COMMAND, "seed=0,1")
    assert ended.code == 1
    assert "seed=0 is that of the trials" in ended.err
    assert "Traceback" not in ended.err
