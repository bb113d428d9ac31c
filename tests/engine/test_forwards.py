"""Forward passes beside those of the step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from selfdistill_cli.engine.forwards import OtherWeights
from selfdistill_cli.errors import UserError


def test_other_examples_are_not_forwarded_by_a_model_in_parts() -> None:
    """Their lengths would have every process gather weights another number of times: they would wait for each other."""
    examples: Any = object()
    runtime: Any = SimpleNamespace(shards=True)
    beside = OtherWeights(model=examples, examples=examples, runtime=runtime)
    with pytest.raises(UserError, match=r"runtime\.shard=full"):
        beside.predict(np.arange(2), None, lambda predictions: predictions, of=examples)
