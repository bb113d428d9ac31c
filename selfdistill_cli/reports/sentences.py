"""A study's answer in plain words, and what would be needed for a better one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.reports.differences import EQUAL_COMPUTE, PLAIN, Compared, Comparison, baselines
from selfdistill_cli.reports.numbers import Scale, count
from selfdistill_cli.reports.statistics import POWER, detectable
from selfdistill_cli.reports.variants import BASELINE, SAME_COMPUTE
from selfdistill_cli.system.words import listed

NAMED = 3
"""So many methods are named in one sentence."""
LEARNED = 0.01
"""A score that is less than this above always giving the most frequent answer is no sign of learning; where that leaves
less room, half of what is left to a perfect score."""
LONGER = "longer training, or more examples"
"""What is missing where nothing was learned."""
HARDLY = 0.9
"""Where even very many seeds leave more than this share of what can be detected, the examples are what hides it."""


@dataclass(frozen=True)
class Finding:
    """What a study says."""

    said: str
    missing: str
    """What to run for an answer; empty where there is one."""


def finding(found: Comparison, shown: Scale) -> Finding:
    """One or two sentences, from differences that rest on two seeds or more; one seed says nothing about others."""
    told = _of_seeds(found, PLAIN)
    nothing = _nothing_learned(found, shown)
    if nothing and not any(c.verdict for c in found.compared):
        return Finding(f"{nothing}, so differences say nothing.", LONGER)
    parts = [nothing and f"{nothing}.", *_against_vanilla(found, told, shown), _at_equal_compute(found, shown)]
    missing = [LONGER] * bool(nothing) + _missing(found, told, shown)
    return Finding(" ".join(part for part in parts if part), "; ".join(missing))


def _of_seeds(found: Comparison, baseline: str) -> list[Compared]:
    """Differences to a baseline that may be told, larger ones first; a vanilla of more passes is a baseline itself."""
    known = [
        c
        for c in found.compared
        if c.baseline == baseline and c.difference.seeds > 1 and c.row.unbiased
        if (group := c.row.group) is not None and not group.is_vanilla
    ]
    return sorted(known, key=lambda c: -abs(c.difference.estimate))


# --- what came out --------------------------------------------------------------------------------


def _nothing_learned(found: Comparison, shown: Scale) -> str:
    majority = found.study.groups[0].first.results.get("majority")
    if not majority or not larger_is_better(found.study.metric):
        return ""
    best = max(fmean(group.scores) for group in found.study.groups)
    enough = min(LEARNED, (1 - majority["score"]) / 2)
    if best - majority["score"] >= enough - 1e-9:
        return ""
    always = f"always '{majority['label']}' ({shown.value(majority['score'])})"
    return f"Nothing was learned: no method is a point above {always}"


def _against_vanilla(found: Comparison, told: Sequence[Compared], shown: Scale) -> list[str]:
    if not told:
        return [_no_difference(found, shown)]
    clear = [c for c in told if c.verdict]
    tests = count(len({c.test for c in found.compared if c.corrected is not None}), "test")
    said = [_clear(c, shown) for c in clear[:NAMED]]
    if len(clear) > NAMED:
        said.append(f"{count(len(clear) - NAMED, 'more', 'more').capitalize()} differ from it, too.")
    said += [f"{_sentence(c, shown)}: no evidence once corrected for {tests}." for c in told if _undone(c)]
    unclear = [c for c in told if not c.verdict and not _undone(c)]
    if len(unclear) == 1:
        said.append(f"{_sentence(unclear[0], shown)}: no evidence.")
    elif unclear:
        said.append(_none_of(unclear, shown))
    return said


def _undone(compared: Compared) -> bool:
    """Whether an interval leaves out 0, and the correction takes the evidence back."""
    low, high = compared.difference.interval
    return not compared.verdict and (low > 0 or high < 0)


def _no_difference(found: Comparison, shown: Scale) -> str:
    """What can be said where there is no difference on two seeds: the range of the scores."""
    groups = found.study.groups
    if len(groups) == 1:
        seeds = count(len(groups[0].runs), "seed")
        return f"{groups[0].variant} alone: {found.study.metric} {shown.spread(groups[0].scores)} ({seeds})."
    means = [fmean(group.scores) for group in groups]
    low, high = shown.value(min(means)), shown.value(max(means))
    between = f"{found.study.metric} {f'{low} to {high}' if low != high else f'{low} for all'}"
    methods = listed(list(dict.fromkeys(group.first.method for group in groups)))
    settings = f"{count(len(groups), 'setting')} of {methods}"
    if not any(group.is_vanilla for group in groups):
        return f"No vanilla beside {settings}: {between}."
    why = _why_not(found)
    if why:
        return f"No difference of {settings} is tested, since {why}: {between}."
    if max(len(group.runs) for group in groups) == 1:
        return f"One seed for each of {settings}, which ranks nothing: {between}."
    return f"No difference of {settings} rests on two seeds: {between}."


def _why_not(found: Comparison) -> str:
    """What more seeds would not change: a metric that is not compared, a setting that was chosen where it is reported."""
    if found.not_compared and not found.compared:
        return listed(list(dict.fromkeys(found.not_compared.values())))
    if _chosen_here(found):
        return "the best setting was chosen on the examples that are reported"
    return ""


def _chosen_here(found: Comparison) -> bool:
    """Whether there is a difference on two seeds of a setting that was chosen on the examples that are reported."""
    return any(c.difference.seeds > 1 and not c.row.unbiased for c in found.compared)


def _sentence(compared: Compared, shown: Scale) -> str:
    """`dynsdpb is 0.6 points above vanilla (95 % interval −0.9 to 2.1, five seeds)`."""
    estimate = compared.difference.estimate
    amount = shown.value(abs(estimate))
    where = f"{amount} {shown.unit} {'above' if estimate > 0 else 'below'}"
    if not any(digit in amount for digit in "123456789"):
        where = "level with"
    interval = shown.interval(*compared.difference.interval)
    return (
        f"{compared.row.name} is {where} {PLAIN} (95 % interval {interval}, {count(compared.difference.seeds, 'seed')})"
    )


def _clear(compared: Compared, shown: Scale) -> str:
    return f"{_sentence(compared, shown)}: {compared.verdict}, and hardly by chance."


def _none_of(unclear: Sequence[Compared], shown: Scale) -> str:
    named = [
        f"{c.row.name} ({shown.signed(c.difference.estimate)}; {shown.interval(*c.difference.interval)})"
        for c in unclear[:NAMED]
    ]
    rest = [count(len(unclear) - NAMED, "more", "more")] if len(unclear) > NAMED else []
    seeds = sorted({c.difference.seeds for c in unclear})
    of = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return f"No evidence that {listed([*named, *rest], 'or')} differs from {PLAIN} (95 % intervals, {of})."


def _at_equal_compute(found: Comparison, shown: Scale) -> str:
    """Against vanilla that cost as much, where that is another baseline than vanilla itself."""
    other = [c for c in _of_seeds(found, EQUAL_COMPUTE) if c.against.settings["method.passes"] != 1]
    if not other:
        return ""
    told = [c for number, c in enumerate(other) if c.verdict or number < NAMED]
    named = [
        f"{c.row.name if len(other) > 1 else ''} {shown.signed(c.difference.estimate)} "
        f"({shown.interval(*c.difference.interval)}{f': {c.verdict}' if c.verdict else ''})".strip()
        for c in told
    ]
    rest = [count(len(other) - len(told), "more", "more")] if len(other) > len(told) else []
    return f"Against {EQUAL_COMPUTE}: {listed([*named, *rest])}."


# --- what is missing ------------------------------------------------------------------------------


def _missing(found: Comparison, told: Sequence[Compared], shown: Scale) -> list[str]:
    methods = [group for group in found.study.groups if not group.is_vanilla]
    if not methods:
        return [f"a method beside {BASELINE}"]
    wanted = []
    if all(found.study.baseline(group) is None for group in methods):
        wanted.append(f"{PLAIN} under the same settings (method={BASELINE})")
    wanted += _matched_passes(found)
    if not told and _chosen_here(found):
        wanted.append("settings that are chosen on other examples (task.selection=held_out)")
    if not told and min(len(group.runs) for group in found.study.groups) == 1:
        return [*wanted, "more seeds: three are the least (seed=0,1,2), five are better"]
    return [*wanted, *_more_seeds(found, told, shown)]


def _matched_passes(found: Comparison) -> list[str]:
    """The passes of a vanilla at equal compute that is not there."""
    lacking = {
        _passes(group.compute / base.compute, base.first.results.get("steps"))
        for row in found.rows
        if (group := row.group) is not None and not group.is_vanilla
        if (base := found.study.baseline(group)) is not None and EQUAL_COMPUTE not in baselines(found.study, row)
        if base.compute > 0  # of no epochs, no number of passes costs more
    }
    passes = sorted(one for one in lacking if one is not None and abs(one - 1) > SAME_COMPUTE)
    words = ",".join(f"{one:g}" for one in passes)
    return [f"{EQUAL_COMPUTE} (method={BASELINE} method.passes={words})"] if passes else []


def _passes(ratio: float, steps: int | None) -> float | None:
    """Passes over so many `steps` that cost `ratio` times as much; None if no whole number of steps does.

    A whole number where that is equal compute: the first step of a run has no previous batch. Others are cut, not
    rounded, since a fraction of a step is finished.
    """
    passes = float(round(ratio)) if _same(round(ratio), ratio) else math.floor(round(100 * ratio, 6)) / 100
    cost = math.ceil(round(passes * steps, 6)) / steps if steps else passes
    return passes if _same(cost, ratio) else None


def _same(cost: float, wanted: float) -> bool:
    return abs(cost - wanted) <= SAME_COMPUTE * wanted


def _more_seeds(found: Comparison, told: Sequence[Compared], shown: Scale) -> list[str]:
    """What further seeds would show, for as long as something is open."""
    unclear = [c for c in told if not c.verdict]
    if not unclear or found.spread is None:
        return []
    now = min(c.difference.seeds for c in unclear)
    total = 5 if now < 5 else 2 * now
    then, at_present = (detectable(found.spread, seeds) for seeds in (total, now))
    if at_present == 0:
        return []
    limit = detectable(replace(found.spread, seed=0.0), now)
    if limit > HARDLY * at_present:
        hidden = f"{found.spread.size:,} hide what is below {shown.value(limit)} {shown.unit}"
        return [f"more validation examples: these {hidden}, whatever the number of seeds"]
    more = count(total - now, "more seed")
    return [f"{more}, which would show a difference of {shown.value(then)} {shown.unit} (power {POWER:g})"]
