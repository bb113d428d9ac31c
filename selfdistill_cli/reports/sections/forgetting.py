"""Sequences of tasks: what was learned, and what was forgotten by what came after."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from selfdistill_cli.config.metrics import forgotten
from selfdistill_cli.reports.content import Section, Table, file_name, spread
from selfdistill_cli.reports.naming import ABSENT, names
from selfdistill_cli.reports.older import completed_settings
from selfdistill_cli.reports.origins import START, Chain, alike
from selfdistill_cli.reports.runs import Settings

WORDS = """Tasks trained one after the other, each from the weights of the one before; all of them are scored after each \
stage. Means over seeds ± standard deviation. Forgotten: the best score of a task before the last stage minus that after it \
(Chaudhry et al., 2018)."""


def section(chains: Sequence[Chain]) -> Section | None:
    """A matrix for each order of tasks, with all its methods."""
    if not chains:
        return None
    tables = []
    for tasks in dict.fromkeys(tuple(chain.tasks) for chain in chains):
        tables.append(_matrix(tasks, alike([chain for chain in chains if tuple(chain.tasks) == tasks])))
    return Section("What is forgotten?", WORDS, tables)


def _what_it_is(chain: Chain) -> Settings:
    """The settings of its last stage; of earlier ones what they have otherwise; and what it starts from."""
    methods = dict.fromkeys(stage.method for stage in chain.stages)
    kept = [
        {k: v for k, v in completed_settings(stage.settings).items() if k not in ("task.name", "model.name", START)}
        for stage in chain.stages
    ]
    told = dict(kept[-1])
    for number, settings in enumerate(kept[:-1], start=1):
        told |= {f"{key} of stage {number}": v for key, v in settings.items() if kept[-1].get(key, ABSENT) != v}
    first = chain.stages[0].settings
    begun = {key: first[key] for key in ("model.name", START) if key in first}
    return told | {"method.name": " then ".join(methods)} | begun


def _matrix(tasks: tuple[str, ...], groups: Sequence[Sequence[Chain]]) -> Table:
    rows = []
    for name, chains in zip(names([_what_it_is(of[0]) for of in groups], "method.name"), groups, strict=True):
        for number in range(-1, len(tasks)):
            scores = [found for chain in chains if (found := chain.scores(number)) is not None]
            if scores:
                label = "start" if number < 0 else f"after {tasks[number]}"
                cells = [spread([found[task] for found in scores]) for task in tasks]
                rows.append([name, label, *cells, str(len(scores))])
        rows.append([name, "forgotten", *(_forgotten(chains, task) for task in tasks), str(len(chains))])
    caption = f"Scores after each stage of {' → '.join(tasks)}."
    return Table(
        file_name("forgetting", " ".join(tasks)),
        caption,
        ["method", "trained on", *(f"on {t}" for t in tasks), "seeds"],
        rows,
    )


def _forgotten(chains: Sequence[Chain], task: str) -> str:
    if task == chains[0].tasks[-1]:
        return "–"
    lost = []
    for chain in chains:
        scores = [found[task] for n in range(-1, len(chain.stages)) if (found := chain.scores(n)) is not None]
        lost.append(forgotten(chain.stages[chain.tasks.index(task)].results["metric"], scores))
    return f"{fmean(lost):+.4f}" if len(lost) == 1 else spread(lost)
