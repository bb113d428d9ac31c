"""Chunked losses: correct slopes in float64, the same for any chunk, and never [tokens, vocabulary] at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from selfdistill_cli.losses import chunked
from selfdistill_cli.losses.chunked import ChunkLoss, over_tokens
from selfdistill_cli.losses.vocabulary import LikelihoodsAndMaps, WithCorrectedBase, WithTeacherLogits, WithTopEntries

T, V, H = 7, 5, 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


LABELS = torch.tensor([0, 4, 2, 1, 1, 3, 0])
TAU = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 0.5, 0.5], dtype=torch.double)
SHARES = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.5, 0.5]], dtype=torch.double)
TEACHER = drawn(4, V, seed=9)
ROWS = torch.tensor([0, 1, -1, -1, 2, 3, -1])
BASE = drawn(T, V, seed=7)
TOP = drawn(T, V, seed=8).log_softmax(-1).topk(2)

LOSSES: dict[str, ChunkLoss] = {
    "likelihoods": LikelihoodsAndMaps(LABELS),
    "maps": LikelihoodsAndMaps(LABELS, SHARES, TAU),
    "teacher_logits": WithTeacherLogits(LABELS, TAU, ROWS, lambda tokens: TEACHER[tokens]),
    "top_entries": WithTopEntries(LABELS, TOP.values, TOP.indices, 2.0),
    "standardized_entries": WithTopEntries(LABELS, TOP.values, TOP.indices, 2.0, standardize=True),
    "corrected_base": WithCorrectedBase(LABELS, 0.2, lambda span: BASE[span]),
}


@pytest.mark.parametrize("chunk", [1, 3, 128])
@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", chunk)

    def function(x: Tensor, a: Tensor, w: Tensor, b: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        values, summed = over_tokens(LOSSES[name], [x, a], [w, b], bias)
        return (values,) if summed is None else (values, summed)

    leaves = [drawn(T, H), drawn(T, 2, seed=1), drawn(V, H, seed=2), drawn(V, 2, seed=3), drawn(V, seed=4)]
    assert torch.autograd.gradcheck(function, [leaf.requires_grad_() for leaf in leaves])


def test_the_written_slope_is_autograds() -> None:
    class ByAutograd(LikelihoodsAndMaps):
        def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
            nll = torch.nn.functional.cross_entropy(logits, LABELS[span], reduction="none")
            return nll[:, None], SHARES[:, span] @ (logits / TAU[span, None]).softmax(-1)

        slope = ChunkLoss.slope

    x, w = drawn(T, H).requires_grad_(), drawn(V, H, seed=2).requires_grad_()
    slopes = []
    for kind in (LikelihoodsAndMaps, ByAutograd):
        values, summed = over_tokens(kind(LABELS, SHARES, TAU), [x], [w], None)
        assert summed is not None
        slopes.append(
            torch.autograd.grad((values * drawn(T, 1, seed=5)).sum() + (summed * drawn(2, V, seed=6)).sum(), w)
        )
    assert torch.allclose(slopes[0][0], slopes[1][0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_products_have_float32_losses(dtype: torch.dtype) -> None:
    x, w = drawn(300, 64).to(dtype).requires_grad_(), drawn(50, 64, seed=1).float().requires_grad_()
    labels = torch.randint(50, (300,), generator=torch.Generator().manual_seed(0))
    values, _ = over_tokens(LikelihoodsAndMaps(labels), [x], [w], None)
    exact = torch.nn.functional.cross_entropy(x.detach().double() @ w.detach().double().T, labels, reduction="none")
    assert values.dtype == torch.float32
    assert torch.allclose(values[:, 0].double(), exact, atol=0.2 if dtype == torch.bfloat16 else 1e-4)
    values.sum().backward()
    assert w.grad is not None
    assert x.grad is not None
    assert (w.grad.dtype, x.grad.dtype) == (torch.float32, dtype)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation gave."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("name", LOSSES)
def test_the_logits_of_all_tokens_are_never_held(name: str) -> None:
    tokens, vocabulary = 1000, 3000
    labels = torch.zeros(tokens, dtype=torch.long)
    top = torch.zeros(tokens, 2, dtype=torch.long) + torch.tensor([0, 1])
    losses: dict[str, ChunkLoss] = {
        "likelihoods": LikelihoodsAndMaps(labels),
        "maps": LikelihoodsAndMaps(labels, torch.full((1, tokens), 1 / tokens), torch.ones(tokens)),
        "teacher_logits": WithTeacherLogits(
            labels, torch.ones(tokens), torch.arange(tokens), lambda rows: torch.zeros(len(rows), vocabulary)
        ),
        "top_entries": WithTopEntries(labels, torch.full((tokens, 2), -1.0), top, 2.0),
        "standardized_entries": WithTopEntries(labels, torch.full((tokens, 2), -1.0), top, 2.0, standardize=True),
        "corrected_base": WithCorrectedBase(
            labels, 0.2, lambda span: torch.zeros(tokens, 1)[span].expand(-1, vocabulary)
        ),
    }
    x, w = torch.randn(tokens, 4).requires_grad_(), torch.randn(vocabulary, 4).requires_grad_()
    with Largest() as seen:
        values, summed = over_tokens(losses[name], [x], [w], None)
        (values.sum() if summed is None else values.sum() + summed.square().sum()).backward()
    assert seen.elements <= chunked.CHUNK_TOKENS * vocabulary < tokens * vocabulary / 5
