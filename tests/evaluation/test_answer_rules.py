"""Reading answers off texts, and text metrics against independent references."""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from omegaconf import OmegaConf
from rouge_score.tokenize import tokenize

from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.answer_rules import RULES
from selfdistill_cli.evaluation.text_metrics import score_texts
from selfdistill_cli.tasks.sources import RawSplit
from selfdistill_cli.tasks.synthetic import synth_arithmetic
from tests.helpers.task_files import load_table


@pytest.mark.parametrize(
    ("rule", "text", "answer"),
    [
        ("after_hashes", "3 + 4 = 7\n#### 7", "7"),
        ("after_hashes", "so #### 1,234,000 dollars", "1234000"),
        ("after_hashes", "#### -5", "-5"),
        ("after_hashes", "#### 7 and #### 8", "7"),  # as GSM8K's own search: the first
        ("after_hashes", "the answer is 7", None),
        ("after_hashes", "####7", "7"),
        ("after_hashes", "#### $29.00", "29"),
        ("after_hashes", "#### 72.", "72"),
        ("after_hashes", "#### 1/2", "0.5"),
        ("after_hashes", "#### -$1,234.50", "-1234.5"),
        ("number", "2 * 3 = 6.0", "6"),
        ("number", "about -1,200.50", "-1200.5"),
        ("number", "none", None),
        ("number", "The total is .5", "0.5"),
        ("number", "\u22127 degrees", "-7"),
        ("number", r"\boxed{\frac{3}{4}}", "0.75"),
        ("number", r"$-\dfrac{1}{3}$", "-1/3"),
        ("number", r"it is \tfrac{-1}{4}.", "-0.25"),
        ("number", r"x = \frac{ 1,200 }{ 7 }", "1200/7"),
        ("number", r"\frac34", "0.75"),
        ("number", r"\frac{3}4 or \frac 1 2", "0.5"),
        ("number", r"\boxed{1\frac{1}{2}}", "1.5"),
        ("number", r"-2 \frac{3}{4}", "-2.75"),
        ("number", r"20 - \frac{1}{2}", "0.5"),
        ("number", r"12\frac{1}{2}", "12.5"),
        ("number", r"x^2 \frac{1}{2}", "0.5"),
        ("number", r"a_1\frac{2}{3}", "2/3"),
        ("number", r"1.5\frac{1}{2}", "0.5"),
        ("after_hashes", r"#### \frac{3}{4}", "0.75"),
        ("number", "It was 10-5", "5"),
        ("number", "He has 8 - 5", "5"),
        ("number", "Total apples:\n- 12", "12"),  # a bullet
        ("number", "x = - 7", "-7"),
        ("number", "the answer is -7", "-7"),
        ("after_hashes", "#### - 7", "-7"),
        ("letter", "Answer: B. C and D are too large.", "B"),
        ("letter", "The Answer is B, because C is wrong", "B"),
        ("letter", "Answer: B\n\nExplanation: Option D does not fit.", "B"),
        ("number", "on 2021-01-10", "10"),
        ("number", "a well-known 3-year-old", "3"),
        ("number", "The answer is 1e5", "100000"),
        ("number", "2.5e-3 m", "0.0025"),
        ("number", "\\boxed{8{,}000}", "8000"),
        ("number", "8\\,000 km", "8000"),
        ("number", "it takes 1 1/2 hours", "1.5"),
        ("number", "-2 3/4", "-2.75"),
        ("number", "1" * 5000, "1" * 5000),
        ("number", "9" * 4000 + "e999", "9" * 4000 + "0" * 999),
        ("after_hashes", "#### 2 1/2", "2.5"),
        ("number", "Version 2.", "2"),
        ("number", "50%", "50"),
        ("number", "about 1/3", "1/3"),
        ("number", "-6/4 of it", "-1.5"),
        ("number", "choose 1,2,3", "3"),
        ("number", "1,2345", "2345"),
        ("number", "x = -0.0", "0"),
        ("number", "12345678901234567891", "12345678901234567891"),
        ("number", "0.1234567890123456789", "0.1234567890123456789"),
        ("number", "$-5", "-5"),
        ("number", "-$5", "-5"),
        ("letter", "because 3 > 2\n#### C", "C"),
        ("letter", "a boy has A) 3, so the answer is (d) indeed", "D"),
        ("letter", "#### b", "B"),
        ("letter", "a boy", None),
        ("letter", "A boy has a dog", None),
        ("letter", "the answer is a boy", None),
        ("letter", "the answer is a", "A"),
        ("letter", "The answer is A because B is too large", "A"),
        ("letter", "Answer: A boy has two, so B", "B"),
        ("letter", "it leaves a profit of 5 dollars, which is a", None),
        ("letter", "B is more, which is a", "B"),
        ("letter", "so\n a \n", "A"),
        ("letter", "I choose A", "A"),
        ("letter", "I choose d", "D"),
        ("letter", "(e)", "E"),
        ("letter", "E.", "E"),
        ("letter", "'b'", "B"),
        ("letter", "**C**", "C"),
        ("letter", "Answer: (a).", "A"),
        ("letter", "I'd say it costs 3", None),
        ("letter", "I think E", "E"),
        ("normalized", "The  Eiffel-Tower!", "eiffeltower"),
        ("normalized", "a an the", None),
        ("text", "  Yes \n", "Yes"),
        ("text", "  ", None),
    ],
)
def test_answers_are_read_off_by_the_benchmarks_rule(rule: str, text: str, answer: str | None) -> None:
    assert RULES[rule](text) == answer


def test_the_number_after_the_hashes_is_what_gsm8ks_own_code_finds() -> None:
    pattern = re.compile(r"#### (\-?[0-9\.\,]+)")  # grade_school_math/dataset.py
    for answer in synth_arithmetic(200, seed=3)["answer"]:
        match = pattern.search(answer)
        assert match is not None
        assert RULES["after_hashes"](answer) == match.group(1).strip().replace(",", "")


def test_worked_answers_are_right() -> None:
    problems = synth_arithmetic(400, seed=0)
    assert problems == synth_arithmetic(400, seed=0)
    assert problems != synth_arithmetic(400, seed=1)
    assert len(set(problems["question"])) > 395
    steps = []
    for question, answer in zip(problems["question"], problems["answer"], strict=True):
        *work, last = answer.splitlines()
        for line in work:
            left, right = line.split(" = ")
            first, operation, second = left.split()
            assert {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[operation](int(first), int(second)) == int(
                right
            )
        assert last == f"#### {work[-1].split(' = ')[1]}"
        assert int(last[5:]) >= 0
        steps.append(question.count(".") - 1)
    assert set(steps) == {1, 2}


def squad_f1(prediction: str, reference: str) -> float:
    """From SQuAD's evaluate-v1.1.py."""

    def words(text: str) -> list[str]:
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    same = sum((Counter(words(prediction)) & Counter(words(reference))).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(words(prediction)), same / len(words(reference))
    return 2 * precision * recall / (precision + recall)


def test_the_best_reference_counts() -> None:
    texts = ["The Eiffel Tower in Paris", "nothing", "forty two"]
    references = [["Eiffel Tower", "the tower of Paris"], ["something", "anything"], ["forty-two", "Forty two."]]
    scores = score_texts(["exact_match", "f1"], "normalized", texts, references)
    assert scores["exact_match"] == pytest.approx(1 / 3)
    expected = [max(squad_f1(t, r) for r in refs) for t, refs in zip(texts, references, strict=True)]
    assert scores["f1"] == pytest.approx(sum(expected) / 3)


def longest_common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_rouge_is_the_overlap_of_words_and_of_the_longest_common_subsequence() -> None:
    drawn = random.Random(0)
    words = ["cat", "dog", "sun", "red", "hat"]  # which stemming leaves alone
    texts, references = ([" ".join(drawn.choices(words, k=6)) for _ in range(20)] for _ in range(2))
    scores = score_texts(["rouge1", "rouge2", "rougeL"], "text", texts, [[reference] for reference in references])
    pairs = [(t.split(), r.split()) for t, r in zip(texts, references, strict=True)]
    assert scores["rouge1"] == pytest.approx(sum(sum((Counter(t) & Counter(r)).values()) / 6 for t, r in pairs) / 20)
    assert scores["rougeL"] == pytest.approx(sum(longest_common(t, r) / 6 for t, r in pairs) / 20)
    bigrams = [(Counter(pairwise(t)), Counter(pairwise(r))) for t, r in pairs]
    assert scores["rouge2"] == pytest.approx(sum(sum((t & r).values()) / 5 for t, r in bigrams) / 20)


def test_answers_that_rouge_finds_no_word_in_are_refused_and_other_letters_are_said(tmp_path: Path) -> None:
    golds = ["Größe", "Привет, мир", "42", "你好", "\u212a", "…", "سلام"]  # kelvin, whose small letter is k
    settings: dict[str, Any] = {"kind": "generation", "answer": "answer", "missing": "keep"}

    def columns(answers: list[str]) -> dict[str, list[Any]]:
        return {"text": [f"say {n}" for n in range(len(answers))], "answer": answers}

    without = [row for row, gold in enumerate(golds) if not tokenize(gold, None)]
    assert without == [1, 3, 5, 6]
    for metrics in ({"metrics": ["rougeL", "f1"]}, {"metric": "rouge1"}):
        with pytest.raises(
            UserError, match=r"finds none in 4 of 7 gold answers \(rows 1, 3, 5, 6; the first is 'Привет, мир'"
        ):
            load_table(columns(golds), tmp_path, **settings, **metrics)
    assert load_table(columns(golds), tmp_path, **settings, metrics=["f1"]).findings == ()
    load_table(columns(["a smile", "🙂"] * 5), tmp_path, **settings, metrics=["rougeL"])  # half: a few may be so
    accents = load_table(columns(["die Größe"] * 10), tmp_path, **settings, metrics=["rouge1"])
    assert "rouge1 knows the letters a to z alone: 25% of those in the acceptable answers are others (ö, ß)" in str(
        accents.findings
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answer": ""}, "row 0: the answer is empty"),
        ({"kind": "multiple_choice", "choices": ["a", "b"], "label": 2}, "label 2 is no number of its 2 choices"),
        ({"kind": "multiple_choice", "choices": ["a", " "], "label": 1}, "one of its choices is empty"),
        ({"kind": "multiple_choice", "choices": [], "label": 0}, "empty list"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_named(change: dict[str, object], says: str) -> None:
    from selfdistill_cli.tasks.rows import choice_split, prompted_split

    row = {"text": "how?", "answer": "so", "choices": ["a"], "label": 0} | change
    raw = RawSplit("train", pa.Table.from_pylist([row, {**row, "answer": "x"}]), "here")
    settings = OmegaConf.create(
        {
            "text": "text",
            "answer": "answer",
            "references": None,
            "no_answer": None,
            "choices": "choices",
            "label": "label",
        }
    )
    make = choice_split if row.get("kind") else prompted_split
    with pytest.raises(UserError, match=says):
        make(settings, raw)
