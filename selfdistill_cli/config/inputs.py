"""Files and folders that a command names, looked for before anything heavy is imported."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from omegaconf import DictConfig

from selfdistill_cli.config.command_line import home
from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.system.data_files import files_of

FILES = ("path", "validation_path", "test_path")
"""Settings of a task that name data files."""


def check_inputs(cfg: DictConfig) -> None:
    """Raise `UserError` if a file of the task, the model's folder or the teacher's is not there, or is no data file.

    What they hold is for whoever reads them to say.
    """
    require_files_are_read(cfg.task)
    for name in (*FILES, "added"):
        if cfg.task[name] is not None:
            _require(f"task.{name}", str(cfg.task[name]), "file")
            files_of(Path(cfg.task[name]))
    model = str(cfg.model.name)
    if model.startswith((".", "/", "~")) or model.endswith(".gguf") or Path(model).is_file():
        _require("model.name", model, "file" if model.endswith(".gguf") else "folder")
    teacher = cfg.method.get("teacher")
    if teacher is not None and teacher.get("path") is not None:
        _require("method.teacher.path", str(teacher.path), "run or model")


def require_files_are_read(task: DictConfig) -> None:
    """Raise `UserError` if the task names files and generates its examples."""
    for name in FILES:
        if task.generator is not None and task[name] is not None:
            raise UserError(
                f"task.{name}={task[name]}: task={task.name} generates its examples and reads no file. Add task=custom "
                f"for a file of your own: task=custom task.path={task.path or '<file to train on>'} "
                "task.text=<column> task.label=<column>."
            )


def _require(setting: str, value: str, what: str) -> None:
    path = Path(home(value))
    if what != "file" and path.is_file():
        known = f"train from it first (model.name={value}), and name that run" if path.suffix == ".gguf" else None
        raise UserError(f"{setting}={value} is a file: {known or 'name the folder that it lies in'}.")
    if path.exists() or glob.glob(str(path)):
        return
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    near = did_you_mean(path.name, beside)
    where = "" if path.is_absolute() else f" It was looked for in {os.getcwd()}."
    raise UserError(f"{setting}={value}: there is no such {what}.{near}{where}")
