"""How much of an answer's token distributions its vocabulary map keeps (VMM, arXiv 2411.16991).

The same few examples are predicted at two times of a training. A map m_i averages the distributions of an answer's
tokens, so KL(m_i ‖ m_i') can only be smaller than the mean KL of the tokens themselves (the divergence is jointly
convex): their ratio is the part of the change that maps still show. And a map that tells examples apart finds its
own example again: among all maps of now, the nearest to the map of then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.probes import recording_interval
from selfdistill_cli.engine.results import StepResult

MOST_EXAMPLES = 32
FEWEST_EXAMPLES = 4
MOST_VALUES = 2**25
"""Log-probabilities that are held of one time, where the fewest examples allow: 128 MiB."""


def examples_within_memory(answer_tokens: np.ndarray, vocabulary: int) -> int:
    """How many of the first examples are watched. answer_tokens [N]."""
    within = int(np.searchsorted(answer_tokens.cumsum() * vocabulary, MOST_VALUES, side="right"))
    return min(max(within, FEWEST_EXAMPLES), MOST_EXAMPLES, len(answer_tokens))


def compare_maps(then: TokenRows, now: TokenRows) -> dict[str, float]:
    """Of n examples with the column `log_p` [T, V] at both times; divergences in nats, means over examples.

    `map_kl`: KL(m_i ‖ m_i'). `token_kl`: the mean over answer tokens of KL(p_{i,s} ‖ p'_{i,s}).
    `retrieval/map`: for how many examples the nearest map of now, by KL, is their own. `retrieval/token`: the same by
    the mean KL of the tokens that two answers have in common by place. `retrieval/chance`: 1/n.
    """
    before, after = _by_example(then), _by_example(now)
    maps, later_maps = (torch.stack([one.exp().mean(0) for one in rows]) for rows in (before, after))
    by_map = _divergences(*(one.clamp_min(1e-300).log() for one in (maps, later_maps)))
    by_token = torch.tensor([[_mean_divergence(one, other) for other in after] for one in before])
    own = torch.arange(len(before))
    return {
        "map_kl": float(by_map.diagonal().mean().clamp_min(0)),
        "token_kl": float(by_token.diagonal().mean().clamp_min(0)),
        "retrieval/map": float((by_map.argmin(1) == own).double().mean()),
        "retrieval/token": float((by_token.argmin(1) == own).double().mean()),
        "retrieval/chance": 1 / len(before),
    }


def _by_example(rows: TokenRows) -> list[Tensor]:
    return list(torch.split(rows.columns["log_p"].double(), rows.lengths.tolist()))


def _divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p_i ‖ q_j) of every pair. [n, V], [n, V] -> [n, n]."""
    p = log_p.exp()
    return (p * log_p).sum(-1, keepdim=True) - p @ log_q.T


def _mean_divergence(log_p: Tensor, log_q: Tensor) -> float:
    """Mean KL over the places that both answers have. [S, V], [S', V]."""
    shared = min(len(log_p), len(log_q))
    p, q = log_p[:shared], log_q[:shared]
    return float((p.exp() * (p - q)).sum(-1).mean())


class MapProbe:
    """The same few examples predicted again and again, each time compared with the time before."""

    kind = "maps"

    def __init__(self, total_steps: int, predict: Callable[[nn.Module], TokenRows]) -> None:
        """`predict` gives the column `log_p` [T, V] of the watched examples' answer tokens, on the CPU."""
        self.every = recording_interval(total_steps)
        self.predict = predict
        self._last: TokenRows | None = None

    def observe(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        if (step - 1) % self.every:
            return None
        now = self.predict(model)
        row = None if self._last is None else {"steps_between": self.every, **compare_maps(self._last, now)}
        self._last = now
        return row

    def state_dict(self) -> dict[str, Any]:
        return {"last": None if self._last is None else self._last.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._last = None if state["last"] is None else TokenRows.from_state(state["last"])
