"""Weights & Biases: online when logged in and reachable, else offline; never a question, never a lost run."""

from __future__ import annotations

import logging
import netrc
import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import first_line
from selfdistill_cli.system.network import reachable
from selfdistill_cli.tracking.terminal import shortest

log = logging.getLogger(__name__)


def choose_mode(asked: str) -> tuple[str, str | None]:
    """`online` only with a key and a reachable host, else `offline`; and why, where online was asked for."""
    if asked == "auto" and os.environ.get("WANDB_MODE", "online") != "online":
        return os.environ["WANDB_MODE"], None
    if asked == "offline":
        return "offline", None
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if not _has_key(url):
        lacks = f"there is no key for {url} (`wandb login`, or WANDB_API_KEY)"
    elif not reachable(url):
        lacks = f"{url} cannot be reached"
    else:
        return "online", None
    return "offline", lacks if asked == "online" or "WANDB_MODE" in os.environ else None


def _has_key(url: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(urlsplit(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _refused(error: Exception) -> str:
    """What went wrong as a run was begun online."""
    words = first_line(error).rstrip(".")
    if "API key" in words or "401" in words or "403" in words:
        return f"the key, which `wandb login --relogin` or WANDB_API_KEY replaces ({words})"
    return f"this run: {words}"


def _sent(folder: Path, run_id: str) -> int:
    """How many records of this run Weights & Biases was given: those begun online, and those sent by `wandb sync`."""
    online = list(folder.glob(f"wandb/run-*-{run_id}"))
    return len(online) + sum(map(_is_sent, folder.glob(f"wandb/offline-run-*-{run_id}*")))


def _is_sent(record: Path) -> bool:
    """Whether `wandb sync` left its mark in an offline folder."""
    return any(record.glob("*.wandb.synced"))


def _forget_run() -> None:
    """End wandb's service: it holds on to the run that it could not begin, and would refuse its id."""
    import wandb

    wandb.teardown()


class WandbTracker:
    """One run there, whatever happens: its trouble is logged and training goes on."""

    def __init__(self, cfg: DictConfig, folder: Path, run_id: str, group: str | None) -> None:
        """Start tracking a run whose files lie in `folder`; `run_id` makes a continued run one run there."""
        self._run: Any = None
        self._folder, self._run_id = folder, run_id
        self._first_step, self._sent = 0, _sent(folder, run_id)
        mode, lacks = choose_mode(cfg.tracking.mode)
        if lacks is not None:
            log.warning("Weights & Biases cannot be online: %s. This run is recorded offline.", lacks)
        try:
            try:
                self._run = self._begin(cfg, group, mode)
            except Exception as error:
                if mode != "online":
                    raise
                log.warning("Weights & Biases refuses %s. This run is recorded offline.", _refused(error))
                _forget_run()
                mode = "offline"
                self._run = self._begin(cfg, group, mode)
            self._run.define_metric("*", step_metric="step")
            self._first_step = self._run.starting_step  # after those that the server has
            if mode != "online" and self._sent and not self._run.disabled:
                log.warning(
                    "Weights & Biases has %s until the interruption; the whole run is recorded as %s.",
                    run_id,
                    self._run.id,
                )
        except Exception as error:  # tracking must never cost a run
            log.warning("Weights & Biases is off for this run: %s", first_line(error))

    def _begin(self, cfg: DictConfig, group: str | None, mode: str) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # reports of its own errors, which complain here
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # it speaks of credentials before it reads the settings below
        # What is sent under an id that is there already goes behind what is there.
        run_id = self._run_id if mode == "online" or not self._sent else f"{self._run_id}-{self._sent + 1}"
        tags = [cfg.task.name, self._folder.parent.parent.name, cfg.method.name, *(cfg.tracking.tags or [])]
        return wandb.init(
            project=cfg.tracking.project,
            entity=cfg.tracking.entity,
            group=cfg.tracking.group or group,
            job_type=cfg.method.name,
            name=f"{cfg.task.name}-{cfg.method.name}-{self._run_id.partition('-')[0]}-seed{cfg.seed}",
            tags=[tag[:64] for tag in tags],  # longer ones are refused there
            config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
            id=run_id,
            resume="allow" if mode == "online" else None,
            dir=str(self._folder),
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True, console="off", init_timeout=30, disable_git=True, x_disable_meta=True),
        )

    def start(self, total_steps: int, earlier: Iterable[dict[str, Any]]) -> None:
        """Take the rows from before an interruption again, so that the record of a continued run is whole.

        `wandb sync` makes no one run of several folders: each has to hold the whole one, and what is left of an
        earlier one that was not sent is removed. Online, rows that are there already are passed over.
        """
        for values in earlier:
            self.row(values)
        if self._run is None or self._run.disabled:  # nothing holds the whole run in their place
            return
        here = Path(self._run.dir).parent
        for folder in self._folder.glob(f"wandb/offline-run-*-{self._run_id}*"):
            if folder.resolve() != here.resolve() and not _is_sent(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def row(self, values: dict[str, Any]) -> None:
        """Take a row of metrics.jsonl."""
        if values["kind"] == "examples":  # a list an example: for reports, not for charts
            return
        times = {name: values[name] for name in ("step", "epoch")}
        prefix = "" if values["kind"] == "eval" else f"{values['kind']}/"  # evaluation rows carry theirs
        named = {prefix + name: value for name, value in values.items() if name != "kind" and name not in times}
        if values["step"] >= self._first_step:
            self._safely(lambda run: run.log(named | times, step=values["step"]))

    def finish(self, results: dict[str, Any] | None) -> None:
        """Write the summary of a finished run, or mark it as failed without one."""
        if results is not None:
            final = {f"final/{name}": value for name, value in results["metrics"]["final"].items()}
            named = ("best_epoch", "examples_forwarded", "seconds", "selection_score")
            facts = {name: results[name] for name in named if name in results}
            self._safely(lambda run: run.summary.update(final | facts))
        self._safely(lambda run: run.finish(exit_code=0 if results is not None else 1))
        if results is not None and self._run is not None and self._run.offline:
            record = Path(self._run.dir).parent
            log.info(
                "  wandb sync %s  # sends this run to Weights & Biases; it was recorded offline",
                shlex.quote(str(shortest(record))),
            )

    def _safely(self, action: Any) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            log.warning("Weights & Biases is off from here on: %s", error)
            self._run = None
