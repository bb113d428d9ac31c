"""What a reader needs to judge or repeat a run: versions, machine, command, commit."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from selfdistill_cli import __version__


def environment() -> dict[str, Any]:
    """The contents of environment.json."""
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
        "processor": _processor(),
        "processor_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": _command(),
        **_checkout(),
    }


def _command() -> list[str]:
    """The words that were typed; in a job of a cluster, which was given a file of words, those of the job's own run."""
    if Path(sys.argv[0]).name == "_submit.py" and HydraConfig.initialized():
        return ["sdrun", *HydraConfig.get().overrides.task]
    return sys.argv


def _processor() -> str:
    """What the processor calls itself."""
    with contextlib.suppress(OSError):  # Linux alone has it
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def _checkout() -> dict[str, Any]:
    """The commit of the working tree that the package runs from, and its files that differ from it.

    Of an installed package both are null: it may lie inside of somebody's repository and be no part of it.
    """
    inside = _git("ls-files", "--error-unmatch", "--", Path(__file__).name) is not None
    commit = _git("rev-parse", "HEAD") if inside else None
    changes = _git("status", "--porcelain") if inside else None
    return {
        "git_commit": commit,
        "git_changes": None if changes is None else [line[3:] for line in changes.splitlines()],
    }


def _git(*words: str) -> str | None:
    """What git says in the folder of this file; None if it refuses, or is not there."""
    try:
        ended = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.rstrip()
