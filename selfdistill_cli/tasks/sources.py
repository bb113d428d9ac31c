"""Where a task's rows come from: a generator, a file of the user's, a data folder, the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError, did_you_mean, first_line
from selfdistill_cli.system.files import file_digest
from selfdistill_cli.system.network import use_hub_cache_when_offline
from selfdistill_cli.tasks import synthetic
from selfdistill_cli.tasks.readers import FORMATS, read_table, reading, require_readable

NAMES = ("train", "validation")
"""Of the splits of a user's own files."""
GENERATED_BYTES = 64
"""Of a generated example, about."""


@dataclass(frozen=True)
class RawSplit:
    """A table and where it came from."""

    name: str
    table: pa.Table
    origin: str
    first_row: int = 0
    """The row of the source that the table begins with."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def at(self, row: int) -> str:
        """Where a row of the table is, in words."""
        return f"{self.origin}, row {self.first_row + row}"

    def in_parts(self, rows: int) -> Iterator[RawSplit]:
        """The same rows, some at a time; an empty table is one part."""
        for begin in range(0, max(1, len(self)), rows):
            yield replace(self, table=self.table.slice(begin, rows), first_row=self.first_row + begin)

    def column(self, name: str) -> list[Any]:
        """The values of a column. Raises `UserError` if there is none of that name."""
        return self._column(name).to_pylist()

    def distinct(self, name: str) -> list[Any]:
        """The values that a column holds, each once where that can be told."""
        values = self._column(name)
        try:
            return values.unique().to_pylist()
        except pa.ArrowNotImplementedError:  # lists, structures
            return values.to_pylist()

    def _column(self, name: str) -> pa.ChunkedArray:
        names = self.table.column_names
        if name not in names:
            raise UserError(
                f"{self.origin} has no column '{name}'.{did_you_mean(name, names)} It has {', '.join(names)}."
            )
        if names.count(name) > 1:
            raise UserError(f"{self.origin} has {names.count(name)} columns named '{name}': rename all but one.")
        return self.table.column(name)


@dataclass(frozen=True)
class Source:
    """The splits of a task, training first; no validation split if one is to be held out."""

    read: Callable[[], list[RawSplit]]
    description: str
    fingerprint: str
    size: int
    """Bytes, about."""
    has_train: bool = True


def find_source(task: DictConfig, data_dir: str, cache: Path | None = None, with_train: bool = True) -> Source:
    """Find all splits of a task, in the first place that has them. Raises `UserError` if none has.

    Digests of large files are remembered in `cache`. Without `with_train` the training split need not be there: of a
    benchmark the validation splits alone are found, of a user's own files those that the task names.
    """
    if task.generator is not None:
        return _generated(task)
    if task.path is None and task.validation_path is not None and with_train:
        raise UserError(f"task.validation_path={task.validation_path} needs task.path=<file to train on>.")
    if task.path is not None or task.validation_path is not None:
        return _own_files(task, cache)
    train_task = task.train_task or task.name
    wanted = [(train_task, task.train, task.train_hub or task.hub)] if with_train else []
    wanted += [(task.name, split, task.hub) for split in task.validation]
    found = [_find_split(task, Path(data_dir), folder, split, hub, cache) for folder, split, hub in wanted]
    return Source(
        lambda: [_renamed(split.read(), task.rename) for split in found],
        description=", ".join(dict.fromkeys(split.origin for split in found)),
        fingerprint=_digest([split.fingerprint for split in found]),
        size=sum(split.size for split in found),
        has_train=with_train,
    )


@dataclass(frozen=True)
class _Found:
    """A split that is there and was not read yet."""

    read: Callable[[], RawSplit]
    origin: str
    fingerprint: str
    size: int


def _generated(task: DictConfig) -> Source:
    settings = OmegaConf.to_container(task.generator)
    generate: Callable[[int, int], dict[str, list[Any]]] = getattr(synthetic, task.generator.name)
    sizes = {"train": task.generator.train_examples, "validation": task.generator.validation_examples}

    def read() -> list[RawSplit]:
        splits = []
        for stream, (name, size) in enumerate(sizes.items()):
            columns = generate(size, task.generator.seed * len(sizes) + stream)
            splits.append(RawSplit(name, pa.table(columns), f"generated {task.generator.name} ({name})"))
        return splits

    return Source(
        read,
        f"generated by {task.generator.name} (synthetic)",
        _digest([settings, synthetic.VERSION]),
        size=GENERATED_BYTES * sum(sizes.values()),
    )


def _own_files(task: DictConfig, cache: Path | None) -> Source:
    named = zip(NAMES, (task.path, task.validation_path), strict=True)
    found = [_in_file(name, Path(path).expanduser(), cache) for name, path in named if path is not None]
    alone: list[Any] = [] if task.path is not None else ["validation alone"]
    return Source(
        lambda: [split.read() for split in found],
        ", ".join(split.origin for split in found),
        _digest(alone + [split.fingerprint for split in found]),
        size=sum(split.size for split in found),
        has_train=task.path is not None,
    )


def _in_file(name: str, path: Path, cache: Path | None) -> _Found:
    require_readable(path)
    with reading(path):
        digest, size = file_digest(path, cache), path.stat().st_size
    return _Found(lambda: RawSplit(name, read_table(path), str(path)), str(path), digest, size)


def _find_split(
    task: DictConfig, data_dir: Path, folder: str, split: str, hub: DictConfig | None, cache: Path | None
) -> _Found:
    """One split in the data folder, else on the Hub."""
    places = [data_dir / folder / f"{split}.{ending}" for ending in FORMATS]
    with reading(data_dir / folder):
        local = next((path for path in places if path.exists()), None)
    if local is not None:
        return _in_file(split, local, cache)
    problem = "the task names no data set on the Hub"
    if hub is not None:
        try:
            return _on_hub(split, hub)
        except Exception as error:  # whatever the Hub client raises, the user needs the same three ways out
            problem = first_line(error)
    raise UserError(
        f"task={task.name}: there is no {split} split.\n"
        f"  looked for   {data_dir / folder / split}.{{{','.join(FORMATS)}}}\n"
        f"  then on the  Hub: {hub.path if hub else '–'} ({problem})\n"
        "Three ways out:\n"
        f"  - put the files into a folder and name it: SDRUN_DATA=<folder> (or paths.data=<folder>), with "
        f"<folder>/{folder}/{split}.parquet in the Hub's columns\n"
        "  - run once with a network, so that the Hub's cache holds the data set\n"
        "  - use a generated task: task=synth_entailment or task=synth_similarity"
    )


def _on_hub(split: str, hub: DictConfig) -> _Found:
    if not Path(hub.path).is_dir():
        use_hub_cache_when_offline()
    import datasets  # seconds to import, and only the Hub needs it

    datasets.utils.logging.disable_progress_bar()
    dataset = datasets.load_dataset(hub.path, hub.config, split=split, revision=hub.revision)
    origin = f"{hub.path}/{hub.config or 'default'} ({split})"
    table = dataset.data.table  # mapped into memory
    return _Found(lambda: RawSplit(split, table, origin), origin, str(dataset._fingerprint), int(table.nbytes))


def _renamed(raw: RawSplit, names: DictConfig) -> RawSplit:
    columns = [names.get(column, column) for column in raw.table.column_names]
    return replace(raw, table=raw.table.rename_columns(columns))


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
