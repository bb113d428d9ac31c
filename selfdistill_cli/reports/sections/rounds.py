"""Self-training: what each round drew, learned and scored, and what became of first attempts in second ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.content import Section, Table, file_name, spread
from selfdistill_cli.reports.origins import ROUND
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.variants import Study
from selfdistill_cli.system.files import read_json

WORDS = """Rounds of self-training, each trained again from the starting weights on the gold answers and what the model of the \
round before wrote; round 0 is the ordinary run. Means over seeds ± standard deviation. Right: the share of the drawn answers \
that were right. Second attempts are those at the validation problems; the last two columns are shares of all of these. Where a round \
added nothing it has no score, and the one before it stands; `1 of 3` seeds have the score that is shown."""


@dataclass(frozen=True)
class Entry:
    """One round of one seed."""

    number: int
    run: Run | None
    """None: nothing joined, so that nothing was trained."""
    about: Mapping[str, Any]
    """What was drawn for it; nothing for round 0."""


def section(studies: Sequence[Study], runs: Sequence[Run]) -> Section | None:
    """A table for each study in which there are rounds."""
    by_key = {str(run.results["key"]): run for run in runs if run.finished and run.results.get("key")}
    followed = {str(before) for run in by_key.values() if (before := _about(run).get("before"))}
    tables = []
    for study in studies:
        families: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        variants = {run.path: group.variant for group in study.groups for run in group.runs.values()}
        for run in study.runs:
            chain = _chain(run, by_key)
            name = variants.get(chain[0].path, run.method)
            own = str(run.settings.get(ROUND, "")).partition(", ")[2]
            if _about(run) and run.results.get("key") not in followed:
                how = _how(str(_about(run)["name"]), own)
                families[name, how] += [Entry(_about(one).get("round", 0), one, _about(one)) for one in chain]
            for about in _ended(run):
                drawn = f"{about['drawn'] // about['problems']} drawn at {about.get('temperature')}"
                how = _how(about["name"], own if own.startswith(drawn) else drawn)
                if not _about(run):
                    families[name, how].append(Entry(0, run, {}))
                families[name, how].append(Entry(about["round"], None, about))
        if families:
            tables.append(_table(study, families))
    return Section("What do rounds of self-training add?", WORDS, tables) if tables else None


def _about(run: Run) -> Mapping[str, Any]:
    return run.results.get("self_training") or {}


def _how(name: str, drawn: str) -> str:
    return f"{name}, {drawn}" if drawn else name


def _chain(run: Run, by_key: Mapping[str, Run]) -> list[Run]:
    """The rounds up to this run, as far as they were found."""
    chain = [run]
    while (before := by_key.get(str(_about(chain[0]).get("before")))) is not None and before not in chain:
        chain.insert(0, before)
    return chain


def _ended(run: Run) -> Iterator[Mapping[str, Any]]:
    """What was drawn by this run where none of it joined."""
    for path in sorted(run.path.glob("rounds/*/round.json")):
        about = _read(path)
        if about.get("added") == 0 and about.get("problems"):
            yield about


def _read(path: Any) -> Mapping[str, Any]:
    """What the file holds; of one that is not there or damaged, nothing."""
    try:
        return read_json(path) or {}
    except (OSError, ValueError, AssertionError, UserError):
        return {}


def _table(study: Study, families: Mapping[tuple[str, str], Sequence[Entry]]) -> Table:
    rows = [
        [method, how, *_row(number, [one for one in entries if one.number == number], _most(entries))]
        for (method, how), entries in families.items()
        for number in sorted({one.number for one in entries})
    ]
    header = ["method", "self-training", "round", "score", "right", "added"]
    header += ["second attempt", "wrong → right", "right → wrong", "seeds"]
    kept = [place for place, name in enumerate(header) if not 6 <= place <= 8 or {row[place] for row in rows} != {"–"}]
    return Table(
        file_name("rounds", study.slug),
        f"{study.name}: {study.metric} by round.",
        [header[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
    )


def _most(entries: Sequence[Entry]) -> int:
    """Seeds of the round that most of them reached, with a score or without."""
    return max(Counter(one.number for one in entries).values())


def _row(number: int, entries: Sequence[Entry], seeds: int) -> list[str]:
    scored = sum(one.run is not None for one in entries)
    seconds = [_read(one.run.path / "second_attempts.json") for one in entries if one.run is not None]
    drawn = [one.about for one in entries if one.about.get("drawn")]

    def of(values: Sequence[float], form: Callable[[Sequence[float]], str] = spread) -> str:
        return form(values) if values else "–"

    return [
        str(number),
        of([one.run.results["score"] for one in entries if one.run is not None]),
        of([about["right"] / about["drawn"] for about in drawn]),
        of([about["added"] for about in drawn], lambda values: f"{fmean(values):.4g}"),
        *(
            of([found[name] for found in seconds if name in found])
            for name in ("second", "wrong_to_right", "right_to_wrong")
        ),
        str(seeds) if scored == seeds else f"{scored} of {seeds}",
    ]
