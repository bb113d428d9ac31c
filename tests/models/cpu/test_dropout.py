"""Packed dropout: the distribution of torch's own, its gradient, its seed."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from selfdistill_cli.models.cpu.dropout import PackedDropout, dropout, pack_dropout

N = 1_000_000


def kept(p: float, shape: tuple[int, ...] = (N,)) -> Tensor:
    """Which elements of a fresh draw are kept."""
    return dropout(torch.ones(shape), p) != 0


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_rate_is_p(p: float) -> None:
    torch.manual_seed(0)
    dropped = N - int(kept(p).sum())
    assert stats.binomtest(dropped, N, p).pvalue > 1e-3


def test_each_place_of_a_packed_integer_has_the_same_rate() -> None:
    torch.manual_seed(1)
    dropped = (~kept(0.1).view(-1, 4)).sum(0)
    assert stats.chisquare(dropped.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8, 64, 384, 4096])
def test_places_are_independent(lag: int) -> None:
    torch.manual_seed(2)
    mask = kept(0.3)
    a, b = mask[:-lag], mask[lag:]
    table = [[int((x & y).sum()) for y in (b, ~b)] for x in (a, ~a)]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_steps_are_independent() -> None:
    torch.manual_seed(3)
    a, b = kept(0.3), kept(0.3)
    table = [[int((x & y).sum()) for y in (b, ~b)] for x in (a, ~a)]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert not torch.equal(a, b)


def test_runs_of_dropped_elements_are_as_long_as_chance_makes_them() -> None:
    torch.manual_seed(4)
    p = 0.5
    changes = torch.diff(torch.nonzero(torch.diff(kept(p).int())).flatten())
    longest = 12
    counts = torch.bincount(changes.clamp(max=longest), minlength=longest + 1)[1:].double()
    expected = torch.tensor([0.5**k for k in range(1, longest)] + [0.5 ** (longest - 1)]) * counts.sum()
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    x = torch.rand(200_001, dtype=dtype) + 1  # not a multiple of four
    y = dropout(x, p)
    assert y.dtype == dtype
    assert y.shape == x.shape
    rate = 1 - round((1 - p) * 2**16) / 2**16
    expected = (x.double() / (1 - rate)).to(dtype)
    assert torch.allclose(y[y != 0], expected[y != 0], rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=0)
    assert abs(rate - p) <= 2**-17
    standard_error = math.sqrt(float(x.double().square().mean()) * p / (1 - p) / len(x))
    assert abs(float(y.double().mean() - x.double().mean())) < 4 * standard_error + (
        2e-3 if y.dtype.itemsize == 2 else 0
    )


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(6)
    x = torch.randn(7, 5, 3, dtype=torch.float64, requires_grad=True)

    def repeatable(x: Tensor) -> Tensor:
        torch.manual_seed(6)
        return dropout(x, 0.4)

    assert torch.autograd.gradcheck(repeatable, (x,))


def test_the_seed_fixes_the_mask_and_a_saved_state_continues_it() -> None:
    torch.manual_seed(7)
    first = kept(0.2, (64, 31))
    state = torch.get_rng_state()
    second = kept(0.2, (64, 31))
    torch.manual_seed(7)
    assert torch.equal(first, kept(0.2, (64, 31)))
    torch.set_rng_state(state)
    assert torch.equal(second, kept(0.2, (64, 31)))


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_all_or_nothing(p: float, expected: float) -> None:
    assert torch.equal(dropout(torch.ones(10), p), torch.full((10,), expected))


def test_modules_are_replaced_where_they_are_plain() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5, inplace=True), nn.AlphaDropout(0.5), nn.Linear(4, 4))
    before = model.state_dict().keys()
    pack_dropout(model)
    assert [type(module) for module in model] == [PackedDropout, nn.Dropout, nn.AlphaDropout, nn.Linear]
    assert model.state_dict().keys() == before
    x = torch.ones(1000)
    assert torch.equal(model.eval()[0](x), x)
    assert 300 < int((model.train()[0](x) == 0).sum()) < 700
