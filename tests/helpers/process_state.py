"""What a process finds itself to be, as JSON: for the comparison of forked processes with fresh ones."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import datasets.config
import torch
from huggingface_hub import constants

from selfdistill_cli.system import fault_points


def main() -> None:
    """Print it, and end as a command does that was told to."""
    handlers = {name.name: str(signal.getsignal(name)) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)}
    state = {
        "environment": dict(os.environ),
        "arguments": sys.argv,
        "folder": os.getcwd(),
        "path": sys.path,
        "caches": [constants.HF_HUB_CACHE, str(datasets.config.HF_DATASETS_CACHE)],
        "offline": constants.HF_HUB_OFFLINE,
        "handlers": handlers,
        "threads": [torch.get_num_threads(), threading.active_count()],
        "fault": [fault_points._log, fault_points._fatal, fault_points._passed],
        "terminals": [os.isatty(number) for number in range(3)],
        "input": sys.stdin.read(),
        "encodings": [sys.stdout.encoding, sys.stderr.encoding],
    }
    print(json.dumps(state))
    if sys.argv[1:]:
        sys.exit(sys.argv[1] if sys.argv[1] != "raise" else int("no number"))


if __name__ == "__main__":
    main()
