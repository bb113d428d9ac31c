"""What a sweep ends with: means over seeds, the list of jobs, what failed, a search's best trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from selfdistill_cli.runs.results import objective
from selfdistill_cli.sweeps.plan import SEED, Plan, name_of, value_of, varied_settings
from selfdistill_cli.sweeps.records import Record
from selfdistill_cli.system.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from selfdistill_cli.tracking.tables import Column

FOLD = "task.fold"
REPEATED = (SEED, FOLD)
"""What makes no other setting of a job: it is the same measurement once more."""
ABSENT = "–"


def print_summary(
    console: Console, records: Sequence[Record], direction: str | None = None, plan: Plan | None = None
) -> None:
    """Show the tables of a sweep's jobs. `direction`: maximize or minimize, if a sweeper searched for the best.

    `plan`: the sweep's; of trials that chose settings it says which jobs those are, and no mean counts them.
    """
    from selfdistill_cli.tracking.tables import print_table
    from selfdistill_cli.tracking.terminal import say

    metric = _shared_metric(records)
    trials = 0 if plan is None else plan.trials
    means = means_over_seeds([record for record in records if record["job"] > trials], _varied(records))
    if means:
        of = f", each with the best of its trials ({trials} in all, which count in no mean)" if trials else ""
        over = (
            "folds and seeds"
            if any(name_of(word) == FOLD for record in records for word in record["overrides"])
            else "seeds"
        )
        print_table(console, f"{metric or 'score'}: mean ± standard deviation over {over}{of}", means)
        console.print()
    counts = Counter(record["status"] for record in records)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    print_table(console, f"{counted(len(records), 'job')}: {told}", jobs(records, plan))
    for record in records:
        if record["status"] == "failed":
            say(console, f"job {record['job']} failed: {record['reason']}")
    if any(record.get("selected_on") == "validation" for record in records):
        say(console, "Epochs were chosen on the reported split (task.selection=held_out chooses them elsewhere).")
    best = best_trial(records, direction) if direction else None
    if best is not None:
        settings = " ".join(word for word in best["overrides"] if name_of(word) in _varied(records))
        held_out = "selection_score" in best
        on = f" held out ({best['score']:.4f} on validation)" if held_out else " on the reported split"
        say(console, f"Best trial: job {best['job']}, {best['metric']} {objective(best):.4f}{on}: {settings}")


def means_over_seeds(records: Sequence[Record], varied: Sequence[str] | None = None) -> list[Column]:
    """A row for each setting of everything but what is repeated (REPEATED); none if no two jobs differ by that alone.

    Of a round of self-training that fewer runs reached than there are, their number stands behind the mean. The standard
    deviation is the sample's (n - 1); a run that several jobs asked for counts once. `varied`: the settings that are shown;
    None: those in which these jobs differ.
    """
    from selfdistill_cli.tracking.tables import Column

    groups: dict[frozenset[str], list[Record]] = {}
    for record in records:
        groups.setdefault(frozenset(word for word in record["overrides"] if name_of(word) not in REPEATED), []).append(
            record
        )
    if all(len(group) < 2 for group in groups.values()):
        return []
    metric = _shared_metric(records)
    scores, seeds = [], []
    by_round: dict[str, list[str]] = {name: [] for name in names_of_rounds(records)}
    for group in groups.values():
        runs = {record["key"]: record for record in group if record["status"] != "failed"}
        values = [record["score"] for record in runs.values()]
        spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
        name = "" if metric or not values else next(iter(runs.values()))["metric"] + " "
        scores.append(f"{name}{mean(values):.4f}{spread}" if values else ABSENT)
        for name, cells in by_round.items():
            found = [of[name] for of in map(scores_by_round, runs.values()) if name in of]
            # In the others nothing joined, or it was not asked for.
            fewer = f" ({len(found)})" if len(found) < len(values) else ""
            cells.append(f"{mean(found):.4f}{fewer}" if found else ABSENT)
        failed = sum(record["status"] == "failed" for record in group)
        seeds.append(f"{len(values)} of {len(values) + failed}" if failed else str(len(values)))
    firsts = [group[0] for group in groups.values()]
    varied = [name for name in (_varied(records) if varied is None else varied) if name not in REPEATED]
    return [
        *columns_of_settings([record["overrides"] for record in firsts], varied),
        Column(metric or "score", scores, right=True),
        *(Column(name, cells, right=True, leaves=1) for name, cells in by_round.items()),
        Column("runs" if FOLD in _varied(records) else "seeds", seeds, right=True),
    ]


def jobs(records: Sequence[Record], plan: Plan | None = None) -> list[Column]:
    """A row for each job: the score first, so that nothing can push it out of the window. `plan`: the sweep's."""
    from selfdistill_cli.tracking.tables import Column
    from selfdistill_cli.tracking.terminal import duration

    metric = _shared_metric(records)
    scores, epochs, examples, selected = [], [], [], []
    for record in records:
        failed = record["status"] == "failed"
        scores.append("failed" if failed else f"{'' if metric else record['metric'] + ' '}{record['score']:.4f}")
        held_out = record.get("selection_score")
        selected.append(ABSENT if held_out is None else f"{held_out:.4f}")
        epochs.append(ABSENT if failed else f"{record['best_epoch']:.4g}")
        examples.append(ABSENT if failed else f"{record['examples_forwarded']:,}")
    stages = ["" if plan is None else plan.stage(record["job"] - 1) for record in records]
    by_round = list(map(scores_by_round, records))
    return [
        Column("job", [str(record["job"]) for record in records], right=True),
        *([Column("stage", stages)] if any(stages) else []),
        Column(metric or "score", scores, right=True),
        *(
            Column(
                name, [f"{found[name]:.4f}" if name in found else ABSENT for found in by_round], right=True, leaves=6
            )
            for name in names_of_rounds(records)
        ),
        *([Column("held out", selected, right=True, leaves=5)] if set(selected) != {ABSENT} else []),
        *columns_of_settings([record["overrides"] for record in records], _varied(records)),
        Column("best epoch", epochs, right=True, leaves=3),
        Column("examples", examples, right=True, leaves=1),
        Column("time", [duration(record["seconds"]) for record in records], right=True, leaves=4),
        Column("status", [record["status"] for record in records], leaves=2),
    ]


def scores_by_round(record: Record) -> dict[str, float]:
    """Of a job that was rounds of self-training: the score of each by its name, `round 0` first."""
    return {f"round {one['round']}": one["score"] for one in record.get("rounds", [])}


def names_of_rounds(records: Sequence[Record]) -> list[str]:
    """The rounds of all jobs, in their order."""
    return max((list(scores_by_round(record)) for record in records), key=len, default=[])


def best_trial(records: Sequence[Record], direction: str) -> Record | None:
    """The job that is best by what a sweep chooses by, in a search for the largest or the smallest."""
    scored = [record for record in records if record["status"] != "failed"]
    choose = min if direction == "minimize" else max
    return choose(scored, key=objective, default=None)


def _varied(records: Sequence[Record]) -> list[str]:
    return varied_settings([record["overrides"] for record in records])


def _shared_metric(records: Sequence[Record]) -> str | None:
    """The metric of all jobs, or None if they differ."""
    metrics = {record["metric"] for record in records if "metric" in record}
    return metrics.pop() if len(metrics) == 1 else None


def columns_of_settings(jobs: Sequence[Sequence[str]], names: Sequence[str]) -> list[Column]:
    """A column for each of these settings, named by as much of its name as tells it from the others.

    `jobs`: their overrides.
    """
    from selfdistill_cli.tracking.tables import Column

    columns = []
    for name in names:
        values = [{name_of(word): value_of(word) for word in job}.get(name, ABSENT) for job in jobs]
        columns.append(Column(_short(name, names), values))
    return columns


def _short(name: str, names: Sequence[str]) -> str:
    """`tau` of `method.tau`, unless another one ends like it."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        ending = ".".join(parts[-count:])
        if [other for other in names if f".{other}".endswith(f".{ending}")] == [name]:
            return ending
    return name
