"""A finished run taken up again, to be scored or asked: its folder, its settings, the columns of another file."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.schema import CONF_DIR, Task
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.results import Results, read_results
from selfdistill_cli.system.data_files import files_of, format_of
from selfdistill_cli.system.words import listed

SHARED = {"task": "base/task.yaml", "model": "base/model.yaml", "runtime": "runtime/default.yaml"}
"""By part of a configuration, the file in conf/ that gives every setting its default."""
OF_A_FILE = {
    "text": "column of the texts, or a template over columns",
    "text_pair": "column of the second texts",
    "label": "column of the gold labels",
    "answer": "column of the gold answers",
    "references": "column of further acceptable answers",
    "messages": "column of conversations",
    "choices": 'column of the choices, or templates, ["{a}", "{b}"]',
    "delimiter": "what stands between the fields of a line",
    "encoding": "of a text file",
    "quoting": "whether quotes enclose fields",
    "header": "whether the first line names the columns; else they are c0, c1 …",
    "missing": "rows that lack something: refused, left out, or blank texts taken as they are",
}
"""Settings of a task by which a file is read; those that the task has can be given anew for another file."""

FORM = {"delimiter": None, "encoding": None, "header": True, "quoting": None}
"""Settings of how a text file is written, at their defaults."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has a model."""

    path: Path
    cfg: DictConfig
    """Its configuration; settings that came later than the run stand at their defaults."""
    results: Results

    @property
    def model(self) -> Path:
        """The folder of its model."""
        return self.path / "model"


def finished_run(path: Path, data: str | None = None, trust_remote_code: bool = False) -> FinishedRun:
    """The run in this folder. `data`: the folder of the data, where it is no longer that of the run.
    trust_remote_code: run code that came with its model; that the run was told so says nothing, it may be a stranger's.

    Raises `UserError` if the folder is no run, or one that has not finished.
    """
    given, path = path, path.expanduser()
    if path.name == "model" and (path.parent / "results.json").is_file():
        path = path.parent  # its model was meant
    if not (path / "results.json").is_file() or not (path / "config.yaml").is_file():
        raise UserError(f"{given} is no finished run: {_what_it_is(path)}")
    results = read_results(path / "results.json")
    cfg = OmegaConf.load(path / "config.yaml")
    if results is None or not isinstance(cfg, DictConfig) or not (path / "model").is_dir():
        raise UserError(f"{given} is damaged: it has no model/, or its config.yaml holds no settings.")
    for part, defaults in SHARED.items():
        shared = OmegaConf.load(CONF_DIR / defaults)
        assert isinstance(shared, DictConfig)
        del shared["defaults"]
        cfg[part] = OmegaConf.merge(shared, cfg[part])
    if data is not None:
        cfg.paths.data = str(Path(data).expanduser())
    cfg.model.trust_remote_code = trust_remote_code
    cfg.runtime.update(profile=False, trace_steps=None, diagnostics=None)
    return FinishedRun(path, cfg, results)


def _what_it_is(path: Path) -> str:
    if not path.exists():
        return "there is no such folder."
    if (path / "config.yaml").is_file():
        return "it was interrupted or still trains. The command that began it goes on with it."
    below = sorted(path.glob("*/results.json")) or sorted(path.glob("**/results.json"))
    if below:
        more = f" (and {len(below) - 1:,} more)" * (len(below) > 1)
        return f"there are runs below it; name one, such as {below[0].parent}{more}."
    return "name the folder that holds its results.json and model/, as sdrun's last line says."


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of whatever takes a finished run up again."""
    parser.add_argument(
        "--data", default=os.environ.get("SDRUN_DATA"), help="folder of the data (SDRUN_DATA; else as the run)"
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run code that came with the model: of authors you trust"
    )


def plain_words(words: Sequence[str]) -> list[str]:
    """A command line's words, `paths.data=<folder>` of sdrun said as a flag."""
    return [f"--data={word.partition('=')[2]}" if word.startswith("paths.data=") else word for word in words]


SETTING = re.compile(r"task=\w+ task\.\S+|\"task\.\S+|('?)(?<![\w./])(task\.[a-z_]+)\b(?!=null)(=?)")
"""A setting of a task in a message; what is written for sdrun (`task=chat task.…`, `"task.…`) apart, and what is said to be not set."""


def flag_of(name: str) -> str:
    """The flag that gives a setting of a task for another file."""
    return "--no-header" if name == "header" else f"--{name.replace('_', '-')}"


def add_file_flags(parser: argparse.ArgumentParser, names: Collection[str], drops: bool = True) -> None:
    """Flags by which a file's columns and form are named, where they are others than in training.

    drops: rows may be left out.
    """
    for name in names:
        about = f"{OF_A_FILE[name]} (default: as in training)"
        if name == "header":
            parser.add_argument("--header", action=argparse.BooleanOptionalAction, help=about)
        else:
            allowed = Task.__dataclass_fields__[name].metadata.get("choices")
            if name == "missing" and not drops:
                allowed = [one for one in allowed or () if one != "drop"]
            parser.add_argument(flag_of(name), choices=allowed, help=about)


def in_flags(words: str, names: Collection[str]) -> str:
    """What says `task.delimiter=';'` to a command that has flags for these settings: `--delimiter ';'`."""
    flags = {f"task.{name}": flag_of(name) for name in names}

    def said(found: re.Match[str]) -> str:
        quote, setting, given = found.groups()
        if setting not in flags:
            return found[0]
        return f"{flags[setting]} {quote}" if given else f"{quote}{flags[setting]}"

    return SETTING.sub(said, words.replace("task.header=false", flags.get("task.header", "task.header=false")))


@contextlib.contextmanager
def said_in_flags(names: Collection[str]) -> Iterator[None]:
    """Within it, what is logged or raised as a `UserError` advises flags for these settings of a task.

    Where it names other settings, which are the run's, it says that none changes them.
    """

    def whole(words: str) -> str:
        words = in_flags(words, names)
        left = list(dict.fromkeys(found[2] for found in SETTING.finditer(words) if found[2]))
        fixed = f"\nNo flag changes {listed(left, 'or')} here: the run was trained so." if left and names else ""
        return words + fixed

    def reword(record: logging.LogRecord) -> bool:
        words = record.getMessage()
        record.msg, record.args = whole(words) if record.levelno >= logging.ERROR else in_flags(words, names), None
        return True

    handlers = logging.getLogger().handlers[:]
    for handler in handlers:
        handler.addFilter(reword)
    try:
        yield
    except UserError as error:
        raise UserError(whole(str(error))) from error
    finally:
        for handler in handlers:
            handler.removeFilter(reword)


def require_flags_read(run: FinishedRun, arguments: argparse.Namespace, uses: Collection[str]) -> None:
    """Raise `UserError` on a flag that names a column of which the run was shown none in training.

    uses: settings that a task of its kind reads; others are refused where the task's settings are checked.
    """
    for name in {"text_pair", "messages"} & set(uses):
        value = getattr(arguments, name, None)
        if value is not None and run.cfg.task[name] is None:
            raise UserError(
                f"{flag_of(name)} {value}: {run.path} was trained without any (task.{name}=null), so what it says of "
                "them means nothing. Leave the flag out."
            )


def _form(path: Path) -> str:
    """The format of the file, or of those in a folder or of a pattern; where training's are gone, what the name says."""
    try:
        return format_of(files_of(path)[0])
    except UserError:
        return format_of(path)


def with_file_flags(task: DictConfig, arguments: argparse.Namespace, file: Path | None) -> DictConfig:
    """A copy of the task's settings for another file, with what was given by flags.

    A file of another format than the training file's is read as such files are: no delimiter or encoding is taken over.
    Raises `UserError` on a flag without a value.
    """
    changed = task.copy()
    if file is not None and (task.path is None or _form(Path(task.path)) != _form(file)):
        changed.update({name: value for name, value in FORM.items() if name in changed})
    for name in OF_A_FILE:
        value = getattr(arguments, name, None)
        if value == "":
            raise UserError(f"{flag_of(name)}= names nothing: give it a value, or leave it out.")
        if value is not None:
            changed[name] = value
    return changed
