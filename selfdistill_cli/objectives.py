"""Losses and signals of self-distillation: pure functions on tensors, one value an example.

Shapes: n examples, C classes. Entropies and divergences are in nats. All is computed in float32 at least. Nothing is
averaged over examples: methods weigh the losses, so a batch may be split into micro-batches with the same gradient.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _wide(x: Tensor) -> Tensor:
    """At least float32; float64 stays as it is (gradient checks need it)."""
    return x if x.dtype == torch.float64 else x.float()


def _like(value: Tensor | float, other: Tensor) -> Tensor:
    """A tensor or number in the type and on the device of another tensor: filled in there, not copied to a card."""
    return value.to(other) if isinstance(value, Tensor) else other.new_full((), value)


# --- supervised losses --------------------------------------------------------------------------


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """CE(z_i, y_i), equal to the negative log-likelihood of the gold label.

    logits [n, C], labels [n] (class numbers) -> [n].
    """
    return F.cross_entropy(_wide(logits), labels, reduction="none")


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """CE of p_i against (1 − ε)·onehot(y_i) + ε/C (Szegedy et al., arXiv 1512.00567).

    logits [n, C], labels [n] (class numbers), ε in [0, 1) -> [n].
    """
    return F.cross_entropy(_wide(logits), labels, reduction="none", label_smoothing=epsilon)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """−(1 − p_y)^γ · log p_y (Lin et al., arXiv 1708.02002): what is right already counts less.

    logits [n, C], labels [n] (class numbers), γ ≥ 0 -> [n].
    """
    log_p = -cross_entropy(logits, labels)
    # At p_y = 1 the root of γ < 1 has an infinite slope, which would meet the logarithm's zero.
    wrong = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -wrong.pow(gamma) * log_p


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """(z_i − y_i)². predictions [n], targets [n] -> [n]."""
    return (_wide(predictions) - _wide(targets)).square()


# --- distillation losses ------------------------------------------------------------------------


def tempered_kl(teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
    """τ_i² · KL( softmax(z_i^T / τ_i) ‖ softmax(z_i^S / τ_i) ) (Hinton et al., arXiv 1503.02531).

    teacher [n, C] (receives no gradient), student [n, C], tau [n] or a number -> [n], ≥ 0.
    """
    scale = _like(tau, _wide(student))
    per_row = scale.unsqueeze(-1) if scale.dim() else scale
    log_p = F.log_softmax(_wide(teacher).detach() / per_row, dim=-1)
    log_q = F.log_softmax(_wide(student) / per_row, dim=-1)
    # Rounding can push a divergence of (nearly) equal distributions just below zero.
    return scale.square() * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).clamp_min(0)


def symmetric_kl(first: Tensor, second: Tensor) -> Tensor:
    """½ ( KL(p¹ ‖ p²) + KL(p² ‖ p¹) ) = ½ Σ (p¹ − p²)(log p¹ − log p²) (R-Drop: Wu et al., arXiv 2106.14448).

    first, second: logits [n, C], which both receive gradients -> [n], ≥ 0.
    """
    log_p, log_q = F.log_softmax(_wide(first), dim=-1), F.log_softmax(_wide(second), dim=-1)
    return (log_p.exp() - log_q.exp()).mul(log_p - log_q).sum(-1) / 2


def of_two_copies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, the mean of both copies, and `symmetric_kl` of them. logits [n, 2, C], labels [n] -> [n, 2]."""
    first, second = logits.unbind(1)
    supervised = (cross_entropy(first, labels) + cross_entropy(second, labels)) / 2
    return torch.stack([supervised, symmetric_kl(first, second)], dim=-1)


def standardized(logits: Tensor) -> Tensor:
    """(z_i − mean z_i) / sd z_i: mean 0 and standard deviation 1 over the classes (Sun et al., arXiv 2403.01427).

    So a student need only have its teacher's order and proportions, not its scale. logits [n, C] -> [n, C].
    """
    centred = _wide(logits) - _wide(logits).mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    # Equal logits have no spread: they stay 0, and the root's slope there stays finite.
    return centred * variance.clamp_min(torch.finfo(variance.dtype).tiny).rsqrt()


def gaussian_kl(teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
    """(z_i^S − z_i^T)² / (2 τ_i²): KL between Gaussians of standard deviation τ_i around both predictions, in nats.

    The regression form of the divergence; τ_i² times it is that of τ = 1, whatever τ_i is.
    teacher [n] (no gradient), student [n], tau [n] or a number -> [n].
    """
    scale = _like(tau, _wide(student))
    return squared_error(student, teacher.detach()) / (2 * scale.square())


def corrected(base: Tensor, labels: Tensor, theta: float) -> Tensor:
    """p̃_i: the base model's distribution p_i⁰, corrected by the gold label y (minifinetuning, arXiv 2506.15702).

    Where argmax p⁰ ≠ y, so much of onehot(y) is mixed in, m = (p⁰_max − p⁰_y + θ) / (1 + p⁰_max − p⁰_y), that y leads by
    θ. Where it is y, p⁰_y is raised to min(1, p⁰_y + θ), and the others are scaled down.
    base: logits [n, C] (no gradient), labels [n] (class numbers), θ in [0, 1) -> probabilities [n, C].
    """
    p = _wide(base).detach().softmax(-1)
    gold, largest = p.gather(-1, labels[:, None]), p.amax(-1, keepdim=True)
    mixed = (largest - gold + theta) / (1 + largest - gold)
    right = (base.argmax(-1) == labels)[:, None]
    raised = torch.where(right, (gold + theta).clamp(max=1), gold + mixed * (1 - gold))
    others = torch.where(right, (1 - raised) / (1 - gold).clamp_min(torch.finfo(p.dtype).tiny), 1 - mixed)
    return (p * others).index_put((torch.arange(len(p), device=p.device), labels), raised[:, 0])


def corrected_kl(base: Tensor, student: Tensor, labels: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    """KL( p̃_i ‖ softmax(z_i) ), and how much p̃_i gives the gold label more than the base did, p̃_y − p⁰_y ≥ 0.

    base: logits [n, C] (no gradient), student: logits [n, C], labels [n], θ as of `corrected` -> [n], [n].
    """
    target = corrected(base, labels, theta)
    log_q = F.log_softmax(_wide(student), dim=-1)
    divergence = (torch.special.xlogy(target, target) - target * log_q).sum(-1).clamp_min(0)
    before = _wide(base).detach().softmax(-1).gather(-1, labels[:, None])
    return divergence, (target.gather(-1, labels[:, None]) - before)[:, 0]


# --- signals of DynSDPB (arXiv 2411.16991) ------------------------------------------------------


def uncertainty(logits: Tensor) -> Tensor:
    """u_i = H(softmax(z_i)) / log C, in [0, 1]. logits [n, C] -> [n]."""
    log_p = F.log_softmax(_wide(logits), dim=-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return (entropy / math.log(logits.shape[-1])).clamp(0, 1)


def gold_discrimination(logits: Tensor, labels: Tensor) -> Tensor:
    """d_i = 2 · sigmoid(−NLL_i), in (0, 1]: 1 where the gold label has all the probability.

    logits [n, C], labels [n] -> [n].
    """
    return likelihood_discrimination(cross_entropy(logits, labels))


def margin_discrimination(logits: Tensor) -> Tensor:
    """Top-1 minus top-2 probability, in [0, 1]: how far the prediction singles out one class.

    logits [n, C] -> [n].
    """
    top = _wide(logits).softmax(-1).topk(2, dim=-1).values
    return top[:, 0] - top[:, 1]


def regression_uncertainty(predictions: Tensor, labels: Tensor, label_range: float) -> Tensor:
    """u_i = |z_i − y_i| / (max y − min y over the training set), clipped to [0, 1]. [n], [n] -> [n]."""
    return ((_wide(predictions) - _wide(labels)).abs() / label_range).clamp(0, 1)


def dynamic_temperature(rule: str, tau: float, u: Tensor, d: Tensor) -> Tensor:
    """τ_i by name of the rule: an uncertain (or undiscriminating) prediction is smoothed more.

    `uncertainty`: τ(1 + u_i); `confidence`: τ(2 − d_i); `constant`: τ. u [n], d [n] -> [n].
    """
    if rule == "uncertainty":
        return tau * (1 + u)
    if rule == "confidence":
        return tau * (2 - d)
    if rule == "constant":
        return torch.full_like(u, tau)
    raise ValueError(f"unknown tau_rule {rule!r}")


def dynamic_influence(rule: str, alpha: float, u: Tensor, d: Tensor) -> Tensor:
    """α_i by name of the rule: how much a prediction teaches, by its signals.

    `discrimination`: α·d_i; `uncertainty`: α·u_i (Li et al., arXiv 2109.11295: what is unsure is distilled more);
    `certainty`: α(1 − u_i), the opposite; `product`: α·d_i(1 − u_i); `constant`: α. u [n], d [n] -> [n].
    """
    if rule == "discrimination":
        return alpha * d
    if rule == "uncertainty":
        return alpha * u
    if rule == "certainty":
        return alpha * (1 - u)
    if rule == "product":
        return alpha * d * (1 - u)
    if rule == "constant":
        return torch.full_like(u, alpha)
    raise ValueError(f"unknown alpha_rule {rule!r}")


# --- reweighting of DCS (arXiv 2312.07028; AdaBoost, Freund & Schapire 1997) ---------------------


def discordance(teacher: Tensor, student: Tensor) -> Tensor:
    """δ_i = 1[ argmax z_i^S ≠ argmax z_i^T ]. teacher [n, C], student [n, C] -> bool [n]."""
    return teacher.argmax(-1) != student.argmax(-1)


def regression_discordance(teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
    """Where |z_i^S − z_i^T| lies above that quantile of its distribution. [n], [n] -> bool [n]."""
    gap = (_wide(student) - _wide(teacher)).abs()
    return gap > torch.quantile(gap, quantile)


def boost(weights: Tensor, discordant: Tensor, factor: float, max_weight: float) -> Tensor:
    """w ← w·λ^δ, scaled to mean 1, clipped at `max_weight`, scaled to mean 1 again.

    weights [N], discordant bool [N], factor λ ≥ 1 -> [N] of mean 1. λ = 1 returns all-ones unchanged.
    """
    gained = torch.where(discordant, weights * factor, weights)
    return to_mean_one(to_mean_one(gained).clamp(max=max_weight))


def to_mean_one(weights: Tensor) -> Tensor:
    """w · N / Σw. weights [N] -> [N]."""
    return weights * (len(weights) / weights.sum())


def share(flags: Tensor) -> float:
    """The share of them that are set. flags bool [k], k > 0."""
    return int(flags.sum()) / len(flags)


def weight_entropy(weights: Tensor) -> float:
    """Entropy in nats of w / Σw; log N when all weights are equal. weights [N]."""
    p = weights / weights.sum()
    return float(-torch.special.xlogy(p, p).sum())


def effective_sample_size(weights: Tensor) -> float:
    """(Σw)² / Σw²: N when all weights are equal, 1 when one example has everything. weights [N]."""
    return float(weights.sum().square() / weights.square().sum())


# --- generation: vocabulary maps (DynSDPB's VMM) and truncated teachers ---------------------------


def map_kl(teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
    """τ_i² · KL( m_i^T ‖ m_i ) between vocabulary maps, which are distributions already, made at τ_i.

    teacher [n, V] (no gradient), student [n, V], tau [n] or a number -> [n], ≥ 0.
    """
    scale = _like(tau, _wide(student))
    # A map underflows to 0 where no token gives the entry any probability: bounded, so that no gradient is infinite.
    smallest = torch.finfo(_wide(student).dtype).tiny
    p, q = _wide(teacher).detach(), _wide(student).clamp_min(smallest)
    return scale.square() * (torch.special.xlogy(p, p) - p * q.log()).sum(-1).clamp_min(0)


def map_uncertainty(maps: Tensor) -> Tensor:
    """u_i = H(m_i(1)) / log V, in [0, 1]. maps [n, V] -> [n]."""
    entropy = -torch.special.xlogy(maps, maps).sum(-1)
    return (entropy / math.log(maps.shape[-1])).clamp(0, 1)


def likelihood_discrimination(nll: Tensor) -> Tensor:
    """d_i = 2 · sigmoid(−NLL_i), in (0, 1], from negative log-likelihoods in nats. [n] -> [n]."""
    return 2 * torch.sigmoid(-nll)


def top_log_probabilities(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest log-probabilities of each row and their entries. logits [t, V] -> [t, k], int64 [t, k]."""
    top = F.log_softmax(_wide(logits), dim=-1).topk(min(k, logits.shape[-1]), dim=-1)
    return top.values, top.indices


def bucketed_kl(teacher: Tensor, entries: Tensor, student: Tensor, tau: float) -> Tensor:
    """τ² · KL over k named entries and one bucket for the rest, both sides' distributions of k + 1 tempered by τ.

    With k = V this is `tempered_kl`. teacher: log-probabilities of the entries [t, k] (no gradient); entries [t, k];
    student: logits [t, V] -> [t], ≥ 0.
    """
    student = _wide(student)
    normaliser = student.logsumexp(-1, keepdim=True)
    at = torch.arange(len(entries), device=entries.device)[:, None], entries  # not gathered: that would wait for a card
    named = (student - normaliser)[at]
    p = teacher.to(student.dtype).detach()
    if entries.shape[-1] < student.shape[-1]:
        outside = student.index_put(at, student.new_full((), -torch.inf)).logsumexp(-1, keepdim=True)
        named = torch.cat([named, outside - normaliser], dim=-1)
        # What the entries leave: log(1 − Σp), bounded below where rounding leaves nothing.
        rest = (1 - p.exp().sum(-1, keepdim=True)).clamp_min(torch.finfo(p.dtype).eps)
        p = torch.cat([p, rest.log()], dim=-1)
    return tempered_kl(p, named, tau)
