"""Equal tuning: as many trials for each method, then fresh seeds of each one's best (hydra/sweeper=tuned).

Trials are random draws, the same ones whenever they are asked for, so that the same command goes on with a sweep that
was killed and a larger budget keeps the trials of a smaller one. What is compared in the end are runs whose seeds chose
nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException
from omegaconf import DictConfig

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.results import objective
from selfdistill_cli.sweeps.choices import Choices, Job
from selfdistill_cli.sweeps.grid import Grid
from selfdistill_cli.sweeps.plan import SEED, name_of, value_of
from selfdistill_cli.sweeps.records import JobRecords, Record


class Tuned(Grid):
    """Two batches of jobs: the trials of every combination of lists, and the seeds of the best of each."""

    def __init__(
        self,
        params: dict[str, str],
        trials: int,
        trial_seed: int,
        space: Mapping[str, Any],
        space_of: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """As conf/hydra/sweeper/tuned.yaml says."""
        super().__init__(None, params)
        self.trials = trials
        self.trial_seed = trial_seed
        self.space = space
        self.space_of = space_of
        self.final: Sequence[Job] = []
        """The jobs of the second stage without what the trials find."""
        self.tried: list[tuple[tuple[str, ...], list[str]]] = []
        """Of each trial its combination, without the seed, and what was drawn."""

    def get_job_batch(self) -> Sequence[Job]:
        """The trials; the next time, the runs of the best ones."""
        if not self.tried:
            self.final = super().get_job_batch()
            self._require_fresh_seeds()
            self.tried = self._trials()
            return [[*combination, *drawn, f"{SEED}={self.trial_seed}"] for combination, drawn in self.tried]
        best = best_of(self.tried, self._records().all())
        lost = [combination for combination in dict.fromkeys(map(_without_seed, self.final)) if combination not in best]
        if lost:
            lines = [f"{' '.join(combination)}: every trial failed, so that nothing is chosen." for combination in lost]
            self._records().note([*self._records().notes(), *lines])
        chosen = [(job, best[_without_seed(job)]) for job in self.final if _without_seed(job) in best]
        self.final = []
        return [[*_without_seed(job), *drawn, *_seed(job)] for job, drawn in chosen]

    def is_done(self) -> bool:
        """Whether both stages have been given out."""
        return bool(self.tried) and not self.final

    def _records(self) -> JobRecords:
        assert self.config is not None
        return JobRecords(Path(self.config.hydra.sweep.dir))

    def _require_fresh_seeds(self) -> None:
        assert self.config is not None
        seeds = {value_of(word) for job in self.final for word in _seed(job)} or {str(self.config.seed)}
        if str(self.trial_seed) in seeds:
            raise UserError(
                f"seed={self.trial_seed} is that of the trials (hydra.sweeper.trial_seed), by whose scores settings are "
                f"chosen: a score with it would be too good. Give other seeds: seed={self.trial_seed + 1},"
                f"{self.trial_seed + 2},{self.trial_seed + 3}."
            )

    def _trials(self) -> list[tuple[tuple[str, ...], list[str]]]:
        """The first trial of every combination, the second of every one, and so on; equal ones of a combination once."""
        combinations = list(dict.fromkeys(map(_without_seed, self.final)))
        asked = [(one, self._drawn(one, trial)) for trial in range(self.trials) for one in combinations]
        acting = Choices(self).acting([[*combination, *drawn] for combination, drawn in asked])
        found = {(one, tuple(job[len(one) :])): None for (one, _), job in zip(asked, acting, strict=True)}
        return [(combination, list(drawn)) for combination, drawn in found]

    def _drawn(self, combination: Sequence[str], trial: int) -> list[str]:
        """What a trial sets, but for settings that the combination has already."""
        options = {value_of(word) for word in combination}
        of_options = [ranges for option, ranges in self.space_of.items() if option in options]
        space = {key: value for ranges in (self.space, *of_options) for key, value in _flat(ranges)}
        given = set(map(name_of, combination))
        return [f"{key}={draw(key, values, trial)}" for key, values in space.items() if key not in given]


def draw(key: str, values: str, trial: int) -> str:
    """The value of a setting in this trial, counted from 0: a function of these three and of nothing else.

    values: `interval(0, 3)`, uniform; `tag(log, interval(0.5, 8))`, uniform in its logarithm; of an int(interval(…))
    whole numbers; or a choice, each as likely. Raises `UserError` on anything else.
    """
    try:
        parsed = OverridesParser.create().parse_override(f"{key}={values}")
    except HydraException as error:
        raise UserError(f"hydra.sweeper.space: {key}: {values} is no range: {error}") from error
    if not parsed.is_sweep_override():
        raise UserError(f"hydra.sweeper.space: {key}: {values} is one value: give interval(0, 3) or choice(1,2,3).")
    place = random.Random(f"{key} {trial}").random()  # the same whatever the machine: of a text's SHA-512
    interval: Any = parsed.value()
    if not isinstance(interval, IntervalSweep):
        choices = list(parsed.sweep_string_iterator())
        return choices[int(place * len(choices))]
    assert interval.start is not None
    assert interval.end is not None
    if isinstance(interval.start, int) and isinstance(interval.end, int):
        return str(interval.start + int(place * (interval.end - interval.start + 1)))
    if "log" in interval.tags:
        return f"{math.exp(math.log(interval.start) + place * math.log(interval.end / interval.start)):.4g}"
    return f"{interval.start + place * (interval.end - interval.start):.4g}"


def best_of(
    tried: Sequence[tuple[tuple[str, ...], list[str]]], records: Sequence[Record]
) -> dict[tuple[str, ...], list[str]]:
    """By combination, what its best trial had drawn: by the score on what selects, the earlier one of equals.

    records: of the first jobs of the sweep, job n being trial n of `tried`. A combination all of whose trials failed is
    left out.
    """
    best: dict[tuple[str, ...], tuple[float, list[str]]] = {}
    for record in records:
        if record["status"] == "failed" or record["job"] > len(tried):
            continue
        combination, drawn = tried[record["job"] - 1]
        score = objective(record) if larger_is_better(record["metric"]) else -objective(record)
        if combination not in best or score > best[combination][0]:
            best[combination] = score, drawn
    return {combination: drawn for combination, (_, drawn) in best.items()}


def _flat(ranges: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their dotted names."""
    for key, value in ranges.items():
        if isinstance(value, Mapping | DictConfig):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _without_seed(job: Job) -> tuple[str, ...]:
    return tuple(word for word in job if name_of(word) != SEED)


def _seed(job: Job) -> list[str]:
    return [word for word in job if name_of(word) == SEED]
