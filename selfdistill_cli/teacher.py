"""The teacher of kd and dcs: found or trained, and its logits on the training set, computed once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from omegaconf import DictConfig, OmegaConf, open_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.prediction import on_cpu, predict
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.processes import on_main
from selfdistill_cli.engine.runtime import precision_of
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.answers import TokenTerms
from selfdistill_cli.models import load_finished, weights_digest
from selfdistill_cli.models.output_layer import output_layer
from selfdistill_cli.problem import encode_split
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.system.files import new_file
from selfdistill_cli.system.lease import claimed
from selfdistill_cli.tasks import TaskData

log = logging.getLogger(__name__)


def teacher_config(cfg: DictConfig) -> DictConfig:
    """The run that makes the default teacher: vanilla, for `method.teacher.epochs`, otherwise as the student.

    It is a run like any other, so that every run of a sweep with the same teacher shares it.
    """
    teacher = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(teacher, DictConfig)
    with open_dict(teacher):
        teacher.method = {"_target_": "selfdistill_cli.methods.Vanilla", "name": "vanilla"}
        teacher.schedule.update(epochs=cfg.method.teacher.epochs, max_steps=None, keep="last", patience=None)
        teacher.rerun = False
        teacher.eval_tasks = []
    return teacher


def teacher_folder(cfg: DictConfig, accelerator: Accelerator, train: Callable[[DictConfig], Any]) -> Path:
    """The folder of the teacher's model: `method.teacher.path`, else trained now by `train` unless it is there.

    Raises `UserError` if the path is neither a finished run nor a model folder.
    """
    if cfg.method.teacher.path is None:
        settings = teacher_config(cfg)
        if on_main(accelerator, lambda: RunDirectory(settings).results() is None):
            log.info("training the teacher first: vanilla for %g epochs", cfg.method.teacher.epochs)
            train(settings)
        return RunDirectory(settings).path / "model"
    path = Path(cfg.method.teacher.path).expanduser()
    for folder in (path / "model", path):
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return folder
    what = "an unfinished run" if (path / "config.yaml").is_file() else "no such run or model"
    raise UserError(f"method.teacher.path={path}: {what}. Name a finished run directory or a folder with a model.")


def teacher_logits(
    cfg: DictConfig, task: TaskData, tokenizer: Any, folder: Path, batching: Batching, accelerator: Accelerator
) -> Tensor | TokenRows:
    """The teacher's logits on the training set, dropout off: [N, C], or [N] in regression.

    Of a language model, the `method.teacher.top_k` largest log-probabilities at each answer token and their entries.
    Stored under `paths.cache`, keyed by the teacher's weights and the encoded examples. Raises `UserError` if the
    teacher has other classes than the task, or another vocabulary than the student (`tokenizer`).
    """
    model, own_tokenizer = load_finished(folder, task)
    parts = [weights_digest(model.state_dict()), precision_of(accelerator)]
    if task.is_language_modeling:
        _require_same_vocabulary(tokenizer, own_tokenizer, folder)
        parts.append(f"top {cfg.method.teacher.top_k}")
    else:
        _require_same_labels(model.config, task, folder)
    examples = encode_split(cfg.task, task, model, own_tokenizer, task.train)
    key = hashlib.sha256(" ".join([*parts, examples.digest()]).encode())
    stored = Path(cfg.paths.cache).absolute() / "teacher_logits" / f"{key.hexdigest()[:16]}.safetensors"
    with contextlib.ExitStack() as claim:
        if not on_main(accelerator, lambda: _present(stored, claim)):
            log.info("computing the teacher's logits on %d examples", len(examples))
            prepared = accelerator.prepare_model(model, evaluation_mode=True)
            keep: Callable[[Any], Any] = on_cpu
            if task.is_language_modeling:
                terms = TokenTerms(lambda: output_layer(prepared))
                keep = partial(terms.top_entries, k=cfg.method.teacher.top_k)
            logits = predict(prepared, examples, batching, accelerator, keep)
            on_main(accelerator, lambda: _store(stored, logits))
    tensors = load_file(stored)
    return tensors["logits"] if "logits" in tensors else TokenRows(tensors.pop("lengths"), tensors)


def _present(stored: Path, claim: contextlib.ExitStack) -> bool:
    """Whether the logits are there; if not, computing them is claimed until `claim` closes."""
    if not stored.is_file():
        claim.enter_context(claimed(stored.with_suffix(".lock")))
    return stored.is_file()  # another process may have stored them in the meantime


def _store(stored: Path, logits: Tensor | TokenRows) -> None:
    tensors = {"logits": logits} if isinstance(logits, Tensor) else {"lengths": logits.lengths, **logits.columns}
    with new_file(stored) as beside:
        save_file(tensors, beside)


def _require_same_vocabulary(student: Any, teacher: Any, folder: Path) -> None:
    if student.get_vocab() != teacher.get_vocab():
        raise UserError(
            f"The teacher in {folder} has another vocabulary ({len(teacher):,} entries) than the student "
            f"({len(student):,}): token by token there is nothing to compare. Choose a teacher of the same tokenizer."
        )


def _require_same_labels(config: Any, task: TaskData, folder: Path) -> None:
    expected = len(task.label_names) or 1
    if config.num_labels != expected:
        raise UserError(
            f"The teacher in {folder} has {config.num_labels} output(s), task={task.name} needs {expected}."
        )
    names = [config.id2label[number] for number in range(expected)]
    named = not all(name.startswith("LABEL_") for name in names)
    if task.label_names and named and names != task.label_names:
        raise UserError(f"The teacher in {folder} has the labels {names}, task={task.name} has {task.label_names}.")
