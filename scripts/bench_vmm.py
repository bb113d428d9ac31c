"""Memory and time of the chunked loss of a large vocabulary against the straightforward one.

python scripts/bench_vmm.py [--device cuda] [--vocabularies 32000 128000] [--rounds 5]

Loss: cross-entropy of n·S answer tokens, and the KL of n vocabulary maps, with their gradients to hidden states and
output matrix. Straightforward: full logits, softmax, sum, left to autograd. Each version is measured in processes of
its own, in turn; peak memory is what a process takes beyond its inputs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.losses.chunked import over_tokens
from selfdistill_cli.losses.vocabulary import LikelihoodsAndMaps

N, S, HIDDEN = 8, 256, 512


class Problem:
    """Random hidden states, output matrix, labels, teacher maps and temperatures, the same for both versions."""

    def __init__(self, vocabulary: int, device: str) -> None:
        drawn = torch.Generator().manual_seed(0)
        self.hidden = torch.randn(N * S, HIDDEN, generator=drawn).to(device).requires_grad_()
        self.weight = (torch.randn(vocabulary, HIDDEN, generator=drawn) * 0.05).to(device).requires_grad_()
        self.labels = torch.randint(vocabulary, (N * S,), generator=drawn).to(device)
        self.tau = torch.linspace(1, 3, N, device=device)
        self.teacher = torch.randn(N, vocabulary, generator=drawn).to(device).softmax(-1)

    def total(self, nll: Tensor, maps: Tensor) -> Tensor:
        """The loss from token NLLs [n·S] and maps [n, V]."""
        return nll.mean() + objectives.map_kl(self.teacher, maps, self.tau).mean()

    def straightforward(self) -> Tensor:
        """Full logits, softmax, sum."""
        logits = self.hidden @ self.weight.T
        nll = F.cross_entropy(logits, self.labels, reduction="none")
        powers = (logits / self.tau.repeat_interleave(S)[:, None]).softmax(-1)
        return self.total(nll, powers.view(N, S, -1).mean(1))

    def chunked(self) -> Tensor:
        """What the product does."""
        owners = torch.arange(N, device=self.hidden.device).repeat_interleave(S)
        shares = F.one_hot(owners, N).T / S
        loss = LikelihoodsAndMaps(self.labels, shares, self.tau[owners])
        nll, maps = over_tokens(loss, [self.hidden], [self.weight], None)
        assert maps is not None
        return self.total(nll[:, 0], maps)


def measure(version: str, vocabulary: int, device: str) -> dict[str, float]:
    """Loss, seconds of the fastest of three passes, and peak memory in MiB of the first, in this process."""
    problem = Problem(vocabulary, device)
    compute: Callable[[], Tensor] = getattr(problem, version)
    before = peak(device)
    loss = compute()
    loss.backward()  # type: ignore[no-untyped-call]
    extra = peak(device) - before
    seconds = []
    for _ in range(3):
        problem.hidden.grad = problem.weight.grad = None
        begin = now(device)
        compute().backward()  # type: ignore[no-untyped-call]
        seconds.append(now(device) - begin)
    return {"loss": loss.item(), "seconds": min(seconds), "peak": extra}


def peak(device: str) -> float:
    """The largest memory so far, in MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def now(device: str) -> float:
    """Seconds, when what was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def gradient_difference(vocabulary: int, device: str) -> float:
    """The largest relative difference of both versions' gradients."""
    problem = Problem(vocabulary, device)
    leaves = (problem.hidden, problem.weight)
    plain = torch.autograd.grad(problem.straightforward(), leaves)
    ours = torch.autograd.grad(problem.chunked(), leaves)
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, plain, strict=True))


def in_own_process(*words: str) -> Any:
    """What this script prints as JSON when it is asked for one measurement."""
    printed = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True).stdout
    return json.loads(printed)


def main() -> None:
    """Measure, alternate, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 128_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only == "gradients":
        print(json.dumps(gradient_difference(asked.vocabularies[0], asked.device)))
        return
    if asked.only:
        print(json.dumps(measure(asked.only, asked.vocabularies[0], asked.device)))
        return
    print(
        f"n = {N}, S = {S}, hidden {HIDDEN}, float32, {asked.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print("| V | version | extra peak MiB | of plain | seconds: median (spread) | of plain | loss | gradient, rel. |")
    print("|---|---|---|---|---|---|---|---|")
    for vocabulary in asked.vocabularies:
        where = ["--vocabularies", str(vocabulary), "--device", asked.device]
        found: dict[str, list[dict[str, float]]] = {"straightforward": [], "chunked": []}
        for _ in range(asked.rounds):
            for version, rounds in found.items():
                rounds.append(in_own_process("--only", version, *where))
        difference = in_own_process("--only", "gradients", *where)
        plain = {name: statistics.median(r[name] for r in found["straightforward"]) for name in ("peak", "seconds")}
        for version, rounds in found.items():
            memory = statistics.median(r["peak"] for r in rounds)
            seconds = sorted(r["seconds"] for r in rounds)
            middle = statistics.median(seconds)
            print(
                f"| {vocabulary:,} | {version} | {memory:,.0f} | {memory / plain['peak']:.1%} "
                f"| {middle:.2f} ({seconds[0]:.2f}–{seconds[-1]:.2f}) | {middle / plain['seconds']:.2f} "
                f"| {rounds[0]['loss']:.6f} | {difference if version == 'chunked' else 0:.1e} |"
            )


if __name__ == "__main__":
    main()
