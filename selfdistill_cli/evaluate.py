"""The entry point of `sdevaluate`: finished runs scored on other tasks, without training.

sdevaluate outputs/rte/*/*/* --tasks scitail,sick,snli,adv_rte,axb
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config import schema
from selfdistill_cli.config.options import option
from selfdistill_cli.errors import UserError

schema.register_schemas()


def evaluate(words: Sequence[str]) -> None:
    """Do what the command line says. Raises `UserError` if a folder is no finished run, or a task does not fit."""
    parser = argparse.ArgumentParser(
        prog="sdevaluate", description="Score finished runs on other tasks, without training."
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--tasks", required=True, help="names of tasks, with commas between them")
    parser.add_argument(
        "--data", default=os.environ.get("SDRUN_DATA"), help="folder of the data (SDRUN_DATA; else as the run)"
    )
    arguments = parser.parse_args(words)
    for run in arguments.runs:
        if not (run / "results.json").is_file() or not (run / "config.yaml").is_file():
            raise UserError(f"{run} is no finished run: name the folder that holds its results.json.")
    tasks = [option("task", name) for name in arguments.tasks.split(",")]

    # torch and transformers: seconds that a wrong name should not cost
    from selfdistill_cli.engine.runtime import make_accelerator
    from selfdistill_cli.other_tasks import score_on_other_tasks
    from selfdistill_cli.tracking.terminal import make_console, say

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    console = make_console()
    for run in arguments.runs:
        cfg = OmegaConf.load(run / "config.yaml")
        assert isinstance(cfg, DictConfig)
        if arguments.data:
            cfg.paths.data = arguments.data
        found = score_on_other_tasks(cfg, run, tasks, make_accelerator(cfg.runtime))
        for name, scores in found.items():
            say(console, f"{run}  {name}: {scores['metric']} {scores['score']:.4f} ({scores['examples']:,} examples)")


def main() -> None:
    """What the console script `sdevaluate` calls."""
    try:
        evaluate(sys.argv[1:])
    except UserError as error:
        sys.exit(f"sdevaluate: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
