"""The jobs of a sweep: a setting acts where it exists, equal jobs are one, and all are checked before the first is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from selfdistill_cli.config.messages import lacking
from selfdistill_cli.config.options import default_groups
from selfdistill_cli.errors import UserError
from selfdistill_cli.ready import require_ready
from selfdistill_cli.sweeps.choices import Choices, Job, typed_settings
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.system.words import counted, listed


class Grid(BasicSweeper):
    """Takes the place of Hydra's sweeper over lists."""

    def get_job_batch(self) -> Sequence[Job]:
        """The next jobs, without the settings that their options lack; of equal ones one is left.

        Raises `UserError` if a setting on the command line is one of none of the jobs. (An experiment's file may sweep
        over what only some methods have; it is asked for others as well.)
        """
        assert self.config is not None
        asked = super().get_job_batch()
        acting = [tuple(job) for job in Choices(self).acting(asked)]
        distinct = list(dict.fromkeys(acting))
        left_out = {word for job, left in zip(asked, acting, strict=True) for word in job if word not in left}
        keys, composed = typed_settings(self.config), self.config.hydra.runtime.choices
        nowhere = [
            word for word in left_out if word.partition("=")[0] in keys and not any(word in job for job in acting)
        ]
        if nowhere:
            options = [f"{group}={','.join(_chosen(asked, group, composed))}" for group in default_groups()]
            raise UserError(lacking(nowhere[0].partition("=")[0], options))
        if left_out:
            lines = _what_was_left_out(asked, acting, len(distinct), composed)
            JobRecords(Path(self.config.hydra.sweep.dir)).note(lines)
        return [list(job) for job in distinct]

    def validate_batch_is_legal(self, batch: Sequence[Job]) -> None:
        """Raise `UserError` if any job cannot be run: none has been until now."""
        for number, job in enumerate(batch, start=1):
            try:
                require_ready(Choices(self).composed(job))
            except UserError as error:
                of_a_job = f"\nNothing was run: this is job {number} of {len(batch)}, {' '.join(job)}"
                raise UserError(f"{error}{of_a_job if len(batch) > 1 else ''}") from error


def _chosen(jobs: Iterable[Job], group: str, composed: Mapping[str, str]) -> list[str]:
    """The options of a group that jobs choose; where they leave it alone, that of the sweep as it was `composed`."""
    words = (word for job in jobs for word in job if word.startswith(f"{group}="))
    return list(dict.fromkeys(word.partition("=")[2] for word in words)) or [composed[group]]


def _what_was_left_out(
    asked: Sequence[Job], acting: Sequence[Job], distinct: int, composed: Mapping[str, str]
) -> list[str]:
    """One line for each setting that some options lack, and how many jobs are left."""
    without: dict[str, list[str]] = {}
    for job, left in zip(asked, acting, strict=True):
        for key in [word.partition("=")[0] for word in job if word not in left]:
            without.setdefault(key, []).extend(_chosen([job], key.partition(".")[0], composed))
    lines = []
    for key, options in without.items():
        names = list(dict.fromkeys(options))
        lines.append(f"{listed(names)} {'has' if len(names) == 1 else 'have'} no {key}: run without it.")
    if distinct < len(asked):
        lines.append(f"{len(asked)} combinations are {counted(distinct, 'job')}: what comes out equal is run once.")
    return lines
