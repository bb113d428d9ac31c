"""Runs as a report sees them: found below folders; what each was asked to do, how far it came, what came out."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.reports.curves import thinned
from selfdistill_cli.system.lease import in_use

Settings = dict[str, Any]
STATUSES = ("finished", "running", "interrupted", "damaged")
NOT_SEARCHED = {"model", "checkpoints", "wandb", "evaluations", ".cache", "sweeps"}
"""Folders in which no run lies."""


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

    @property
    def finished(self) -> bool:
        """Whether its results count."""
        return self.status == "finished"

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
        """Epochs of the whole run: the schedule's times the method's passes."""
        return float(self.settings.get("schedule.epochs", 0)) * float(self.settings.get("method.passes", 1))

    @property
    def steps_asked(self) -> int | None:
        """Optimizer steps of the whole run where `schedule.max_steps` stands in place of epochs."""
        steps = self.settings.get("schedule.max_steps")
        return None if steps is None else math.ceil(round(steps * self.settings.get("method.passes", 1), 6))


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run below these folders, or that they are, in the order of their paths. Nothing is written.

    Raises `UserError` if a folder does not exist.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise UserError(f"there is no folder {folder}.{did_you_mean(folder.name, beside)}")
        found |= {path: read_run(path) for path in _run_folders(folder.absolute()) if path not in found}
    return [found[path] for path in sorted(found)]


def _run_folders(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        if "config.yaml" in files or "results.json" in files:
            yield Path(place)
            folders.clear()
        folders[:] = sorted(name for name in folders if name not in NOT_SEARCHED)


def read_run(folder: Path) -> Run:
    """Read a run directory, whatever state it is in; nothing in it makes this fail."""
    try:
        return _read(folder)
    except Exception as error:  # a report lists what it could not read, and goes on
        return Run(folder, "damaged", ": ".join([type(error).__name__, *str(error).splitlines()[:1]]))


def _read(folder: Path) -> Run:
    cfg = _LOADER((folder / "config.yaml").read_text(encoding="utf-8")).get_single_data()
    settings = flat({name: cfg[name] for name in SCIENCE if name != "seed"})
    settings["method.passes"] = float(settings.get("method.passes", 1))
    rows, last = _rows(folder / "metrics.jsonl")
    common: dict[str, Any] = {"settings": settings, "seed": int(cfg["seed"]), "rows": rows}
    common |= {"epoch": float(last.get("epoch", 0)), "step": int(last.get("step", 0))}
    if not (folder / "results.json").is_file():
        status = "running" if in_use(folder / "lock") else "interrupted"
        return Run(folder, status, _last_words(folder), **common)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    missing = [name for name in ("score", "metric", "task", "method", "examples_forwarded") if name not in results]
    if missing:
        return Run(folder, "damaged", f"results.json has no {', '.join(missing)}", **common)
    if not (folder / "predictions.parquet").is_file():
        return Run(folder, "damaged", "predictions.parquet is missing", **common)
    settings["processes"] = int(results.get("processes") or 1)
    other_tasks = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "evaluations").glob("[!.]*.json"))
    }
    return Run(folder, "finished", results=results, other_tasks=other_tasks, **common)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def flat(node: Any, prefix: str = "") -> Settings:
    """Nested settings with one dotted key each."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    named = ((f"{prefix}.{name}" if prefix else str(name), child) for name, child in node.items())
    return {key: value for name, child in named for key, value in flat(child, name).items()}


def _rows(path: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Records by kind, and the last one that says its step. A last line that was torn by a crash is passed over."""
    rows: dict[str, list[dict[str, Any]]] = {}
    last: dict[str, Any] = {}
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError:
            if number + 1 < len(lines):
                raise
            continue
        rows.setdefault(row["kind"], []).append(row)
        last = row if "step" in row else last
    if "train" in rows:
        rows["train"] = thinned(rows["train"])
    if "examples" in rows:
        rows["examples"] = rows["examples"][:: max(1, len(rows["examples"]) // 50)]
    return rows, last


def _last_words(folder: Path) -> str:
    """Why an interrupted run ended, from its log."""
    try:
        lines = (folder / "train.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(" ", 3)[-1] for line in reversed(lines) if " ended by " in line), "")
