"""environment.json names the processor, and the commit and changes of the checkout that the package runs from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from selfdistill_cli.system import environment as module
from tests.helpers.runs import composed

PROGRAM = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("environment", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(module._checkout()))
"""


def checkout_of(file: Path, elsewhere: Path) -> str:
    """What the copy of the module in `file` says, asked from another folder."""
    command = [sys.executable, "-c", PROGRAM, str(file)]
    return subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The module inside of a repository with one commit."""
    folder = tmp_path / "package"
    folder.mkdir()
    shutil.copy(module.__file__, folder / "environment.py")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return folder / "environment.py"


def test_the_checkout_is_the_packages_own(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=copy.parent, capture_output=True, text=True, check=True)
    clean = checkout_of(copy, elsewhere)
    assert head.stdout.strip() in clean
    assert '"git_changes": []' in clean
    copy.write_text(copy.read_text() + "\n")
    assert '"git_changes": ["package/environment.py"]' in checkout_of(copy, elsewhere)
    # Installed into somebody's repository, and no part of it.
    subprocess.run(["git", "rm", "-q", "--cached", str(copy)], cwd=copy.parent, check=True)
    assert checkout_of(copy, elsewhere).strip() == '{"git_commit": null, "git_changes": null}'


def test_the_command_of_a_clusters_job_is_the_one_that_makes_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed("method=kd", "task=rte", hydra=True)
    monkeypatch.setattr(sys, "argv", ["/x/submitit/core/_submit.py", "/outputs/.submitit/123"])
    monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
    assert module._command() == ["sdrun", "method=kd", "task=rte"]
    monkeypatch.setattr(sys, "argv", ["sdrun", "method=kd", "-m"])
    assert module._command() == ["sdrun", "method=kd", "-m"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo")
def test_the_processor_is_named() -> None:
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    if not named:
        pytest.skip("this processor has no name")
    assert module._processor() == named[0].partition(":")[2].strip()
