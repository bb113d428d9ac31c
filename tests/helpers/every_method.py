"""Every method that conf/ has, asked of it: what refuses a kind of task, what has a teacher, where its run lies."""

from __future__ import annotations

from pathlib import Path

import hydra.utils
from omegaconf import OmegaConf

from selfdistill_cli.config.methods import draws_answers
from selfdistill_cli.config.options import options_of
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.methods import Method
from selfdistill_cli.runs.directory import RunDirectory
from tests.helpers.runs import composed

METHODS = options_of("method")


def refusal(*words: str) -> str | None:
    """What the checks of settings say of this command; None if it can be run."""
    try:
        check(composed(*words))
    except UserError as error:
        return str(error)
    return None


def given_teacher(method: str, folder: Path | str = "nowhere") -> list[str]:
    """Words that name this folder as its teacher, if it has one that somebody has to name."""
    teacher = composed(f"method={method}").method.get("teacher")
    named = teacher is not None and OmegaConf.is_missing(teacher, "path")
    return [f"method.teacher.path={folder}"] if named else []


SELF_CONTAINED = [method for method in METHODS if not given_teacher(method)]
"""Those that one sweep can hold: they need no settings of their own."""


def methods_for(*words: str) -> list[str]:
    """The methods that go with these words."""
    return [method for method in METHODS if refusal(f"method={method}", *given_teacher(method), *words) is None]


def short_teacher(method: str) -> list[str]:
    """Words that make its teacher learn for one epoch, if it has one that learns for some."""
    settings = composed(f"method={method}").method
    return ["method.teacher.epochs=1"] if "epochs" in settings.get("teacher", {}) else []


def draws(method: str) -> bool:
    """Whether its steps write answers."""
    return draws_answers(composed(f"method={method}").method)


def forwards_twice(method: str) -> bool:
    """Whether a step forwards the examples of the step before again."""
    return "overlap" in composed(f"method={method}").method


def has_state(method: str) -> bool:
    """Whether it remembers anything that a continued run needs."""
    made_by = hydra.utils.get_class(composed(f"method={method}").method._target_)
    assert issubclass(made_by, Method)
    return made_by.state_dict is not Method.state_dict


def run_of(outputs: Path, *words: str) -> Path:
    """The directory of this command's run below `outputs`; teachers and generations leave others there."""
    return RunDirectory(composed(*words, f"paths.outputs={outputs}")).path
