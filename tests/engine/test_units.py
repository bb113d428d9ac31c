"""Units of a step: an example and its copies stay together, in micro-batches and in processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfdistill_cli.engine.batching import Batching, micro_batches
from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss, StepPlan
from selfdistill_cli.engine.processes import own_units
from selfdistill_cli.methods import Method, TrainingContext
from tests.helpers.steps import make_methods, second_step


class Consensus(Method):
    """As a stranger would write it: L = mean CE + mean_i KL of each of three copies from their mean distribution."""

    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan:
        return StepPlan(fresh, epoch, copies=3)

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        losses, n = self.context.losses, len(batch.plan.examples)
        ce = losses.supervised(logits, batch) / n
        apart = losses.of_copies(disagreement, logits, batch).repeat_interleave(3) / n
        return PerExampleLoss(ce + apart, {"ce": ce, "apart": apart})


def disagreement(logits: Tensor, labels: Tensor) -> Tensor:
    log_p = logits.log_softmax(-1)
    mean = log_p.exp().mean(1, keepdim=True).log()
    return (log_p.exp() * (log_p - mean)).sum(-1).mean(1)


class Told(Consensus):
    """Also keeps what its micro-batches held."""

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self.seen: list[list[int]] = []

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        self.seen.append(batch.examples.tolist())
        return super().loss(logits, batch)


@pytest.mark.parametrize("kind", ["classification", "decoder"])
def test_a_plugin_that_compares_copies_gets_one_gradient_however_a_step_is_cut(kind: str) -> None:
    methods: list[Told] = []

    def make(examples: Any, model: Any) -> Method:
        for number, module in enumerate(module for module in model.modules() if isinstance(module, torch.nn.Embedding)):
            if number == 0:
                module.register_forward_hook(lambda _, __, output: output * copies_apart(len(output)))
        methods.append(Told(make_methods(kind, examples, model)["vanilla"].context))
        return methods[-1]

    (whole, loss_of_whole), (cut, loss_of_cut) = (second_step(kind, make, Batching(size)) for size in (10**9, 1))
    assert loss_of_cut == pytest.approx(loss_of_whole, rel=1e-5)
    assert float((whole - cut).norm() / whole.norm()) < 1e-5
    assert [len(held) for held in methods[1].seen] == [3] * 20  # one example with its copies each time
    assert all(len(set(held)) == 1 for held in methods[1].seen)


def copies_apart(rows: int) -> Tensor:
    """Another factor for each copy of an example, which stand side by side [rows, 1, 1]."""
    return torch.tensor([1.0, 1.5, 0.5]).repeat(rows // 3)[:, None, None]


def test_copies_stand_side_by_side_in_the_plan() -> None:
    plan = StepPlan([5, 2], 0.0, previous=(9,), copies=2)
    assert plan.units == [5, 2, 9]
    assert plan.examples == [5, 5, 2, 2, 9, 9]
    assert plan.positions(np.array([2, 0])).tolist() == [4, 5, 0, 1]


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("budget", [1, 90, 400, 10**9])
def test_copies_count_against_the_budget(copies: int, budget: int) -> None:
    lengths = np.random.default_rng(0).integers(3, 40, 17)
    parts = micro_batches(lengths, Batching(budget, call_cost=0), copies)
    assert sorted(np.concatenate(parts).tolist()) == list(range(17))
    assert all(len(part) == 1 or copies * len(part) * lengths[part].max() <= budget for part in parts)


def test_the_cheapest_cut_counts_every_copy() -> None:
    """Against all cuts of the sorted lengths: padded tokens of all copies, and the price of each pass."""
    lengths, copies, batching = np.array([4, 9, 5, 30, 28, 6]), 3, Batching(10**9, call_cost=50)
    ordered = np.sort(lengths)

    def cost(edges: Sequence[int]) -> int:
        return sum(copies * (e - b) * int(ordered[e - 1]) + batching.call_cost for b, e in pairwise(edges))

    cuts = [[0, *(i for i in range(1, 6) if mask >> i & 1), 6] for mask in range(0, 64, 2)]
    parts = micro_batches(lengths, batching, copies)
    found = sum(copies * len(part) * int(lengths[part].max()) + batching.call_cost for part in parts)
    assert found == min(map(cost, cuts))
    assert len(parts) > 1


@pytest.mark.parametrize("copies", [1, 2])
def test_rows_of_a_micro_batch_come_in_whole_multiples(copies: int) -> None:
    batching = Batching(10**9, count_multiple=4, call_cost=0)
    parts = micro_batches(np.arange(1, 17), batching, copies)
    assert all(len(part) * copies % 4 == 0 for part in parts)


@dataclass
class OneOfTwo:
    """What is asked of an accelerator."""

    process_index: int
    num_processes: int = 2


def test_processes_share_whole_units_and_an_example_stays_with_its_own() -> None:
    plan = StepPlan([5, 2, 7], 0.0, previous=(9, 4), copies=2)
    first, second = (own_units(plan, OneOfTwo(rank)).tolist() for rank in (0, 1))
    assert (first, second) == ([0, 2, 3], [1, 4])
