"""One run directory as a report sees it: what it was asked to do, how far it came, what came out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.reports.curves import thinned
from selfdistill_cli.system.lease import in_use

Settings = dict[str, Any]
READ = ("results.json", "config.yaml", "metrics.jsonl", "evaluations", "lock")
"""What a reading of a run depends on; it is read anew when one of them changes."""


@dataclass(frozen=True)
class Run:
    """A run. Only the path is sure to be there: the rest is what could be read."""

    path: Path
    status: str
    """`finished`, `running`, `unfinished` or `damaged`."""
    problem: str = ""
    """Why it is damaged, or what stopped it."""
    settings: Settings = field(default_factory=dict)
    """Scientific settings but the seed, one dotted key each."""
    seed: int = 0
    epochs_asked: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Of metrics.jsonl, by kind: all evaluations and looks, the steps thinned out."""
    elsewhere: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scores on other tasks, by task."""

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

    def to_json(self) -> dict[str, Any]:
        """For the index."""
        return {**asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Run:
        """Take back what `to_json` gave."""
        return cls(**{**content, "path": Path(content["path"])})


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: it was begun, or claimed."""
    return (folder / "config.yaml").is_file() or (folder / "results.json").is_file()


def signature(folder: Path) -> str:
    """Changes when anything does that a reading depends on."""
    parts = []
    for name in READ:
        try:
            status = (folder / name).stat()
            parts.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        except OSError:
            parts.append(f"{name} –")
    return "; ".join(parts)


def read_run(folder: Path) -> Run:
    """Read a run directory, whatever state it is in; nothing in it makes this fail."""
    try:
        return _read(folder)
    except Exception as error:  # a report lists what it could not read, and goes on
        return Run(folder, "damaged", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else error}")


def _read(folder: Path) -> Run:
    cfg = _LOADER((folder / "config.yaml").read_text(encoding="utf-8")).get_single_data()
    settings = flat({name: cfg[name] for name in SCIENCE if name != "seed"})
    rows = _rows(folder / "metrics.jsonl")
    schedule = cfg["schedule"]
    asked = float(schedule["epochs"])
    common: dict[str, Any] = {"settings": settings, "seed": int(cfg["seed"]), "epochs_asked": asked, "rows": rows}
    if not (folder / "results.json").is_file():
        status = "running" if in_use(folder / "lock") else "unfinished"
        return Run(folder, status, _last_words(folder), **common)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    missing = [name for name in ("score", "metric", "task", "method", "examples_forwarded") if name not in results]
    if missing:
        return Run(folder, "damaged", f"results.json has no {', '.join(missing)}", **common)
    if not (folder / "predictions.parquet").is_file():
        return Run(folder, "damaged", "predictions.parquet is missing", **common)
    elsewhere = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "evaluations").glob("[!.]*.json"))
    }
    return Run(folder, "finished", results=results, elsewhere=elsewhere, **common)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def flat(node: Any, prefix: str = "") -> Settings:
    """Nested settings with one dotted key each."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    named = ((f"{prefix}.{name}" if prefix else str(name), child) for name, child in node.items())
    return {key: value for name, child in named for key, value in flat(child, name).items()}


def _rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """By kind. A last line that was torn by a crash is passed over; steps are thinned out."""
    rows: dict[str, list[dict[str, Any]]] = {}
    if not path.is_file():
        return rows
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError:
            if number + 1 < len(lines):
                raise
            continue
        rows.setdefault(row["kind"], []).append(row)
    if "train" in rows:
        rows["train"] = thinned(rows["train"])
    if "examples" in rows:
        rows["examples"] = rows["examples"][:: max(1, len(rows["examples"]) // 50)]
    return rows


def _last_words(folder: Path) -> str:
    """Why an unfinished run ended, from its log."""
    try:
        lines = (folder / "train.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(" ", 3)[-1] for line in reversed(lines) if " ended by " in line), "")
