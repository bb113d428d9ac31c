"""Which runs can be compared with each other: a folder's runs become studies, named by what they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from selfdistill_cli.reports.content import slugs
from selfdistill_cli.reports.naming import identity, names, sortable, told_apart
from selfdistill_cli.reports.older import completed, default_settings
from selfdistill_cli.reports.roles import Served, as_served, only_served
from selfdistill_cli.reports.runs import Run, Settings
from selfdistill_cli.reports.variants import BASELINE, Group, Study
from selfdistill_cli.system.words import counted

BUDGET = tuple(f"schedule.{name}" for name in ("epochs", "max_steps", "evaluate_every", "patience", "keep"))
"""How long training lasts and which epoch counts: what differs here is another study. What else a schedule says (the
learning rate) may be searched within one."""

DATA = "task.data"
"""The setting that tells runs apart which were asked for alike and read other data: a file that was changed meanwhile."""


@dataclass(frozen=True)
class Gathered:
    """The finished runs of a folder, each where it belongs."""

    studies: list[Study]
    alone: list[Study]
    """Runs beside which there is no other of their study; where all are so, they are studies."""
    served: list[Served]
    """Runs that were made for others: teachers, earlier generations and rounds."""
    duplicates: list[tuple[Run, Run]]
    """Runs of the same settings and seed: the one that counts, and one that does not."""


def gather(runs: Iterable[Run]) -> Gathered:
    """Studies of all finished runs: those with an answer first. Whatever did not finish is passed over."""
    finished = told_apart_by_data([completed(run) for run in runs if run.finished])
    by_settings: dict[str, dict[int, Run]] = defaultdict(dict)
    duplicates = []
    for run in finished:
        of_seed = by_settings[identity(run.settings)]
        if run.seed in of_seed:
            duplicates.append((of_seed[run.seed], run))
        else:
            of_seed[run.seed] = run
    groups = [dict(sorted(of_seed.items())) for of_seed in by_settings.values()]
    only = only_served(groups)
    served = as_served([group for group, is_served in zip(groups, only, strict=True) if is_served], finished)
    made = _studies([group for group, is_served in zip(groups, only, strict=True) if not is_served])
    several = [study for study in made if study.size > 1]
    alone = [study for study in made if study.size == 1] if several else []
    return Gathered(several or made, alone, served, duplicates)


def told_apart_by_data(runs: Sequence[Run]) -> list[Run]:
    """The same runs; those that would be of one study and did not read the same data, by fingerprint, with that as a setting.

    A run of an earlier version, which took no fingerprint, stands beside all others as long as these agree.
    """

    def study(run: Run) -> str:
        settings = what_is_constant(completed(run).settings)
        return identity({key: value for key, value in settings.items() if key != DATA})

    known: dict[str, set[str]] = defaultdict(set)
    studies = [study(run) for run in runs]
    for run, own in zip(runs, studies, strict=True):
        known[own] |= {read} if (read := _data(run)) else set()
    return [
        replace(run, settings={**run.settings, DATA: read[:8]}) if len(known[own]) > 1 and (read := _data(run)) else run
        for run, own in zip(runs, studies, strict=True)
    ]


def _data(run: Run) -> str:
    """The fingerprint of what it read, the same for all seeds; nothing where none is known."""
    known = run.results.get("fingerprints")
    return str(known.get("data") or "") if isinstance(known, dict) else ""


def _studies(groups: list[dict[int, Run]]) -> list[Study]:
    members: dict[str, list[dict[int, Run]]] = defaultdict(list)
    for of_seed in groups:
        members[identity(what_is_constant(_any(of_seed).settings))].append(of_seed)
    methods = {_any(of_seed).method for of_seed in groups} - {BASELINE}
    found = _names(members.values())
    named = zip(found, slugs(found), members.values(), strict=True)
    made = [_study(name, own, of, (BASELINE, *sorted(methods))) for name, own, of in named]
    return sorted(made, key=_answers_first)


def _any(of_seed: dict[int, Run]) -> Run:
    return next(iter(of_seed.values()))


def what_is_constant(settings: Settings) -> Settings:
    """The settings that all runs of a study share: all but the method's and those of the schedule that are tuned."""
    return {
        key: value
        for key, value in settings.items()
        if not key.startswith("method.") and (not key.startswith("schedule.") or key in BUDGET)
    }


def _answers_first(study: Study) -> tuple[bool, int, list[tuple[int, float, str]]]:
    """Those with a difference that rests on two seeds, the largest first."""
    answered = any(
        (other := study.baseline(group)) not in (None, group) and len(set(group.runs) & set(other.runs)) > 1
        for group in study.groups
    )
    return not answered, -study.size, sortable(study.name)


def _study(name: str, own_slug: str, members: list[dict[int, Run]], methods: Sequence[str]) -> Study:
    task = name.split(" · ")[0]
    settings = [_any(of_seed).settings for of_seed in members]
    variants = names_of_variants(settings, what_is_constant(settings[0]))
    groups = [Group(task, variant, of_seed) for variant, of_seed in zip(variants, members, strict=True)]
    return Study(name, task, sorted(groups, key=_vanilla_first), methods, own_slug)


def names_of_variants(settings: Sequence[Settings], constant: Settings) -> list[str]:
    """What to call each of these settings beside the others, by what is not `constant` in them."""

    def defaults(part: Settings) -> Settings:
        return default_settings(str(part["method.name"]), str(constant.get("model.name")))

    parts = [{key: value for key, value in one.items() if key not in constant} for one in settings]
    return names(parts, "method.name", defaults)


def _vanilla_first(group: Group) -> tuple[bool, list[tuple[int, float, str]]]:
    return group.settings["method.name"] != BASELINE, sortable(group.variant)


def _names(studies: Iterable[list[dict[int, Run]]]) -> list[str]:
    """A name for each study, by its first run; where two were alike, followed by the settings that set them apart."""
    runs = [_any(groups[0]) for groups in studies]
    return told_apart([_name(run) for run in runs], [what_is_constant(run.settings) for run in runs])


def _name(run: Run) -> str:
    path = run.settings.get("task.path") or run.settings.get("task.validation_path")
    task = Path(path).name if path else run.task
    examples = run.results.get("train_examples")
    steps, epochs = run.settings.get("schedule.max_steps"), run.settings.get("schedule.epochs")
    length = counted(steps, "step") if steps is not None else counted(float(epochs or 0), "epoch")
    return " · ".join(
        [task, _model(run), *([counted(examples, "example")] if examples else []), length]
    )  # fmt: skip


def _model(run: Run) -> str:
    """Of a run that starts from another one's weights, what that was, whatever its seed."""
    named = run.settings.get("model.name")
    return str(named if run.start is not None else run.results.get("model", named))
