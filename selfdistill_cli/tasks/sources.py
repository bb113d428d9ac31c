"""Where a task's rows come from: a generator, a file of the user's, a data folder, the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.inputs import require_files_are_read
from selfdistill_cli.errors import UserError, did_you_mean, first_line
from selfdistill_cli.system.data_files import ENDINGS, FORMATS, files_of
from selfdistill_cli.system.files import file_digest
from selfdistill_cli.system.network import use_hub_cache_when_offline
from selfdistill_cli.tasks import synthetic
from selfdistill_cli.tasks.readers import (
    Reading,
    plain_table,
    read_table,
    reading,
    require_settings_used,
)
from selfdistill_cli.tasks.templates import columns_of, fields_inside

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
    columns: tuple[str, ...] | None = None
    """The names of all columns of the source, where the table has only some of them."""
    notes: tuple[str, ...] = ()
    """How the source was read, where that had to be recognised: `delimiter ';'`."""
    rows: np.ndarray | None = None
    """The rows of the source [N] where some were left out; None: they count on from `first_row`."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def at(self, row: int) -> str:
        """Where a row of the table is, in words."""
        return f"{self.origin}, row {self.numbers[row]}"

    @property
    def numbers(self) -> np.ndarray:
        """Row numbers in the source, int64 [N]."""
        return self.first_row + np.arange(len(self)) if self.rows is None else self.rows

    def in_parts(self, rows: int) -> Iterator[RawSplit]:
        """The same rows, some at a time; an empty table is one part."""
        for begin in range(0, max(1, len(self)), rows):
            numbers = None if self.rows is None else self.rows[begin : begin + rows]
            yield replace(self, table=self.table.slice(begin, rows), first_row=self.first_row + begin, rows=numbers)

    def filtered(self, kept: np.ndarray) -> RawSplit:
        """Only the rows where `kept`, bool [N], is true; they keep their numbers."""
        return replace(self, table=self.table.filter(pa.array(kept)), rows=self.numbers[kept])

    def distinct(self, name: str) -> list[Any]:
        """The values that a column holds, each once where that can be told."""
        found = self.arrow(name)
        try:
            return found.unique().to_pylist()
        except pa.ArrowNotImplementedError:  # lists, structures
            return found.to_pylist()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns of the source."""
        return tuple(self.table.column_names) if self.columns is None else self.columns

    def arrow(self, name: str) -> pa.ChunkedArray:
        """A column. Raises `UserError` if there is none of that name, or more than one."""
        names = self.names
        if name not in names:
            how = f" It was read with {', '.join(self.notes)}." if self.notes else ""
            raise UserError(
                f"{self.origin} has no column '{name}'.{did_you_mean(name, names)} It has {', '.join(names)}.{how}"
            )
        if names.count(name) > 1:
            raise UserError(f"{self.origin} has {names.count(name)} columns named '{name}': rename all but one.")
        return self.table.column(name)


@dataclass(frozen=True)
class Source:
    """The splits of a task: training first, the test split last; no validation split if one is to be held out."""

    read: Callable[[], list[RawSplit]]
    description: str
    fingerprint: str
    size: int
    """Bytes, about."""
    has_train: bool = True
    has_test: bool = False


def find_source(task: DictConfig, data_dir: str, cache: Path | None = None, with_train: bool = True) -> Source:
    """Find all splits of a task, in the first place that has them. Raises `UserError` if none has.

    A file that the task names (`path`, `validation_path`, `test_path`) is read whatever task it is; of a generated one
    it is refused. Digests of large files are remembered in `cache`. Without `with_train` the training split need not be
    there, and no test split is looked for: of a benchmark the validation splits alone are found, of a user's own files
    those that the task names.
    """
    own = [task.path, task.validation_path]
    require_files_are_read(task)
    how = reading_of(task)
    if task.generator is not None:
        require_settings_used([], how)
        return _generated(task)
    if task.path is None and (task.validation_path is None or with_train):
        found, has_train = _benchmark(task, Path(data_dir), how, cache, with_train), with_train
    else:
        named = zip(NAMES, own, strict=True)
        found, has_train = [_in_files(name, Path(path), how, cache) for name, path in named if path], bool(task.path)
    tested = with_train and (task.test is not None or task.test_path is not None)
    if tested:
        found = [*found, _test_split(task, Path(data_dir), how, cache)]
    require_settings_used([file for split in found for file in split.files], how)
    alone: list[Any] = [] if has_train or task.validation_path is None else ["validation alone"]
    return Source(
        lambda: [_renamed(split.read(), task.rename) for split in found],
        description=", ".join(dict.fromkeys(split.origin for split in found)),
        fingerprint=_digest(alone + [split.fingerprint for split in found]),
        size=sum(split.size for split in found),
        has_train=has_train,
        has_test=tested,
    )


def reading_of(task: DictConfig) -> Reading:
    """How the files of a task are read: of their columns those that its settings use."""
    columns = columns_of(task)
    renamed = {before for before, after in task.rename.items() if after in columns}
    return Reading(
        delimiter=task.delimiter,
        encoding=task.encoding,
        header=task.header,
        quoting=task.quoting,
        kind=task.kind,
        label_columns=[name for name in {*columns, *renamed} if task.rename.get(name, name) == task.label],
        labels=tuple(task.labels) if task.labels and task.get("class_numbers", True) else None,
        columns=frozenset(columns) | renamed,
        inside=fields_inside(columns),
        as_json=[name for name in {*columns, *renamed} if task.rename.get(name, name) == task.messages],
    )


def places_of(task: DictConfig, data_dir: Path, with_train: bool = True) -> list[tuple[Path, str, DictConfig | None]]:
    """Where the splits of a named task are looked for, but for those in files of their own: folder, name, data set on the Hub."""
    own = [
        (data_dir / task.name, split, task.hub) for split in (task.validation if task.validation_path is None else ())
    ]
    train = (data_dir / (task.train_task or task.name), task.train, task.train_hub or task.hub)
    return [train, *own] if with_train else own


def _benchmark(task: DictConfig, data_dir: Path, how: Reading, cache: Path | None, with_train: bool) -> list[_Found]:
    """The splits of a named task; the file of `task.validation_path` takes the place of its validation splits."""
    found = [find_split(task, *place, how, cache) for place in places_of(task, data_dir, with_train)]
    path = task.validation_path
    return found if path is None else [*found, _in_files("validation", Path(path), how, cache)]


def _test_split(task: DictConfig, data_dir: Path, how: Reading, cache: Path | None) -> _Found:
    if task.test_path is not None:
        return _in_files("test", Path(task.test_path), how, cache)
    return find_split(task, data_dir / task.name, task.test, task.hub, how, cache)


@dataclass(frozen=True)
class _Found:
    """A split that is there and was not read yet."""

    read: Callable[[], RawSplit]
    origin: str
    fingerprint: str
    size: int
    files: tuple[Path, ...] = ()


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


def _in_files(name: str, path: Path, how: Reading, cache: Path | None) -> _Found:
    files = files_of(path)
    path = path.expanduser()
    with reading(path):
        digests, size = [file_digest(file, cache) for file in files], sum(file.stat().st_size for file in files)

    def read() -> RawSplit:
        found = read_table(files, how)
        return RawSplit(name, found.table, str(path), columns=found.columns, notes=found.notes)

    return _Found(read, str(path), digests[0] if len(files) == 1 else _digest(digests), size, tuple(files))


def local_split(folder: Path, split: str) -> Path | None:
    """The file of a split in a data folder, or its shards."""
    with reading(folder):
        places = [folder / f"{split}.{ending}" for ending in ENDINGS]
        local = next((path for path in places if path.exists()), None)
        if local is None and next(folder.glob(f"{split}-*-of-*.*"), None) is not None:  # as the Hub names shards
            local = folder / f"{split}-*-of-*.*"
    return local


def find_split(
    task: DictConfig, folder: Path, split: str, hub: DictConfig | None, how: Reading, cache: Path | None
) -> _Found:
    """One split in the data folder, else on the Hub. Raises `UserError` if it is in neither."""
    local = local_split(folder, split)
    if local is not None:
        return _in_files(split, local, how, cache)
    problem = "the task names no data set on the Hub"
    if hub is not None:
        try:
            return _on_hub(split, hub, how)
        except Exception as error:  # whatever the Hub client raises, the user needs the same ways out
            problem = first_line(error)
    generated = (
        "\n  - use a generated task: task=synth_entailment or task=synth_similarity" if split == task.train else ""
    )
    raise UserError(
        f"task={task.name}: there is no {split} split.\n"
        f"  looked for   {folder / split}.{{{','.join(FORMATS)}}}, each also .gz\n"
        f"  then on the  Hub: {hub.path if hub else '–'} ({problem})\n"
        f"{'Three' if generated else 'Two'} ways out:\n"
        f"  - put the files into a folder and name it: SDRUN_DATA=<folder> (or paths.data=<folder>), with "
        f"<folder>/{folder.name}/{split}.parquet in the Hub's columns\n"
        f"  - run once with a network, so that the Hub's cache holds the data set{generated}"
    )


def _on_hub(split: str, hub: DictConfig, how: Reading) -> _Found:
    if not Path(hub.path).is_dir():
        use_hub_cache_when_offline()
    import datasets  # seconds to import, and only the Hub needs it

    datasets.utils.logging.disable_progress_bar()
    dataset = datasets.load_dataset(hub.path, hub.config, split=split, revision=hub.revision)
    origin = f"{hub.path}/{hub.config or 'default'} ({split})"
    table = dataset.data.table  # mapped into memory

    def read() -> RawSplit:
        wanted = table.select([name for name in table.column_names if how.wants(name)])
        return RawSplit(split, plain_table(wanted, how, origin), origin, columns=tuple(table.column_names))

    return _Found(read, origin, str(dataset._fingerprint), int(table.nbytes))


def _renamed(raw: RawSplit, names: DictConfig) -> RawSplit:
    if not names:
        return raw
    columns = [names.get(column, column) for column in raw.table.column_names]
    return replace(
        raw,
        table=raw.table.rename_columns(columns),
        columns=tuple(names.get(column, column) for column in raw.names),
    )


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
