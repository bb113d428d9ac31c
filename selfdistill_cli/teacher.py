"""The teacher of a method: found or trained, and its logits on the training set, computed once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf, open_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from selfdistill_cli.config.inputs import FILES
from selfdistill_cli.config.methods import acting_elsewhere
from selfdistill_cli.encoding.answers import AnswerExamples
from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.processes import on_main
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.errors import UserError
from selfdistill_cli.methods import TeacherModel
from selfdistill_cli.models import LoadedModel, load_finished
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.keys import model_folder
from selfdistill_cli.system.files import new_file, read_json
from selfdistill_cli.system.lease import held
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks import TaskData

log = logging.getLogger(__name__)

STORED = "2"
"""The form of the files in which logits are stored; another one is another file."""
NAMES_DATA = ("name", *FILES, "train", "train_task", "validation", "test", "hub", "train_hub", "generator")
"""Settings of a task that say where its data is, but for the folder of named tasks."""


def teacher_config(cfg: DictConfig) -> DictConfig:
    """The run that makes the teacher: vanilla, for `method.teacher.epochs`, otherwise as the student.

    With `method.generations` it is the generation before, of the same settings; before the first one comes vanilla.
    It is a run like any other, so that every run of a sweep with the same teacher shares it.
    """
    teacher = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(teacher, DictConfig)
    generations = cfg.method.get("generations")
    with open_dict(teacher):
        if generations is not None and generations > 1:
            teacher.method.generations = generations - 1
        else:
            passes = 1 if generations is None else cfg.method.passes
            teacher.method = {"_target_": "selfdistill_cli.methods.Vanilla", "name": "vanilla", "passes": passes}
        if generations is None:
            teacher.schedule.update(epochs=cfg.method.teacher.epochs, max_steps=None, keep="last", patience=None)
        teacher.rerun = False
        teacher.eval_tasks = []
    return teacher


def is_taught(cfg: DictConfig, kind: str | None) -> bool:
    """Whether the method has a teacher in this kind of task."""
    return "teacher" in cfg.method and "teacher" not in acting_elsewhere(cfg.method, kind)


def trained_first(cfg: DictConfig) -> list[DictConfig]:
    """The runs without which a run with these settings cannot begin: its default teacher, where it has one."""
    return [teacher_config(cfg)] if is_taught(cfg, cfg.task.kind) and cfg.method.teacher.get("path") is None else []


def teacher_folder(cfg: DictConfig, task: TaskData, runtime: Runtime, train: Callable[[DictConfig], Any]) -> Path:
    """The folder of the teacher's model: `method.teacher.path`, else trained now by `train` unless it is there.

    Raises `UserError` if the path is neither a finished run nor a model folder, or the task's data has changed since
    the default teacher was trained. One that is named may well know other data, so there a change is only said.
    """
    given = cfg.method.teacher.get("path")
    if given is None:
        settings = teacher_config(cfg)
        made = on_main(runtime.accelerator, lambda: RunDirectory(settings).results())
        if made is None:
            log.info("training the teacher first: %s", _in_words(cfg))
            train(settings)
        elif made.fingerprints["data"] != task.fingerprint:
            raise UserError(
                f"The data of task={task.name} changed since the teacher in {RunDirectory(settings).path} was trained. "
                "Remove that folder, and the teacher is trained anew."
            )
        return RunDirectory(settings).path / "model"
    path = Path(given).expanduser()
    folder = model_folder(path)
    if folder is not None:
        if runtime.is_main and _knew_other_content(folder, task):
            log.warning(
                f"method.teacher.path={path}: this run was trained on other data under the name of task={task.name}: they changed "
                "since, or came from another folder or the Hub. The teacher teaches what it learned from those."
            )
        return folder
    what = "an unfinished run" if (path / "config.yaml").is_file() else "no such run or model"
    raise UserError(f"method.teacher.path={path}: {what}. Name a finished run directory or a folder with a model.")


def _knew_other_content(folder: Path, task: TaskData) -> bool:
    """Whether a run of ours made this model from the files or data set of the task, when they held something else."""
    run = folder.parent
    made = read_json(run / "results.json") if folder.name == "model" else None
    if made is None or not (run / "config.yaml").is_file():
        return False
    before: Any = OmegaConf.load(run / "config.yaml")
    same = all(before.task.get(name) == task.settings.get(name) for name in NAMES_DATA)
    return same and made.get("fingerprints", {}).get("data", task.fingerprint) != task.fingerprint


def _in_words(cfg: DictConfig) -> str:
    generations = cfg.method.get("generations")
    if generations is None:
        return f"vanilla for {counted(float(cfg.method.teacher.epochs), 'epoch')}"
    return f"generation {generations - 1} of {generations}" + ", which is vanilla" * (generations == 1)


def teacher_logits(
    cfg: DictConfig, task: TaskData, student: LoadedModel, train: Any, folder: Path, runtime: Runtime
) -> Tensor | TokenRows:
    """The teacher's logits on the training set, dropout off: [N, C], or [N] in regression.

    Of a language model, the `method.teacher.top_k` largest log-probabilities at each answer token and their entries.
    Stored under `paths.cache`, keyed by the teacher's weights and the encoded examples. `train`: the student's encoded
    training set. Raises `UserError` if the teacher does not predict the same things as the student.
    """
    teacher = load_finished(folder, task, cfg.model.trust_remote_code)
    task.kind.require_same_outputs(task, teacher, student, folder)
    examples = task.kind.encode(task, teacher, task.train)
    if isinstance(examples, AnswerExamples):
        require_same_answers(examples, train, folder)
    _require_suitable(task, teacher, examples, folder)
    prepared = runtime.prepare(teacher.model)
    what, keep = task.kind.kept_of_teacher(task.kind.losses(task, prepared), cfg.method)
    key = hashlib.sha256(" ".join([STORED, teacher.fingerprint, runtime.precision, what, examples.digest()]).encode())
    stored = Path(cfg.paths.cache).absolute() / "teacher_logits" / f"{key.hexdigest()[:16]}.safetensors"
    with contextlib.ExitStack() as lock:
        if not on_main(runtime.accelerator, lambda: _present(stored, lock)):
            log.info("computing the teacher's logits on %d examples", len(examples))
            with runtime.compute.part("teacher"):
                logits = runtime.predict(prepared, examples, keep)
            on_main(runtime.accelerator, lambda: _store(stored, logits, runtime.compute.parts["teacher"]))
    runtime.compute.parts["teacher"] = _cost(stored)  # the same whoever computed them
    tensors = load_file(stored)
    if "logits" in tensors:
        if runtime.is_main and cfg.method.teacher.get("path") is not None:
            say_what_it_knows(tensors["logits"], task, folder)
        return tensors["logits"]
    require_known(tensors["entries"], student, folder)
    return TokenRows(tensors.pop("lengths"), tensors)


def teacher_model(
    cfg: DictConfig, task: TaskData, student: LoadedModel, train: Any, folder: Path, runtime: Runtime
) -> TeacherModel:
    """The teacher in this folder, held in memory to predict what the student is given. `train`: the student's encoded
    training set. Raises `UserError` if the teacher reads or predicts other tokens than the student.
    """
    teacher = load_finished(folder, task, cfg.model.trust_remote_code)
    task.kind.require_same_outputs(task, teacher, student, folder)
    task.kind.require_same_reading(task, teacher, student, train, folder)
    _require_suitable(task, teacher, train, folder)
    prepared = runtime.prepare(teacher.model.requires_grad_(False).eval())
    return TeacherModel(prepared, task.kind.losses(task, teacher.model))


def _require_suitable(task: TaskData, teacher: LoadedModel, examples: Any, folder: Path) -> None:
    try:
        task.kind.require_suitable(teacher.model, examples)
    except UserError as error:
        raise UserError(f"The teacher in {folder}: {error}") from error


def require_same_answers(teacher: AnswerExamples, student: AnswerExamples, folder: Path) -> None:
    """Raise `UserError` unless both have the same tokens to predict of each example; their prompts may differ.

    `folder`: the teacher's.
    """
    both = teacher, student
    if all(map(np.array_equal, *(_to_predict(of) for of in both))):
        return
    rows = ([of.answers.row(row).tolist() for row in range(len(of))] for of in both)
    cuts_alone = all(one[: len(other)] == other[: len(one)] for one, other in zip(*rows, strict=True))
    if cuts_alone and any(of.truncated for of in both):
        raise UserError(
            "Teacher and student cut the answers at different places: give a task.max_length that cuts none."
        )
    raise UserError(
        f"The teacher in {folder} reads or writes the training examples in other tokens than the student (special tokens, such "
        "as the end of sequence, or a prompt format), so nothing can be compared token by token. Choose a teacher of the "
        "same tokenizer."
    )


def _to_predict(examples: AnswerExamples) -> list[np.ndarray]:
    """Tokens that are predicted, and how many of each example."""
    earlier = [] if examples.learned is None else examples.prompts.tokens[examples.learned]
    return [examples.predicted, examples.answers.offsets, examples.answers.tokens, np.asarray(earlier)]


def say_what_it_knows(logits: Tensor, task: TaskData, folder: Path) -> None:
    """Log how well logits [N, C], or outputs [N], fit the training labels; as a warning if a constant fits as well.

    A model that does not name its outputs may mean other classes by them, and of a number nothing says what it means.
    """
    labels = task.train.labels
    if logits.ndim == 2:
        right, constant = float(np.mean(logits.argmax(1).numpy() == labels)), np.bincount(labels).max() / len(labels)
        words = f"predicts {right:.1%} of the training labels (the most frequent class alone: {constant:.1%})"
        knows, elsewise = right > constant, "classes in another order (id2label of its config.json)"
    else:
        error, constant = float(np.mean((logits.double().numpy() - labels) ** 2)), np.var(labels, dtype=float)
        words = f"misses the training labels by a mean squared error of {error:.4g} (their mean alone: {constant:.4g})"
        knows, elsewise = error < constant, "numbers on another scale"
    if knows:
        log.info("the teacher in %s %s", folder, words)
        return
    log.warning(
        f"The teacher in {folder} {words}: no better than a constant. Its outputs may mean something else than those of "
        f"task={task.name}, such as {elsewise}."
    )


def require_known(entries: Tensor, student: LoadedModel, folder: Path) -> None:
    """Raise `UserError` if the student has no output for one of the entries that the teacher holds likely.

    Models of one tokenizer may have more outputs than it has entries, and not equally many.
    """
    known = student.model.get_output_embeddings().weight.shape[0]
    if entries.numel() and int(entries.max()) >= known:
        raise UserError(
            f"The teacher in {folder} has more outputs than the student ({known:,}), and holds some of them likely: token by "
            "token there is nothing to compare them with. Choose another teacher, or a smaller method.teacher.top_k."
        )


def _present(stored: Path, lock: contextlib.ExitStack) -> bool:
    """Whether the logits are there; if not, whoever computes them holds `lock` until it closes."""
    if not stored.is_file():
        lock.enter_context(held(stored.with_suffix(".lock")))
    return stored.is_file()  # another process may have stored them in the meantime


def _store(stored: Path, logits: Tensor | TokenRows, cost: Passes) -> None:
    tensors = {"logits": logits} if isinstance(logits, Tensor) else {"lengths": logits.lengths, **logits.columns}
    with new_file(stored) as beside:
        save_file(tensors, beside, metadata={"cost": json.dumps(cost.as_dict())})


def _cost(stored: Path) -> Passes:
    """What it took to compute stored logits."""
    with safe_open(stored, "pt") as file:
        return Passes.of(json.loads(file.metadata()["cost"]))
