"""Main table: methods by tasks, differences to vanilla and to vanilla on as many forwarded examples."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.reports.content import Cell, Section, Table, spread
from selfdistill_cli.reports.scoring import scored
from selfdistill_cli.reports.statistics import (
    LEVEL,
    Difference,
    Resampled,
    average,
    holm,
    paired_difference,
    resampled,
)
from selfdistill_cli.reports.variants import SAME_COMPUTE, Group, Study

PLAIN = "vanilla"
EQUAL_COMPUTE = "vanilla at equal compute"
FILES = {PLAIN: "differences-vanilla", EQUAL_COMPUTE: "differences-equal-compute"}

WORDS = f"""Mean ± standard deviation over seeds of each task's main metric, and the number of seeds. Differences are \
paired: the same validation examples and the same seeds. Their variance is that of a bootstrap over validation examples \
(2,000 draws) plus what the seeds add; the 95 % intervals and p-values are Student's t with Satterthwaite's degrees of \
freedom. p is corrected by Holm over all differences of this section that rest on two seeds or more. \
Bold: better, with a corrected p below {LEVEL}; ▼: worse, likewise significant. One seed is neither: it says nothing about \
other seeds. Vanilla at equal compute is the vanilla run of the same model, task and schedule whose training forwards as \
many examples, within {SAME_COMPUTE:.0%}."""


@dataclass(frozen=True)
class Compared:
    """One variant against one baseline on one task, or on average (`task` None)."""

    task: str | None
    variant: str
    baseline: str
    """PLAIN or EQUAL_COMPUTE."""
    against: str
    """The baseline's variant."""
    difference: Difference
    corrected: float | None
    """p after Holm's correction; None where there is one seed."""
    metric: str
    """What both were scored by; on average, that of the first task."""

    @property
    def verdict(self) -> Literal["", "better", "worse"]:
        """What may be said of it."""
        return verdict(self.difference, self.corrected, self.metric)


def verdict(difference: Difference, corrected: float | None, metric: str) -> Literal["", "better", "worse"]:
    """Better or worse where the corrected p is below LEVEL; else nothing."""
    if corrected is None or corrected >= LEVEL:
        return ""
    return "better" if (difference.estimate > 0) == larger_is_better(metric) else "worse"


def comparable(study: Study) -> bool:
    """Whether a mean over several tasks says something: of all their metrics more is better, or of all less."""
    directions = {larger_is_better(group.first.results["metric"]) for group in study.groups}
    return len(study.tasks) > 1 and len(directions) == 1


def section(study: Study) -> Section | None:
    """Scores, differences, and what was put together in them."""
    if not study.groups:
        return None
    compared, left_out = compare(study)
    parts: list[str | Table] = [_scores(study, compared)]
    for baseline in FILES:
        rows = [c for c in compared if c.baseline == baseline]
        if rows:
            parts.append(_differences(baseline, rows))
        else:
            parts.append(f"No difference to {baseline}: there is no such run beside these, or no seed in common.")
    parts += left_out
    parts.append(_pooled(study))
    return Section("Which method is better?", WORDS, parts)


def compare(study: Study) -> tuple[list[Compared], list[str]]:
    """Every difference to a baseline, Holm-corrected together; and in words what could not be compared."""
    others = {
        (baseline, group.task, group.variant): other
        for group in study.groups
        for baseline, other in ((PLAIN, study.baseline(group)), (EQUAL_COMPUTE, study.equal_compute_baseline(group)))
        if other is not None and other is not group
    }
    needed = {(task, v) for (_, task, variant), other in others.items() for v in (variant, other.variant)}
    samples = {key: found for task in study.tasks for key, found in _samples(study.of_task(task), needed).items()}
    found: list[tuple[str | None, str, str, str, Difference]] = []
    left_out: dict[str, None] = {}
    for baseline in FILES:
        for variant in study.variants:
            of_tasks = []
            for task in study.tasks:
                other = others.get((baseline, task, variant))
                if other is None:
                    continue
                mine, theirs = samples[task, variant], samples[task, other.variant]
                difference = paired_difference(mine, theirs) if mine and theirs else None
                if difference is None:
                    why = "they have no seed in common, or other validation examples"
                    if not mine or not theirs:
                        why = f"{other.first.results['metric']} cannot be told again from resampled predictions"
                    left_out[f"{variant} on {task} is not compared with {baseline}: {why}."] = None
                    continue
                of_tasks.append((other.variant, difference))
                found.append((task, variant, baseline, other.variant, difference))
            if comparable(study) and len(of_tasks) == len(study.tasks):
                against = ", ".join(dict.fromkeys(name for name, _ in of_tasks))
                found.append((None, variant, baseline, against, average([one for _, one in of_tasks])))
    # Where one run is both baselines, its difference is one test.
    tested = {(task, variant, against): d.p for task, variant, _, against, d in found if d.seeds > 1}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    metrics = {task: str(study.of_task(task)[0].first.results["metric"]) for task in study.tasks}
    of = [metrics[task] if task is not None else next(iter(metrics.values())) for task, *_ in found]
    return [
        Compared(*one, corrected.get((one[0], one[1], one[3])), metric) for one, metric in zip(found, of, strict=True)
    ], list(left_out)


def _samples(groups: list[Group], needed: set[tuple[str, str]]) -> dict[tuple[str, str], dict[int, Resampled]]:
    """By task and variant of these groups of one task, of those that are needed: each seed's resampled metric.

    Empty where the metric is no function of sums over examples.
    """
    groups = [group for group in groups if (group.task, group.variant) in needed]
    ready = {
        (group.variant, seed): one
        for group in groups
        for seed, run in group.runs.items()
        if (one := scored(run.path / "predictions.parquet", str(run.results["metric"]))) is not None
    }
    drawn = resampled(ready)
    return {
        (group.task, group.variant): {seed: one for (name, seed), one in drawn.items() if name == group.variant}
        for group in groups
    }


def _scores(study: Study, compared: list[Compared]) -> Table:
    verdicts = {(c.task, c.variant): c.verdict for c in compared if c.baseline == PLAIN}
    several = comparable(study)
    rows: list[list[str | Cell]] = []
    for variant in study.variants:
        groups = [study.group(task, variant) for task in study.tasks]
        cells: list[str | Cell] = [variant]
        for task, group in zip(study.tasks, groups, strict=True):
            text = f"{spread(group.scores)} ({len(group.runs)})" if group else "– (no run)"
            cells.append(Cell(text, verdicts.get((task, variant), "")))
        if several:
            present = [group for group in groups if group]
            whole = len(present) == len(study.tasks)
            mean = f"{fmean(fmean(g.scores) for g in present):.4f}" if whole else f"– ({len(present)} of {len(groups)})"
            cells.append(Cell(mean, verdicts.get((None, variant), "")))
        cells.append(_cost([group for group in groups if group]))
        rows.append(cells)
    average_of = ["average over tasks"] if several else []
    how = " The average is the unweighted mean of the tasks' means, given where no task is missing." if several else ""
    return Table(
        "scores",
        "Score on the validation set, mean ± standard deviation (seeds). Bold: significantly better than vanilla; "
        f"▼: significantly worse.{how}",
        ["method", *[_titled(study, task) for task in study.tasks], *average_of, "examples forwarded (+ teacher)"],
        rows,
    )


def _titled(study: Study, task: str) -> str:
    results = next(g for g in study.groups if g.task == task).first.results
    less = "" if larger_is_better(results["metric"]) else " (less is better)"
    majority = results.get("majority")
    beside = f", always '{majority['label']}' {majority['score']:.4f}" if majority else ""
    return f"{task}, {results['metric']}{less}{beside}" + (" [synthetic]" if results.get("synthetic") else "")


def _cost(groups: list[Group]) -> str:
    forwarded = sorted({int(run.results["examples_forwarded"]) for g in groups for run in g.runs.values()})
    taught = {
        int((run.results.get("teacher") or {}).get("examples_forwarded") or 0)
        for g in groups
        for run in g.runs.values()
    }
    words = f"{forwarded[0]:,}" + (f" – {forwarded[-1]:,}" if len(forwarded) > 1 else "")
    return words + (f" (+ {max(taught):,})" if max(taught) else "")


def _differences(baseline: str, rows: list[Compared]) -> Table:
    def told(c: Compared) -> list[str | Cell]:
        low, high = c.difference.interval
        return [
            c.variant,
            c.task or "average over tasks",
            c.against,
            Cell(f"{c.difference.estimate:+.4f}", c.verdict),
            f"{low:+.4f} … {high:+.4f}",
            str(c.difference.seeds),
            _p(c.difference.p),
            "one seed" if c.corrected is None else _p(c.corrected),
        ]

    header = ["method", "task", "baseline", "difference", "95 % interval", "seeds", "p", "p (Holm)"]
    caption = f"Difference to {baseline}. Bold: significantly better; ▼: significantly worse."
    return Table(FILES[baseline], caption, header, [told(c) for c in rows])


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _pooled(study: Study) -> Table:
    """Which runs stand behind each number."""
    rows = [
        [
            group.variant,
            group.task,
            ", ".join(map(str, group.runs)),
            spread([run.results["seconds"] for run in group.runs.values()], 0),
            ", ".join(run.path.name for run in group.runs.values()),
        ]
        for variant in study.variants
        for group in study.groups
        if group.variant == variant
    ]
    caption = "What was put together: runs that differ in nothing but their seed, by their keys."
    return Table("pooled", caption, ["method", "task", "seeds", "seconds a run", "runs"], rows)
