"""The runs that a command asks for: each once, with how far it has come, and the teachers that they need first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig

from selfdistill_cli.config.inputs import check_inputs
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.runs.directory import RunDirectory
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
            check(cfg)
            check_inputs(cfg)
            cell = _cell(cfg, overrides, found)
        except UserError as error:
            which = f"\nThis is job {number} of {len(jobs)}: {' '.join(overrides)}" if len(jobs) > 1 else ""
            raise UserError(f"{error}{which}") from error
        cell.jobs.append(number)
        cell.overrides = cell.overrides or overrides
    return list(found.values())


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
