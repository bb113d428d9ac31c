"""What conf/ and the folders beside it offer: groups, their options, one option by its name; installed plugins."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError, did_you_mean

PLUGINS = "selfdistill_cli.plugins"
"""The group of entry points by which an installed package says that it brings options: its value is the package,
whose folder conf/ joins the search path."""


@cache
def plugin_folders() -> tuple[Path, ...]:
    """The folders conf/ of installed plugins; none of their code is imported."""
    found = []
    for entry in entry_points(group=PLUGINS):
        with contextlib.suppress(ImportError, ValueError):  # an entry point whose package is gone
            spec = importlib.util.find_spec(entry.value)
            places = [] if spec is None else list(spec.submodule_search_locations or [])
            found += [Path(place) / "conf" for place in places if (Path(place) / "conf").is_dir()]
    return tuple(dict.fromkeys(found))


class InstalledPlugins(SearchPathPlugin):
    """Hydra asks it for further folders to look for options in."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in plugin_folders():
            search_path.append(provider="sdrun-plugin", path=f"file://{folder}")


def find_installed_plugins() -> None:
    """Have every composition from now on find the options of installed plugins."""
    if plugin_folders():
        Plugins.instance().register(InstalledPlugins)


def option(group: str, name: str, own: Sequence[str] = ()) -> DictConfig:
    """What conf/<group>/<name>.yaml, ours or one on the search path of the command, composes to.

    `own`: further places to look in, as Hydra names them. Raises `UserError` with the nearest name if there is none.
    """
    find_installed_plugins()
    searched = [*(HydraConfig.get().searchpath if HydraConfig.initialized() else ()), *own]
    inside = GlobalHydra.instance().is_initialized()  # a run by hydra.main: then with its --config-dir
    with contextlib.nullcontext() if inside else initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            chosen = compose("config", overrides=[f"{group}={name}", f"hydra.searchpath=[{','.join(searched)}]"])[group]
        except MissingConfigException as error:
            allowed = list(error.options or [])
            raise UserError(
                f"there is no {group} '{name}'.{did_you_mean(name, allowed)} Allowed are {', '.join(allowed)}."
            ) from error
    assert isinstance(chosen, DictConfig)
    return chosen


# --- groups and their options, as the folders say --------------------------------------------------


def folders(words: Sequence[str] = ()) -> list[Path]:
    """Where options lie: conf/, the plugins' folders, and the one that a command line names with --config-dir."""
    named = [after for word, after in pairwise(words) if word in ("--config-dir", "-cd")]
    named += [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    return [CONF_DIR, *plugin_folders(), *map(Path, named)]


@cache
def default_groups() -> dict[str, str]:
    """The groups of which every run has one option, and the option that it has unless another is chosen."""
    defaults = yaml.safe_load((CONF_DIR / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    pairs = [next(iter(entry.items())) for entry in defaults if isinstance(entry, dict)]
    return {name: chosen for name, chosen in pairs if " " not in name}


@cache
def added_groups() -> tuple[str, ...]:
    """The groups that are chosen with a plus: their options change settings anywhere."""
    named = [path for path in CONF_DIR.iterdir() if path.is_dir() and any(map(_is_global, path.glob("*.yaml")))]
    return tuple(sorted(path.name for path in named))


def _is_global(path: Path) -> bool:
    return path.read_text(encoding="utf-8").startswith("# @package _global_")


def groups() -> list[str]:
    """The groups that a user chooses from. The other folders of conf/ hold what options share."""
    return [*default_groups(), *added_groups(), "hydra/launcher"]


def options_of(group: str, words: Sequence[str] = ()) -> list[str]:
    """The names of a group's options, as `folders(words)` has them; `default` first."""
    names = {path.stem for folder in folders(words) for path in (folder / group).glob("*.yaml")}
    return sorted(names, key=lambda name: (name != "default", name))


# --- keys ------------------------------------------------------------------------------------------


def keys(overrides: list[str]) -> list[str]:
    """Every key of the configuration that the command's group choices give."""
    chosen = [word for word in overrides if re.fullmatch(r"\w+=\w+", word) and word.split("=")[0] in default_groups()]
    return list(_keys(tuple(chosen)))


@lru_cache(maxsize=16)
def _keys(chosen: tuple[str, ...]) -> tuple[str, ...]:
    GlobalHydra.instance().clear()
    find_installed_plugins()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            cfg = compose("config", overrides=list(chosen))
        except Exception:  # another part of the command is wrong too; the defaults still give most names
            cfg = compose("config")
    return tuple(_flatten(cfg, ""))


def _flatten(node: DictConfig, prefix: str) -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _flatten(child, f"{prefix}{key}.")
