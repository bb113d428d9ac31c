"""The generated tasks are deterministic, balanced, and their labels follow from their sentences."""

from __future__ import annotations

import numpy as np

from selfdistill_cli.tasks.synthetic import COLOURS, THINGS, synth_entailment, synth_facts, synth_similarity


def test_the_same_seed_gives_the_same_data_and_another_one_other_data() -> None:
    for generate in (synth_entailment, synth_similarity):
        assert generate(50, 3) == generate(50, 3)
        assert generate(50, 3) != generate(50, 4)


def test_entailment_is_balanced_and_varied() -> None:
    data = synth_entailment(400, 0)
    assert sum(data["label"]) == 200
    assert len(set(data["hypothesis"])) > 300


def test_an_entailed_hypothesis_names_no_detail_that_the_premise_lacks() -> None:
    nouns = {noun for things in THINGS.values() for noun in things} | set(COLOURS)
    data = synth_entailment(400, 1)
    for premise, hypothesis, label in zip(data["premise"], data["hypothesis"], data["label"], strict=True):
        said = {word.strip(".") for word in hypothesis.split()} & nouns
        if label == 0:
            assert said <= {word.strip(".") for word in premise.split()}


def test_a_bag_of_words_does_not_decide_entailment() -> None:
    # Swapped roles: the same people and things, another truth.
    data = synth_entailment(1000, 2)
    swapped = [
        label
        for premise, hypothesis, label in zip(data["premise"], data["hypothesis"], data["label"], strict=True)
        if set(hypothesis.strip(".").split()) <= {*premise.replace(".", "").split(), "sold", "bought", "from", "to"}
    ]
    assert 0.1 < np.mean(swapped) < 0.9


def test_similarity_lies_between_0_and_5_and_spreads() -> None:
    data = synth_similarity(500, 0)
    labels = np.array(data["label"])
    assert labels.min() >= 0
    assert labels.max() <= 5
    assert labels.std() > 1


def test_a_fact_is_asked_once_and_stands_in_its_passage() -> None:
    data = synth_facts(400, 0)
    kinds, all_things = set(), {thing for things in THINGS.values() for thing in things}
    for passage, question, answer in zip(data["passage"], data["question"], data["answer"], strict=True):
        first, *rest = question.rstrip("?").split()
        kinds.add(" ".join([first, rest[0]]))
        told = [f"{sentence}." for sentence in passage.rstrip(".").split(". ")]
        assert len(told) in (2, 3)
        asked = [word for word in rest if word[0].isupper() or word in all_things]
        about = [sentence for sentence in told if any(word in sentence for word in asked)]
        assert len(about) == 1, (passage, question)  # no other sentence could be meant
        assert answer in about[0]
    assert kinds == {"Who bought", "Who sold", "What did", "Where did", "On which"}
    assert synth_facts(5, 1) == synth_facts(5, 1) != synth_facts(5, 2)
