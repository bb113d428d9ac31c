"""What is computed from the logits of answer tokens, by chunks: likelihoods, vocabulary maps, divergences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.device import widest
from selfdistill_cli.engine.transfer import on_device
from selfdistill_cli.losses.chunked import ChunkLoss
from selfdistill_cli.losses.divergences import Measure


class LikelihoodsAndMaps(ChunkLoss):
    """Token values: −log p(label) in nats [T, 1]. Sum: maps m_i(τ_i) = Σ_s share_{i,s} · softmax(z_s / τ_s) [m, V].

    Written out rather than left to autograd: this is where the time and the memory of a large vocabulary go.
    """

    def __init__(self, labels: Tensor, shares: Tensor | None = None, tau: Tensor | None = None) -> None:
        """labels [T]; shares [m, T]: what each token adds to each map (1/S_i, or 0); tau [T]; both or neither."""
        self.labels = labels
        self.shares = shares
        self.tau = tau

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        labels = self.labels[span, None]
        largest = logits.amax(-1, keepdim=True)
        gold = logits.gather(1, labels) - largest
        logits -= largest
        part = None
        if self.shares is not None and self.tau is not None:
            powers = _softmax_of_shifted(logits, self.tau[span, None])
            part = self.shares[:, span].to(powers) @ powers
            del powers
        return logits.exp_().sum(-1, keepdim=True).log_() - gold, part

    def slope(self, logits: Tensor, span: slice, by_token: Tensor, by_sum: Tensor | None) -> Tensor:
        logits -= logits.amax(-1, keepdim=True)
        through_map = None
        if by_sum is not None and self.shares is not None and self.tau is not None:
            tau = self.tau[span, None]
            powers = _softmax_of_shifted(logits, tau)
            # d softmax(z/τ) = P ∘ (G − ⟨P, G⟩) / τ, where G is the gradient of the token's own map, by its share
            through_map = self.shares[:, span].to(powers).T @ by_sum
            through_map -= torch.einsum("cv,cv->c", powers, through_map)[:, None]
            through_map *= powers
            through_map /= tau
            del powers
        slope = logits.exp_()
        slope *= by_token / slope.sum(-1, keepdim=True)
        # Not scattered: on a card, where bits are to be the same each time, that would wait for it.
        rows = torch.arange(len(slope), device=slope.device)
        slope.index_put_((rows, self.labels[span]), -by_token[:, 0], accumulate=True)
        return slope if through_map is None else slope.add_(through_map)


class LikelihoodsAndEntropies(ChunkLoss):
    """Token values [T, 2]: −log p(label), and the entropy of the token's distribution, in nats."""

    def __init__(self, labels: Tensor) -> None:
        """labels [T]."""
        self.labels = labels

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        nll = F.cross_entropy(logits, self.labels[span], reduction="none")
        return torch.stack([nll, torch.special.entr(logits.softmax(-1)).sum(-1)], dim=-1), None


def _softmax_of_shifted(logits: Tensor, tau: Tensor) -> Tensor:
    """softmax(z / τ) of logits whose largest is 0, with no more than the result in memory."""
    powers = (logits / tau).exp_()
    powers /= powers.sum(-1, keepdim=True)
    return powers


class WithTeacherLogits(ChunkLoss):
    """Token values [T, 2]: −log p(label), and τ_s² · KL(teacher ‖ student) of tokens that have a teacher, else 0."""

    def __init__(self, labels: Tensor, tau: Tensor, teacher_rows: Tensor, teacher: Callable[[Tensor], Tensor]) -> None:
        """labels [T]; tau [T]; teacher_rows [T], on the CPU: the teacher's token, or −1; teacher: tokens [c] -> logits [c, V]."""
        self.labels = labels
        self.tau = tau
        self.teacher_rows = teacher_rows
        self.teacher = teacher

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        nll = F.cross_entropy(logits, self.labels[span], reduction="none")
        rows = self.teacher_rows[span].numpy()
        places = np.flatnonzero(rows >= 0)
        kl = torch.zeros_like(nll)
        if len(places):
            taught, theirs = (on_device(torch.from_numpy(some), logits.device) for some in (places, rows[places]))
            divergence = objectives.tempered_kl(self.teacher(theirs), logits[taught], self.tau[span][taught])
            kl = kl.index_put((taught,), divergence)
        return torch.stack([nll, kl], dim=-1), None


class WithTopEntries(ChunkLoss):
    """Token values [T, 2]: −log p(label), and τ² · KL to a teacher of which the top entries are known."""

    def __init__(self, labels: Tensor, teacher: Tensor, entries: Tensor, tau: float, standardize: bool = False) -> None:
        """labels [T]; teacher: log-probabilities [T, k]; entries [T, k]. standardize: these are of z-scores at τ."""
        self.labels = labels
        self.teacher = teacher
        self.entries = entries
        self.tau = tau
        self.standardize = standardize

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        nll = F.cross_entropy(logits, self.labels[span], reduction="none")
        teacher, entries = self.teacher[span], self.entries[span]
        if self.standardize:
            kl = self.tau**2 * objectives.bucketed_kl(teacher, entries, objectives.standardized(logits) / self.tau, 1.0)
        else:
            kl = objectives.bucketed_kl(teacher, entries, logits, self.tau)
        return torch.stack([nll, kl], dim=-1), None


class WithCorrectedBase(ChunkLoss):
    """Token values [T, 2]: KL(corrected base ‖ student), and how much p̃ gives the label more than the base did."""

    def __init__(self, labels: Tensor, theta: float, base: Callable[[slice], Tensor]) -> None:
        """labels [T]; base: a span of tokens -> logits [c, V]."""
        self.labels = labels
        self.theta = theta
        self.base = base

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        return torch.stack(objectives.corrected_kl(self.base(span), logits, self.labels[span], self.theta), -1), None


class WithDivergence(ChunkLoss):
    """Token values [T, 1]: D(teacher, student)."""

    def __init__(self, measure: Measure, teacher: Callable[[slice], Tensor]) -> None:
        """teacher: a span of tokens -> logits [c, V]."""
        self.measure = measure
        self.teacher = teacher

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        return self.measure(self.teacher(span), logits)[:, None], None


class Margins(ChunkLoss):
    """Token values [T, 1]: top-1 minus top-2 probability."""

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        return objectives.margin_discrimination(logits)[:, None], None


class Choices(ChunkLoss):
    """Token values [T, 1]: the likeliest entry."""

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        return logits.argmax(-1, keepdim=True), None


class LogProbabilities(ChunkLoss):
    """Token values [T, 1, V]: all log-probabilities."""

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        return logits.log_softmax(-1)[:, None], None


class TopEntries(ChunkLoss):
    """Token values [T, 2, k]: the k largest log-probabilities, and their entries."""

    def __init__(self, k: int, standardized_at: float | None) -> None:
        """standardized_at: of z-scores at this τ, if not of the logits themselves."""
        self.k = k
        self.standardized_at = standardized_at

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        if self.standardized_at is not None:
            logits = objectives.standardized(logits) / self.standardized_at
        log_p, entries = objectives.top_log_probabilities(logits, self.k)
        # Entries are exact in float64 far beyond any vocabulary, and in an Apple GPU's float32 up to 2²⁴.
        wide = widest(logits.device)
        return torch.stack([log_p.to(wide), entries.to(wide)], dim=1), None


class OwnLoss(ChunkLoss):
    """Token values [T, J]: a method's own function of logits [c, V] and gold tokens [c], which gives [c] or [c, J]."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> None:
        """labels [T]."""
        self.function = function
        self.labels = labels

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        values = self.function(logits, self.labels[span])
        return values[:, None] if values.dim() == 1 else values, None


class CopiesLoss(ChunkLoss):
    """Token values [T, J]: a function of the logits of a token's copies [t, c, V] and gold tokens [t], once for each copy.

    The copies of a token stand one after the other.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], labels: Tensor, copies: int) -> None:
        """labels [T]."""
        self.function = function
        self.labels = labels
        self.together = copies

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        copies = self.together
        values = self.function(logits.reshape(-1, copies, logits.shape[-1]), self.labels[span][::copies])
        return (values[:, None] if values.dim() == 1 else values).repeat_interleave(copies, 0), None
