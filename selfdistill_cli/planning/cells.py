"""The runs that a command asks for: each once, with how far it has come, and the teachers that they need first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.ready import require_ready
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.self_training.rounds import ABOUT, gold_alone, place_of, trains_itself, with_added
from selfdistill_cli.sequence import sequence_of, stages
from selfdistill_cli.system.files import read_json
from selfdistill_cli.system.lease import in_use

FINISHED, INTERRUPTED, RUNNING, TO_DO = "finished", "interrupted", "running", "to do"


@dataclass
class Cell:
    """One run of a plan."""

    cfg: DictConfig
    overrides: Sequence[str]
    """Of the first job that asks for it; none of a teacher's that no job asks for."""
    directory: RunDirectory
    state: str
    step: int = 0
    """Optimizer steps that it need not do again."""
    jobs: list[int] = field(default_factory=list)
    """Numbers from 1 of the jobs that ask for it: none, if it is a teacher and nothing else."""
    first: list[Cell] = field(default_factory=list)
    """Teachers that are to be there before it."""
    known: bool = True
    """Whether its key is known: a later stage of a sequence begins from weights that the earlier one is yet to make,
    a round of self-training from answers that the round before is yet to write."""

    @property
    def left(self) -> bool:
        """Whether there is anything left to do."""
        return self.state != FINISHED


def cells_of(jobs: Sequence[tuple[DictConfig, Sequence[str]]]) -> list[Cell]:
    """The runs of these jobs (configuration, overrides), teachers before who needs them.

    Jobs that come out equal are one run, and so are teachers. Raises `UserError` if a job cannot be run, and says which.
    """
    found: dict[str, Cell] = {}
    for number, (cfg, overrides) in enumerate(jobs, start=1):
        try:
            for stage, known in _stages(cfg):
                cell = _cell(stage, overrides, found) if known else _to_come(stage, overrides, found)
                cell.jobs.append(number)
                cell.overrides = cell.overrides or overrides
        except UserError as error:
            which = f"\nThis is job {number} of {len(jobs)}: {' '.join(overrides)}" if len(jobs) > 1 else ""
            raise UserError(f"{error}{which}") from error
    return list(found.values())


def _stages(cfg: DictConfig) -> list[tuple[DictConfig, bool]]:
    """The runs of one job, and whether each can be told from others already. Raises `UserError` if it cannot be run."""
    require_ready(cfg)
    if trains_itself(cfg):
        return _rounds(cfg)
    if not sequence_of(cfg):
        return [(cfg, True)]
    found: list[tuple[DictConfig, bool]] = []

    def collect(stage: DictConfig, others: Sequence[DictConfig]) -> dict[str, Any]:
        scores = {"score": 0.0, "other_tasks": {other.name: 0.0 for other in others}}
        known = all(RunDirectory(one).results() is not None for one, _ in found[1:])  # the first one trains nothing
        if not known:
            stage.model = cfg.model  # of the same size as what it will begin from
        found.append((stage, known))
        return scores | {"directory": str(RunDirectory(stage).path)}

    stages(cfg, collect)
    return found


def _rounds(cfg: DictConfig) -> list[tuple[DictConfig, bool]]:
    """Those whose answers are drawn already, as far as the rounds went; the others as if they were round 0 again."""
    found = [(gold_alone(cfg), True)]
    for number in range(1, cfg.self_training.rounds + 1):
        drawn = _drawn(cfg, found[-1][0], number)
        if drawn is None:
            return [*found, *[(gold_alone(cfg), False)] * (cfg.self_training.rounds - number + 1)]
        folder, added = drawn
        if added == 0:
            break
        found.append((with_added(cfg, folder, number), True))
    return found


def _drawn(cfg: DictConfig, before: DictConfig, number: int) -> tuple[Path, int] | None:
    """Where the run `before` left what this round adds, and how many; None: it is yet to draw."""
    directory = RunDirectory(before)
    if cfg.rerun or directory.results() is None:
        return None
    folder = place_of(cfg, directory.path, number)
    about = read_json(folder / ABOUT)
    return None if about is None else (folder, int(about["added"]))


def _to_come(cfg: DictConfig, overrides: Sequence[str], found: dict[str, Cell]) -> Cell:
    """A run that only the ones before it make possible: it is nobody else's, and nothing of it is there."""
    cell = found[f"{len(found)} to come"] = Cell(cfg, overrides, RunDirectory(cfg), TO_DO, known=False)
    return cell


def _cell(cfg: DictConfig, overrides: Sequence[str], found: dict[str, Cell]) -> Cell:
    directory = RunDirectory(cfg)
    known = found.get(str(directory.path))
    if known is not None:
        return known
    state, step = _state(cfg, directory)
    cell = Cell(cfg, overrides, directory, state, step)
    if cell.left:
        cell.first = [_cell(teacher, (), found) for teacher in _trained_first(cfg)]
    found[str(directory.path)] = cell
    return cell


def _trained_first(cfg: DictConfig) -> Sequence[DictConfig]:
    if "teacher" not in cfg.method:
        return ()
    from selfdistill_cli.teacher import trained_first  # imports torch

    return trained_first(cfg)


def _state(cfg: DictConfig, directory: RunDirectory) -> tuple[str, int]:
    """How far a run has come, and the optimizer steps that it keeps."""
    if cfg.rerun:
        return TO_DO, 0
    if directory.results() is not None:
        return FINISHED, 0
    steps = [int(folder.name.partition("-")[2]) for folder in directory.checkpoints.glob("step-*")]
    if in_use(directory.path / "lock"):
        return RUNNING, max(steps, default=0)
    begun = (directory.path / "run.json").is_file()
    return (INTERRUPTED, max(steps, default=0)) if begun else (TO_DO, 0)
