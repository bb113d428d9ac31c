"""Runs as a report sees them: found below folders; what each was asked to do, how far it came, what came out."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.errors import first_line
from selfdistill_cli.reports.curves import thinned
from selfdistill_cli.reports.intact import (
    NUMBER,
    DamagedFileError,
    read_config,
    read_results,
    read_rows,
    read_scores,
    require_both_ends,
    require_predictions,
    require_whole,
)
from selfdistill_cli.reports.naming import identity
from selfdistill_cli.reports.origins import ALONE, Found, with_origins
from selfdistill_cli.reports.search import Places, search
from selfdistill_cli.system.lease import in_use

Settings = dict[str, Any]
ENDED = re.compile(r"^\S+ \S+ [A-Z]+ (ended by|interrupted:) ")
"""A line of train.log that says why a run ended."""
STATUSES = ("finished", "running", "interrupted", "damaged")


@dataclass(frozen=True)
class Run:
    """A run. Only the path is sure to be there: the rest is what could be read."""

    path: Path
    status: str
    """One of STATUSES. Interrupted: begun, not finished, and no living process is at it."""
    reason: str = ""
    """Why it is damaged, or what stopped it."""
    settings: Settings = field(default_factory=dict)
    """What the run is, one dotted key each: scientific settings but the seed; of a finished one also `processes`."""
    seed: int = 0
    epoch: float = 0.0
    """Which epoch its last record belongs to."""
    step: int = 0
    """Optimizer steps until its last record."""
    results: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Records of metrics.jsonl by kind: steps thinned out, evaluations and diagnostics whole."""
    other_tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scores on the validation sets of other tasks, by task."""
    start: Path | None = None
    """The directory of the run whose weights it starts from, if it does."""
    asked: tuple[Settings, ...] = ()
    """Other words for its length (epochs, steps, passes) in which it was asked for as well."""
    left_out: dict[str, str] = field(default_factory=dict)
    """By name, the files beside its results that could not be read, and why; the run counts without them."""
    cost_unit: str = "examples"
    """What its cost is counted in, see `compute.py`."""

    @property
    def finished(self) -> bool:
        """Whether its results count."""
        return self.status == "finished"

    def file(self, name: str) -> Path | None:
        """One of its files, unless it has none of that name or it is left out."""
        path = self.path / name
        return path if name not in self.left_out and path.is_file() else None

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.settings.get("task.name", self.path.parts[-4] if len(self.path.parts) >= 4 else "?"))

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.settings.get("method.name", self.path.parent.name))

    @property
    def epochs_asked(self) -> float:
        """Epochs of the whole run: the schedule's times the method's passes; 0 where it is told steps."""
        return float(self.settings.get("schedule.epochs") or 0) * float(self.settings.get("method.passes", 1))

    @property
    def steps_asked(self) -> int | None:
        """Optimizer steps of the whole run where `schedule.max_steps` stands in place of epochs."""
        steps = self.settings.get("schedule.max_steps")
        return None if steps is None else math.ceil(round(steps * self.settings.get("method.passes", 1), 6))

    def in_all_words(self) -> list[Run]:
        """The run, once in each of the words for its length in which it was asked for: each is of a study of its own."""
        forms = {identity(one): one for one in (self.settings, *(self.settings | asked for asked in self.asked))}
        return [replace(self, settings=settings, asked=()) for settings in forms.values()]


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run below these folders, or that they are, in the order of their paths. Nothing is written.

    Raises `UserError` if a folder does not exist.
    """
    return read_runs(search(folders))


def read_runs(places: Places, read: Callable[[Path, Found], Run] | None = None) -> list[Run]:
    """What a search found; a folder that may not be read is a damaged run, since nobody knows what is in it.

    `read` takes the place of `read_run`.
    """
    closed = [Run(path, "damaged", f"the folder cannot be read: {reason}") for path, reason in places.closed.items()]
    by_key: dict[str, list[Path]] = defaultdict(list)
    for place in places.runs:
        by_key[place.name].append(place)
    return [*((read or read_run)(place, by_key) for place in places.runs), *closed]


def read_run(folder: Path, beside: Found = ALONE) -> Run:
    """Read a run directory, whatever state it is in; nothing in it makes this fail.

    `beside`: the runs among which the one that it starts from is looked for first.
    """
    left_out: dict[str, str] = {}
    found: dict[str, Any] = {"left_out": left_out}
    finished = (folder / "results.json").is_file()
    try:
        found |= _how_far(folder / "metrics.jsonl", left_out)
        if finished or (folder / "config.yaml").exists():  # else it ended before its settings were noted
            found |= _settings(folder / "config.yaml", beside)
        if not finished:
            return Run(folder, "running" if in_use(folder / "lock") else "interrupted", _last_words(folder), **found)
        results = read_results(folder / "results.json")
        require_both_ends(folder / "predictions.parquet")
    except DamagedFileError as error:
        return Run(folder, "damaged", str(error), **found)
    found["settings"]["processes"] = int(results.get("processes") or 1)
    found |= {"other_tasks": _other_tasks(folder, left_out), "asked": _asked(folder, left_out)}
    return Run(folder, "finished", results=results, **found)


def with_whole_tables(runs: Sequence[Run]) -> list[Run]:
    """The same runs, their parquet files read from end to end: what is damaged inside is left out, and the run with it
    if these are its predictions.

    `read_run` looks at the ends of the files alone, which is enough to watch and list thousands.
    """
    with ThreadPoolExecutor() as threads:  # pyarrow reads outside of Python's lock
        return list(threads.map(_with_whole_tables, runs))


def _with_whole_tables(run: Run) -> Run:
    if not run.finished:
        return run
    try:
        require_predictions(run.path / "predictions.parquet")
    except DamagedFileError as error:
        return replace(run, status="damaged", reason=str(error), results={})
    left_out, other_tasks = dict(run.left_out), dict(run.other_tasks)
    for name in run.other_tasks:
        try:
            require_predictions(run.path / "evaluations" / f"{name}.parquet")
        except DamagedFileError as error:
            left_out[f"evaluations/{name}.parquet"] = f"evaluations/{error}"
            del other_tasks[name]
    if (examples := run.file("examples.parquet")) is not None:
        try:
            require_whole(examples)
        except DamagedFileError as error:
            left_out[examples.name] = str(error)
    return replace(run, left_out=left_out, other_tasks=other_tasks)


def settings_of(cfg: dict[str, Any], beside: Found = ALONE) -> tuple[Settings, Path | None]:
    """What a run with this configuration is, and the run that it starts from. Raises `KeyError` if it is of no run."""
    settings = flat({name: cfg[name] for name in SCIENCE if name != "seed"})
    settings["method.passes"] = float(settings.get("method.passes", 1))
    if settings.get("schedule.max_steps") is not None:
        settings["schedule.epochs"] = None  # they do nothing beside steps
    return with_origins(settings, cfg, beside)


def _settings(path: Path, beside: Found) -> dict[str, Any]:
    """What the run is, its seed, and the run that it starts from."""
    cfg = read_config(path)
    try:
        settings, start = settings_of(cfg, beside)
        return {"settings": settings, "seed": int(cfg["seed"]), "start": start}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path.name} lacks settings of a run: {first_line(error)}") from error


def _how_far(path: Path, left_out: dict[str, str]) -> dict[str, Any]:
    """Its records, steps thinned out, and where the last one stands."""
    try:
        rows, last, torn = read_rows(path)
    except DamagedFileError as error:
        left_out[path.name] = str(error)
        return {}
    if torn:
        left_out[path.name] = f"{path.name}: lines that cannot be read: {torn}"
    if "train" in rows:
        rows["train"] = thinned(rows["train"])
    if "examples" in rows:
        rows["examples"] = rows["examples"][:: max(1, len(rows["examples"]) // 50)]
    return {"rows": rows, "epoch": float(last.get("epoch", 0)), "step": int(last.get("step", 0))}


def _other_tasks(folder: Path, left_out: dict[str, str]) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((folder / "evaluations").glob("[!.]*.json")):
        try:
            require_both_ends(path.with_suffix(".parquet"))
            found[path.stem] = read_scores(path)
        except DamagedFileError as error:
            left_out[f"evaluations/{path.name}"] = f"evaluations/{error}"
    return found


def _asked(folder: Path, left_out: dict[str, str]) -> tuple[Settings, ...]:
    found = []
    for path in sorted((folder / "asked").glob("[!.]*.json")):
        try:
            found.append(read_scores(path, {"method.passes": NUMBER}))
        except DamagedFileError as error:
            left_out[f"asked/{path.name}"] = f"asked/{error}"
    return tuple(found)


def flat(node: Any, prefix: str = "") -> Settings:
    """Nested settings with one dotted key each."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    named = ((f"{prefix}.{name}" if prefix else str(name), child) for name, child in node.items())
    return {key: value for name, child in named for key, value in flat(child, name).items()}


def _last_words(folder: Path) -> str:
    """Why an interrupted run ended, from its log."""
    try:
        lines = (folder / "train.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    ends = (
        line.partition(" interrupted: ")[2] or line.split(" ", 3)[-1] for line in reversed(lines) if ENDED.search(line)
    )
    return next(ends, "")
