"""Room for second attempts: asked for before anything is trained, and held to when prompts are made of attempts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfdistill_cli import experiment
from selfdistill_cli.errors import UserError
from selfdistill_cli.experiment import task_data
from selfdistill_cli.models import LoadedModel, load_model
from selfdistill_cli.self_training import rounds
from selfdistill_cli.self_training.room import held_to, require_room, second_prompts, that_fit
from tests.helpers.runs import composed

NEW = 20
ASKED = ("task=synth_arithmetic", "task.train_examples=12", "task.validation_examples=4", "self_training=correction",
         f"task.decoding.max_new_tokens={NEW}", "tracking=none")  # fmt: skip


def parts(tmp_path: Path, *words: str) -> tuple[Any, Any, LoadedModel]:
    cfg = composed(*ASKED, *words)
    task = task_data(cfg)
    return cfg, task, load_model(cfg.model, task, 0, tmp_path)


def advised(refusal: Any) -> str:
    return str(refusal.value).rpartition("Add ")[2].rstrip(".")


def test_attempts_without_room_are_refused_before_round_0_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "run", lambda *_: pytest.fail("round 0 was begun"))
    cfg = composed(*ASKED, "model=tiny_llama", "task.max_length=90", f"paths.outputs={tmp_path}/outputs")
    with pytest.raises(UserError, match=r"self_training=correction: .*Add task\.max_length=\d+") as refusal:
        rounds.run_rounds(cfg)
    assert int(advised(refusal).partition("=")[2]) < 200
    assert not (tmp_path / "outputs").exists()


def test_a_context_without_room_to_draw_is_told_before_round_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "run", lambda *_: pytest.fail("round 0 was begun"))
    words = ("self_training=star", "task.decoding.max_new_tokens=500", f"paths.outputs={tmp_path}/outputs")
    with pytest.raises(UserError, match=r"an answer to be drawn: .* do not fit into this model's context of 512"):
        rounds.run_rounds(composed(*ASKED, "model=tiny_llama", *words))
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
def test_drawn_answers_that_would_lose_their_end_are_left_out(model: str, tmp_path: Path) -> None:
    _, task, loaded = parts(tmp_path, f"model={model}", "task.max_length=40")
    prompts, answers = ["Q: 1 + 1?\nA:"] * 2, [" #### 2", f" {'so ' * 60}#### 2"]
    assert that_fit(loaded, task, prompts, answers) == (prompts[:1], answers[:1], 1)
    assert that_fit(loaded, task, [], []) == ([], [], 0)


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
def test_behind_a_prompt_that_is_cut_an_answer_has_room(model: str, tmp_path: Path) -> None:
    cfg, task, loaded = parts(tmp_path, f"model={model}", "task.max_length=60", "task.long_prompts=cut")
    prompts, answers = [f"Q: {'so ' * 90}1 + 1?\nA:"] * 2, [" #### 2", f" {'so ' * 90}#### 2"]
    assert that_fit(loaded, task, prompts, answers) == (prompts[:1], answers[:1], 1)
    require_room(cfg, task, loaded)  # second prompts are longer than 60 tokens, gold answers are not


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
def test_what_the_refusal_advises_is_enough_and_no_more(model: str, tmp_path: Path) -> None:
    cfg, task, loaded = parts(tmp_path, f"model={model}", "task.max_length=60")
    with pytest.raises(UserError) as refusal:
        require_room(cfg, task, loaded)
    cfg.task.max_length = int(advised(refusal).partition("=")[2])
    require_room(cfg, task, loaded)
    worst = ["\U0001f600" * NEW] * len(task.train)  # of several tokens each
    held = held_to(loaded, task, task.train, worst, cfg.self_training.request)
    asked = second_prompts(task.train.texts, held, cfg.self_training.request)
    split = task.train.__class__(**{**vars(task.train), "texts": asked})
    kind: Any = task.kind
    task.settings.max_length = cfg.task.max_length
    kind.encode(task, loaded, split)  # else it raises
    cfg.task.max_length -= 1
    with pytest.raises(UserError, match="Add task"):
        require_room(cfg, task, loaded)


def test_a_models_context_that_is_too_short_says_how_many_new_tokens_fit(tmp_path: Path) -> None:
    cfg, task, loaded = parts(tmp_path, "model=tiny_llama", "task.decoding.max_new_tokens=400", "task.max_length=512")
    with pytest.raises(UserError, match=r"context has 512.*task\.decoding\.max_new_tokens=\d+") as refusal:
        require_room(cfg, task, loaded)
    fits = int(str(refusal.value).rpartition("max_new_tokens=")[2].partition(",")[0])
    cfg.task.decoding.max_new_tokens = fits
    require_room(cfg, task, loaded)
    cfg.task.decoding.max_new_tokens = fits + 2
    with pytest.raises(UserError, match="context has 512"):
        require_room(cfg, task, loaded)


def test_attempts_that_fit_stay_as_they_are(tmp_path: Path) -> None:
    cfg, task, loaded = parts(tmp_path, "model=tiny_llama")
    attempts = [" 1 + 1 = 2\n#### 2"] * len(task.train)
    assert held_to(loaded, task, task.train, attempts, cfg.self_training.request) == attempts
