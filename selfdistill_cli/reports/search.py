"""Where runs lie: links are followed once, folders of other programs and closed ones passed over and told."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.errors import UserError, did_you_mean

NOT_SEARCHED = {"wandb"}
"""Folders in which no run lies; nor does one in a hidden folder, or in a run. Other folders may be called anything."""
KEY = re.compile(r"[0-9a-f]{10}")


@dataclass
class Places:
    """What a search found."""

    runs: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)
    """Folders with a config.yaml or results.json that is not sdrun's."""
    closed: dict[Path, str] = field(default_factory=dict)
    """Folders that may not be read, and why."""


def search(folders: Sequence[Path]) -> Places:
    """Every run below these folders, or that they are, in the order of their paths. Nothing is written.

    Raises `UserError` if a folder does not exist.
    """
    places, seen = Places(), set[tuple[int, int]]()
    for folder in folders:
        if not folder.is_dir():
            beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise UserError(f"there is no folder {folder}.{did_you_mean(folder.name, beside)}")
        _search(folder.absolute(), places, seen)
    places.runs.sort()
    return places


def _search(folder: Path, places: Places, seen: set[tuple[int, int]]) -> None:
    def closed(error: OSError) -> None:
        places.closed[Path(error.filename)] = str(error.strerror)

    for place, folders, files in os.walk(folder, onerror=closed, followlinks=True):
        try:
            status = os.stat(place)
        except FileNotFoundError:  # a run that was thrown away in the meantime
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:  # by another link, or in a loop of links
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        here = Path(place)
        if _is_run(here, set(files)):
            places.runs.append(here)
            folders.clear()
        elif {"config.yaml", "results.json"} & set(files):
            places.foreign.append(here)
        folders[:] = sorted(name for name in folders if name not in NOT_SEARCHED and not name.startswith("."))


def _is_run(place: Path, files: set[str]) -> bool:
    """Whether sdrun made this folder, in whatever state it is: by its files, and by what its config.yaml is about."""
    if "run.json" in files or {"results.json", "predictions.parquet"} <= files:
        return True
    if "config.yaml" in files:
        return _has_our_sections(place / "config.yaml")
    return "train.log" in files and KEY.fullmatch(place.name) is not None  # ended before it began to train


def _has_our_sections(config: Path) -> bool:
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return all(re.search(rf"^{name}:", text, re.MULTILINE) for name in SCIENCE)
