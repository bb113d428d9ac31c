"""Every loss of language models against dense references, in chunks that cut through answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.predictions import OutputLayer, TokenRows
from selfdistill_cli.losses import chunked
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.base import Comparison
from tests.helpers import answers_reference as dense

V, H, R = 17, 6, 2
LENGTHS = np.array([3, 1, 5, 2])
T = int(LENGTHS.sum())
TAU = np.array([1.0, 2.5, 0.7, 4.0])
rng = np.random.default_rng(3)
BATCH: Any = None  # gold labels stand beside the predictions
LABELS = rng.integers(0, V, T)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", 4)


def layer(form: str) -> OutputLayer:
    weights = [torch.from_numpy(rng.normal(size=(V, H)))]
    if form == "lora":
        weights.append(torch.from_numpy(rng.normal(size=(V, R))))
    bias = torch.from_numpy(rng.normal(size=V)).requires_grad_() if form == "biased" else None
    return OutputLayer(tuple(w.requires_grad_() for w in weights), bias)


def rows(of: OutputLayer) -> TokenRows:
    inputs = {
        f"input{j}": torch.from_numpy(rng.normal(size=(T, w.shape[1]))).requires_grad_()
        for j, w in enumerate(of.weights)
        if w is not None
    }
    return TokenRows(torch.from_numpy(LENGTHS), {"labels": torch.from_numpy(LABELS), **inputs})


def dense_logits(of: OutputLayer, predictions: TokenRows) -> Tensor:
    logits = sum(predictions.columns[f"input{j}"] @ w.T for j, w in enumerate(of.weights) if w is not None)
    assert isinstance(logits, Tensor)
    return logits if of.bias is None else logits + of.bias


FORMS = ["plain", "biased", "lora"]


@pytest.mark.parametrize("form", FORMS)
def test_supervised_is_the_mean_over_answer_tokens(form: str) -> None:
    of = layer(form)
    student = rows(of)
    found = AnswerLosses(lambda: of).nll(student)
    expected = dense.nll(dense_logits(of, student).detach().numpy(), LABELS, LENGTHS)
    assert found.detach().numpy() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("match", "reference"), [("vmm", dense.vmm), ("token", dense.token_kl)])
def test_distillation_is_what_is_written(form: str, match: str, reference: Any) -> None:
    then, now = layer(form), layer(form)
    teacher = AnswerLosses(lambda: then).snapshot(rows(then))
    student, losses = rows(now), AnswerLosses(lambda: now)
    again = torch.tensor([0, 2, 3])
    tau = torch.from_numpy(TAU)[again]
    supervised, divergence = losses.from_previous(
        student, BATCH, again, teacher[again], tau, Comparison(match, "scaled")
    )
    z_then, z_now = (dense_logits(of, p).detach().numpy() for of, p in ((then, teacher), (now, student)))
    assert supervised.detach().numpy() == pytest.approx(dense.nll(z_now, LABELS, LENGTHS), rel=1e-6)
    expected = reference(z_then, z_now, LENGTHS, TAU)[again.numpy()]
    assert divergence.detach().numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("match", ["vmm", "token"])
def test_gradients_are_those_of_dense_logits(form: str, match: str) -> None:
    then, now = layer(form), layer(form)
    teacher = AnswerLosses(lambda: then).snapshot(rows(then))
    student, losses = rows(now), AnswerLosses(lambda: now)
    everybody, tau = torch.arange(4), torch.from_numpy(TAU)
    leaves = [w for w in now.weights if w is not None] + [v for n, v in student.columns.items() if n != "labels"]
    coefficients = torch.tensor([0.3, 1.0, 0.1, 2.0], dtype=torch.double)
    supervised, divergence = losses.from_previous(student, BATCH, everybody, teacher, tau, Comparison(match, "scaled"))
    ours = torch.autograd.grad((coefficients * (supervised + divergence)).sum(), leaves)

    z, z_then = dense_logits(now, student), dense_logits(then, teacher).detach()
    total = torch.zeros((), dtype=torch.double)
    for i, (own, before, gold) in enumerate(
        zip(
            z.split(LENGTHS.tolist()),
            z_then.split(LENGTHS.tolist()),
            np.split(LABELS, LENGTHS.cumsum()[:-1]),
            strict=True,
        )
    ):
        total = total + coefficients[i] * torch.nn.functional.cross_entropy(own, torch.from_numpy(gold))
        p, q = ((side / tau[i]).softmax(-1) for side in (before, own))
        if match == "vmm":
            p, q = p.mean(0, keepdim=True), q.mean(0, keepdim=True)
        total = total + coefficients[i] * tau[i] ** 2 * (p * (p.log() - q.log())).sum(-1).mean()
    for found, expected in zip(ours, torch.autograd.grad(total, leaves), strict=True):
        assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_equal_predictions_teach_nothing() -> None:
    of = layer("plain")
    student, losses = rows(of), AnswerLosses(lambda: of)
    everybody, tau = torch.arange(4), torch.from_numpy(TAU)
    _, divergence = losses.from_previous(
        student, BATCH, everybody, losses.snapshot(student), tau, Comparison("vmm", "scaled")
    )
    slope = torch.autograd.grad(divergence.sum(), student.columns["input0"])[0]
    assert divergence.abs().max().item() < 1e-6
    assert float(slope.abs().max()) < 1e-5


def test_batches_without_common_examples_compare_their_mean_maps() -> None:
    then, now = layer("plain"), layer("plain")
    teacher = AnswerLosses(lambda: then).snapshot(rows(then)[[0, 2]])  # another number of examples, of other lengths
    student, losses = rows(now), AnswerLosses(lambda: now)
    tau = torch.tensor(2.0, dtype=torch.double)
    _, shares = losses.between_batches(student, BATCH, teacher, tau)
    z_then = dense_logits(then, teacher).detach().numpy()
    z = dense_logits(now, student)
    target = dense.maps(z_then, LENGTHS[[0, 2]], np.full(2, 2.0)).mean(0)
    expected = 4 * dense.kl(target, dense.maps(z.detach().numpy(), LENGTHS, np.full(4, 2.0)).mean(0))
    assert shares.sum().item() == pytest.approx(expected, rel=1e-5)

    mean = torch.stack([(part / 2).softmax(-1).mean(0) for part in z.split(LENGTHS.tolist())]).mean(0)
    p = torch.from_numpy(target)
    whole = torch.autograd.grad(4 * (p * (p.log() - mean.log())).sum(), student.columns["input0"])[0]
    found = torch.autograd.grad(shares.sum(), student.columns["input0"])[0]
    assert float((found - whole).norm() / whole.norm()) < 1e-5


@pytest.mark.parametrize("k", [1, 5, V])
def test_a_truncated_teacher_is_its_top_entries_and_a_bucket(k: int) -> None:
    theirs, now = layer("plain"), layer("plain")
    source = rows(theirs)
    teacher = AnswerLosses(lambda: theirs).top_entries(source, k)
    student, losses = rows(now), AnswerLosses(lambda: now)
    _, divergence = losses.from_teacher(student, BATCH, teacher, 2.0)
    z_teacher, z = (dense_logits(of, p).detach().numpy() for of, p in ((theirs, source), (now, student)))
    of_tokens = dense.bucket_kl(z_teacher, z, k, 2.0)
    if k == V:  # nothing is left out: the whole divergence
        of_tokens = dense.token_kl(z_teacher, z, np.ones(T, dtype=int), np.full(T, 2.0))
    expected = np.array([part.mean() for part in dense.split(of_tokens, LENGTHS)])
    assert divergence.detach().numpy() == pytest.approx(expected, rel=1e-4)
    assert teacher.columns["entries"].dtype == torch.int32
    assert teacher.columns["entries"][:, 0].tolist() == z_teacher.argmax(1).tolist()


@pytest.mark.parametrize("k", [1, 5, V])
def test_standardized_teachers_are_the_top_entries_of_z_scores_at_their_temperature(k: int) -> None:
    theirs, now = layer("plain"), layer("plain")
    source = rows(theirs)
    teacher = AnswerLosses(lambda: theirs).top_entries(source, k, standardized_at=0.5)
    student, losses = rows(now), AnswerLosses(lambda: now)
    _, divergence = losses.from_teacher(student, BATCH, teacher, 0.5, standardize=True)
    logits = [dense_logits(of, p).detach().numpy() for of, p in ((theirs, source), (now, student))]
    theirs_at_tau, ours_at_tau = (stats.zscore(z, axis=1) / 0.5 for z in logits)
    of_tokens = 0.5**2 * dense.bucket_kl(theirs_at_tau, ours_at_tau, k, 1.0)
    if k == V:
        of_tokens = 0.5**2 * dense.token_kl(theirs_at_tau, ours_at_tau, np.ones(T, dtype=int), np.ones(T))
    expected = np.array([part.mean() for part in dense.split(of_tokens, LENGTHS)])
    assert divergence.detach().numpy() == pytest.approx(expected, rel=1e-4)
    assert teacher.columns["entries"][:, 0].tolist() == logits[0].argmax(1).tolist()


@pytest.mark.parametrize("form", FORMS)
def test_corrected_targets_are_made_of_the_base_s_logits_token_by_token(form: str) -> None:
    then, now = layer(form), layer(form)
    base = AnswerLosses(lambda: then).snapshot(rows(then))
    student, losses = rows(now), AnswerLosses(lambda: now)
    divergence, correction = losses.from_corrected(student, BATCH, base, 0.2)
    z_then, z = dense_logits(then, base).detach(), dense_logits(now, student)
    gold = torch.from_numpy(LABELS)
    target = objectives.corrected(z_then, gold, 0.2)  # against NumPy in tests/methods/test_mft.py
    of_tokens = (target * (target.log() - z.log_softmax(-1))).sum(-1)
    expected = torch.stack([part.mean() for part in of_tokens.split(LENGTHS.tolist())])
    assert divergence.detach().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-6)
    gained = (target - z_then.softmax(-1))[torch.arange(T), gold].numpy()
    assert correction.numpy() == pytest.approx([part.mean() for part in dense.split(gained, LENGTHS)], rel=1e-6)
    leaves = [w for w in now.weights if w is not None] + [v for n, v in student.columns.items() if n != "labels"]
    ours, theirs = (torch.autograd.grad(one.square().sum(), leaves) for one in (divergence, expected))
    for found, wanted in zip(ours, theirs, strict=True):
        assert float((found - wanted).norm() / wanted.norm()) < 1e-5


def test_signals_are_read_off_maps_and_likelihoods() -> None:
    of = layer("biased")
    predictions, losses = rows(of), AnswerLosses(lambda: of)
    u, d = losses.signals(predictions, None, "gold")
    z = dense_logits(of, predictions).detach().numpy()
    expected_u, expected_d = dense.signals(z, LABELS, LENGTHS)
    assert u.numpy() == pytest.approx(expected_u, rel=1e-6)
    assert d.numpy() == pytest.approx(expected_d, rel=1e-6)
    _, margin = losses.signals(predictions, None, "margin")
    top = np.sort(np.exp(z) / np.exp(z).sum(1, keepdims=True), axis=1)
    expected = [part.mean() for part in dense.split(top[:, -1] - top[:, -2], LENGTHS)]
    assert margin.numpy() == pytest.approx(expected, rel=1e-6)


def test_a_remembered_prediction_does_not_follow_the_weights() -> None:
    of = layer("plain")
    predictions, losses = rows(of), AnswerLosses(lambda: of)
    kept, tau = losses.snapshot(predictions), torch.from_numpy(TAU)
    before = losses.maps(kept, tau)
    with torch.no_grad():
        of.weights[0].mul_(-1)  # type: ignore[union-attr]
    assert torch.equal(losses.maps(kept, tau), before)
    assert not torch.allclose(losses.maps(predictions, tau), before)


def test_weights_that_are_not_trained_are_not_copied() -> None:
    of = layer("lora")
    of.weights[0].requires_grad_(False)  # type: ignore[union-attr]
    losses = AnswerLosses(lambda: of)
    predictions = rows(of)
    kept = losses.snapshot(predictions)
    assert kept.output is not None
    assert kept.output.weights[0] is None
    tau = torch.from_numpy(TAU)
    restored = losses.from_state(losses.to_state(kept))
    assert restored is not None
    assert torch.equal(losses.maps(restored, tau), losses.maps(predictions, tau))


def test_discordant_are_answers_that_differ_in_any_token() -> None:
    chosen = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    student = TokenRows(torch.from_numpy(LENGTHS), {"chosen": chosen.int(), "labels": chosen})
    other = chosen.clone()
    other[[2, 8]] = 0  # in the first and in the third answer
    teacher = TokenRows(
        torch.from_numpy(LENGTHS), {"entries": torch.stack([other, other], 1), "log_p": torch.zeros(T, 2)}
    )
    losses = AnswerLosses(lambda: layer("plain"))
    assert losses.discordant(teacher, student, 0.8).tolist() == [True, False, True, False]
    assert losses.correct(student, teacher, None).all()
    assert losses.correct(teacher, student, None).tolist() == [False, True, False, True]


def test_rows_are_taken_and_joined_example_by_example() -> None:
    whole = TokenRows(torch.from_numpy(LENGTHS), {"place": torch.arange(T)})
    taken = whole[torch.tensor([2, 0])]
    assert taken.lengths.tolist() == [5, 3]
    assert taken.columns["place"].tolist() == [4, 5, 6, 7, 8, 0, 1, 2]
    assert whole[torch.tensor([False, True, False, True])].columns["place"].tolist() == [3, 9, 10]
    assert whole[:2].columns["place"].tolist() == [0, 1, 2, 3]
    joined = TokenRows.join([whole[[3]], whole[[1, 2]]])
    assert joined.columns["place"].tolist() == [9, 10, 3, 4, 5, 6, 7, 8]
    assert replace(joined, columns={}).owners.tolist() == [0, 0, 1, 2, 2, 2, 2, 2]
