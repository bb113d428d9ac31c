"""Whether everything that a command asks for can be begun: asked before anything heavy is imported, of every way of running."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from selfdistill_cli.config.checks import eval_tasks_of, idle
from selfdistill_cli.config.inputs import check_inputs
from selfdistill_cli.config.options import option
from selfdistill_cli.config.weights import require_weights
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.self_training.rounds import require_possible, trains_itself
from selfdistill_cli.sequence import of_no_stage, planned, sequence_of


def require_ready(cfg: DictConfig) -> None:
    """Raise `UserError` if a run that this configuration asks for cannot be made: by its settings, or what they name is not there."""
    if cfg.self_training.name != "none" and cfg.self_training.round is not None:
        raise UserError(
            f"self_training.round={cfg.self_training.round}: rounds number themselves. How many there are is "
            f"self_training.rounds={cfg.self_training.round}."
        )
    for one in runs_of(cfg):
        check(one)
        check_inputs(one)
        for name in eval_tasks_of(one.eval_tasks):
            option("task", name)
        # pyarrow: a tenth of a second that neither --help nor a wrong setting should cost
        from selfdistill_cli.tasks.presence import require_data

        try:
            require_data(one.task, str(one.paths.data))
            require_weights(str(one.model.name), Path(one.paths.cache).absolute())
        except UserError:
            # What has finished is shown, whatever became of its data and weights.
            if one.rerun or RunDirectory(one).results() is None:
                raise


def notes(cfg: DictConfig, given: Sequence[str]) -> list[str]:
    """What to say of settings that were `given` (their keys) and do nothing in any of the runs."""
    of_each = [idle(one, given) for one in runs_of(cfg)]
    return [*(words for words in of_each[0] if all(words in others for others in of_each)), *of_no_stage(cfg, given)]


def runs_of(cfg: DictConfig) -> list[DictConfig]:
    """The runs that are known before the first is made: the stages of a sequence; else one, of self-training for all rounds.

    Raises `UserError` if they do not go together.
    """
    if trains_itself(cfg):
        require_possible(cfg)
    elif sequence_of(cfg):
        return planned(cfg)
    return [cfg]
