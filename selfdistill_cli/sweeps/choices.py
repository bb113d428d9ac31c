"""A setting acts where it exists: which settings the options have that the jobs of a sweep choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.command_line import named_options, quoted
from selfdistill_cli.config.messages import lacking
from selfdistill_cli.config.options import default_groups, options_of
from selfdistill_cli.config.settings import holders, run_settings
from selfdistill_cli.errors import UserError

Job = Sequence[str]
"""The overrides of one job."""
FOR_THE_JOBS = "++hydra.sweeper.params="
"""What `for_the_jobs_alone` adds to a command line begins so."""
NumberedJob = tuple[int, Job]
"""Hydra's number of a job, and its overrides."""


class Choices:
    """What the options that jobs choose have, composed once for each choice of options. `of`: a sweeper or launcher."""

    def __init__(self, of: Any) -> None:
        self._loader, self._config = of.hydra_context.config_loader, of.config
        self._known: dict[tuple[str, ...], DictConfig] = {}

    def composed(self, job: Job) -> DictConfig:
        """The configuration of a job, without Hydra's own part."""
        cfg = self._loader.load_sweep_config(self._config, list(job))
        return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])

    def acting(self, jobs: Sequence[Job]) -> list[list[str]]:
        """The jobs without the settings that the options of other jobs, or others in conf/, have and theirs have not."""
        return [[word for word in job if not self._lacks(job, word, jobs)] for job in jobs]

    def _lacks(self, job: Job, word: str, jobs: Sequence[Job]) -> bool:
        key = word.partition("=")[0]
        group = key.partition(".")[0]
        if "." not in key or group not in default_groups() or _has(self._of_the_choice(job), key):
            return False
        return key in holders(group) or any(_has(self._of_the_choice(other), key) for other in jobs)

    def _of_the_choice(self, job: Job) -> DictConfig:
        choice = tuple(word for word in job if "." not in (key := word.partition("=")[0]) and key not in run_settings())
        if choice not in self._known:
            self._known[choice] = self.composed(choice)
        return self._known[choice]


def _has(cfg: DictConfig, key: str) -> bool:
    node: Any = cfg
    for part in key.split("."):
        node = (
            node._get_node(part, validate_access=False)
            if isinstance(node, DictConfig) and not node._is_none()
            else None
        )
    return node is not None


def for_the_jobs_alone(words: Sequence[str]) -> list[str]:
    """The words of a sweep, with settings that only some of its options have kept for the jobs.

    Hydra composes a sweep once as a whole, with the options that stand in the defaults list: what these do not have goes
    where an experiment's file writes what is swept, `hydra.sweeper.params`. What an experiment chooses is known only once
    it is composed; without one, raises `UserError` on a setting that none of the options has.
    """
    kept, moved = [], []
    chosen = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    for word in words:
        key, _, value = word.partition("=")
        group = key.partition(".")[0]
        if "." not in key or group not in default_groups():
            kept.append(word)
            continue
        having, default = holders(group, words).get(key, {}), default_groups()[group]
        name = chosen.get(group, default)
        names = named_options(group, name, words)
        open_ = group not in chosen and any(map(_chooses_others, chosen))
        if not open_:
            require_held(key, names, words)
        if default not in having and (open_ or names != [name]):
            moved.append(f"{key}: {quoted(value)}")
        else:
            kept.append(word)
    return [*kept, f"{FOR_THE_JOBS}{{{', '.join(moved)}}}"] if moved else kept


def _chooses_others(key: str) -> bool:
    """Whether this is an experiment, or a group of one's own, whose file may choose a method or a model."""
    return key.startswith("+") and "." not in key and key != "+size"


def require_held(key: str, names: Sequence[str], words: Sequence[str]) -> None:
    """Raise `UserError` if none of these options of its group has the setting, and others do."""
    group = key.partition(".")[0]
    having = holders(group, words).get(key, {})
    if having and set(names) <= set(options_of(group, words)) and not set(names) & having.keys():
        raise UserError(lacking(key, words))


def typed_settings(config: DictConfig) -> set[str]:
    """Names of what stands on the command line of a sweep, those that were kept for the jobs as well."""
    moved = [word for word in config.hydra.overrides.hydra if word.startswith(f"{FOR_THE_JOBS}{{")]
    inside: list[Any] = [OverridesParser.create().parse_override(word).value() for word in moved]
    return {word.partition("=")[0] for word in config.hydra.overrides.task}.union(*inside)
