"""Whole runs in one process start: of every command in a file, by the processes that a test starts together.

python -m tests.helpers.runs_of_two <file.json>, with the variables that torchrun sets. The file holds lists of words.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from selfdistill_cli.experiment import run
from selfdistill_cli.system.ranks import part
from tests.helpers.runs import composed


def main() -> None:
    """Do the runs, one after the other."""
    for words in json.loads(Path(sys.argv[1]).read_text()):
        run(composed(*words))
    part()
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), f"{threads}: one of these may abort a process that ends"


if __name__ == "__main__":
    main()
