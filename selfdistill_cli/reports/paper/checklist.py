"""The reproducibility checklist: the questions that ACL and NeurIPS ask, in our words, and what the runs say to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from selfdistill_cli.reports.origins import ROUND
from selfdistill_cli.reports.paper.facts import (
    UNKNOWN,
    commands,
    commit,
    counted,
    data_source,
    each,
    environment,
    hardware,
    hours,
    in_words,
    operations,
    result,
    searched,
    seeds,
    selection,
    setting,
    told,
    validation_examples,
)
from selfdistill_cli.reports.paper.words import STATISTICS
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.variants import Study, each_once
from selfdistill_cli.system.words import listed

Answers = list[tuple[str, str]]
"""Questions and their answers."""
WITHOUT = {
    "drop": "rows without a label, text or answer left out",
    "keep": "rows with a blank text kept",
}
"""What `task.missing` did, where it refused nothing."""
YOURS = (
    "Are the licences of data, models and code stated, and is this use allowed by them?",
    "Do the data name or offend people, and what was done about it? Did people consent?",
    "Who are the speakers or writers of the data: languages, domains, groups?",
    "What are the limits of the claims, and what harm could the work do?",
    "How much energy was used, and what did it emit?",
    "Was an AI assistant used in research, coding or writing?",
)
"""What no run can know."""


def checklist(
    studies: Sequence[Study], others: Sequence[Run], alone: Sequence[Study] = (), twice: Sequence[tuple[Run, Run]] = ()
) -> Answers:
    """Questions with answers. Beside the runs of the studies there are `others`, which did not finish, those `alone`,
    and those that were found `twice`."""
    runs = each_once(studies)
    return [
        ("Which models were trained, and how large are they?", told(runs, _model)),
        ("Which data were used, from where, and how were they split?", _by_study(studies, _data)),
        ("Is the version of data and starting weights fixed?", _fingerprints(runs)),
        ("Was anything done to the data?", _by_study(studies, _preparation)),
        (
            "Are all settings of training given?",
            f"In the table of settings, and in each run's config.yaml ({len(runs):,} runs).",
        ),
        ("How were settings chosen: which values, how many trials?", _by_study(studies, _search)),
        (
            "Which data selected the reported model, and were they kept apart from those reported?",
            _by_study(studies, selection),
        ),
        ("How many times was each experiment run?", "With " + _by_study(studies, seeds)),
        ("What do the scores and error bars mean, and how was significance tested?", STATISTICS),
        ("How much computation did it take, and on what?", _compute(runs)),
        ("What stood out in the runs?", _by_study(studies, _remarks)),
        ("Were there runs that are not reported?", _unreported(others, len(alone), len(twice))),
        ("Is the code available, and in which version?", _code(runs)),
        ("Which commands made the results?", _commands(runs)),
        ("Would the same command give the same numbers?", _determinism(runs)),
        *((question, f"{UNKNOWN.capitalize()}. You have to answer this.") for question in YOURS),
    ]


def _by_study(studies: Sequence[Study], answer: Callable[[Study], str]) -> str:
    """One answer if all studies give the same; else each answer with the studies that it is of."""
    answers: dict[str, list[str]] = {}
    for study in studies:
        answers.setdefault(answer(study).rstrip("."), []).append(study.name)
    if len(answers) == 1:
        return f"{next(iter(answers))}."
    return " ".join(
        f"({number}) {words}: {'; '.join(of)}." for number, (words, of) in enumerate(answers.items(), start=1)
    )


def _model(run: Run) -> str:
    of = run.results.get("parameters")
    return (
        f"{run.results.get('model', run.settings.get('model.name'))} ({f'{of:,} parameters' if of else 'size unknown'})"
    )


def _data(study: Study) -> str:
    runs = study.runs
    return (
        f"{told(runs, data_source)}; training split {told(runs, setting('task.train'))}, "
        f"{told(runs, result('train_examples'))} examples; scored on {told(runs, validation_examples)} examples"
    )


def _fingerprints(runs: Sequence[Run]) -> str:
    known = [run for run in runs if run.results.get("fingerprints")]
    if not known:
        return UNKNOWN
    return (
        f"Every run records SHA-256 fingerprints of data, starting weights and tokenizer (results.json, run.json; "
        f"{len(known):,} of {len(runs):,} runs), and does not go on with others."
    )


def _preparation(study: Study) -> str:
    runs = study.runs
    cut = [one for one in each(runs, result("truncated_examples")) if one != "0"]
    said = [f"{listed(cut)} training texts cut to {told(runs, setting('task.max_length'))} tokens"] if cut else []
    for key, words in (
        ("task.train_examples", "a seeded subset of {} training examples"),
        ("task.label_noise", "labels replaced with probability {}"),
        ("task.weight", "training examples weighted by the column {}"),
        ("task.added", "training examples of a file added ({})"),
        (ROUND, "answers added that the model of the round before drew to training problems ({})"),
    ):
        values = [one for one in each(runs, setting(key)) if one != "0"]
        values = [Path(one).name for one in values] if key == "task.added" else values
        said += [words.format(listed(values))] if values else []
    weights = listed(each(runs, _class_weights))
    said += [f"classes weighted in training ({weights})"] if weights else []
    said += [WITHOUT[one] for one in each(runs, setting("task.missing")) if one in WITHOUT]
    return "; ".join(said) or "Nothing beside tokenizing"


def _class_weights(run: Run) -> str | None:
    """`balanced`, or `spam 2, ham 1`."""
    key = "task.class_weights"
    given = {name: value for name, value in run.settings.items() if name.startswith(f"{key}.") and value is not None}
    named = ", ".join(f"{name.removeprefix(f'{key}.')} {in_words(value)}" for name, value in given.items())
    return named or run.settings.get(key) or None


def _search(study: Study) -> str:
    runs = study.runs
    found = searched(study)
    if not found:
        return f"No setting was varied among these runs; whether it was before is {UNKNOWN.split(':')[0]}"
    return f"{len(study.groups):,} settings in {len(runs):,} runs, all of them reported: {'; '.join(found)}. By which score one was chosen is for you to say"


def _remarks(study: Study) -> str:
    return "; ".join(study.remarks) or "Nothing that they record"


def _compute(runs: Sequence[Run]) -> str:
    flops = operations(runs)
    place = hardware(runs) or f"a machine that is {UNKNOWN.split(':')[0]}"
    counted = flops or f"operations {UNKNOWN.split(':')[0]}"
    return f"{hours(runs)} of training on {place}; {counted}."


def _unreported(others: Sequence[Run], alone: int, twice: int) -> str:
    counts = listed([f"{sum(run.status == s for run in others)} {s}" for s in sorted({run.status for run in others})])
    told = {
        f"not finished or not readable ({counts})": len(others),
        "found twice, with the settings and seed of a run that counts": twice,
        "alone, with nothing to be compared with": alone,
    }
    found = [f"{counted(number, 'run')} {what}" for what, number in told.items() if number]
    said = f"In these folders, and in no table of scores: {'; '.join(found)}." if found else "Not in these folders."
    return f"{said} Of runs elsewhere, or deleted, nothing is known."


def _code(runs: Sequence[Run]) -> str:
    changed = any(environment("git_changes")(run) for run in runs)
    commits = each(runs, commit)
    if not commits:
        return f"sdrun {told(runs, environment('selfdistill_cli'))}; commit {UNKNOWN.split(':')[0]}."
    return f"sdrun {told(runs, environment('selfdistill_cli'))}, commit {listed(commits)}" + (
        ", with changes that were not committed (environment.json lists the files)." if changed else "."
    )


def _commands(runs: Sequence[Run]) -> str:
    found = commands(runs)
    more = f"; and {len(found) - 8} more, in each run's environment.json" if len(found) > 8 else ""
    return ("; ".join(found[:8]) + more) or UNKNOWN


def _determinism(runs: Sequence[Run]) -> str:
    return (
        "On the same versions, processor and number of threads, yes: every draw of a run comes from its seed, and an "
        f"interrupted run goes on bit for bit. Precision: {told(runs, result('precision'))}; processes: "
        f"{told(runs, result('processes'))}."
    )
