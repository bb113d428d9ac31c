"""The entry point of `sdrun`: compose, check, run, return the score."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from selfdistill_cli.config import schema
from selfdistill_cli.config.messages import explain, help_text
from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.sweeps.job import run_job
from selfdistill_cli.system.ranks import adopt_slurm_tasks, part
from selfdistill_cli.system.signals import leaving_when_asked, listening
from selfdistill_cli.system.words import for_screen

schema.register_schemas()


def run(cfg: DictConfig, group: str | None = None) -> dict[str, Any]:
    """Check the configuration, do the run, and show and return its results."""
    with leaving_when_asked():
        check(cfg)
        from selfdistill_cli import experiment  # torch and transformers: seconds that --help should not cost

        return experiment.run(cfg, group)


@hydra.main(version_base="1.3", config_path=str(schema.CONF_DIR), config_name="config")
def _hydra_main(cfg: DictConfig) -> float | None:
    with listening():
        try:
            adopt_slurm_tasks()  # a job of a sweep did not come by `main`
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return run_job(cfg, run)
            return float(run(cfg)["score"])
        except UserError as error:
            sys.exit(f"sdrun: {error}")
        finally:
            part()


def _print_help() -> None:
    """Our text at once: Hydra would list all groups first, which takes longer than everything else."""
    try:
        print(help_text(), flush=True)
    except BrokenPipeError:  # sdrun --help | head: nobody reads on, and nobody would read a complaint
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _of_outputs(error: OSError) -> bool:
    """Whether the file of an error lies where runs land, or is a folder on the way there."""
    named = [word.partition("=")[2] for word in sys.argv if word.startswith("paths.outputs=")]
    outputs = Path([os.environ.get("SDRUN_OUTPUTS", "outputs"), *named][-1]).absolute()
    path = Path(os.fsdecode(error.filename)).absolute() if error.filename else None
    return path is not None and (path.is_relative_to(outputs) or outputs.is_relative_to(path))


def main() -> None:
    """What the console script `sdrun` calls."""
    # Hydra would print its own version of every error and exit; here they get our words instead.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        if sys.argv[1:] in (["--help"], ["-h"]):
            _print_help()
            return
        if {"-m", "--multirun"} & set(sys.argv) and {"-c", "--cfg", "--info", "-i"} & set(sys.argv):
            raise UserError("--cfg and --info show the settings of one run: leave out -m and lists such as seed=0,1.")
        adopt_slurm_tasks()
        _hydra_main()
    except UserError as error:
        sys.exit(f"sdrun: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"sdrun: {explain(error, sys.argv[1:])}")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        sys.exit(f"sdrun: {error}." + " paths.outputs=<folder> names another place for runs." * _of_outputs(error))
    except Interrupted as stop:
        print(for_screen(f"sdrun: {stop.signal.name}: {stop}."), file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("sdrun: stopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
