"""Keys: what does nothing is no part of them, a user's own files count by content, a later release finds old runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.keys import run_key, scientific_settings
from selfdistill_cli.runs.results import SCHEMA_VERSION, read_results
from tests.helpers.runs import composed

FINISHED = Path(__file__).parent / "data" / "finished"
"""A run of this version: its settings and results, without its model."""


@pytest.mark.parametrize(
    ("neutral", "acting"),
    [
        ("model.dropout=null", "model.dropout=0"),  # 0 switches dropout off; null leaves the model's own
        ("model.lora.alpha=99", "model.lora.rank=8"),  # without a rank there is no LoRA
        ("task.label_noise=0", "task.label_noise=0.1"),
        ("task.decoding.num_beams=1", "task.decoding.num_beams=2"),
        ("schedule.weight_decay=0.01", "schedule.weight_decay=0"),
        ("schedule.patience=null", "schedule.patience=2"),
        ("method.passes=1", "method.passes=2"),
        ("method.start_epoch=0", "method.start_epoch=0.5"),
    ],
)
def test_what_does_nothing_is_no_part_of_a_key(neutral: str, acting: str) -> None:
    assert run_key(composed(neutral)) == run_key(composed())
    assert run_key(composed(acting)) != run_key(composed())


def test_a_default_that_acts_is_part_of_the_key() -> None:
    settings = scientific_settings(composed("method=static_sd"))
    assert settings["method"]["tau"] == 3
    assert "start_epoch" not in settings["method"]
    assert settings["schedule"]["weight_decay"] == 0.01
    assert "patience" not in settings["schedule"]


def test_options_that_a_later_release_adds_change_no_key() -> None:
    cfg = composed("method=dynsdpb")
    assert run_key(with_new_options(cfg)) == run_key(cfg)


def with_new_options(cfg: DictConfig) -> DictConfig:
    """As a later release would compose it: each group has a new option, which does nothing unless it is given."""
    later = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(later, DictConfig)
    for group, nothing in (("model", None), ("task", {}), ("method", None), ("schedule", [])):
        later[group].a_new_option = nothing
    return later


def own(path: Path | str) -> DictConfig:
    return composed("task=custom", f"task.path={path}", "task.text=text", "task.label=label")


def test_a_file_counts_by_content_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,1\ny,0\n")
    shutil.copy(tmp_path / "a.csv", tmp_path / "b.csv")
    monkeypatch.chdir(tmp_path)
    keys = {run_key(own(path)) for path in ("a.csv", tmp_path / "a.csv", "b.csv", f"../{tmp_path.name}/a.csv")}
    assert len(keys) == 1
    (tmp_path / "b.csv").write_text("text,label\nx,1\ny,1\n")
    assert run_key(own("b.csv")) not in keys
    assert run_key(own("missing.csv")) not in keys  # whoever reads it will say that it is not there


def test_a_folder_with_a_model_counts_by_content(tmp_path: Path) -> None:
    for name, width in (("one", 32), ("two", 32), ("other", 64)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"hidden_size": width}))
        (tmp_path / name / "model.safetensors").write_bytes(bytes(width))
        (tmp_path / name / "README.md").write_text(f"the card of {name}")
    keys = [run_key(composed(f"model.name={tmp_path}/{name}")) for name in ("one", "two", "other")]
    assert keys[0] == keys[1] != keys[2]
    teachers = [run_key(composed("method=kd", f"method.teacher.path={tmp_path}/{name}")) for name in ("one", "other")]
    assert teachers[0] != teachers[1]


def finished_run(tmp_path: Path, file: str = "reviews.csv") -> tuple[DictConfig, RunDirectory]:
    """The stored run in its place below `tmp_path`, asked for again with its data at `file`."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FINISHED / "reviews.csv", tmp_path / file)
    cfg = composed(
        "task=custom", f"task.path={tmp_path / file}", "task.text=text", "task.label=label", "model=tiny_bert",
        "method=static_sd", "schedule.max_steps=2", "tracking=none", f"paths.outputs={tmp_path}/outputs",
    )  # fmt: skip
    key = json.loads((FINISHED / "results.json").read_text())["key"]
    place = tmp_path / "outputs" / "custom" / "tiny_bert" / "static_sd" / key
    shutil.copytree(FINISHED, place)
    return cfg, RunDirectory(cfg)


def test_a_run_of_this_version_is_found_after_options_were_added_and_its_file_moved(tmp_path: Path) -> None:
    cfg, directory = finished_run(tmp_path, "moved/renamed.csv")
    found = directory.results()
    assert found is not None
    assert found.steps == 2
    assert RunDirectory(with_new_options(cfg)).results() == found


def test_results_of_a_later_version_are_refused_with_the_way_out(tmp_path: Path) -> None:
    content = json.loads((FINISHED / "results.json").read_text())
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content | {"a_new_field": 1}))
    found = read_results(path)
    assert found is not None
    assert found.score == content["score"]
    path.write_text(json.dumps(content | {"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UserError, match=r"later version .* paths\.outputs"):
        read_results(path)
    del content["steps"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged: it has no steps"):
        read_results(path)
