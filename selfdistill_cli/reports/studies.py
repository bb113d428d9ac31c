"""Which runs can be compared with each other: a folder's runs become studies, named by what they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from selfdistill_cli.config.inputs import FILES
from selfdistill_cli.reports.content import slugs
from selfdistill_cli.reports.naming import identity, names, sortable, told_apart
from selfdistill_cli.reports.older import completed, default_settings, models_of_conf
from selfdistill_cli.reports.origins import ROUND
from selfdistill_cli.reports.roles import Served, as_served, only_served
from selfdistill_cli.reports.runs import Run, Settings
from selfdistill_cli.reports.variants import BASELINE, Group, Study
from selfdistill_cli.system.words import counted

BUDGET = tuple(f"schedule.{name}" for name in ("epochs", "max_steps", "evaluate_every", "patience", "keep"))
"""How long training lasts and which epoch counts: what differs here is another study. What else a schedule says (the
learning rate) may be searched within one."""

SIZE = "task.train_examples"
"""The setting in which the studies of a learning curve differ."""
PATHS = tuple(f"task.{name}" for name in FILES)
"""Settings that name files; how they are typed makes no other study."""
DATA, WEIGHTS = "task.data", "model.weights"
"""The settings that tell runs apart which were asked for alike and read other data, or started from other weights: files
that were changed meanwhile."""


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
    finished = told_apart_by_content([one for run in runs if run.finished for one in completed(run).in_all_words()])
    by_settings: dict[str, dict[int, Run]] = defaultdict(dict)
    duplicates: dict[Path, tuple[Run, Run]] = {}
    for run in finished:
        of_seed = by_settings[identity(run.settings)]
        if run.seed in of_seed:
            duplicates[run.path] = of_seed[run.seed], run
        else:
            of_seed[run.seed] = run
    groups = [dict(sorted(of_seed.items())) for of_seed in by_settings.values()]
    only = only_served(groups)
    served = as_served([group for group, is_served in zip(groups, only, strict=True) if is_served], finished)
    made = _studies([group for group, is_served in zip(groups, only, strict=True) if not is_served])
    several = [study for study in made if study.size > 1]
    alone = [study for study in made if study.size == 1] if several else []
    return Gathered(several or made, alone, served, list(duplicates.values()))


def told_apart_by_content(runs: Sequence[Run]) -> list[Run]:
    """The same runs; files and models of one's own count by content, as in a key, however their paths were typed.

    Those that read the same have the path of the first of them. Those that would be of one study, of whatever size, and
    did not read the same data, or did not start from the same weights, have the fingerprint of these as a setting. A run
    of an earlier version, which took no fingerprint, stands beside all others as long as these agree.
    """
    runs = _spelled_alike(runs, PATHS, _files)
    runs = _spelled_alike(runs, ("model.name",), _own_model)
    return _told_apart(_told_apart(runs, DATA, _data), WEIGHTS, _weights)


def _spelled_alike(runs: Sequence[Run], keys: Sequence[str], content: Callable[[Run], str]) -> list[Run]:
    """With the same paths where the content is the same; where it is not known, as they were typed."""

    def typed(run: Run) -> tuple[Any, ...]:
        return tuple(run.settings.get(key) for key in keys)

    unknown = {typed(run) for run in runs if not content(run)}
    spelling: dict[str, tuple[Any, ...]] = {}
    for run in sorted(runs, key=lambda run: typed(run) not in unknown):  # so that these stay beside the others
        spelling.setdefault(content(run), typed(run))
    return [
        replace(run, settings={**run.settings, **dict(zip(keys, spelling[own], strict=True))})
        if (own := content(run))
        else run
        for run in runs
    ]


def _told_apart(runs: Sequence[Run], setting: str, fingerprint: Callable[[Run], str]) -> list[Run]:
    def study(run: Run) -> str:
        """Of whatever size: a curve over sizes is of the same data and weights, too."""
        settings = what_is_constant(completed(run).settings)
        return identity({key: value for key, value in settings.items() if key not in (setting, SIZE)})

    known: dict[str, set[str]] = defaultdict(set)
    studies = [study(run) for run in runs]
    for run, own in zip(runs, studies, strict=True):
        known[own] |= {read} if (read := fingerprint(run)) else set()
    return [
        replace(run, settings={**run.settings, setting: read[:8]})
        if len(known[own]) > 1 and (read := fingerprint(run))
        else run
        for run, own in zip(runs, studies, strict=True)
    ]


def _fingerprint(run: Run, of: str) -> str:
    """Of `data`, `weights` or `tokenizer`; nothing where none is known."""
    known = run.results.get("fingerprints")
    return str(known.get(of) or "") if isinstance(known, dict) else ""


def _data(run: Run) -> str:
    """The fingerprint of what it read, the same for all seeds."""
    return _fingerprint(run, "data")


def _files(run: Run) -> str:
    """Its files by what is in them and how they are read; nothing where it named none."""
    paths = [run.settings.get(key) for key in PATHS]
    forms = [path and Path(str(path)).suffix for path in paths]
    return f"{_data(run)} {forms}" if any(paths) and _data(run) else ""


def _weights(run: Run) -> str:
    """The fingerprint of the weights that it started from, where they are one's own and the same for all seeds."""
    given = run.start is not None or run.settings.get("model.name") in models_of_conf()
    return "" if given else _fingerprint(run, "weights")


def _own_model(run: Run) -> str:
    """A model of one's own by its weights, tokenizer and name; its configuration, which has no fingerprint, goes by the name."""
    name = Path(str(run.settings.get("model.name"))).name
    return f"{_weights(run)} {_fingerprint(run, 'tokenizer')} {name}" if _weights(run) else ""


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
    """A name for each study, by its first run that is no round of self-training, which learned from more; where two were alike, followed by the settings that set them apart."""
    runs = [min(map(_any, groups), key=lambda run: ROUND in run.settings) for groups in studies]
    return told_apart([_name(run) for run in runs], [what_is_constant(run.settings) for run in runs])


def _name(run: Run) -> str:
    task = _task(run)
    examples = run.results.get("train_examples")
    steps, epochs = run.settings.get("schedule.max_steps"), run.settings.get("schedule.epochs")
    length = counted(steps, "step") if steps is not None else counted(float(epochs or 0), "epoch")
    return " · ".join(
        [task, _model(run), *([counted(examples, "example")] if examples else []), length]
    )  # fmt: skip


def _task(run: Run) -> str:
    """The file that it learned from, else its task; and the file that it was scored on, where that is all of its own."""
    path, scored_on = (run.settings.get(f"task.{name}") for name in ("path", "validation_path"))
    if path:
        return Path(path).name
    return f"{run.task}, scored on {Path(scored_on).name}" if scored_on else run.task


def _model(run: Run) -> str:
    """Of a run that starts from another one's weights, what that was, whatever its seed."""
    named = run.settings.get("model.name")
    return str(named if run.start is not None else run.results.get("model", named))
