"""Keys: what does nothing is no part of them, a user's own files count by content, a later release finds old runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config import schema
from selfdistill_cli.config.fields import number
from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.keys import run_key, scientific_settings
from selfdistill_cli.runs.results import SCHEMA_VERSION, read_results
from selfdistill_cli.system import files
from tests.helpers.processes import user_environment
from tests.helpers.runs import composed

pytestmark = pytest.mark.thorough

FINISHED = Path(__file__).parent / "data" / "finished"
"""A run of this version: its settings and results, without its model."""


@pytest.mark.parametrize(
    ("neutral", "acting"),
    [
        ("model.dropout=null", "model.dropout=0"),  # 0 switches dropout off; null leaves the model's own
        ("model.lora.alpha=99", "model.lora.rank=8"),  # without a rank there is no LoRA
        ("task.label_noise=0", "task.label_noise=0.1"),
        ("task.selection_share=0.3", "task.selection=held_out"),  # without a held-out part there is no share of it
        ("task.decoding.num_beams=1", "task.decoding.num_beams=2"),
        ("schedule.weight_decay=0.01", "schedule.weight_decay=0"),
        ("schedule.patience=null", "schedule.patience=2"),
        ("method.passes=1", "method.passes=2"),
        ("method.start_epoch=0", "method.start_epoch=0.5"),
        ("method.outputs=gold", "method.outputs=sampled"),
    ],
)
def test_what_does_nothing_is_no_part_of_a_key(neutral: str, acting: str) -> None:
    assert run_key(composed(neutral)) == run_key(composed())
    assert run_key(composed(acting)) != run_key(composed())


@pytest.mark.parametrize(
    "acting",
    [
        *("schedule.max_grad_norm=null", "schedule.warmup_ratio=0", "method.alpha=0", "model.trust_remote_code=true"),
        *("+model.config.hidden_act=null", "+model.config.layers=[]", "task.generator.seed=1", "seed=1"),
    ],
)
def test_what_acts_changes_the_key(acting: str) -> None:
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


def write_model(folder: Path, width: int = 32) -> Path:
    """What `save_pretrained` leaves, as far as a key looks at it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": width}))
    (folder / "model.safetensors").write_bytes(bytes(width))
    (folder / "README.md").write_text(f"the card of {folder}")
    return folder


def test_a_folder_with_a_model_counts_by_content(tmp_path: Path) -> None:
    for name, width in (("one", 32), ("two", 32), ("other", 64)):
        write_model(tmp_path / name, width)
    keys = [run_key(composed(f"model.name={tmp_path}/{name}")) for name in ("one", "two", "other")]
    assert keys[0] == keys[1] != keys[2]
    teachers = [run_key(composed("method=kd", f"method.teacher.path={tmp_path}/{name}")) for name in ("one", "other")]
    assert teachers[0] != teachers[1]


@dataclass
class LaterSchedule(schema.Schedule):
    """The schedule of a later version with two more options."""

    label_smoothing: float = number(at_least=0, neutral=0)
    floor: float | None = number(at_least=0)


@pytest.mark.parametrize(("smoothing", "floor", "same"), [(0.0, None, True), (0.1, None, False), (0.0, 0.5, False)])
def test_a_later_option_at_its_neutral_value_keeps_the_key(smoothing: float, floor: Any, same: bool) -> None:
    now = composed()
    later: Any = OmegaConf.create(OmegaConf.to_container(now, resolve=True))
    added = {"label_smoothing": smoothing, "floor": floor}
    later.schedule = OmegaConf.merge(OmegaConf.structured(LaterSchedule), later.schedule, added)
    later.method.averaging = None
    later.task.filters = []
    later.model.adapters = {}
    assert (run_key(later) == run_key(now)) == same


@pytest.mark.parametrize(
    ("shared", "void"),
    [
        ((), "model.lora.alpha=3"),
        (("schedule.max_steps=5",), "schedule.epochs=9"),
        (("method=kd", "method.teacher.path=nowhere"), "method.teacher.epochs=9"),
        ((), "method.temperature=0.5"),  # nothing is drawn
        (("method=sdft",), "method.beta=0.9"),  # of jsd
        (("method=sdft", "method.weights=start"), "method.ema_beta=0.1"),
        (("method=dcs", "task=synth_entailment"), "method.discordance_quantile=0.5"),  # of regression
        (("method=reweight", "task=synth_entailment"), "method.error_quantile=0.5"),
        (("method=dcs", "method.reweighting=reset"), "method.max_weight=3"),
        (("method=reweight", "method.rule=jtt"), "method.max_weight=3"),
        (("method=kd", "task=synth_similarity"), "method.tau=7"),  # a single output has no distribution
        (("method=born_again", "task=synth_similarity"), "method.tau=7"),
        (("method=ema", "task=synth_similarity"), "method.tau=7"),
        (("method=static_sd", "task=synth_similarity"), "method.tau=7"),  # it cancels, but with regression=width
        (("method=dynsdpb", "task=synth_similarity"), "method.tau_rule=constant"),
        ((), "task.strict=true"),  # refuses, or changes nothing
    ],
)
def test_what_another_setting_makes_void_is_no_part_of_a_key(shared: tuple[str, ...], void: str) -> None:
    assert run_key(composed(*shared, void)) == run_key(composed(*shared))


def test_what_is_void_without_another_setting_acts_with_it() -> None:
    pairs = [
        ("method.outputs=sampled", "method.temperature=0.5"),
        ("method=sdft", "method.temperature=0.5"),
        ("method=sdft", "method.ema_beta=0.1"),
        ("method.divergence=jsd", "method.beta=0.9"),
    ]
    of_width = ("task=synth_similarity", "method.regression=width")
    assert run_key(composed(*of_width, "method.tau=7")) != run_key(composed(*of_width))
    assert run_key(composed("method=dcs", "method.max_weight=3")) != run_key(composed("method=dcs"))
    similar = ("method=dcs", "task=synth_similarity")
    assert run_key(composed(*similar, "method.discordance_quantile=0.5")) != run_key(composed(*similar))
    for shared, acting in pairs:
        words = ["method=sdft"] * ("divergence" in shared) + [shared]
        assert run_key(composed(*words, acting)) != run_key(composed(*words))


def test_a_plugin_with_a_schema_declares_its_own_neutral_values_and_one_without_keeps_all() -> None:
    @dataclass
    class Penalty:
        _target_: str = "theirs.Penalty"
        name: str = "penalty"
        beta: float = number(neutral=0)

    def key(method: Any) -> str:
        cfg = composed()
        cfg.method = method
        return run_key(OmegaConf.masked_copy(cfg, [*SCIENCE, "paths"]))

    plain = {"_target_": "theirs.Penalty", "name": "penalty"}
    assert key(OmegaConf.structured(Penalty(beta=0.0))) == key(OmegaConf.create(plain))
    assert key(OmegaConf.structured(Penalty(beta=0.5))) != key(OmegaConf.create(plain))
    assert key(OmegaConf.create({**plain, "beta": None})) != key(OmegaConf.create(plain))


def test_a_teacher_is_the_same_by_its_run_and_by_its_model(tmp_path: Path) -> None:
    write_model(tmp_path / "run" / "model")
    by_run, by_model = (
        run_key(composed("method=kd", f"method.teacher.path={path}"))
        for path in (tmp_path / "run", tmp_path / "run" / "model")
    )
    assert by_run == by_model


def test_a_run_is_found_after_its_model_s_folder_was_renamed(tmp_path: Path) -> None:
    def directory(folder: Path) -> RunDirectory:
        return RunDirectory(composed(f"paths.outputs={tmp_path / 'outputs'}", f"model.name={folder}"))

    before = directory(write_model(tmp_path / "bert"))
    before.path.mkdir(parents=True)
    (tmp_path / "bert").rename(tmp_path / "my-bert")
    assert directory(tmp_path / "my-bert").path == before.path


def test_a_large_file_is_read_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.csv").write_text("text,label\n" + "some text,1\nother text,0\n" * 60_000)
    cfg = own(tmp_path / "large.csv")
    cfg.paths.cache = str(tmp_path / "cache")
    key = run_key(cfg)
    files._file_digest.cache_clear()  # as in another process

    def fail(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(files, "sha256", fail)
    assert run_key(cfg) == key


def test_a_damaged_note_of_a_digest_is_made_anew(tmp_path: Path) -> None:
    file, cache = tmp_path / "rows.csv", tmp_path / "cache"
    file.write_bytes(b"a" * 2**21)
    expected = files.file_digest(file, cache)
    (note,) = (cache / "digests").iterdir()
    for damaged in ("", '{"path": "x"}'):
        note.write_text(damaged)
        files._file_digest.cache_clear()
        assert files.file_digest(file, cache) == expected
    assert expected in note.read_text()


def test_a_digest_that_cannot_be_kept_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "some text,1\nother text,0\n" * 60_000)
    (tmp_path / "cache").touch()  # where a folder is needed
    cfg = own(tmp_path / "rows.csv")
    cfg.paths.cache = str(tmp_path / "other")
    key = run_key(cfg)
    cfg.paths.cache = str(tmp_path / "cache")
    files._file_digest.cache_clear()
    assert run_key(cfg) == key


def test_keys_need_neither_torch_nor_pyarrow(tmp_path: Path) -> None:
    shutil.copy(FINISHED / "reviews.csv", tmp_path)
    words = ("task=custom", "task.path=reviews.csv", "task.text=text", "task.label=label")
    program = (
        "import sys; from hydra import compose, initialize_config_dir\n"
        "from selfdistill_cli.config.schema import CONF_DIR, register_schemas; register_schemas()\n"
        "from selfdistill_cli.runs.directory import RunDirectory\n"
        "with initialize_config_dir(str(CONF_DIR), version_base='1.3'): cfg = compose('config', sys.argv[1:])\n"
        "directory = RunDirectory(cfg); assert directory.results() is None\n"
        "print(directory.key, {'torch', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=user_environment(tmp_path),
    )
    assert ended.stdout == f"{run_key(own(tmp_path / 'reviews.csv'))} set()\n", ended.stderr


def test_whole_numbers_are_the_same_however_they_are_typed() -> None:
    plain = {"_target_": "theirs.Penalty", "name": "penalty"}
    one, other = composed(), composed()
    one.method, other.method = OmegaConf.create(plain | {"beta": 2}), OmegaConf.create(plain | {"beta": 2.0})
    assert run_key(one) == run_key(other)
    assert json.dumps(scientific_settings(one)["method"]["beta"]) == "2"


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


def test_regression_s_form_is_part_of_a_regression_s_key_alone() -> None:
    """Runs of before compared predictions as `width` does: those are found by it, and are no runs of the default."""

    def key(*words: str) -> str:
        return run_key(composed("method=dynsdpb", *words))

    def before(*words: str) -> str:
        plain: Any = OmegaConf.to_container(composed("method=dynsdpb", *words), resolve=True)
        del plain["method"]["regression"]
        return run_key(OmegaConf.create(plain))

    for task in ("task=rte", "task=gsm8k"):
        assert key(task) == key(task, "method.regression=width") == before(task)
    assert key("task=stsb") != key("task=stsb", "method.regression=width") == before("task=stsb")


@pytest.mark.parametrize(("kind", "found"), [("classification", True), ("regression", False)])
def test_a_run_of_before_is_found_by_what_its_labels_were(kind: str, found: bool, tmp_path: Path) -> None:
    """The file's kind is not known before it is read, so the key cannot tell; the finished run can."""
    cfg, directory = finished_run(tmp_path)
    results = directory.path / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"kind": kind}))
    assert (RunDirectory(cfg).results() is not None) == found
    cfg.method.regression = "width"
    assert RunDirectory(cfg).results() is not None
