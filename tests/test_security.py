"""What comes from outside can neither run code nor reach other folders."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from selfdistill_cli.config.checks import check
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.keys import model_slug
from tests.conftest import REPOSITORY, composed

SOURCES = sorted((REPOSITORY / "selfdistill_cli").rglob("*.py"))
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_module_can_load_a_pickle_or_evaluate_text(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not UNSAFE & {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNSAFE
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.load", "numpy.load", "np.load", "yaml.load"), called


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
