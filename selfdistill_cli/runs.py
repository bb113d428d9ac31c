"""A run's directory: addressed by its settings, locked while in use, finished once results.json is there.

outputs/<task>/<model>/<method>/<key>/
    config.yaml  metrics.jsonl  results.json  predictions.parquet  model/  checkpoints/
    wandb/  environment.json  run.json  train.log
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli import __version__
from selfdistill_cli.config import model_slug, run_key
from selfdistill_cli.errors import UserError
from selfdistill_cli.files import disk_errors, write_json

log = logging.getLogger(__name__)


class RunDirectory:
    """The place of one run."""

    def __init__(self, cfg: DictConfig) -> None:
        self.key = run_key(cfg)
        names = (cfg.task.name, model_slug(cfg.model.name), cfg.method.name)
        self.path = Path(cfg.paths.outputs, *names, self.key).absolute()

    def results(self) -> dict[str, Any] | None:
        """What results.json holds, or None if the run has not finished."""
        return _read_json(self.path / "results.json")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process. Raises `UserError` if another one has it.

        The operating system gives the lock back when its holder dies, so a crash leaves nothing to clean.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+", encoding="utf-8")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(f"{self.path} is in use by {holder}. Wait for it, or stop it first.") from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)

    def clear(self) -> None:
        """Throw away everything but the lock."""
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()

    def begin(self, cfg: DictConfig, fingerprints: dict[str, str]) -> dict[str, Any]:
        """Write config.yaml, environment.json and run.json, or take up those of an interrupted run.

        Returns the run's identity. Raises `UserError` if data or starting weights are no longer those
        that this run began with.
        """
        identity = _read_json(self.path / "run.json")
        if identity is None:
            identity = {"key": self.key, "wandb_id": f"{self.key}-{secrets.token_hex(4)}", "fingerprints": fingerprints}
            write_json(self.path / "run.json", identity)
        changed = [name for name, value in fingerprints.items() if identity["fingerprints"].get(name) != value]
        if changed:
            raise UserError(
                f"{self.path} was begun with other {' and '.join(changed)} under the same settings. "
                "To keep them apart nothing is mixed: rerun=true throws the earlier run away and starts afresh."
            )
        with disk_errors(self.path):
            (self.path / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
        write_json(self.path / "environment.json", environment())
        return identity

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json: from now on the run counts as finished."""
        write_json(self.path / "results.json", results)

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Send the package's log to train.log as well while the block runs; an error leaves its traceback there."""
        with disk_errors(self.path):
            handler = logging.FileHandler(self.path / "train.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        on_screen = logging.StreamHandler()
        on_screen.setLevel(logging.INFO)
        package = logging.getLogger("selfdistill_cli")
        package.setLevel(logging.DEBUG)
        handlers: list[logging.Handler] = (
            [handler] if package.handlers else [handler, on_screen]
        )  # a teacher's run is inside its student's
        for each in handlers:
            package.addHandler(each)
        try:
            yield
        except BaseException as error:
            package.removeHandler(on_screen)  # the command shows the error itself
            log.error("ended by %s: %s", type(error).__name__, error, exc_info=not isinstance(error, UserError))
            raise
        finally:
            for each in handlers:
                package.removeHandler(each)
            handler.close()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}). rerun=true starts the run afresh.") from error
    assert isinstance(content, dict)
    return content


def environment() -> dict[str, Any]:
    """Versions, machine and commit: what a reader needs to judge or repeat a run."""
    import torch

    packages = (
        "torch",
        "transformers",
        "datasets",
        "evaluate",
        "accelerate",
        "hydra-core",
        "omegaconf",
        "wandb",
        "numpy",
    )
    return {
        "selfdistill_cli": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "processor_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": sys.argv,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the working tree that the command was given in, marked if it had changes."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
