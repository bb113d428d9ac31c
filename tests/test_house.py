"""The rooms of the package: sizes of files and signatures, and which way imports go (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.helpers.processes import REPOSITORY

PACKAGE = REPOSITORY / "selfdistill_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
NOT_IMPORTED = {
    "objectives.py": {"*"},
    "system": {
        "engine",
        "tasks",
        "kinds",
        "methods",
        "losses",
        "models",
        "evaluation",
        "runs",
        "reports",
        "experiment",
    },
    "config": {
        "engine",
        "tasks",
        "kinds",
        "methods",
        "losses",
        "models",
        "evaluation",
        "runs",
        "reports",
        "experiment",
    },
    "engine": {"methods", "tasks", "kinds", "losses", "models", "evaluation", "runs", "reports", "experiment"},
    "losses": {"methods", "tasks", "kinds", "evaluation", "runs", "reports", "experiment"},
    "tasks": {"methods", "kinds", "losses", "models", "evaluation", "engine", "runs", "reports", "experiment"},
    "methods": {"tasks", "kinds", "models", "evaluation", "runs", "reports", "experiment"},
    "evaluation": {"methods", "kinds", "runs", "reports", "experiment"},
    "kinds": {"methods", "runs", "reports", "experiment"},
    "reports": {"engine", "methods", "tasks", "kinds", "losses", "models", "evaluation", "experiment", "teacher"},
}
"""By file or room: the rooms that it knows nothing of."""


def imported(tree: ast.AST) -> set[str]:
    """First parts of the package's own modules that are imported while the program runs (not for types alone)."""
    for_types = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inside in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types and node.module:
            if node.module == "selfdistill_cli":
                names |= {alias.name for alias in node.names}
            elif node.module.startswith("selfdistill_cli."):
                names.add(node.module.split(".")[1])
    return names


@pytest.mark.parametrize("room", NOT_IMPORTED)
def test_imports_go_one_way(room: str) -> None:
    files = [path for path in FILES if path.relative_to(PACKAGE).parts[0] == room]
    assert files
    for path in files:
        found = imported(ast.parse(path.read_text(encoding="utf-8")))
        forbidden = found if NOT_IMPORTED[room] == {"*"} else found & NOT_IMPORTED[room]
        assert not forbidden, f"{path.relative_to(PACKAGE)} imports {forbidden}"


def test_kinds_is_imported_where_the_architecture_says() -> None:
    own = {
        path.relative_to(PACKAGE).parts[0] for path in FILES if "kinds" in imported(ast.parse(path.read_text("utf-8")))
    }
    line = next(
        line
        for line in (REPOSITORY / "docs" / "architecture.md").read_text("utf-8").splitlines()
        if line.startswith("- `kinds` puts")
    )
    named = re.findall(r"`([\w.]+)`", line.partition("; only ")[2].partition(" import it")[0])
    assert own - {"kinds"} == set(named)


def test_no_file_is_long_and_few_are_short() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert [str(path) for path, count in lines.items() if count > 300] == []
    modules = [path for path in FILES if path.name != "__init__.py"]
    short = [path for path in modules if lines[path] < 40]
    assert len(short) < len(modules) / 10, [str(path.relative_to(PACKAGE)) for path in short]


def parameters(path: Path) -> list[tuple[str, int]]:
    """Functions of a file and how many arguments they take, `self` apart; a method's constructor may take any number."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for owner in ast.walk(tree):
        for node in ast.iter_child_nodes(owner):
            if not isinstance(node, ast.FunctionDef):
                continue
            constructor = node.name == "__init__" and path.parent.name == "methods"
            names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls", "ctx")])
            if not constructor:
                found.append((f"{path.relative_to(PACKAGE)}: {getattr(owner, 'name', '')}.{node.name}", count))
    return found


def test_no_function_takes_many_arguments() -> None:
    most = {"engine/loop.py: TrainingLoop.__init__": 10, "models/cpu/attention.py: .attention": 8}
    # attention has the signature that Hugging Face models call.
    every = [one for path in FILES for one in parameters(path)]
    assert len(every) > 300
    assert [(name, count) for name, count in every if count > most.get(name, 7)] == []


def test_what_a_kind_is_is_asked_of_the_kind_alone() -> None:
    kinds = {"classification", "regression", "generation", "multiple_choice"}
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] in ("kinds", "reports", "tasks", "config"):
            continue  # settings, files and results name kinds; nothing else does
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                words = {inside.value for inside in ast.walk(node) if isinstance(inside, ast.Constant)}
                assert not words & kinds, f"{path.relative_to(PACKAGE)}:{node.lineno}"
