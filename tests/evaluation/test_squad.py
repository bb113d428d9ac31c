"""SQuAD 2: questions without an answer are read, learned and scored as its official script has it."""

from __future__ import annotations

import collections
import json
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from selfdistill_cli.encoding.answers import Form, encode_answers
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.answer_rules import RULES, is_right
from selfdistill_cli.evaluation.text_metrics import score_texts
from tests.encoding.test_chat import CHATML, tokenizer
from tests.helpers.task_files import load


def normalize_answer(text: str) -> str:
    """As in the rules of evaluate-v2.0.py: lower case, no punctuation, no articles, single spaces."""
    text = "".join(ch for ch in text.lower() if ch not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official(golds: list[str], predicted: str) -> tuple[float, float]:
    """Exact match and F1 of one question, by its rules."""
    golds = [gold for gold in golds if normalize_answer(gold)] or [""]
    exact, f1 = [], []
    for gold in golds:
        exact.append(float(normalize_answer(gold) == normalize_answer(predicted)))
        gold_words, words = normalize_answer(gold).split(), normalize_answer(predicted).split()
        same = sum((collections.Counter(gold_words) & collections.Counter(words)).values())
        if not gold_words or not words:
            f1.append(float(gold_words == words))
        elif same == 0:
            f1.append(0.0)
        else:
            precision, recall = same / len(words), same / len(gold_words)
            f1.append(2 * precision * recall / (precision + recall))
    return max(exact), max(f1)


def test_scores_are_those_of_the_official_rules() -> None:
    drawn = random.Random(0)
    words = ["the", "a", "cat", "Cat!", "dog", "...", "two"]
    texts = [" ".join(drawn.choices(words, k=drawn.randrange(4))) for _ in range(400)]
    golds = [
        [" ".join(drawn.choices(words, k=drawn.randrange(3))) for _ in range(drawn.randrange(1, 4))] for _ in texts
    ]
    expected = [official(gold, text) for gold, text in zip(golds, texts, strict=True)]
    assert len({one for one, _ in expected}) == 2
    unanswerable = [not any(map(normalize_answer, gold)) for gold in golds]
    right_on_nothing = [one for one, none in zip(expected, unanswerable, strict=True) if none]
    assert {(1.0, 1.0), (0.0, 0.0)} == set(right_on_nothing)  # both happen where no answer is right
    for (exact, f1), text, gold in zip(expected, texts, golds, strict=True):
        found = score_texts(["exact_match", "f1"], "normalized", [text], [gold])
        assert found == pytest.approx({"exact_match": exact, "f1": f1})
    found = score_texts(["exact_match", "f1"], "normalized", texts, golds)
    assert found["f1"] == pytest.approx(sum(f1 for _, f1 in expected) / 400)


def test_a_text_without_a_number_is_not_an_empty_one() -> None:
    assert is_right(RULES["number"], "", [""])
    assert is_right(RULES["number"], " The. ", [""])  # nothing is left of it
    assert not is_right(RULES["number"], "no idea", [""])
    assert not is_right(RULES["number"], "", ["7"])


def write(folder: Path, *answers: Any) -> None:
    for split in ("train", "validation"):
        (folder / "squad_v2").mkdir(exist_ok=True)
        rows = [
            {"context": "A cat.", "question": f"Who {n}?", "answers": {"text": one}} for n, one in enumerate(answers)
        ]
        (folder / "squad_v2" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_questions_without_an_answer_are_read_and_learned_as_empty_texts(tmp_path: Path) -> None:
    write(tmp_path, ["a cat", "cat"], [], ["the cat"])
    task = load("task=squad_v2", data=tmp_path)
    assert list(task.train.answers or []) == [" a cat", "", " the cat"]
    assert list(task.train.references or []) == [["a cat", "cat"], [""], ["the cat"]]
    of = tokenizer(CHATML, "<|im_end|>", "<|im_start|>")
    settings = OmegaConf.create({"max_length": 90, "long_prompts": "error", "no_answer": ""})
    rows = list(task.train.texts), list(task.train.answers or [])
    for chat in (False, True):
        examples = encode_answers(of, Form(0, None, chat), rows, settings, "t")
        assert examples.answers.row(1).tolist() == [of.eos_token_id]
    with pytest.raises(UserError, match="row 1: the answer has no tokens"):
        encode_answers(of, Form(0, None), rows, OmegaConf.create({"max_length": 90, "long_prompts": "error"}), "t")


def test_they_are_missing_where_the_task_does_not_know_of_them(tmp_path: Path) -> None:
    write(tmp_path, ["a cat"], [])
    with pytest.raises(UserError, match=r"row 1 .* no answer"):
        load("task=squad_v2", "task.no_answer=null", data=tmp_path)
    asked = load("task=squad_v2", "task.no_answer=unanswerable", data=tmp_path)
    assert list(asked.train.answers or []) == [" a cat", "unanswerable"]
    assert list(asked.train.references or [])[1] == ["unanswerable"]
    with pytest.raises(UserError, match=r"answer_rule=number reads no answer in it.*task\.no_answer=''"):
        load("task=squad_v2", "task.no_answer=unanswerable", "task.answer_rule=number", data=tmp_path)
