"""dynsdpb with constant rules is static_sd bit for bit, whatever signals it would read and however a step is cut."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.methods import DynSDPB, StaticSD
from tests.helpers.steps import KINDS, is_language, make_context, second_step

pytestmark = pytest.mark.thorough

CONSTANT = {"tau_rule": "constant", "alpha_rule": "constant"}
SIGNALS, GRANULARITIES = ("previous", "current"), ("example", "batch")


def forms(kind: str) -> list[tuple[str, str]]:
    """Pairs of `overlap` and `match` that this kind of task has."""
    pairs = [("append", "vmm"), ("half", "vmm")]
    return [*pairs, ("append", "token"), ("none", "vmm")] if is_language(kind) else pairs


@pytest.mark.parametrize(("kind", "overlap", "match"), [(kind, *form) for kind in KINDS for form in forms(kind)])
def test_constant_rules_are_static_sd_bit_for_bit(kind: str, overlap: str, match: str) -> None:
    settings: dict[str, Any] = {"tau": 3.0, "alpha": 0.7, "overlap": overlap, "match": match, "start_epoch": 0.0}
    settings["regression"] = "scaled"
    cut = Batching(100)  # several micro-batches a step
    expected, loss = second_step(kind, lambda *given: StaticSD(make_context(kind, *given), **settings), cut)
    discriminations = ("gold",) if kind == "regression" else ("gold", "margin")
    for signal, granularity, discrimination in product(SIGNALS, GRANULARITIES, discriminations):
        read = {"signal": signal, "granularity": granularity, "discrimination": discrimination}
        rules = settings | CONSTANT | read

        def make(*given: Any, rules: dict[str, Any] = rules) -> DynSDPB:
            return DynSDPB(make_context(kind, *given), **rules)

        found, its_loss = second_step(kind, make, cut)
        assert its_loss == loss, read
        assert torch.equal(found, expected), read
