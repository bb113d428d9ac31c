"""The entry point of `sdrun`: compose, check, run, return the score."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from selfdistill_cli.config import schema
from selfdistill_cli.config.advice import ONE_RUN, advice
from selfdistill_cli.config.command_line import flags_first, home, readable, shows_settings, sweeps
from selfdistill_cli.config.help import explained, help_text, version_text
from selfdistill_cli.config.messages import explain
from selfdistill_cli.config.options import find_installed_plugins
from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.planning.command import plan, taken_out
from selfdistill_cli.ready import notes, require_ready
from selfdistill_cli.recognised import as_conversations
from selfdistill_cli.runs.results import objective
from selfdistill_cli.self_training.rounds import run_rounds, trains_itself
from selfdistill_cli.sequence import run_sequence, sequence_of
from selfdistill_cli.sweeps.choices import for_the_jobs_alone
from selfdistill_cli.sweeps.job import run_job
from selfdistill_cli.system.ranks import adopt_slurm_tasks, is_main, part
from selfdistill_cli.system.signals import leaving_when_asked, listening
from selfdistill_cli.system.words import for_screen

schema.register_schemas()


def run(cfg: DictConfig, group: str | None = None) -> dict[str, Any]:
    """Check the configuration, do the run or runs, and show and return the results of the last one."""
    with leaving_when_asked():
        require_ready(cfg)
        given = HydraConfig.get().overrides.task if HydraConfig.initialized() and is_main() else []
        for words in notes(cfg, [word.lstrip("+").partition("=")[0] for word in given]):
            print(f"note: {words}", file=sys.stderr)
        if trains_itself(cfg):
            return run_rounds(cfg, group)
        if sequence_of(cfg):
            return run_sequence(cfg, group)
        from selfdistill_cli import experiment  # torch and transformers: seconds that --help should not cost

        return experiment.run(cfg, group)


@hydra.main(version_base="1.3", config_path=str(schema.CONF_DIR), config_name="config")
def _hydra_main(cfg: DictConfig) -> float | None:
    with listening():
        try:
            adopt_slurm_tasks()  # a job of a sweep did not come by `main`
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return run_job(cfg, run)
            return objective(run(cfg))
        except UserError as error:
            sys.exit(f"sdrun: {error}")
        finally:
            part()


def _asked_for_text(words: list[str]) -> str | None:
    """What is printed and nothing else: composing a configuration takes longer than everything else."""
    if {"-h", "--help"} & set(words):
        return help_text()
    if "--version" in words:
        return version_text()
    if "--explain" in words:
        others = [word for word in words if word != "--explain"]
        directory = [word for flag, word in pairwise(words) if flag in ("-cd", "--config-dir")]
        named = [word for word in others if not word.startswith("-") and word not in directory]
        return explained(named[0] if named else None, words)
    return None


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # sdrun --help | head: nobody reads on, and nobody would read a complaint
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _of_outputs(error: OSError) -> bool:
    """Whether the file of an error lies where runs land, or is a folder on the way there."""
    named = [word.partition("=")[2] for word in sys.argv if word.startswith("paths.outputs=")]
    outputs = Path([os.environ.get("SDRUN_OUTPUTS", "outputs"), *named][-1]).absolute()
    path = Path(os.fsdecode(error.filename)).absolute() if error.filename else None
    return path is not None and (path.is_relative_to(outputs) or outputs.is_relative_to(path))


def _read_what_was_typed() -> list[str]:
    """Give Hydra the words as it has to have them; returns them as a person would type them. Raises `UserError` if they are no command line."""
    for name in ("SDRUN_DATA", "SDRUN_OUTPUTS", "SDRUN_CACHE"):
        if os.environ.get(name, "").startswith("~"):  # from a file of variables, where no shell has read it
            os.environ[name] = home(os.environ[name])
    words = readable(sys.argv[1:])
    told = advice(words)
    if told is not None:
        raise UserError(told)
    words, note = as_conversations(flags_first(words))
    if note and is_main():
        print(f"note: {note}", file=sys.stderr)
    sys.argv[1:] = for_the_jobs_alone(words) if sweeps(words) else words
    return words


def _but_not_afresh(words: list[str]) -> str:
    """What to say, after that the same command goes on, of one that throws away what there is."""
    if "rerun=true" not in words:
        return ""
    if sweeps(words):
        return (
            " But rerun=true would start its finished jobs afresh once more; without it, jobs that have not begun keep the "
            "results that they had."
        )
    return " Leave out rerun=true, which would start afresh once more."


def main() -> None:
    """What the console script `sdrun` calls."""
    # Hydra would print its own version of every error and exit; here they get our words instead.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    words = sys.argv[1:]
    try:
        text = _asked_for_text(words)
        if text is not None:
            _print(text)
            return
        request = taken_out(sys.argv)
        if {"-m", "--multirun"} & set(sys.argv) and shows_settings(sys.argv):
            raise UserError(ONE_RUN)
        if {"-sc", "--shell-completion"} & set(sys.argv):
            from selfdistill_cli.config.completion import complete_well

            complete_well()
        else:
            words = _read_what_was_typed()
        find_installed_plugins()
        adopt_slurm_tasks()
        if request is not None:
            plan(request, sys.argv)
        else:
            _hydra_main()
    except UserError as error:
        sys.exit(f"sdrun: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"sdrun: {explain(error, words)}")
    except ValueError as error:
        if "No trials are completed" not in str(error):  # Optuna's, where it looks for the best trial
            raise
        sys.exit("sdrun: every trial of the search failed; why stands above.")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        sys.exit(f"sdrun: {error}." + " paths.outputs=<folder> names another place for runs." * _of_outputs(error))
    except Interrupted as stop:
        print(for_screen(f"sdrun: {stop.signal.name}: {stop}.{_but_not_afresh(words)}"), file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print(
            f"sdrun: stopped. The same command goes on from the last checkpoint.{_but_not_afresh(words)}",
            file=sys.stderr,
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
