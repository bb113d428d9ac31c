"""What written answers are like: against counts by hand, and entropy against dense logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from selfdistill_cli.evaluation.decoding import Written
from selfdistill_cli.evaluation.writing_quality import writing_quality
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.models.output_layer import output_layer
from tests.helpers.steps import make_examples, make_model


def test_counts_by_hand() -> None:
    """Eleven tokens, four of them different; six pairs within answers, two different ones: (1, 2) and (2, 1)."""
    written = Written(
        texts=["a b a b a", "a b", "", "  ", "a b", "c"],
        tokens=[[1, 2, 1, 2, 1], [1, 2], [], [9], [1, 2], [3]],
        ended=[False, True, True, True, True, False],
    )
    assert writing_quality(written) == {
        "writing/distinct_1": pytest.approx(4 / 11),
        "writing/distinct_2": pytest.approx(2 / 6),
        "writing/length": pytest.approx(11 / 6),
        "writing/empty": pytest.approx(2 / 6),
        "writing/cut": pytest.approx(2 / 6),
        "writing/repeated": pytest.approx(1 / 6),
    }


def test_a_model_that_writes_nothing_has_no_variety() -> None:
    found = writing_quality(Written(["", ""], [[], []], [True, True]))
    assert (found["writing/distinct_1"], found["writing/distinct_2"], found["writing/length"]) == (0, 0, 0)
    assert (found["writing/empty"], found["writing/repeated"]) == (1, 0.5)


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_entropy_and_likelihood_against_dense_logits(kind: str) -> None:
    examples, model = make_examples(kind), make_model(kind)
    rows = np.arange(12)
    batch = examples.collate(rows)
    with torch.no_grad():
        found = AnswerLosses(lambda: output_layer(model)).nll_and_entropy(
            examples.forward(model, batch, torch.device("cpu"))
        )
        logits = model(**batch.arguments).logits.double().flatten(0, 1)[batch.predicts].numpy()
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    of_tokens = np.stack([-np.log(p[np.arange(len(p)), batch.labels.numpy()]), entropy(p, axis=-1)], axis=-1)
    ends = np.cumsum(batch.lengths.numpy())
    expected = np.stack([part.mean(0) for part in np.split(of_tokens, ends[:-1])])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
