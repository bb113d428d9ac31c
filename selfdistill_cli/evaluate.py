"""The entry point of `sdevaluate`: finished runs scored on other tasks, or on a file, without training.

sdevaluate outputs/rte/*/*/* --tasks scitail,sick,snli,adv_rte,axb
sdevaluate outputs/custom/*/*/* --file june.csv
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.config import schema
from selfdistill_cli.config.checks import check_node, require_data_of_their_own
from selfdistill_cli.config.metrics import asked_metrics
from selfdistill_cli.config.options import option
from selfdistill_cli.errors import UserError, end_in_words
from selfdistill_cli.kinds import KINDS, check_task
from selfdistill_cli.kinds.settings import OF_GROUPS, text_beside_messages
from selfdistill_cli.runs.finished import (
    OF_A_FILE,
    FinishedRun,
    add_file_flags,
    add_run_flags,
    finished_run,
    flag_of,
    plain_words,
    require_flags_read,
    said_in_flags,
    with_file_flags,
)
from selfdistill_cli.system.data_files import files_of, stem_of
from selfdistill_cli.system.files import read_json
from selfdistill_cli.system.words import counted

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)
schema.register_schemas()


def evaluate(words: Sequence[str]) -> None:
    """Do what the command line says. Raises `UserError` if a folder is no finished run, or a task does not fit.

    Of several runs, one that cannot be scored is named, the others are scored, and the end is a `UserError`.
    """
    arguments = _parser().parse_args(plain_words(words))
    if (arguments.tasks is None) == (arguments.file is None):
        raise UserError("say what the runs are to be scored on: --tasks scitail,snli or --file new.csv")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with said_in_flags(() if arguments.file is None else tuple(OF_A_FILE)):
        _evaluate(arguments)


def _evaluate(arguments: argparse.Namespace) -> None:
    named = _tasks(arguments)
    if arguments.file is not None:
        files_of(arguments.file)  # not there: said once, not of every run
    asked: list[tuple[Path, FinishedRun, list[DictConfig]]] = []
    refused: list[Path] = []
    alone = len(arguments.runs) == 1
    for path in arguments.runs:
        with _going_on(path, refused, alone):
            run = finished_run(path, arguments.data, arguments.trust_remote_code)
            asked.append((path, run, named or [_of_file(run, arguments)]))

    if asked:
        # torch and transformers: seconds that a wrong name should not cost
        from selfdistill_cli.tracking.terminal import make_console

        console = make_console()
        for path, run, tasks in asked:
            with _going_on(path, refused, alone):
                _score(run, tasks, console)
    if refused:
        raise UserError(f"{len(refused)} of {counted(len(arguments.runs), 'run')} could not be scored.")


@contextlib.contextmanager
def _going_on(path: Path, refused: list[Path], alone: bool) -> Iterator[None]:
    """Say why a run cannot be scored, and let the others be; where it is `alone`, raise it."""
    try:
        yield
    except UserError as error:
        if alone:
            raise
        log.error("%s cannot be scored: %s", path, error)
        refused.append(path)


def _score(run: FinishedRun, tasks: Sequence[DictConfig], console: Console) -> None:
    from selfdistill_cli.engine.device import as_here
    from selfdistill_cli.engine.runtime import make_runtime
    from selfdistill_cli.other_tasks import score_on_other_tasks
    from selfdistill_cli.tracking.terminal import say, shortest

    kept = _may_write(run.path / "evaluations")
    runtime = make_runtime(as_here(run.cfg.runtime), run.cfg.model.dtype)
    found = score_on_other_tasks(run.cfg, run.path, tasks, runtime, keep=kept)
    for name, scores in found.items():
        words = f"{scores['metric']} {scores['score']:.4f} ({counted(scores['examples'], 'example')}{_speed(scores)})"
        say(console, f"{shortest(run.path)}  {name}: {words}")
    if not kept:
        say(console, f"{shortest(run.path)} may not be written: new scores of it are not kept.")


def _may_write(folder: Path) -> bool:
    return os.access(folder if folder.is_dir() else folder.parent, os.W_OK | os.X_OK)


def _speed(scores: Mapping[str, Any]) -> str:
    """How fast answers were written, where any were."""
    writing = scores.get("writing")
    if writing is None:
        return ""
    return (
        f"; {writing['tokens']:,} tokens written in {writing['seconds']:,.1f} s, {writing['tokens_per_s']:.1f} a second"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sdevaluate",
        description="Score finished runs on other tasks or on a file, without training.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--tasks", help="names of tasks, with commas between them")
    parser.add_argument("--file", type=Path, help="a file with labels or answers, all of whose rows are scored")
    parser.add_argument("--name", help="name of the scores on the file (default: the file's)")
    parser.add_argument(
        "--config-dir", type=Path, help="a folder of your own options, whose task/<name>.yaml are tasks too"
    )
    add_run_flags(parser)
    add_file_flags(parser, tuple(OF_A_FILE))
    return parser


def _tasks(arguments: argparse.Namespace) -> list[DictConfig]:
    """The tasks that --tasks names."""
    if arguments.tasks is None:
        return []
    of_a_file = [name for name in ("name", *OF_A_FILE) if getattr(arguments, name, None) is not None]
    if of_a_file:
        raise UserError(
            f"{flag_of(of_a_file[0])} is said of a --file; a task's own file, conf/task/<name>.yaml, says it of a task."
        )
    folder = arguments.config_dir
    if folder is not None and not folder.expanduser().is_dir():
        raise UserError(f"--config-dir {folder}: there is no such folder.")
    own = [f"file://{folder.expanduser().absolute()}"] if folder is not None else []
    names = [name.strip() for name in arguments.tasks.split(",") if name.strip()]
    require_data_of_their_own("--tasks", names)
    tasks = [option("task", name, own) for name in names]
    for task in tasks:
        check_node(task, "task.")
    return tasks


def _of_file(run: FinishedRun, arguments: argparse.Namespace) -> DictConfig:
    """The run's task with the rows of the file, in the classes that the run has learned.

    Raises `UserError` if the run was scored on another file under the same name, or would ignore a flag.
    """
    kind = KINDS[run.results.kind]
    require_flags_read(run, arguments, kind.uses)
    task = with_file_flags(run.cfg.task, arguments, arguments.file)
    if arguments.text is not None and task.messages is not None:
        raise text_beside_messages(arguments.text, task.messages)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", arguments.name or stem_of(arguments.file)).strip("-.") or "file"
    name, file = f"file-{stem}", arguments.file.expanduser().absolute()
    before = read_json(run.path / "evaluations" / f"{name}.json")
    scored = None if before is None else Path(before["data"])
    if scored is not None and scored.is_absolute() and scored.resolve() != file.resolve():
        raise UserError(
            f"{run.path / 'evaluations' / name}.json is the score on another file, {scored}. "
            f"Give the scores on {arguments.file} a name of their own: --name {stem}-2."
        )
    task.update(
        name=name,
        kind=kind.name,
        path=None,
        validation_path=str(file),
        validation_examples=None,
        generator=None,
        labels=list(run.results.labels) or None,
        label_map={},
        group=task.group if OF_GROUPS in asked_metrics(task) else None,
    )
    if run.results.labels and not run.cfg.task.labels:  # in sorted order: a number in another file is not its place
        task.class_numbers = False
    check_task(kind, task)  # what a flag names and the kind does not read
    return task


def main() -> None:
    """What the console script `sdevaluate` calls."""
    end_in_words("sdevaluate", evaluate)


if __name__ == "__main__":
    main()
