"""What comes from outside can neither run code nor reach other folders."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch

from selfdistill_cli import models
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.keys import model_slug
from tests.helpers.processes import REPOSITORY
from tests.helpers.runs import composed
from tests.helpers.small_models import SIZES, settings, task

SOURCES = sorted((REPOSITORY / "selfdistill_cli").rglob("*.py"))
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "numpy.load", "np.load", "yaml.load"}


def unsafe(source: str) -> list[str]:
    """What in this module could load a pickle or evaluate text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names if alias.name.partition(".")[0] in UNSAFE]
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in UNSAFE:
                found.append(module)
            case ast.Call(func=function) if ast.unparse(function) in UNSAFE_CALLS:
                found.append(ast.unparse(function))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_module_can_load_a_pickle_or_evaluate_text(path: Path) -> None:
    assert unsafe(path.read_text()) == []


@pytest.mark.parametrize(
    "source", ["import pickle", "from joblib.x import y", "def f(): return torch.load(x)", "eval('1')"]
)
def test_what_is_unsafe_is_found(source: str) -> None:
    assert len(unsafe(source)) == 1


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "..", ".", "~/x", "a/../../b", "x\\..\\y", "a b", "", "x\n"]
)
@pytest.mark.parametrize("key", ["task.name", "method.name", "task.train", "task.validation"])
def test_a_name_that_would_become_another_folder_is_refused(key: str, name: str) -> None:
    cfg = composed()
    if key == "task.validation":
        cfg.task.validation = [name]
    else:
        parent, _, leaf = key.partition(".")
        cfg[parent][leaf] = name
    with pytest.raises(UserError):
        check(cfg)


@pytest.mark.parametrize("name", ["../../x", "/etc", "..", "a/../..", "~", "...", "\x00", "a/..", "."])
def test_a_model_s_name_stays_one_folder_below_the_outputs(name: str, tmp_path: Path) -> None:
    slug = model_slug(name)
    assert "/" not in slug
    assert slug not in ("", ".", "..")
    cfg = composed(f"paths.outputs={tmp_path}")
    cfg.model.name = name
    assert RunDirectory(cfg).path.resolve().is_relative_to(tmp_path.resolve())


def test_code_of_a_model_is_not_run_unless_asked_for() -> None:
    assert composed().model.trust_remote_code is False
    for path in (REPOSITORY / "conf").rglob("*.yaml"):
        assert "trust_remote_code: true" not in path.read_text()


OWN_CONFIGURATION = """from transformers import BertConfig


class OwnConfig(BertConfig):
    model_type = "own_bert"
"""
OWN_MODEL = """from transformers import BertForSequenceClassification

from .configuration_own import OwnConfig


class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig
"""


def test_code_that_lies_in_a_finished_model_runs_only_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, loaded = tmp_path / "model", models.load_model(settings("tiny_bert", config=SIZES), task(), 0)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own_bert"}
    config["auto_map"] = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForSequenceClassification": "modeling_own.OwnModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(OWN_CONFIGURATION)
    (folder / "modeling_own.py").write_text(OWN_MODEL)
    with pytest.raises(UserError, match="holds no"):
        models.load_finished(folder, task())
    found = models.load_finished(folder, task(), trust_remote_code=True).model
    assert type(found).__name__ == "OwnModel"
    assert torch.equal(found.classifier.weight, loaded.model.classifier.weight)
