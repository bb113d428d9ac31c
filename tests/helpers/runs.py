"""Runs small enough to be quick, and what they leave behind."""

from __future__ import annotations

import copy
import csv
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selfdistill_cli.config.schema import CONF_DIR, register_schemas
from tests.helpers.processes import Finished

register_schemas()
SMALL = (
    "model=tiny_bert",
    "model.config.hidden_size=32",
    "model.config.intermediate_size=64",
    "tracking=none",
    "task.generator.train_examples=40",
    "task.generator.validation_examples=20",
    "schedule.batch_size=8",
    "schedule.epochs=2",
    "schedule.lr=1e-3",
)
"""A run of ten steps on a model that trains in a second."""
SECRET = "0123456789abcdef0123456789abcdef01234567"
"""Looks like a key of Weights & Biases; must never reach a file."""


def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    """The configuration that `sdrun <overrides>` composes; a copy of its own.

    Composing takes a quarter of a second, so what chooses options is composed once, and plain values are set in copies.
    """
    parsed = OverridesParser.create().parse_overrides([*overrides])
    cfg = copy.deepcopy(_composed(tuple(o for o, one in zip(overrides, parsed, strict=True) if not _plain(one)), hydra))
    try:
        for one in filter(_plain, parsed):
            OmegaConf.update(cfg, one.key_or_group, one.value())
    except OmegaConfBaseException:
        return copy.deepcopy(_composed(overrides, hydra))  # for Hydra's own words
    return cfg


def _plain(override: Override) -> bool:
    """Whether it gives a setting another value: no choice of an option, no new setting, nothing of Hydra's."""
    name = override.key_or_group
    changes = override.type is OverrideType.CHANGE and not override.is_sweep_override()
    return changes and not ("/" in name or name.startswith("hydra") or (CONF_DIR / name).is_dir())


@lru_cache(maxsize=512)
def _composed(overrides: tuple[str, ...], hydra: bool) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=[*overrides], return_hydra_config=hydra)


def only_run(outputs: Path, method: str = "*") -> Path:
    """The one run directory of this method below `outputs`."""
    found = [path.parent for path in outputs.glob(f"*/*/{method}/*/config.yaml")]
    assert len(found) == 1, found
    return found[0]


def rows(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, of one kind or all."""
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in read if kind is None or row["kind"] == kind]


def results(run: Path) -> dict[str, Any]:
    """What a run's results.json holds."""
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    return content


TIMES = (
    *("examples_per_s", "tokens_per_s", "seconds", "step_seconds", "checkpoint_seconds", "phase_seconds"),
    *("overhead_seconds", "peak_memory_mb"),
    *("gflops_per_s", "matmul_gflops_per_s", "mfu", "writing"),
)


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    """A row or result without what depends on the clock."""
    return {name: value for name, value in values.items() if name not in TIMES}


def assert_same(first: Path, second: Path) -> None:
    """Two run directories: the same files, and in each the same bytes where it holds no times."""
    assert [without_times(row) for row in rows(first)] == [without_times(row) for row in rows(second)]
    assert without_times(results(first)) == without_times(results(second))
    for name in ("model/model.safetensors", "model/config.json", "model/tokenizer.json", "predictions.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) for run in (first, second)]
    assert names[0] == names[1]


def table(outputs: Path) -> list[dict[str, str]]:
    """The rows of the newest sweep.csv."""
    with max(outputs.glob("sweeps/*/sweep.csv")).open() as file:
        return list(csv.DictReader(file))


def assert_one_clear_message(ended: Finished, words: list[str]) -> None:
    """A user's mistake was refused in one message that holds these words."""
    assert ended.code == 1, ended
    assert "Traceback" not in ended.err + ended.out
    message = ended.err[ended.err.index("sdrun: ") :]
    for part in words:
        assert part in message
    assert ended.err.count("sdrun: ") == 1
