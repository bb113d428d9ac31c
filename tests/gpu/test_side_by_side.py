"""Jobs side by side on a CUDA card: a card is taken up after the fork alone, and each job is the run that it is alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.processes import Sdrun
from tests.helpers.runs import SMALL, assert_same, table

WORDS = ("-m", "method=vanilla,kd", "method.teacher.epochs=1", "seed=0,1,2", "runtime.device=cuda", *SMALL)


@pytest.mark.gpu
def test_jobs_that_share_a_card_are_those_of_one_after_the_other(sdrun: Sdrun, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA card")
    beside = sdrun(*WORDS, "hydra/launcher=local", "hydra.launcher.jobs_per_gpu=3", CUDA_VISIBLE_DEVICES="0")
    assert beside.code == 0, beside.err
    assert beside.out.startswith("3 jobs at once on 1 GPU")
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["finished"] * 6
    alone = sdrun(*WORDS, f"paths.outputs={tmp_path}/alone")
    assert alone.code == 0, alone.err
    made = list((tmp_path / "outputs").glob("*/*/*/*/results.json"))
    assert len(made) == 9  # with a teacher for each seed
    for run in made:
        assert_same(run.parent, tmp_path / "alone" / run.parent.relative_to(tmp_path / "outputs"))
