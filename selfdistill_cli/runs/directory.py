"""A run's directory: addressed by its settings, locked while in use, finished once results.json is there.

outputs/<task>/<model>/<method>/<key>/
    config.yaml  metrics.jsonl  results.json  predictions.parquet  model/  checkpoints/
    wandb/  environment.json  run.json  train.log  evaluations/  asked/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import SoftFileLease
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.checks import diagnostics_of
from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.runs.keys import READ_OFF_LABELS, model_slug, run_key
from selfdistill_cli.runs.results import Results, read_results
from selfdistill_cli.system.environment import environment
from selfdistill_cli.system.files import disk_errors, new_file, read_json, remove_partials, write_json
from selfdistill_cli.system.lease import held, require
from selfdistill_cli.system.words import ScreenHandler

log = logging.getLogger(__name__)


def _length(cfg: DictConfig) -> dict[str, float | None]:
    """The settings that say how long a run trains, by name."""
    steps, passes = cfg.schedule.max_steps, cfg.method.get("passes", 1)
    epochs = None if steps is not None else float(cfg.schedule.epochs)  # beside steps they do nothing
    return {"schedule.epochs": epochs, "schedule.max_steps": steps, "method.passes": float(passes)}


class _LogFile(logging.FileHandler):
    """train.log, which may lack lines on a full disk: whatever else is written there says so in words."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class RunDirectory:
    """The place of one run."""

    def __init__(self, cfg: DictConfig) -> None:
        self.key = run_key(cfg)
        self._outputs = Path(cfg.paths.outputs).absolute()
        of_task = self._outputs / cfg.task.name
        self.path = of_task / model_slug(cfg.model.name) / cfg.method.name / self.key
        if not self.path.exists() and Path(cfg.model.name).expanduser().is_dir():
            # The same model may have had another folder's name when the run was made.
            self.path = next(of_task.glob(f"*/{cfg.method.name}/{self.key}"), self.path)
        if cfg.task.get("kind") is None and not self.path.exists():
            self.path = next(self._of_what_the_labels_were(cfg), self.path)
            self.key = self.path.name
        self._lease: SoftFileLease | None = None
        self._afresh = False

    def _of_what_the_labels_were(self, cfg: DictConfig) -> Iterator[Path]:
        """Finished runs whose labels, read since, tell that they differ only in settings that do nothing for them."""
        for kind in READ_OFF_LABELS:
            path = self.path.with_name(run_key(cfg, kind))
            if (read_json(path / "results.json") or {}).get("kind") == kind:
                yield path

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints lie while it trains."""
        return self.path / "checkpoints"

    def results(self) -> Results | None:
        """What results.json holds, or None if the run has not finished."""
        return read_results(self.path / "results.json")

    def ran_otherwise(self, cfg: DictConfig) -> list[str]:
        """What to say where `cfg` asks for a `runtime` that the finished run did not have: it is no part of its key."""
        config, results = OmegaConf.load(self.path / "config.yaml"), self.results()
        assert results is not None
        had = OmegaConf.select(config, "runtime", default={})
        diagnostics = diagnostics_of(had.get("diagnostics"))
        absent = [name for name in diagnostics_of(cfg.runtime.diagnostics) if name not in diagnostics]
        said = [f"It was run without runtime.diagnostics={','.join(absent)}; rerun=true adds them."] if absent else []
        threads = (read_json(self.path / "environment.json") or {}).get("processor_threads")
        chosen = {"precision": results.precision, "padding": results.padding, "threads": threads}
        for name, asked in cfg.runtime.items():
            if name in ("diagnostics", "checkpoint_every") or had.get(name, asked) == asked:
                continue
            was = chosen.get(str(name), had[name])
            if asked not in (None, "auto", was) and was not in (None, "auto"):
                before, now = (str(value).lower() for value in (was, asked))
                said.append(f"It was run with runtime.{name}={before}; rerun=true trains it with {now}.")
        return said

    def note_asked(self, cfg: DictConfig) -> None:
        """Note the length that `cfg` gives this finished run, where it is said otherwise: six epochs, or three twice.

        Reports compare runs of one length, so it has its place beside those that were asked for alike. In a file for each,
        since several may ask at once; a folder that may not be written stays as it is.
        """
        ran: Any = OmegaConf.load(self.path / "config.yaml")
        asked = _length(cfg)
        if asked != _length(ran):
            name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
            with contextlib.suppress(OSError, UserError):
                write_json(self.path / "asked" / f"{name}.json", asked)

    @contextlib.contextmanager
    def held(self, afresh: bool = False) -> Iterator[None]:
        """Hold the run for this process, with what a killed one left half-written removed; wait for another.

        Two jobs of a sweep may need the same teacher at the same time: one trains it, the other waits. afresh: what is
        here goes, but not before `begin`, when the new run is known to be one that can be made.
        """
        self._afresh = afresh
        with held(self.path / "lock") as self._lease:
            remove_partials(self.path)
            yield

    def begun_by_this_job(self) -> bool:
        """Whether SLURM started this job again and the run was begun when it started it before.

        Then `rerun=true` has been obeyed already: a requeued job goes on.
        """
        if int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
            return False
        begun = (read_json(self.path / "run.json") or {}).get("slurm_job")
        return begun is not None and begun == os.environ.get("SLURM_JOB_ID")

    def require_lock(self) -> None:
        """Raise `UserError` if another process took the run over in the meantime."""
        if self._lease is not None:
            require(self._lease)

    def clear(self, but: Sequence[str] = ()) -> None:
        """Throw away everything but the lock; first of all what says that the run is finished, should this be cut off."""
        (self.path / "results.json").unlink(missing_ok=True)
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name not in ("lock", *but):
                entry.unlink()

    def withdraw(self) -> None:
        """Take back what a refused run has written, unless anything was trained: it is no interrupted one.

        One that would have started afresh leaves what it would have replaced.
        """
        if self._afresh and (self.path / "run.json").exists():
            return
        rows = self.path / "metrics.jsonl"
        trained = self.checkpoints.exists() or (rows.is_file() and rows.stat().st_size > 0)
        held_still = self._lease is not None and self._lease.compromise is None
        if held_still and not trained:
            self.clear()

    def remove_if_empty(self) -> None:
        """Remove the folder of a run that was taken back, once it is unlocked, and those above it that hold nothing else."""
        with contextlib.suppress(OSError):
            for folder in (self.path, *self.path.parents):
                if folder == self._outputs:
                    break
                folder.rmdir()

    def require_same(self, fingerprints: dict[str, str]) -> None:
        """Raise `UserError` if data, starting weights or tokenizer are no longer those that an interrupted run began with.

        What an earlier version took no fingerprint of is not compared.
        """
        if self._afresh:
            return
        began_with = (read_json(self.path / "run.json") or {}).get("fingerprints", {})
        changed = [name for name, value in fingerprints.items() if began_with.get(name, value) != value]
        if changed:
            raise UserError(
                f"{self.path} was begun with other {' and '.join(changed)} under the same settings. "
                "To keep them apart nothing is mixed: rerun=true throws the earlier run away and starts afresh."
            )

    def begin(self, cfg: DictConfig, fingerprints: dict[str, str]) -> dict[str, Any]:
        """Write config.yaml, environment.json and run.json, or take up those of an interrupted run; its identity."""
        if self._afresh:
            self.clear(but=["train.log"])  # it is open
            self._afresh = False
        identity, before = read_json(self.path / "run.json"), self.path / "config.yaml"
        asked: Any = OmegaConf.load(before) if before.is_file() else cfg
        if identity is None:
            identity = {"key": self.key, "wandb_id": f"{self.key}-{secrets.token_hex(4)}", "fingerprints": fingerprints}
            identity |= {"slurm_job": os.environ.get("SLURM_JOB_ID")}
            write_json(self.path / "run.json", identity)
        with new_file(self.path / "config.yaml") as beside:
            beside.write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
        self.note_asked(asked)  # an interrupted run may go on in other words for its length
        write_json(self.path / "environment.json", environment())
        return identity

    def finish(self, results: Results) -> None:
        """Write results.json: from now on the run counts as finished."""
        self.require_lock()
        write_json(self.path / "results.json", results.as_dict())

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Send the package's log to train.log as well while the block runs; an error leaves its traceback there."""
        with disk_errors(self.path):
            handler = _LogFile(self.path / "train.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        on_screen = ScreenHandler()
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
            if isinstance(error, (Interrupted, KeyboardInterrupt)):  # a wish, and no fault to be looked for
                log.info("interrupted: %s", error)
            else:
                log.error("ended by %s: %s", type(error).__name__, error, exc_info=not isinstance(error, UserError))
            raise
        finally:
            for each in handlers:
                package.removeHandler(each)
            with contextlib.suppress(OSError):  # a full disk: the run has ended by then, and has said why
                handler.close()
