"""Which of several processes of one run this is: from torchrun, `accelerate launch`, or SLURM's tasks."""

from __future__ import annotations

import os
import subprocess
import sys

from selfdistill_cli.errors import UserError


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this process writes and speaks for all."""
    return int(os.environ.get("RANK", 0)) == 0


def adopt_slurm_tasks() -> None:
    """Give the tasks of one `srun` the variables that torchrun sets, which torch and Accelerate read.

    Only tasks that srun started count: a batch script sees the job's number of tasks as well, and is alone.
    Raises `UserError` if the first node's name cannot be found.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if "RANK" in os.environ or tasks < 2:
        return
    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "WORLD_SIZE": str(tasks),
        "MASTER_ADDR": os.environ.get("MASTER_ADDR") or _first_node(),
        # The same for all tasks of a step, another one for jobs that share a node.
        "MASTER_PORT": os.environ.get("MASTER_PORT") or str(20000 + (7 * job + step) % 20000),
    }


def part() -> None:
    """Leave the group of processes, if there is one: gloo's threads would abort a process that ends within it."""
    if world_size() > 1 and (torch := sys.modules.get("torch")) and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _first_node() -> str:
    if os.environ.get("SLURM_STEP_NUM_NODES") == "1":
        return "127.0.0.1"
    nodes = os.environ["SLURM_STEP_NODELIST"]
    try:
        names = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"SLURM's nodes {nodes} cannot be read ({error}): set MASTER_ADDR to the first one.") from error
    return names.stdout.split()[0]
