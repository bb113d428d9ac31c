"""Warnings of libraries that nobody can do anything about are kept from the terminal, and no other."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from selfdistill_cli.system.quiet import quiet_libraries


def test_only_the_named_warnings_are_kept_away(recwarn: pytest.WarningsRecorder) -> None:
    column = np.arange(3)
    column.flags.writeable = False
    quiet_libraries()
    torch.set_warn_always(True)  # else only the first one of a process would be heard
    torch.from_numpy(column)
    torch.set_warn_always(False)
    warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed in v6.", FutureWarning, stacklevel=1)
    warnings.warn("something of yours", FutureWarning, stacklevel=1)
    assert [str(each.message) for each in recwarn] == ["something of yours"]
