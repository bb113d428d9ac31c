"""How much more memory a run took than its process had before, in bytes.

python -m tests.helpers.peak_memory <words of sdrun>
"""

from __future__ import annotations

import sys

import torch

from selfdistill_cli import experiment
from selfdistill_cli.system.overhead import Overhead, peak_memory_mb
from tests.helpers.runs import composed


def main() -> None:
    """Print it last."""
    Overhead(torch.device("cpu")).forget_peak()
    before = peak_memory_mb(torch.device("cpu")) or 0.0
    experiment.run(composed(*sys.argv[1:]))
    print(f"\n{((peak_memory_mb(torch.device('cpu')) or 0.0) - before) * 1e6:.0f}")


if __name__ == "__main__":
    main()
