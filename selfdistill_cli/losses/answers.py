"""The terms of language models: predictions are values at answer tokens, and an answer's map is its distribution.

    CE_i = (1/S_i) Σ_s CE(z_{i,s}, y_{i,s})        m_i(τ) = (1/S_i) Σ_s softmax(z_{i,s} / τ)

The logits themselves exist a chunk of tokens at a time only (generation/chunked.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.predictions import OutputLayer, TokenRows
from selfdistill_cli.losses.chunked import ChunkLoss, in_type_of, logits_of, over_tokens
from selfdistill_cli.losses.vocabulary import (
    Choices,
    LikelihoodsAndMaps,
    LogProbabilities,
    Margins,
    TopEntries,
    WithTeacherLogits,
    WithTopEntries,
)


class TokenTerms:
    """Cross-entropy, vocabulary maps and token divergences, one value an example."""

    def __init__(self, output_layer: Callable[[], OutputLayer]) -> None:
        """`output_layer` gives the model's output layer as it is now."""
        self._live = output_layer

    # --- losses ---------------------------------------------------------------------------------

    def hard(self, logits: TokenRows, labels: Tensor) -> Tensor:
        """Mean cross-entropy over each example's answer tokens [m]."""
        nll, _ = self._over(LikelihoodsAndMaps(logits.columns["labels"]), logits)
        return logits.mean(nll[:, 0])

    def hard_and_soft(
        self, student: TokenRows, labels: Tensor, again: Tensor, teacher: TokenRows, tau: Tensor, match: str
    ) -> tuple[Tensor, Tensor]:
        """`hard` of all m examples, and the distillation term of the k examples `again` (bool [m]) at τ_i [k]."""
        every_tau = torch.ones(len(student), dtype=tau.dtype, device=student.device).index_put((again,), tau)
        if match == "token":
            return self._token_by_token(student, again, teacher, every_tau)
        nll, maps = self._likelihoods_and_maps(student, every_tau, again)
        return nll, objectives.map_kl(self.maps(teacher, tau), maps, tau)

    def hard_and_batch_soft(
        self, student: TokenRows, labels: Tensor, teacher: TokenRows, tau: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`hard`, and τ² · KL between the mean maps of the teacher's batch and of this one, in equal shares [m].

        `student` must be the whole step, `tau` is one number. The second result depends on each example's own map
        alone, as far as gradients go: that of example i is the term's gradient through it.
        """
        everybody = torch.ones(len(student), dtype=torch.bool, device=student.device)
        nll, maps = self._likelihoods_and_maps(student, tau.expand(len(student)), everybody)
        target = self.maps(teacher, tau.expand(len(teacher))).mean(0, keepdim=True)
        mean = maps.mean(0, keepdim=True).detach().requires_grad_()
        with torch.enable_grad():
            term = objectives.map_kl(target, mean, tau)
            (slope,) = torch.autograd.grad(term.sum(), mean)
        own = ((maps - maps.detach()) * slope).sum(-1)
        return nll, (term.detach() + own) / len(student)

    def hard_and_teach(
        self, student: TokenRows, labels: Tensor, teacher: TokenRows, tau: float
    ) -> tuple[Tensor, Tensor]:
        """`hard`, and kd's term: the mean over answer tokens of the divergence from the teacher's top entries [m]."""
        top = teacher.columns
        loss = WithTopEntries(student.columns["labels"], top["log_p"], top["entries"].long(), tau)
        values, _ = self._over(loss, student)
        return student.mean(values[:, 0]), student.mean(values[:, 1])

    # --- signals --------------------------------------------------------------------------------

    @torch.no_grad()
    def signals(self, logits: TokenRows, labels: Tensor, form: str) -> tuple[Tensor, Tensor]:
        """u_i = H(m_i(1)) / log V, and d_i from the mean NLL (`gold`) or the mean margin of the tokens [m] each."""
        ones = torch.ones(len(logits), device=logits.device)
        nll, maps = self._likelihoods_and_maps(logits, ones, ones.bool())
        if form == "margin":
            margins, _ = self._over(Margins(), logits)
            return objectives.map_uncertainty(maps), logits.mean(margins[:, 0])
        return objectives.map_uncertainty(maps), objectives.likelihood_discrimination(nll)

    @torch.no_grad()
    def maps(self, logits: TokenRows, tau: Tensor) -> Tensor:
        """m_i(τ_i) [m, V]. tau [m]."""
        return self._likelihoods_and_maps(logits, tau, torch.ones_like(tau, dtype=torch.bool))[1]

    def discordant(self, teacher: TokenRows, student: TokenRows, quantile: float) -> Tensor:
        """Where the likeliest answers differ, in one token or more, given the gold tokens before each; bool [m]."""
        return _any_token(student, self._chosen(teacher) != self._chosen(student))

    def right(self, logits: TokenRows, other: TokenRows, labels: Tensor) -> Tensor:
        """Where every likeliest token is the gold one, bool [m]."""
        gold = (logits if "labels" in logits.columns else other).columns["labels"].cpu()
        return ~_any_token(logits, self._chosen(logits) != gold)

    # --- what is kept ---------------------------------------------------------------------------

    def remembered(self, logits: TokenRows) -> TokenRows:
        """These predictions with the output layer of now, for a later step: weights that are trained are copied."""
        layer = self._live()
        weights = tuple(w.detach().clone() if w is not None and w.requires_grad else None for w in layer.weights)
        trained_bias = layer.bias is not None and layer.bias.requires_grad
        bias = layer.bias.detach().clone() if trained_bias and layer.bias is not None else None
        return replace(logits.detach(), output=OutputLayer(weights, bias))

    def to_state(self, logits: TokenRows | None) -> dict[str, Any] | None:
        """`logits` for a checkpoint."""
        return None if logits is None else logits.state_dict()

    def from_state(self, state: dict[str, Any] | None) -> TokenRows | None:
        """Take back what `to_state` gave."""
        return None if state is None else TokenRows.from_state(state)

    @torch.no_grad()
    def choices(self, logits: TokenRows) -> TokenRows:
        """The likeliest tokens and the gold ones, on the CPU: what `discordant` and `right` compare."""
        columns = {"chosen": self._chosen(logits), "labels": logits.columns["labels"]}
        return TokenRows(logits.lengths, columns).cpu()

    @torch.no_grad()
    def top_entries(self, logits: TokenRows, k: int) -> TokenRows:
        """The k largest log-probabilities of each answer token and their entries, on the CPU: a teacher's logits."""
        values, _ = self._over(TopEntries(k), logits)
        return TokenRows(logits.lengths, {"log_p": values[:, 0].float(), "entries": values[:, 1].int()}).cpu()

    @torch.no_grad()
    def log_probabilities(self, logits: TokenRows) -> Tensor:
        """log softmax(z) of every answer token, whole [T, V]: for a few examples only."""
        return self._over(LogProbabilities(), logits)[0][:, 0]

    # --- computation ----------------------------------------------------------------------------

    def _layer(self, logits: TokenRows) -> OutputLayer:
        """The output layer that made these predictions: the remembered one, the model's own where that is empty."""
        live = self._live()
        if logits.output is None:
            return live
        weights = tuple(
            own if own is None else own.to(logits.device) if kept is None else kept.to(logits.device)
            for kept, own in zip(logits.output.weights, live.weights, strict=True)
        )
        bias = live.bias if logits.output.bias is None else logits.output.bias.to(logits.device)
        return OutputLayer(weights, bias)

    def _over(self, loss: ChunkLoss, logits: TokenRows) -> tuple[Tensor, Tensor | None]:
        layer = self._layer(logits)
        return over_tokens(loss, _inputs(logits), [w for w in layer.weights if w is not None], layer.bias)

    def _likelihoods_and_maps(self, logits: TokenRows, tau: Tensor, mapped: Tensor) -> tuple[Tensor, Tensor]:
        """Mean NLL of all m examples [m], and the maps of those `mapped` (bool [m]) [k, V]. tau [m]."""
        owners = logits.owners
        shares = torch.zeros(len(logits), len(owners), device=logits.device)
        shares[owners, torch.arange(len(owners), device=logits.device)] = 1 / logits.lengths[owners].float()
        loss = LikelihoodsAndMaps(logits.columns["labels"], shares[mapped], tau[owners])
        nll, maps = self._over(loss, logits)
        assert maps is not None
        return logits.mean(nll[:, 0]), maps

    def _token_by_token(
        self, student: TokenRows, again: Tensor, teacher: TokenRows, tau: Tensor
    ) -> tuple[Tensor, Tensor]:
        layer = self._layer(teacher)

        inputs = _inputs(teacher)
        weights = in_type_of(inputs, layer.weights)

        def teacher_logits(tokens: Tensor) -> Tensor:
            return logits_of([one[tokens] for one in inputs], weights, layer.bias).detach()

        taught = again[student.owners]
        rows = torch.where(taught, taught.cumsum(0) - 1, -1)
        loss = WithTeacherLogits(student.columns["labels"], tau[student.owners], rows, teacher_logits)
        values, _ = self._over(loss, student)
        return student.mean(values[:, 0]), student.mean(values[:, 1])[again]

    def _chosen(self, logits: TokenRows) -> Tensor:
        """The likeliest token at each place [T], int32 on the CPU."""
        if "chosen" in logits.columns:
            return logits.columns["chosen"]
        if "entries" in logits.columns:
            return logits.columns["entries"][:, 0].int().cpu()
        with torch.no_grad():
            return self._over(Choices(), logits)[0][:, 0].int().cpu()


def _inputs(logits: TokenRows) -> list[Tensor]:
    """What the output layer's factors are multiplied by [T, k_j] each."""
    return [values for name, values in logits.columns.items() if name.startswith("input")]


def _any_token(rows: TokenRows, flags: Tensor) -> Tensor:
    """Whether an example has a flagged token. flags: bool [T] on the CPU -> bool [m]."""
    return TokenRows(rows.lengths.cpu(), {}).mean(flags.double()) > 0
