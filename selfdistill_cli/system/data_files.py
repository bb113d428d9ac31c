"""Which files a path means: one, the shards of a folder, or those that a pattern fits. What is not there is named."""

from __future__ import annotations

import glob
import json
import re
from pathlib import Path

from selfdistill_cli.errors import UserError, did_you_mean

FORMATS = ("parquet", "jsonl", "csv", "tsv", "json", "ndjson", "arrow", "txt")
ENDINGS = (*FORMATS, *(f"{name}.gz" for name in FORMATS))
SIDECARS = {"dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json"}
"""What `datasets` writes beside its files: no data."""
CACHE = re.compile(r"cache-[0-9a-f]{16}(_\d{5}_of_\d{5})?\.arrow")
"""Where `datasets` keeps what was mapped, filtered or shuffled: the same rows again, or their numbers alone."""
SHARD = re.compile(r"(?:^|[-._])(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?(?=\.)")
"""`train-00000-of-00002`, in older data sets with a digest behind it, or `train.00000-of-00002`."""
SPLIT = re.compile(r"(?:^|[._-])(train|training|dev|valid|val|validation|eval|test)(?=[._-]|$)", re.IGNORECASE)


def format_of(path: Path) -> str:
    """The format that a file's ending names, without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return name.rpartition(".")[2] if "." in name else ""


def stem_of(path: Path) -> str:
    """The file's name without the ending of its format: `rows.june` of `rows.june.csv.gz`."""
    name = path.name
    for ending in (".gz", f".{format_of(path)}"):
        name = name[: -len(ending)] if name.lower().endswith(ending) and len(ending) > 1 else name
    return name


def files_of(path: Path) -> list[Path]:
    """The file; or the shards in a folder, or those that fit a pattern (`data/part-*.jsonl`), in sorted order.

    Raises `UserError` if there is none, if one is empty or of another format, or if they do not belong together.
    """
    path = path.expanduser()
    try:
        if path.is_dir():
            return _in_folder(path)
        if not path.exists() and glob.has_magic(str(path)):
            found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
            files = [_readable(file) for file in found if file.is_file() and not CACHE.fullmatch(file.name)]
            if not files:
                raise UserError(f"There is no file that fits {path}.")
            return _together(_every_shard(files) if "-*-of-" in path.name else files, str(path))
        return [_readable(path)]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _in_folder(folder: Path) -> list[Path]:
    saved = _of_save_to_disk(folder)
    if saved:
        return saved
    entries = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and entry.name[0] not in "._"]
    data = [entry for entry in entries if format_of(entry) in FORMATS and entry.name not in SIDECARS]
    files = [entry for entry in data if not CACHE.fullmatch(entry.name)]
    if not files:
        below = sorted({entry.parent.name for ending in FORMATS for entry in folder.glob(f"*/*.{ending}*")})
        hint = f" Name one of the folders in it: {', '.join(below)}." if below else ""
        raise UserError(f"{folder} is a folder without a data file ({', '.join(FORMATS)}, each also .gz).{hint}")
    return _together(_every_shard([_readable(file) for file in files]), f"{folder}/")


def _of_save_to_disk(folder: Path) -> list[Path]:
    """The files that a data set in this folder consists of, if `save_to_disk` of `datasets` wrote it; else none.

    Raises `UserError` if one of them is missing.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = [folder / entry["filename"] for entry in state["_data_files"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # somebody else's file of that name
        return []
    lacking = [file.name for file in files if not file.is_file()]
    if lacking:
        raise UserError(
            f"{folder / 'state.json'} names {', '.join(lacking[:10])}, which is not there: save the data set again."
        )
    return [_readable(file) for file in files]


def _every_shard(files: list[Path]) -> list[Path]:
    """The same files. Raises `UserError` if they are shards, as the Hub numbers them, and not all of one table."""
    by_split: dict[tuple[Path, str], dict[tuple[int, int], Path]] = {}
    for file in files:
        if match := SHARD.search(file.name):
            shard = int(match[1]), int(match[2])
            other = by_split.setdefault((file.parent, SHARD.sub("", file.name)), {}).setdefault(shard, file)
            if other is not file:
                raise UserError(
                    f"{file.parent} holds one shard twice, {other.name} and {file.name}: keep those of one table, or name a "
                    "pattern that fits them."
                )
    for (folder, split), found in by_split.items():
        counts = sorted({count for _, count in found})
        if len(counts) > 1:
            raise UserError(
                f"{folder} holds shards of {split} out of {' and out of '.join(map(str, counts))}: keep those of one "
                "table, or name a pattern that fits them."
            )
        lacking = sorted(set(range(counts[0])) - {number for number, _ in found})
        if lacking:
            raise UserError(
                f"{folder} holds {len(found)} of {counts[0]} shards of {split}; missing: "
                f"{', '.join(f'{number:05d}' for number in lacking[:10])}{' …' * (len(lacking) > 10)}. Add them, or name the files "
                "that are to be read."
            )
    return files


def _together(files: list[Path], where: str) -> list[Path]:
    """The same files, if they can be the parts of one table: of one format, and not different splits."""
    by_format = {format_of(file): file for file in files}
    splits = {match[1].lower(): file for file in files if (match := SPLIT.search(file.name))}
    for kind, found in (("formats", by_format), ("splits", splits)):
        if len(found) > 1:
            names = ", ".join(file.name for file in found.values())
            name = "train" if "train" in found else next(iter(found))
            one = found[name]
            pattern = f"*.{name}{'.gz' * (one.suffix == '.gz')}" if kind == "formats" else f"*{name}*"
            raise UserError(
                f"{where} holds files of several {kind} ({names}): name one of them, or a pattern that fits "
                f"those that belong together: '{one.parent / pattern}'."
            )
    return files


def _readable(path: Path) -> Path:
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"There is no file {path}.{did_you_mean(path.name, siblings)}")
    if format_of(path) not in FORMATS:
        raise UserError(f"{path}: the ending must be one of {', '.join(FORMATS)}, each also with .gz.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty.")
    return path
