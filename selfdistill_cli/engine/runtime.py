"""Where and how fast a run computes: device, precision, threads, batches, the time of each phase."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from selfdistill_cli.engine.batching import Batching, prediction_batches
from selfdistill_cli.engine.compute import Compute, counting
from selfdistill_cli.engine.device import make_accelerator, precision_of
from selfdistill_cli.engine.method import Examples
from selfdistill_cli.engine.predictions import in_order, on_cpu
from selfdistill_cli.engine.processes import gathered
from selfdistill_cli.engine.profiling import Phases
from selfdistill_cli.engine.sharding import clip_grad_norm, release_output, shard
from selfdistill_cli.errors import UserError
from selfdistill_cli.system.fault_points import passing
from selfdistill_cli.system.quiet import quiet_libraries
from selfdistill_cli.system.words import counted


@dataclass(frozen=True)
class Runtime:
    """What changes the speed of a run, and of its result the last bits (`rounding`); made once, and handed on as one object."""

    settings: DictConfig
    """The group `runtime` of the configuration."""
    accelerator: Accelerator
    """Device, precision of products, and the other processes of the run."""
    batching: Batching
    """How large micro-batches are, and in which shapes they come."""
    phases: Phases
    """Where the run's time goes."""
    trace_to: Path | None = None
    """Where a trace of `runtime.trace_steps` steps is written."""
    on_predicted: Callable[[int], None] = lambda count: None
    """Told of each batch of predictions or written answers how many examples it held."""
    compute: Compute = field(default_factory=Compute)
    """What is computed."""

    @property
    def device(self) -> torch.device:
        """Of this process."""
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return bool(self.accelerator.is_main_process)

    @property
    def processes(self) -> int:
        """How many train together."""
        return int(self.accelerator.num_processes)

    @property
    def shards(self) -> bool:
        """Whether processes keep a part of each matrix (`runtime.shard`)."""
        return self.settings.shard == "full" and self.processes > 1

    @property
    def precision(self) -> str:
        """Of products: fp32, bf16 or fp16."""
        return precision_of(self.accelerator)

    @property
    def compiles(self) -> bool:
        """Whether training runs compiled kernels."""
        return bool(self.settings.compile)

    def rounding(self, model: nn.Module) -> dict[str, str]:
        """What this model's results depend on in their last bits, by the names of settings."""
        return {
            "device": self.device.type,  # first: the others follow from it
            "precision": self.precision,
            "compile": str(self.compiles).lower(),  # before padding, which follows from it
            "padding": self.batching.of(model).padding,
            "shard": "full" if self.shards else "none",
        }

    def require_same(self, processes: int, begun: Mapping[str, Any], model: nn.Module) -> None:
        """Raise `UserError` unless an interrupted run, begun by so many processes, can go on with the same rounding.

        begun: what `rounding` gave then; runs from before it knew of padding had the longest and whole matrices, and
        compiled nothing. Of the device, those from before it knew of that say nothing.
        """
        if processes != self.processes:
            raise UserError(
                f"This run was begun by {counted(processes, 'process', 'processes')} and cannot go on with {self.processes}: "
                f"dropout would differ. Give it {processes}, or rerun=true to start afresh."
            )
        for name, now in self.rounding(model).items():
            silent = {"device": now, "padding": "longest", "shard": "none", "compile": "false"}
            before = begun.get(name, silent.get(name))
            if before != now:
                raise UserError(
                    f"This run was begun with runtime.{name}={before} and would go on with "
                    f"{now}. Give it the one that it began with, or rerun=true to start afresh."
                )

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model on this process's device, its products in the precision of the run.

        Not as Accelerate prepares one for training: torch's DistributedDataParallel averages gradients in every backward
        pass, which does not go with micro-batches; `backward_step` adds them up itself. With `shards` the model itself
        is changed: see `engine.sharding`.
        """
        if self.shards:
            shard(model, self._mesh)
        prepared: nn.Module = self.accelerator.prepare_model(
            model, device_placement=not self.shards, evaluation_mode=True
        )
        self.accelerator._models.clear()  # it would hold each as long as the run lasts: teachers, models of other tasks
        return prepared

    def casting_weights_once(self) -> contextlib.AbstractContextManager[Any]:
        """While this lasts, forward passes share what they cast the weights to; the weights must not change.

        autocast forgets its casts at the end of the outermost region, so this is one that casts nothing itself.
        Gradients are cast back for each pass and summed in float32.
        """
        return torch.autocast(self.device.type, enabled=False) if self.precision != "fp32" else contextlib.nullcontext()

    @cached_property
    def _mesh(self) -> DeviceMesh:
        mesh = init_device_mesh(self.device.type, (self.processes,))
        # torch's caches keep a mesh until the process ends. Its group, which it finds by name, must end before that:
        # gloo's threads, left running, now and then abort a process that has finished (`system.ranks.part`).
        getattr(mesh, "_pg_registry", {}).clear()
        return mesh

    def clip_gradients(self, model: nn.Module, limit: float) -> Tensor:
        """Scale gradients such that the norm of them all is at most `limit`; the norm before. Unscales those of fp16."""
        if self.shards:
            return clip_grad_norm(model.parameters(), limit)
        norm: Tensor = self.accelerator.clip_grad_norm_(model.parameters(), limit)
        return norm

    def unwrap(self, model: nn.Module) -> Any:
        """The model itself, as it was before `prepare`."""
        return self.accelerator.unwrap_model(model)

    def own_share(self, parts: list[np.ndarray]) -> list[tuple[int, np.ndarray]]:
        """The parts of some work that fall to this process, numbered.

        With `shards` every process has equally many: what is numbered above the last part is done again for nothing.
        """
        numbered = list(enumerate(parts))
        if self.shards:
            missing = -len(parts) % self.processes
            numbered += [(len(parts) + number, parts[-1]) for number in range(missing)]
        return numbered[self.accelerator.process_index :: self.processes]

    @torch.no_grad()
    def predict(self, model: nn.Module, examples: Examples, keep: Callable[[Any], Any] = on_cpu) -> Any:
        """Predictions of all examples in their order, dropout off: float32 logits [N, C] or outputs [N] on the CPU.

        `keep` makes something else of each batch's predictions: a tensor of m rows, or `TokenRows` of m examples.
        Several processes share the work; each gets everything, and no example counts twice.
        """
        was_training = model.training
        model.eval()
        release_output(model)
        batching = self.batching.of(model)
        parts = prediction_batches(examples.lengths, batching)
        own, counted = [], (0, 0)
        for number, rows in self.own_share(parts):
            passing("prediction")
            batch = examples.collate(rows, batching.width_multiple)
            with counting(number == len(parts) // 2) as counter:
                predicted = keep(examples.forward(model, batch, self.device))
            if number >= len(parts):
                continue
            own.append((rows, predicted))
            if counter is not None:
                counted = counter.get_total_flops(), batching.size(examples.lengths[rows])
            self.on_predicted(len(rows))
        model.train(was_training)
        everyones = gathered((own, counted))
        self.compute.predicted(len(examples), int(examples.lengths.sum()), [of_one for _, of_one in everyones])
        return in_order([part for process, _ in everyones for part in process])


def make_runtime(settings: DictConfig, dtype: str, trace_to: Path | None = None) -> Runtime:
    """The runtime of these settings (`cfg.runtime`). `dtype`: of the model's weights.

    Raises `UserError` if the machine has no such device or precision.
    """
    quiet_libraries()  # here, since whatever trains or predicts comes by
    accelerator = make_accelerator(settings)
    batching = make_batching(settings.token_budget, accelerator, dtype)
    return Runtime(settings, accelerator, batching, Phases(settings.profile, accelerator.device), trace_to)


def make_batching(token_budget: int, accelerator: Accelerator, dtype: str) -> Batching:
    """Batches under the budget, in shapes that suit the device's kernels. `dtype`: of the model's weights."""
    if accelerator.device.type == "cpu" and "bf16" in (precision_of(accelerator), dtype.replace("bfloat16", "bf16")):
        # oneDNN compiles each product anew for every shape, which takes longer than the product itself.
        return Batching.of_few_shapes(token_budget)
    if accelerator.device.type == "cuda":
        return Batching.of_card(token_budget)
    return Batching(token_budget)
