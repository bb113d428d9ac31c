"""Answers drawn in training: from the model's own distribution, each by numbers of its own, ended, cut and counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from selfdistill_cli.encoding.drawn import some_of, with_answers
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.decoding import _ByChance
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import ByTokens, make_examples, make_model, writer_of

KINDS = ["decoder", "encoder_decoder"]
ROWS = [3, 11, 4, 29, 0, 17]


def writer(kind: str, budget: int = 4096, seed: int = 0) -> ByTokens:
    return writer_of(make_examples(kind), make_model(kind), cpu_runtime(budget), seed)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_fall_as_often_as_they_are_likely(temperature: float) -> None:
    scores = 2 * np.random.default_rng(0).normal(size=23)
    draws = 20_000
    numbers = (np.arange(draws) + 0.5) / draws
    by_chance = _ByChance(numbers[:, None], temperature)
    chosen = by_chance(torch.zeros(draws, 1), torch.from_numpy(scores).float().expand(draws, -1)).argmax(-1)
    expected = draws * special.softmax(scores / temperature)
    assert np.bincount(chosen.numpy(), minlength=23) == pytest.approx(expected, abs=1.01)


def test_no_number_and_no_temperature_leads_outside_of_the_vocabulary_or_to_what_is_impossible() -> None:
    scores = torch.tensor([[-torch.inf, 5.0, 4.0, -torch.inf]])
    for number in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        for temperature in (1e-300, 1.0, 1e300):
            left = _ByChance(np.array([[number]]), temperature)(torch.zeros(1, 1), scores)
            assert left.argmax().item() in (1, 2)
    assert _ByChance(np.array([[0.999]]), 1e-300)(torch.zeros(1, 1), scores).argmax() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_that_the_numbers_give_on_the_whole_distribution(kind: str) -> None:
    """Token by token from Hugging Face's whole logits; so neither the cache, padding nor the model's own wish to repeat
    nothing has a part in it."""
    of, reference = writer(kind), make_model(kind).eval()
    answers = of.draw(ROWS, 2, 0.8)
    for row in ROWS:
        prompt = torch.from_numpy(of.train.prompts.row(row).astype(np.int64))
        numbers = of._stream(2, row + 1).random(8)
        written: list[int] = []
        for number in numbers:
            before = torch.tensor([written], dtype=torch.int64)
            with torch.no_grad():
                if kind == "decoder":
                    logits = reference(input_ids=torch.cat([prompt[None], before], dim=1)).logits
                else:
                    begun = torch.cat([torch.zeros(1, 1, dtype=torch.int64), before], dim=1)
                    logits = reference(input_ids=prompt[None], decoder_input_ids=begun).logits
            heights = special.softmax(logits[0, -1].double().numpy() / 0.8).cumsum()
            written.append(int(np.searchsorted(heights, number, side="right")))
            if written[-1] == 1:
                break
        assert answers[row].tolist() == written
    assert of.model.generation_config.repetition_penalty == 5.0  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_alone_and_in_a_batch_draws_the_same(kind: str) -> None:
    together = writer(kind).draw(ROWS, 0, 1.0)
    cut = writer(kind, budget=1).draw(ROWS[::-1], 0, 1.0)
    for row in ROWS:
        alone = writer(kind).draw([row], 0, 1.0)
        assert alone[row].tolist() == together[row].tolist() == cut[row].tolist()
    other_drawing, other_seed = writer(kind).draw(ROWS, 1, 1.0), writer(kind, seed=1).draw(ROWS, 0, 1.0)
    for other in (other_drawing, other_seed):
        assert sum(other[row].tolist() != together[row].tolist() for row in ROWS) >= len(ROWS) - 1


def test_drawing_leaves_the_model_and_the_generators_as_they_were() -> None:
    of = writer("decoder")
    of.model.train()
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    of.draw(ROWS, 0, 1.0)
    assert of.model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numbers  # type: ignore[index]
    assert all(parameter.grad is None for parameter in of.model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_answer_is_its_end_alone_and_a_cut_one_lacks_it(kind: str) -> None:
    of = writer(kind)
    first = int(of.draw([3], 0, 1.0)[3][0])
    of.tokenizer.eos_token_id = first
    ended = of.draw([3], 0, 1.0)
    assert ended[3].tolist() == [first]
    examples = of.examples(ended)
    assert examples.answers.lengths[3] == 1
    assert examples.collate(np.array([3])).labels.tolist() == [first]
    of.tokenizer.eos_token_id = 99_999  # never comes
    assert len(of.draw([3], 0, 1.0)[3]) == 8  # task.decoding.max_new_tokens
    of.settings.max_length = int(of.train.prompts.lengths[3]) + 5 if kind == "decoder" else 5
    assert len(of.draw([3], 0, 1.0)[3]) == 5


def test_drawn_answers_stand_in_place_of_the_gold_ones_and_copy_nothing() -> None:
    examples = make_examples("decoder")
    answers = {4: np.array([7, 8, 9], np.int32), 2: np.array([1], np.int32)}
    drawn = with_answers(examples, answers)
    assert drawn.answers.tokens is examples.answers.tokens
    for row in range(len(examples)):
        expected = answers.get(row, examples.answers.row(row))
        assert drawn.answers.row(row).tolist() == expected.tolist()
        assert drawn.lengths[row] == examples.prompts.lengths[row] + len(expected)
    few = some_of(drawn, [4, 0])
    whole, part = drawn.collate(np.array([4, 0])), few.collate(np.array([0, 1]))
    assert torch.equal(whole.arguments["input_ids"], part.arguments["input_ids"])
    assert torch.equal(whole.labels, part.labels)


class Rows(TorchDispatchMode):
    """The most rows that a tensor with the vocabulary as its last dimension has had."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        if isinstance(found, torch.Tensor) and found.dim() > 1 and found.shape[-1] == 100:
            self.most = max(self.most, found.numel() // 100)
        return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_scores_are_held_but_those_of_the_next_tokens(kind: str) -> None:
    of = writer(kind)
    rows = list(range(30))
    with Rows() as seen:
        of.draw(rows, 0, 1.0)
    # As many as there are examples; the output layer, turned round, has 32.
    assert seen.most <= 32 < of.train.prompts.lengths.sum()


def test_what_drawing_costs_is_counted_apart() -> None:
    of = writer("decoder")
    with FlopCounterMode(display=False) as counter:
        answers = of.draw(ROWS, 0, 1.0)
    tokens = sum(int(of.train.prompts.lengths[row]) + len(answers[row]) for row in ROWS)
    drawing = of.runtime.compute.parts["drawing"]
    assert (drawing.forward, drawing.backward, drawing.tokens) == (6, 0, tokens)
    assert 0 < drawing.flops <= counter.get_total_flops()  # type: ignore[operator]
    of.predict(of.examples(answers), ROWS, lambda predicted: predicted)
    assert of.runtime.compute.parts["drawing"].forward == 12
    assert of.runtime.compute.parts.keys() == {"drawing"}


def test_the_room_that_a_drawing_needs_is_asked_for_before_training() -> None:
    of: Any = writer("decoder")
    of.model.config.max_position_embeddings = 40
    with pytest.raises(UserError, match="do not fit into this model's context of 40"):
        of.require_room()
