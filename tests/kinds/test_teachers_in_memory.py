"""A teacher of a language model reads what the student reads, and answers in the same tokens; else it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from selfdistill_cli.encoding.answers import AnswerExamples, Form
from selfdistill_cli.encoding.room import Flat
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS
from selfdistill_cli.kinds.generation import Generation
from selfdistill_cli.models import LoadedModel
from selfdistill_cli.teacher import _require_suitable, require_known, require_same_answers, teacher_logits
from tests.evaluation.test_decoding import PROMPTS, SIZE, make, tokenizer
from tests.helpers.runs import composed
from tests.helpers.small_models import split_of

pytestmark = pytest.mark.thorough

SETTINGS = {"max_length": 64, "long_prompts": "error", "chat_template": "off", "decoding": {"max_new_tokens": 12}}
TASK: Any = SimpleNamespace(
    name="t",
    settings=OmegaConf.create(SETTINGS),
    train=replace(split_of(PROMPTS), answers=["w1"] * len(PROMPTS)),
)


def loaded(model: Any, of: Any = None) -> LoadedModel:
    return LoadedModel(model, of or tokenizer(), "fingerprint")


def llama(outputs: int = SIZE + 2, context: int = 512) -> Any:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": context}
    return LlamaForCausalLM(LlamaConfig(vocab_size=outputs, **sizes, pad_token_id=0, eos_token_id=1))


def closing_tokenizer() -> Any:
    """It has the same entries and ends each answer with another one."""
    other = tokenizer()
    other.eos_token = "<pad>"
    return other


def held(teacher: LoadedModel) -> None:
    student, train = make("decoder")
    Generation().require_same_reading(TASK, teacher, loaded(student), train, Path("runs/teacher"))


def test_a_model_of_the_same_tokens_may_have_other_sizes_and_fill_rows_otherwise() -> None:
    held(loaded(llama()))
    other = tokenizer()
    other.pad_token = "w0"
    held(loaded(llama(), other))


@pytest.mark.parametrize(
    "teacher",
    [
        lambda: loaded(make("encoder_decoder")[0]),
        lambda: loaded(llama(outputs=SIZE + 10)),
        lambda: loaded(llama(), closing_tokenizer()),
    ],
    ids=["an encoder–decoder", "more outputs", "another end"],
)
def test_what_reads_or_writes_otherwise_is_refused(teacher: Any) -> None:
    with pytest.raises(UserError, match=r"in runs/teacher reads or writes .* in other tokens"):
        held(teacher())


def rows(*answers: list[int], prompts: int = 1, learned: bool | None = None, cut: int = 0) -> AnswerExamples:
    asked = Flat.of([[7] * prompts] * len(answers))
    earlier = None if learned is None else np.full(len(asked.tokens), learned)
    return AnswerExamples(asked, Flat.of(list(answers)), Form(0, None), truncated=cut, learned=earlier)


def test_a_stored_teacher_has_the_student_s_tokens_to_predict_whatever_its_prompts_are() -> None:
    require_same_answers(rows([4, 1], prompts=3), rows([4, 1]), Path("runs/teacher"))
    require_same_answers(rows([4, 1], learned=True), rows([4, 1], learned=True), Path("runs/teacher"))


OTHERWISE = {
    "another end": (rows([4, 2], [5, 2]), "in other tokens"),
    "one more end": (rows([4, 1, 1], [5, 1, 1]), "in other tokens"),
    "another end, and cuts": (rows([4, 2], [5], cut=1), "in other tokens"),
    "earlier answers": (rows([4, 1], [5, 1], learned=True), "in other tokens"),
    "more cuts": (rows([4, 1], [5], cut=1), "cut the answers at different places: give a task.max_length"),
}


@pytest.mark.parametrize("how", OTHERWISE)
def test_a_stored_teacher_of_other_tokens_is_told_from_one_that_cut_them_elsewhere(how: str) -> None:
    teacher, said = OTHERWISE[how]
    with pytest.raises(UserError, match=said):
        require_same_answers(teacher, rows([4, 1], [5, 1]), Path("runs/teacher"))


@pytest.mark.parametrize("kind", ["generation", "multiple_choice"])
def test_a_stored_teacher_with_another_end_is_refused_before_it_predicts(kind: str, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    closing_tokenizer().save_pretrained(tmp_path)
    task: Any = SimpleNamespace(**vars(TASK), kind=KINDS[kind])
    student = loaded(llama())
    train, no_runtime = task.kind.encode(task, student, task.train), None
    with pytest.raises(UserError, match="in other tokens"):
        teacher_logits(composed("method=kd"), task, student, train, tmp_path, no_runtime)  # type: ignore[arg-type]


def test_a_stored_teacher_may_have_more_outputs_as_long_as_it_holds_none_of_them_likely() -> None:
    student = loaded(llama())
    require_known(torch.tensor([[0, SIZE + 1]]), student, Path("runs/teacher"))
    with pytest.raises(UserError, match=rf"in runs/teacher has more outputs than the student \({SIZE + 2}\)"):
        require_known(torch.tensor([[0, 1], [SIZE + 2, 3]]), student, Path("runs/teacher"))


def test_a_teacher_whose_logits_are_capped_is_refused_as_a_student_is() -> None:
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    capped = Gemma2Config(vocab_size=SIZE + 2, **sizes, intermediate_size=64, pad_token_id=0, eos_token_id=1)
    task: Any = SimpleNamespace(kind=Generation())
    train = make("decoder")[1]
    _require_suitable(task, loaded(llama()), train, Path("runs/teacher"))
    with pytest.raises(UserError, match=r"The teacher in runs/teacher: "):
        _require_suitable(task, loaded(Gemma2ForCausalLM(capped)), train, Path("runs/teacher"))


def test_a_teacher_that_cannot_read_a_drawn_answer_to_its_end_is_refused() -> None:
    many = OmegaConf.merge(TASK.settings, {"decoding": {"max_new_tokens": 60}})
    longer: Any = SimpleNamespace(**vars(TASK) | {"settings": many})
    student, train = make("decoder")
    teacher = loaded(llama(context=64))
    with pytest.raises(UserError, match=r"the teacher in runs/teacher: .* this model's context of 64"):
        Generation().require_same_reading(longer, teacher, loaded(student), train, Path("runs/teacher"))
