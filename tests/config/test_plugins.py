"""An installed package brings options by an entry point; its code is not imported to find them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from selfdistill_cli.config import options
from selfdistill_cli.config.help import explained, help_text
from selfdistill_cli.runs.keys import run_key
from tests.helpers import runs


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `theirs` with a method, as pip leaves it, and another whose package is gone."""
    for name in ("theirs", "gone"):
        record = tmp_path / f"{name}-1.0.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (record / "entry_points.txt").write_text(f"[selfdistill_cli.plugins]\n{name} = {name}\n")
    folder = tmp_path / "theirs" / "conf" / "method"
    folder.mkdir(parents=True)
    (tmp_path / "theirs" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "penalty.yaml").write_text(
        "# Confident predictions cost.\n_target_: theirs.Penalty\nname: penalty\nbeta: 0.1  # how much\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options.plugin_folders.cache_clear()
    yield tmp_path
    options.plugin_folders.cache_clear()
    Plugins.instance().plugin_type_to_subclass_list[SearchPathPlugin].remove(options.InstalledPlugins)


def test_an_installed_plugin_is_found_by_its_entry_point(installed: Path) -> None:
    assert options.plugin_folders() == (installed / "theirs" / "conf",)
    options.find_installed_plugins()
    cfg = runs.composed("method=penalty", "method.beta=0.2")
    assert cfg.method.beta == 0.2
    assert options.option("method", "penalty").beta == 0.1
    assert run_key(cfg) != run_key(runs.composed("method=penalty"))
    assert "how much" in explained("method.beta", width=80)
    assert " penalty " in help_text().replace("\n", " ")
