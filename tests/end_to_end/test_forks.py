"""A command that the fork server starts is what a fresh interpreter would be: the other tests rest on it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import Finished, fork_server, run_command
from tests.helpers.runs import SMALL, assert_same, only_run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only"),
    pytest.mark.slow,
]


def both(folder: Path, environment: dict[str, str], *words: str, module: str) -> list[Finished]:
    server = fork_server()
    assert server is not None
    assert server.suits(environment)
    return [run_command(folder, environment, *words, module=module, fresh=fresh) for fresh in (False, True)]


def test_the_process_is_the_same(environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"SDRUN_FAULT_AT": "1000", "SDRUN_FAULT_LOG": "points", "OF_THIS_TEST": "yes"}
    forked, fresh = both(tmp_path, environment, module="tests.helpers.process_state")
    assert (forked.code, forked.err) == (fresh.code, fresh.err) == (0, "")
    found = json.loads(forked.out)
    assert found == json.loads(fresh.out)
    assert all(path.startswith(str(tmp_path)) for path in found["caches"])
    assert found["fault"] == ["points", 1000, 0]


@pytest.mark.parametrize(("word", "code", "said"), [("a mistake", 1, "a mistake\n"), ("raise", 1, "ValueError")])
def test_it_ends_the_same(word: str, code: int, said: str, environment: dict[str, str], tmp_path: Path) -> None:
    for ended in both(tmp_path, environment, word, module="tests.helpers.process_state"):
        assert ended.code == code
        assert said in ended.err


def test_a_run_is_the_same(environment: dict[str, str], tmp_path: Path) -> None:
    runs = []
    for fresh in (False, True):
        environment["SDRUN_OUTPUTS"] = str(tmp_path / f"fresh {fresh}")
        ended = run_command(tmp_path, environment, "method=dynsdpb", *SMALL, fresh=fresh)
        assert ended.code == 0, ended.err
        runs.append(only_run(tmp_path / f"fresh {fresh}"))
    assert_same(*runs)
    assert (runs[0] / "environment.json").read_text() == (runs[1] / "environment.json").read_text()
