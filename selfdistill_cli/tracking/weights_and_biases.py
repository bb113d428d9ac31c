"""Weights & Biases: online when logged in and reachable, else offline; never a question, never a lost run."""

from __future__ import annotations

import logging
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import first_line
from selfdistill_cli.system.network import reachable

log = logging.getLogger(__name__)


def choose_mode(asked: str) -> str:
    """`online` or `offline`: what was asked for, or by `auto` online only with a key and a reachable host."""
    if asked != "auto":
        return asked
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return "online" if _has_key(url) and reachable(url) else "offline"


def _has_key(url: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(urlsplit(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbTracker:
    """One run there, whatever happens: its trouble is logged and training goes on."""

    def __init__(self, cfg: DictConfig, folder: Path, run_id: str, group: str | None) -> None:
        """Start tracking a run whose files lie in `folder`; `run_id` makes a continued run one run there."""
        self._run: Any = None
        try:
            import wandb

            tags = [cfg.task.name, folder.parent.parent.name, cfg.method.name, *(cfg.tracking.tags or [])]
            self._run = wandb.init(
                project=cfg.tracking.project,
                entity=cfg.tracking.entity,
                group=cfg.tracking.group or group,
                job_type=cfg.method.name,
                name=f"{cfg.task.name}-{cfg.method.name}-{run_id.partition('-')[0]}-seed{cfg.seed}",
                tags=[tag[:64] for tag in tags],  # longer ones are refused there
                config=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
                id=run_id,
                resume="allow",
                dir=str(folder),
                mode=choose_mode(cfg.tracking.mode),  # type: ignore[arg-type]
                settings=wandb.Settings(
                    silent=True, console="off", init_timeout=30, disable_git=True, x_disable_meta=True
                ),
            )
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # tracking must never cost a run
            log.warning("Weights & Biases is off for this run: %s", first_line(error))

    def start(self, total_steps: int) -> None:
        """Nothing: the run there exists since it was made."""

    def row(self, values: dict[str, Any]) -> None:
        """Take a row of metrics.jsonl."""
        if values["kind"] == "examples":  # a list an example: for reports, not for charts
            return
        times = {name: values[name] for name in ("step", "epoch")}
        prefix = "" if values["kind"] == "eval" else f"{values['kind']}/"  # evaluation rows carry theirs
        named = {prefix + name: value for name, value in values.items() if name != "kind" and name not in times}
        self._safely(lambda run: run.log(named | times))

    def finish(self, results: dict[str, Any] | None) -> None:
        """Write the summary of a finished run, or mark it as failed without one."""
        if results is not None:
            final = {f"final/{name}": value for name, value in results["metrics"]["final"].items()}
            facts = {name: results[name] for name in ("best_epoch", "examples_forwarded", "seconds")}
            self._safely(lambda run: run.summary.update(final | facts))
        self._safely(lambda run: run.finish(exit_code=0 if results is not None else 1))

    def _safely(self, action: Any) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            log.warning("Weights & Biases is off from here on: %s", error)
            self._run = None
