"""The comparison with other trainers: its clock, its table, and the whole command in its smallest size."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.processes import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

from peers import rounds
from peers.clock import Clock
from peers.comparison import COMPARISONS, Comparison, grouped
from peers.rounds import Contender, Training

THEIRS, OURS = Contender("Trainer", "trainer", "fp32"), Contender("sdrun", "sdrun", "fp32")
THEIR_BF16, OUR_BF16 = Contender("Trainer", "trainer", "bf16"), Contender("sdrun", "sdrun", "bf16")


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(5, 2), nn.Embedding(9, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.words(ids) + self.places(torch.arange(ids.shape[1])[None])
        return found


def test_the_clock_counts_tokens_of_training_steps_alone() -> None:
    model, clock = Reader(), Clock(steps=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with clock.running(), clock.looking_at_modules():
        model.eval()(torch.zeros(3, 4, dtype=torch.long))
        model.train()
        for width in (4, 6):
            model(torch.zeros(3, width, dtype=torch.long)).sum().backward()
            optimizer.step()
        model(torch.zeros(3, 8, dtype=torch.long))  # after the last step
    assert clock.tokens == 3 * (4 + 6)
    assert clock.seconds > 0
    model(torch.zeros(3, 8, dtype=torch.long))
    assert clock.tokens == 30


def test_of_another_trainer_it_counts_what_its_collator_makes() -> None:
    weight, clock = nn.Parameter(torch.ones(1)), Clock(steps=1)
    weight.grad, optimizer = torch.ones(1), torch.optim.SGD([weight], lr=0.1)
    collate = clock.collated(lambda rows: {"input_ids": torch.zeros(len(rows), 7)})
    with clock.running():
        collate([0, 1])
        optimizer.step()
    collate([0, 1])  # of the evaluation
    assert clock.tokens == 14
    assert clock.seconds > 0


def test_a_step_too_few_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="2 steps are missing"):
        _ = Clock(steps=2).seconds


def test_the_table_and_what_it_comes_to() -> None:
    """Against the same figures by hand: speeds, ratios of a round, the share of real tokens, the best of each side."""
    comparison = Comparison("rte", "minilm", batch=10, steps=10)
    tried = Contender("the same, torch_compile", "trainer_compiled", "fp32", once=True, compiles=True)
    failed = Contender("the same, torch_compile", "trainer_compiled", "bf16", once=True, compiles=True)
    found: rounds.Found = {
        THEIRS.title: [Training(10.0, 5.0, 4000, 900.0, 20.0), Training(20.0, 10.0, 4000, 1000.0, 30.0)],
        tried.title: [Training(60.0, 0.4, 4000, 900.0, 70.0)],
        failed.title: ["no compiler"],
        OURS.title: [Training(5.0, 2.5, 2500, 800.0, 12.0), Training(5.0, 2.5, 2500, 700.0, 14.0)],
        THEIR_BF16.title: [Training(5.0, 2.5, 4000, 400.0, 10.0), Training(5.0, 2.5, 4000, 400.0, 10.0)],
        OUR_BF16.title: [Training(2.5, 1.25, 2500, 500.0, 9.0), Training(2.5, 1.25, 2500, 500.0, 9.0)],
    }
    every = [THEIRS, tried, failed, OURS, THEIR_BF16, OUR_BF16]
    rows = {row[0]: row[1:] for row in rounds.rows_of(comparison, every, 2000, found)}
    assert rows["Trainer, fp32"] == ["7.5", "5 – 10", "1", "133", "50%", "1,000", "25"]
    assert rows["the same, torch_compile, fp32"][:3] == ["125", "", "12.5"]
    assert rows["the same, torch_compile, bf16"][0] == "no compiler"
    assert rows["sdrun, fp32"] == ["20", "20 – 20", "3", "400", "80%", "800", "13"]
    said = rounds.sentences(every, found)
    assert said == [
        "best against best: 0.32 x",  # theirs compiled: 0.8 s
        "our bf16 against their float32: 0.32 x",
        "memory in fp32: 0.80 x theirs",
        "memory in bf16: 1.25 x theirs",
    ]


def test_others_get_batches_of_one_length_and_every_length() -> None:
    """Of ten batches' worth, two batches: each of neighbours in length, around the quartiles."""
    lengths = [*range(100, 0, -1)]
    chosen = grouped(Comparison("rte", "minilm", batch=10, steps=2), lengths, seed=0)
    first, second = (sorted(lengths[row] for row in chosen[part]) for part in (slice(10), slice(10, 20)))
    assert len(chosen) == len(set(chosen)) == 20
    for found in (first, second):
        assert found == [*range(found[0], found[0] + 10)]
    assert 60 < first[0] <= 80
    assert 10 < second[0] <= 30


def test_no_example_comes_twice_in_an_epoch() -> None:
    lengths = [*range(100, 0, -1)]
    assert len(set(grouped(Comparison("rte", "minilm", batch=10, steps=10), lengths, seed=0))) == 100
    with pytest.raises(ValueError, match="11 steps of 10 from 100 examples"):
        grouped(Comparison("rte", "minilm", batch=10, steps=11), lengths, seed=0)


def test_without_trl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"\[bench\]"):
        rounds.run(Namespace(task=["tiny_decoder"], precision=["fp32"]))


def test_without_data_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDRUN_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no rte/train.parquet.*SDRUN_DATA=<folder>"):
        rounds.run(Namespace(task=["rte"], precision=["fp32"]))


@pytest.mark.slow
def test_the_whole_command_in_its_smallest_size(tmp_path: Path) -> None:
    import subprocess

    tasks = ["tiny", "tiny_decoder"] if find_spec("trl") else ["tiny"]
    done = subprocess.run(
        [sys.executable, "scripts/bench_throughput.py", "--what", "peers", "--rounds", "1", "--precision", "fp32",
         "--no-tries", "--markdown", "--json", str(tmp_path / "all.json"), "--task", *tasks],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| sdrun, fp32 |") == len(tasks)
    for task, kept in json.loads((tmp_path / "all.json").read_text())["tasks"].items():
        assert kept["examples"] == COMPARISONS[task].examples
        for trainings in kept["trainings"].values():
            (one,) = trainings
            assert 0 < one["seconds"] < one["wall"]
            assert one["tokens"] >= kept["real_tokens"] > 0
            assert one["memory"] > 100
