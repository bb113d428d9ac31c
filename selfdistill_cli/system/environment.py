"""What a reader needs to judge or repeat a run: versions, machine, command, commit."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from typing import Any

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
