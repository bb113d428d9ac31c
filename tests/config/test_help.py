"""`--explain`, `--help` and completion tell what conf/ and the schema say."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from selfdistill_cli.config import settings
from selfdistill_cli.config.completion import offered, values
from selfdistill_cli.config.help import explained
from selfdistill_cli.config.options import groups
from selfdistill_cli.errors import UserError
from tests.helpers.runs import composed


@pytest.mark.parametrize("width", [50, 80])
@pytest.mark.parametrize(
    "asked", [None, "task", "method", "experiment", "hydra/launcher", "method.tau", "method=dcs", "lr"]
)
def test_pages_fit_the_terminal(asked: str | None, width: int) -> None:
    lines = explained(asked, width=width).splitlines()
    assert len(lines) > 1
    too_long = [line for line in lines if len(line) > width and len(line.split()) > 1 and " " in line.strip()]
    assert [line for line in too_long if max(map(len, line.split())) + 6 < width] == []


def test_a_setting_with_meaning_default_range_and_who_has_it() -> None:
    page = explained("method.tau", width=200)
    assert "method.tau  (number greater than 0)" in page
    assert "kd: default 2.0" in page
    assert "dynsdpb: default 3.0" in page
    assert "DLB's public code uses 3" in page
    assert "vanilla" not in page


def test_bounds_that_differ_between_methods_are_told_apart() -> None:
    page = explained("method.alpha", width=200)
    lines = [line.split(": ") for line in page.splitlines() if line.startswith("  number at least 0")]
    has = {bounds.strip(): names.split(", ") for bounds, names in lines}
    assert {"dcs", "kd"} <= set(has["number at least 0 and at most 1"])
    assert {"dynsdpb", "static_sd"} <= set(has["number at least 0"])


def test_choices_and_what_is_shared() -> None:
    assert "uncertainty | confidence | constant" in explained("method.tau_rule", width=200)
    page = explained("task.max_length", width=200)
    assert "default 128" in page
    assert "tokens; longer inputs are cut" in page
    assert "peak learning rate" in explained("lr", width=200)
    assert "fixes the classifier" in explained("seed", width=200)


def test_an_option_and_a_group() -> None:
    assert explained("method=dcs", width=200).startswith("method=dcs: Dynamic corrective self-distillation")
    page = explained("task", width=200)
    assert "rte: " in page
    assert "task.text_pair" in page


@pytest.mark.parametrize(("method", "schedule"), [("dcs", "dcs_paper"), ("vanilla_matched", "default")])
def test_values_read_from_the_files_are_those_that_hydra_composes(method: str, schedule: str) -> None:
    cfg = composed(f"method={method}", f"schedule={schedule}")
    for group, name in (("method", method), ("schedule", schedule), ("runtime", "default")):
        found = settings.read_option(group, name).settings
        assert len(found) > 1
        for key, setting in found.items():
            assert OmegaConf.select(cfg, key) == OmegaConf.create(f"x: {setting.value}").x, key


def test_an_option_is_explained_by_its_name_alone() -> None:
    assert explained("reweight") == explained("method=reweight")
    assert explained("reweight").startswith("method=reweight: ")


def test_what_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"Did you mean 'method\.tau'"):
        explained("method.tua")


def test_options_of_a_folder_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text("# My reviews.\nname: mine\n")
    assert "mine: My reviews." in explained("task", ["--config-dir", str(tmp_path)], width=80)


def test_completion_offers_values_and_no_internal_groups() -> None:
    assert values("method.tau_rule=un") == ["method.tau_rule=uncertainty"]
    assert values("runtime.device=") == [f"runtime.device={name}" for name in ("auto", "cpu", "cuda", "mps")]
    assert values("rerun=") == ["rerun=true", "rerun=false"]
    assert values("method.tau=") is None
    assert values("method=d") is None
    assert [word for word in ("base/", "schema/", "schedule_model=") if offered(word)] == []
    assert all(offered(f"{group}=") for group in groups())
    assert offered("paths.")
