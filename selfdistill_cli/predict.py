"""The entry point of `sdpredict`: what the model of a finished run says of new rows, which need no labels.

sdpredict outputs/custom/minilm/vanilla/0123456789 new.csv  # new.predictions.csv
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError, did_you_mean, end_in_words
from selfdistill_cli.evaluation.glue_server import file_name, require_glue_task, write_for_server
from selfdistill_cli.kinds import KINDS, check_task
from selfdistill_cli.kinds.settings import text_beside_messages
from selfdistill_cli.runs.finished import (
    FinishedRun,
    add_file_flags,
    add_run_flags,
    finished_run,
    flag_of,
    in_flags,
    plain_words,
    require_flags_read,
    said_in_flags,
    with_file_flags,
)
from selfdistill_cli.system.data_files import stem_of
from selfdistill_cli.system.files import new_file, require_writable
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks.sources import RawSplit
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.unlabelled import unlabelled_rows, without_labels

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "parquet", "jsonl")
FLAGS = ("text", "text_pair", "messages", "choices", "delimiter", "encoding", "quoting", "header", "missing")
"""Settings of the run's task that can be given anew."""


@dataclass(frozen=True)
class Asked:
    """One file of predictions that is to be made."""

    rows: Split
    origin: str
    notes: Sequence[str]
    """What is not plain about how the file was read."""
    out: Path
    write: Callable[[Path, pa.Table], None]


def predict(words: Sequence[str]) -> None:
    """Do what the command line says. Raises `UserError` if the run, the file or its columns are not there."""
    arguments = _parser().parse_args(plain_words(words))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with said_in_flags(FLAGS):
        _predict(arguments)


def _predict(arguments: argparse.Namespace) -> None:
    run = finished_run(arguments.run, arguments.data, arguments.trust_remote_code)
    task = with_file_flags(run.cfg.task, arguments, arguments.file)
    asked = _asked(run, task, arguments)

    # torch and transformers: seconds that a wrong name should not cost
    from selfdistill_cli.tracking.terminal import make_console, say

    console = make_console()
    for one in asked:
        if one.notes:
            say(console, f"{one.origin} is read with {in_flags(', '.join(one.notes), FLAGS)}")
    for one, table in _predictions(run, task, asked):
        with new_file(one.out) as beside:
            one.write(beside, table)
        say(console, f"{counted(table.num_rows, 'prediction')} for {one.origin}: {one.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sdpredict",
        description="Ask the model of a finished run about new rows, which need no labels.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="a run's folder, as sdrun's last line names it")
    parser.add_argument("file", type=Path, nargs="?", help="the new rows, with the columns of the training file")
    parser.add_argument(
        "--out", type=_path, help=f"what to write, by its ending {', '.join(FORMATS)} (default: <file>.predictions.csv)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there of that name")
    parser.add_argument(
        "--format", choices=["table", "glue"], default="table",
        help="glue: as gluebenchmark.com takes them; without a file, of <data>/<task>/test.*, into the folder --out",
    )  # fmt: skip
    add_run_flags(parser)
    add_file_flags(parser, FLAGS, drops=False)
    return parser


def _asked(run: FinishedRun, task: DictConfig, arguments: argparse.Namespace) -> list[Asked]:
    """What is to be made, each file read and its place free."""
    for_server = arguments.format == "glue"
    if for_server:
        require_glue_task(task.name)
    elif arguments.file is None:
        raise UserError("name the file that holds the new rows: sdpredict <run> new.csv")
    kind, cache = KINDS[run.results.kind], Path(run.cfg.paths.cache).absolute()
    require_flags_read(run, arguments, kind.uses)
    check_task(kind, task)  # what a flag names and the kind does not read
    if arguments.text is not None and task.messages is not None:
        raise text_beside_messages(arguments.text, task.messages)
    found = []
    for raw in unlabelled_rows(task, str(run.cfg.paths.data), arguments.file, cache):
        _require_columns(task, run.cfg.task, raw)
        if for_server:
            out = _for_server(arguments.out, arguments.file, file_name(task.name, raw.name))
            write: Callable[[Path, pa.Table], None] = partial(_write_for_server, task.name, run.results.labels)
        else:
            out = arguments.out or _beside(arguments.file)
            write = WRITERS[_ending(out)]
        if out.exists() and not arguments.overwrite:
            raise UserError(f"{out} exists. --out names another file, --overwrite replaces it.")
        require_writable(out.parent)
        found.append(Asked(kind.unlabelled(without_labels(task), raw), raw.origin, raw.notes, out, write))
    return found


def _path(words: str) -> Path:
    """`--out=~/new.csv` comes with its ~ from the shell."""
    return Path(words).expanduser()


def _beside(file: Path) -> Path:
    """Where predictions go by default. Raises `UserError` of a pattern: what it fits would be read again next time."""
    if glob.has_magic(str(file)):
        raise UserError(f"{file} is a pattern: --out names the file of predictions, as in --out=predictions.csv.")
    return file.with_name(f"{stem_of(file)}.predictions.csv")


def _for_server(out: Path | None, file: Path | None, name: str) -> Path:
    """--out is a folder for the test sets, and may be a file for one file."""
    if out is not None and out.suffix == ".tsv":
        if file is None:
            raise UserError(f"--out {out}: name a folder; the server knows files by their names, such as {name}.")
        return out
    return (out or Path()) / name


def _ending(out: Path) -> str:
    ending = out.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise UserError(f"--out {out}: the ending must be one of {', '.join(FORMATS)}.{did_you_mean(ending, FORMATS)}")
    return ending


def _require_columns(task: DictConfig, trained: DictConfig, raw: RawSplit) -> None:
    """Raise `UserError`, with the flag that helps, if a column is missing that the whole setting names."""
    for setting in ("text", "text_pair", "choices") if task.messages is None else ("messages",):
        wanted, names = task[setting], raw.names
        if wanted and not set(wanted) & set("{}[]") and wanted not in names:
            of_run = wanted == trained[setting]
            way = f"{flag_of(setting)} <column> names the right one" if of_run else f"the run had '{trained[setting]}'"
            how = f" It was read with {', '.join(raw.notes)}." if raw.notes else ""
            raise UserError(
                f"{raw.origin} has no column '{wanted}'{', which the run was trained on' if of_run else ''}."
                f"{did_you_mean(wanted, names)} It has {', '.join(names)}; {way}.{how}"
            )


# --- the model's part -----------------------------------------------------------------------------


def _predictions(run: FinishedRun, task: DictConfig, asked: list[Asked]) -> Iterator[tuple[Asked, pa.Table]]:
    """Each file with its predictions: the texts, and what the model says of them."""
    import numpy as np
    import pyarrow as pa

    from selfdistill_cli.engine.device import as_here
    from selfdistill_cli.engine.runtime import make_runtime
    from selfdistill_cli.models import load_finished
    from selfdistill_cli.tasks import TaskData

    kind = KINDS[run.results.kind]
    empty = asked[0].rows.take(np.arange(0))
    data = TaskData(task, kind, list(run.results.labels), empty, [], [], "", "new rows", "", synthetic=False)
    runtime = make_runtime(as_here(run.cfg.runtime), run.cfg.model.dtype)
    loaded = load_finished(run.model, data, run.cfg.model.trust_remote_code)
    runtime.prepare(loaded.model)
    for one in asked:
        with _progress(one.rows) as step:
            told = replace(runtime, on_predicted=step)
            columns = kind.predicted(replace(data, validation=[one.rows]), loaded, one.rows, told, run.cfg.seed)
        shown: dict[str, Any] = {"index": one.rows.rows, "text": list(one.rows.texts)}
        if one.rows.pairs is not None:
            shown["text_pair"] = list(one.rows.pairs)
        yield one, pa.table(shown | {("written" if name == "text" else name): v for name, v in columns.items()})


@contextlib.contextmanager
def _progress(rows: Split) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere. In multiple choice each choice is a row of its own."""
    from rich.console import Console
    from rich.progress import Progress

    total = len(rows) if rows.choices is None else sum(map(len, rows.choices))
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=total)
        yield lambda count: bar.advance(task, count)


# --- files ----------------------------------------------------------------------------------------


def _write_csv(path: Path, table: pa.Table) -> None:
    """As spreadsheets and pandas read it; lists are written as JSON."""
    import csv
    import json

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        columns = [
            [json.dumps(value) if isinstance(value, list) else value for value in column.to_pylist()]
            for column in table.columns
        ]
        writer.writerows(zip(*columns, strict=True))


def _write_jsonl(path: Path, table: pa.Table) -> None:
    import json

    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _write_parquet(path: Path, table: pa.Table) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path)


def _write_for_server(task: str, labels: Sequence[str], path: Path, table: pa.Table) -> None:
    write_for_server(path, task, labels, table["prediction"].to_pylist())


WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}


def main() -> None:
    """What the console script `sdpredict` calls."""
    end_in_words("sdpredict", predict)


if __name__ == "__main__":
    main()
