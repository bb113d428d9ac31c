"""Losses of written answers: predictions are values at answer tokens, and an answer's map is its distribution.

    CE_i = (1/S_i) Σ_s CE(z_{i,s}, y_{i,s})        m_i(τ) = (1/S_i) Σ_s softmax(z_{i,s} / τ)

The logits themselves exist a chunk of tokens at a time only (chunked.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.method import MicroBatch
from selfdistill_cli.engine.predictions import OutputLayer, TokenRows, rows_of
from selfdistill_cli.engine.transfer import on_device
from selfdistill_cli.losses.base import Comparison, Losses, OfCopies, OfLogits
from selfdistill_cli.losses.chunked import ChunkLoss, in_type_of, logits_of, over_tokens
from selfdistill_cli.losses.divergences import Measure
from selfdistill_cli.losses.vocabulary import (
    Choices,
    CopiesLoss,
    LikelihoodsAndEntropies,
    LikelihoodsAndMaps,
    LogProbabilities,
    Margins,
    OwnLoss,
    TopEntries,
    WithCorrectedBase,
    WithDivergence,
    WithTeacherLogits,
    WithTopEntries,
)


class AnswerLosses(Losses[TokenRows]):
    """Cross-entropy, vocabulary maps and token divergences, one value an example."""

    def __init__(self, output_layer: Callable[[], OutputLayer]) -> None:
        """`output_layer` gives the model's output layer as it is now."""
        self._live = output_layer

    # --- losses ---------------------------------------------------------------------------------

    def nll(self, predictions: TokenRows) -> Tensor:
        """Mean negative log-likelihood of each example's answer tokens, in nats [m]."""
        nll, _ = self._over(LikelihoodsAndMaps(predictions.columns["labels"]), predictions)
        return predictions.mean(nll[:, 0])

    def nll_and_entropy(self, predictions: TokenRows) -> Tensor:
        """`nll`, and the mean entropy of the distributions at the answer tokens, given the gold ones before; nats [m, 2]."""
        values, _ = self._over(LikelihoodsAndEntropies(predictions.columns["labels"]), predictions)
        return torch.stack([predictions.mean(column) for column in values.unbind(-1)], dim=-1)

    def supervised(self, predictions: TokenRows, batch: MicroBatch) -> Tensor:
        return self.nll(predictions)

    def from_previous(
        self,
        predictions: TokenRows,
        batch: MicroBatch,
        repeated: Tensor,
        previous: TokenRows,
        tau: Tensor,
        compared: Comparison,
    ) -> tuple[Tensor, Tensor]:
        every_tau = torch.ones(len(predictions), dtype=tau.dtype, device=predictions.device)
        every_tau = every_tau.index_put((on_device(repeated, predictions.device),), tau)
        if compared.match == "token":
            return self._token_by_token(predictions, repeated, previous, every_tau)
        nll, maps = self._likelihoods_and_maps(predictions, every_tau, repeated)
        return nll, objectives.map_kl(self.maps(previous, tau), maps, tau)

    def between_batches(
        self, predictions: TokenRows, batch: MicroBatch, previous: TokenRows, tau: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As the interface says. The second result depends on each example's own map alone, as far as gradients go:
        that of example i is the loss's gradient through it.
        """
        nll, maps = self._likelihoods_and_maps(predictions, tau.expand(len(predictions)))
        target = self.maps(previous, tau.expand(len(previous))).mean(0, keepdim=True)
        mean = maps.mean(0, keepdim=True).detach().requires_grad_()
        with torch.enable_grad():
            divergence = objectives.map_kl(target, mean, tau)
            (slope,) = torch.autograd.grad(divergence.sum(), mean)
        own = ((maps - maps.detach()) * slope).sum(-1)
        return nll, (divergence.detach() + own) / len(predictions)

    def from_teacher(
        self, predictions: TokenRows, batch: MicroBatch, teacher: TokenRows, tau: float, standardize: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As the interface says: the mean over answer tokens of the divergence from the teacher's logits, of which only
        the top entries may be known."""
        top = teacher.columns
        if "log_p" not in top:
            every_tau = torch.full((len(predictions),), tau, device=predictions.device)
            return self._token_by_token(predictions, torch.arange(len(predictions)), teacher, every_tau)
        loss = WithTopEntries(predictions.columns["labels"], top["log_p"], top["entries"].long(), tau, standardize)
        values, _ = self._over(loss, predictions)
        return predictions.mean(values[:, 0]), predictions.mean(values[:, 1])

    def from_corrected(
        self, predictions: TokenRows, batch: MicroBatch, base: TokenRows, theta: float
    ) -> tuple[Tensor, Tensor]:
        loss = WithCorrectedBase(predictions.columns["labels"], theta, self._logits_of(base))
        values, _ = self._over(loss, predictions)
        return predictions.mean(values[:, 0]), predictions.mean(values[:, 1]).detach()

    def divergence(self, predictions: TokenRows, batch: MicroBatch, teacher: TokenRows, measure: Measure) -> Tensor:
        values, _ = self._over(WithDivergence(measure, self._logits_of(teacher)), predictions)
        return predictions.mean(values[:, 0])

    def of_logits(self, function: OfLogits, predictions: TokenRows, batch: MicroBatch) -> Tensor:
        values, _ = self._over(OwnLoss(function, predictions.columns["labels"]), predictions)
        return _means(predictions.lengths, values)

    def of_copies(self, function: OfCopies, predictions: TokenRows, batch: MicroBatch) -> Tensor:
        copies = batch.plan.copies
        beside = _copies_beside(predictions, copies)
        values, _ = self._over(CopiesLoss(function, beside.columns["labels"], copies), beside)
        return _means(predictions.lengths[::copies], values[::copies])

    def between_copies(self, predictions: TokenRows, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        supervised, divergence = self.of_copies(objectives.of_two_copies, predictions, batch).unbind(-1)
        return supervised, divergence

    # --- signals --------------------------------------------------------------------------------

    @torch.no_grad()
    def signals(self, predictions: TokenRows, labels: Tensor | None, discrimination: str) -> tuple[Tensor, Tensor]:
        """u_i = H(m_i(1)) / log V, and d_i from the mean NLL (`gold`) or the mean margin of the tokens [m] each."""
        ones = torch.ones(len(predictions), device=predictions.device)
        nll, maps = self._likelihoods_and_maps(predictions, ones)
        if discrimination == "margin":
            margins, _ = self._over(Margins(), predictions)
            return objectives.map_uncertainty(maps), predictions.mean(margins[:, 0])
        return objectives.map_uncertainty(maps), objectives.likelihood_discrimination(nll)

    @torch.no_grad()
    def maps(self, predictions: TokenRows, tau: Tensor) -> Tensor:
        """m_i(τ_i) [m, V]. tau [m]."""
        return self._likelihoods_and_maps(predictions, tau)[1]

    def discordant(self, teacher: TokenRows, student: TokenRows, quantile: float) -> Tensor:
        """Where the likeliest answers differ, in one token or more, given the gold tokens before each; bool [m]."""
        return _any_token(student, self._chosen(teacher) != self._chosen(student))

    def correct(self, predictions: TokenRows, other: TokenRows, labels: Tensor | None) -> Tensor:
        """Where every likeliest token is the gold one, bool [m]."""
        gold = (predictions if "labels" in predictions.columns else other).columns["labels"]
        return ~_any_token(predictions, self._chosen(predictions) != gold)

    def wrong(self, predictions: TokenRows, labels: Tensor | None, quantile: float) -> Tensor:
        """Where a likeliest token is not the gold one, bool [m]."""
        return ~self.correct(predictions, predictions, labels)

    # --- what is kept ---------------------------------------------------------------------------

    def bound(self, predictions: TokenRows) -> TokenRows:
        """These predictions with the output layer of now, by reference."""
        return replace(predictions.detach(), output=self._live())

    def snapshot(self, predictions: TokenRows) -> TokenRows:
        """These predictions with the output layer of now, for a later step: weights that are trained are copied."""
        layer = self._live()
        weights = tuple(w.detach().clone() if w is not None and w.requires_grad else None for w in layer.weights)
        trained_bias = layer.bias is not None and layer.bias.requires_grad
        bias = layer.bias.detach().clone() if trained_bias and layer.bias is not None else None
        return replace(predictions.detach(), output=OutputLayer(weights, bias, whole=False))

    def to_state(self, predictions: TokenRows | None) -> dict[str, Any] | None:
        """A snapshot for a checkpoint."""
        return None if predictions is None else predictions.state_dict()

    def from_state(self, state: dict[str, Any] | None) -> TokenRows | None:
        """Take back what `to_state` gave."""
        return None if state is None else TokenRows.from_state(state)

    @torch.no_grad()
    def decisions(self, predictions: TokenRows) -> TokenRows:
        """The likeliest tokens and the gold ones, on the CPU: what `discordant` and `correct` compare."""
        columns = {"chosen": self._chosen(predictions), "labels": predictions.columns["labels"]}
        return TokenRows(predictions.lengths, columns).cpu()

    @torch.no_grad()
    def top_entries(self, predictions: TokenRows, k: int, standardized_at: float | None = None) -> TokenRows:
        """The k largest log-probabilities of each answer token and their entries, on the CPU: a teacher's logits.

        standardized_at: of logits of mean 0 and standard deviation 1 at this τ, in place of the logits themselves.
        """
        values, _ = self._over(TopEntries(k, standardized_at), predictions)
        return TokenRows(predictions.lengths, {"log_p": values[:, 0].float(), "entries": values[:, 1].int()}).cpu()

    @torch.no_grad()
    def log_probabilities(self, predictions: TokenRows) -> Tensor:
        """log softmax(z) of every answer token, whole [T, V]: for a few examples only."""
        return self._over(LogProbabilities(), predictions)[0][:, 0]

    # --- computation ----------------------------------------------------------------------------

    def _layer(self, predictions: TokenRows) -> OutputLayer:
        """The output layer that made these predictions: the remembered one, the model's own where that is empty."""
        if predictions.output is not None and predictions.output.whole:
            return predictions.output
        live = self._live()
        if predictions.output is None:
            return live
        weights = tuple(
            own if own is None else own.to(predictions.device) if kept is None else kept.to(predictions.device)
            for kept, own in zip(predictions.output.weights, live.weights, strict=True)
        )
        bias = live.bias if predictions.output.bias is None else predictions.output.bias.to(predictions.device)
        return OutputLayer(weights, bias)

    def _over(self, loss: ChunkLoss, predictions: TokenRows) -> tuple[Tensor, Tensor | None]:
        layer = self._layer(predictions)
        return over_tokens(loss, predictions.inputs, [w for w in layer.weights if w is not None], layer.bias)

    def _likelihoods_and_maps(
        self, predictions: TokenRows, tau: Tensor, mapped: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean NLL of all m examples [m], and the maps of those `mapped` (places [k] on the CPU; None: all). tau [m]."""
        owners = predictions.owners
        shares = torch.zeros(len(predictions), len(owners), device=predictions.device)
        shares[owners, torch.arange(len(owners), device=predictions.device)] = 1 / predictions.sizes[owners].float()
        if mapped is not None:
            shares = rows_of(shares, mapped)
        loss = LikelihoodsAndMaps(predictions.columns["labels"], shares, tau[owners])
        nll, maps = self._over(loss, predictions)
        assert maps is not None
        return predictions.mean(nll[:, 0]), maps

    def _token_by_token(
        self, student: TokenRows, repeated: Tensor, teacher: TokenRows, tau: Tensor
    ) -> tuple[Tensor, Tensor]:
        taught = torch.zeros(len(student), dtype=torch.bool).index_fill(0, repeated, True)[student.owners_on_host]
        rows = torch.where(taught, taught.cumsum(0) - 1, -1)
        loss = WithTeacherLogits(student.columns["labels"], tau[student.owners], rows, self._logits_of(teacher))
        values, _ = self._over(loss, student)
        return student.mean(values[:, 0]), rows_of(student.mean(values[:, 1]), repeated)

    def _logits_of(self, predictions: TokenRows) -> Callable[[Tensor | slice], Tensor]:
        """What makes logits [c, V] of some of their tokens, without gradient."""
        layer, inputs = self._layer(predictions), predictions.inputs
        weights = in_type_of(inputs, layer.weights)

        def logits(tokens: Tensor | slice) -> Tensor:
            return logits_of([one[tokens] for one in inputs], weights, layer.bias).detach()

        return logits

    def _chosen(self, predictions: TokenRows) -> Tensor:
        """The likeliest token at each place [T], int32."""
        if "chosen" in predictions.columns:
            return predictions.columns["chosen"]
        if "entries" in predictions.columns:
            return predictions.columns["entries"][:, 0].int()
        with torch.no_grad():
            return self._over(Choices(), predictions)[0][:, 0].int()


def _means(lengths: Tensor, values: Tensor) -> Tensor:
    """Means over each example's tokens. lengths [m], values [T, J] -> [m], or [m, J] of several."""
    rows = TokenRows(lengths, {"values": values})
    columns = torch.stack([rows.mean(column) for column in values.unbind(-1)], dim=-1)
    return columns[:, 0] if columns.shape[-1] == 1 else columns


def _copies_beside(rows: TokenRows, copies: int) -> TokenRows:
    """Tokens in another order, the copies of each one after the other; before, those of an example's copy were."""
    owners, starts = rows.owners_on_host, rows.lengths.cumsum(0) - rows.lengths
    first = starts[owners - owners % copies]  # of the example's tokens, which those of its copies follow
    place = torch.arange(len(owners)) - starts[owners]
    order = on_device((first + place * copies + owners % copies).argsort(), rows.device)
    return replace(rows, columns={name: values[order] for name, values in rows.columns.items()})


def _any_token(rows: TokenRows, flags: Tensor) -> Tensor:
    """Whether an example has a flagged token. flags: bool [T] -> bool [m]."""
    return TokenRows(rows.lengths, {"flags": flags}).mean(flags.float()) > 0
