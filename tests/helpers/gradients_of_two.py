"""The gradients of one step for every method and kind of task, by the two processes that test_processes.py starts.

python -m tests.helpers.gradients_of_two <file.safetensors>, with the variables that torchrun sets.
"""

from __future__ import annotations

import sys

import torch
from safetensors.torch import save_file

from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.system.ranks import is_main, part
from tests.helpers.steps import (
    CASES,
    gradients_of_bfloat16,
    gradients_of_second_step,
    gradients_of_single_example,
    shards_of,
)


def main() -> None:
    """Compute them together; the first process writes them into the file."""
    found = {}
    for kind, name in CASES:
        for shard in shards_of(name):
            gradient, loss = gradients_of_second_step(kind, name, Batching(200), shard)
            found[f"{kind} {name} {shard}"] = torch.cat([gradient, torch.tensor([loss])])
    found["one example for two processes"] = gradients_of_single_example()
    found["weights in bfloat16"] = gradients_of_bfloat16()
    if is_main():
        save_file(found, sys.argv[1])
    part()


if __name__ == "__main__":
    main()
