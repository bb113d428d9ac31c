"""Main table: methods by tasks, differences to vanilla and to vanilla on as many forwarded examples."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from selfdistill_cli.reports.content import Cell, Section, Table, spread
from selfdistill_cli.reports.scoring import Scored, scored
from selfdistill_cli.reports.statistics import LEVEL, Difference, average, holm, paired_difference
from selfdistill_cli.reports.variants import Group, Study

BASELINES = {"vanilla": False, "vanilla, matched compute": True}
"""Whether the baseline has `schedule.match_compute`."""

WORDS = f"""Mean ± standard deviation over seeds of each task's main metric, and the number of seeds. Differences are \
paired: the same validation examples and the same seeds. Their variance is that of a bootstrap over validation examples \
(2,000 draws) plus what the seeds add; the 95 % intervals and p-values are Student's t with Satterthwaite's degrees of \
freedom. p is corrected by Holm over all differences of all tables of this section that rest on two seeds or more. \
Bold: corrected p below {LEVEL}, never on one seed, which says nothing about other seeds."""


@dataclass(frozen=True)
class Compared:
    """One variant against one baseline on one task, or on average (`task` None)."""

    task: str | None
    variant: str
    baseline: str
    difference: Difference
    corrected: float | None
    """p after Holm's correction; None where there is one seed."""

    @property
    def significant(self) -> bool:
        """Whether it may be bold."""
        return self.corrected is not None and self.corrected < LEVEL


def section(study: Study) -> Section | None:
    """Scores, differences, and what was put together in them."""
    if not study.groups:
        return None
    compared, left_out = compare(study)
    parts: list[str | Table] = [_scores(study, compared)]
    for baseline in BASELINES:
        rows = [c for c in compared if c.baseline == baseline]
        if rows:
            parts.append(_differences(study, baseline, rows))
        else:
            parts.append(f"No difference to {baseline}: there is no such run beside these, or no seed in common.")
    parts += left_out
    parts.append(_pooled(study))
    return Section("Which method is better?", WORDS, parts)


def compare(study: Study) -> tuple[list[Compared], list[str]]:
    """Every difference to a baseline, Holm-corrected together; and in words what could not be compared."""
    found: list[tuple[str | None, str, str, Difference]] = []
    left_out: dict[str, None] = {}
    for baseline, matched in BASELINES.items():
        for variant in study.variants:
            of_tasks = []
            for task in study.tasks:
                group = study.group(task, variant)
                other = study.baseline(group, matched) if group else None
                if group is None or other is None or other is group:
                    continue
                if matched and study.baseline(group, matched=False) is group:
                    continue  # vanilla against its matched self is there already, the other way round
                difference, why = _difference(group, other)
                if difference is None:
                    left_out[f"{variant} on {task} is not compared with {baseline}: {why}."] = None
                    continue
                of_tasks.append(difference)
                found.append((task, variant, baseline, difference))
            if len(study.tasks) > 1 and len(of_tasks) == len(study.tasks):
                found.append((None, variant, baseline, average(of_tasks)))
    counted = [place for place, one in enumerate(found) if one[3].seeds > 1]
    corrected = dict(zip(counted, holm([found[place][3].p for place in counted]), strict=True))
    return [Compared(*one, corrected.get(place)) for place, one in enumerate(found)], list(left_out)


def _difference(group: Group, other: Group) -> tuple[Difference | None, str]:
    mine, theirs = _scored(group), _scored(other)
    if mine is None or theirs is None:
        return None, f"{group.first.results['metric']} is no sum over examples that a bootstrap could weigh"
    difference = paired_difference(mine, theirs)
    return difference, "they have no seed in common, or other validation examples"


def _scored(group: Group) -> dict[int, Scored] | None:
    metric = str(group.first.results["metric"])
    made = {seed: scored(run.path / "predictions.parquet", metric) for seed, run in group.runs.items()}
    return {seed: one for seed, one in made.items() if one is not None} if all(made.values()) else None


def _scores(study: Study, compared: list[Compared]) -> Table:
    better = {(c.task, c.variant) for c in compared if c.significant and c.baseline == "vanilla"}
    several = len(study.tasks) > 1
    rows: list[list[str | Cell]] = []
    for variant in study.variants:
        groups = [study.group(task, variant) for task in study.tasks]
        cells: list[str | Cell] = [variant]
        for task, group in zip(study.tasks, groups, strict=True):
            text = f"{spread(group.scores)} ({len(group.runs)})" if group else "– (no run)"
            cells.append(Cell(text, bold=(task, variant) in better))
        if several:
            present = [group for group in groups if group]
            whole = len(present) == len(study.tasks)
            mean = f"{fmean(fmean(g.scores) for g in present):.4f}" if whole else f"– ({len(present)} of {len(groups)})"
            cells.append(Cell(mean, bold=(None, variant) in better))
        cells.append(_cost([group for group in groups if group]))
        rows.append(cells)
    average_of = ["average over tasks"] if several else []
    how = " The average is the unweighted mean of the tasks' means, given where no task is missing." if several else ""
    return Table(
        "scores",
        f"Score on the validation set, mean ± standard deviation (seeds). Bold: significantly different from vanilla.{how}",
        ["method", *[_titled(study, task) for task in study.tasks], *average_of, "examples forwarded (+ teacher)"],
        rows,
    )


def _titled(study: Study, task: str) -> str:
    results = next(g for g in study.groups if g.task == task).first.results
    return f"{task}, {results['metric']}" + (" [synthetic]" if results.get("synthetic") else "")


def _cost(groups: list[Group]) -> str:
    forwarded = sorted({int(run.results["examples_forwarded"]) for g in groups for run in g.runs.values()})
    taught = {
        int(run.results.get("teacher", {}).get("examples_forwarded") or 0) for g in groups for run in g.runs.values()
    }
    words = f"{forwarded[0]:,}" + (f" – {forwarded[-1]:,}" if len(forwarded) > 1 else "")
    return words + (f" (+ {max(taught):,})" if max(taught) else "")


def _differences(study: Study, baseline: str, rows: list[Compared]) -> Table:
    def told(c: Compared) -> list[str | Cell]:
        low, high = c.difference.interval
        corrected = "one seed" if c.corrected is None else _p(c.corrected)
        return [
            c.variant,
            c.task or "average over tasks",
            Cell(f"{c.difference.estimate:+.4f}", bold=c.significant),
            f"{low:+.4f} … {high:+.4f}",
            str(c.difference.seeds),
            _p(c.difference.p),
            Cell(corrected, bold=c.significant),
        ]

    name = "differences-" + ("matched" if BASELINES[baseline] else "vanilla")
    header = ["method", "task", "difference", "95 % interval", "seeds", "p", "p (Holm)"]
    return Table(name, f"Difference to {baseline}.", header, [told(c) for c in rows])


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
