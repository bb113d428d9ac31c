"""The loop: steps, evaluation points, selection of the best model, checkpoints, continuation."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from selfdistill_cli.config.checks import evaluation_steps
from selfdistill_cli.engine.batching import EpochOrder
from selfdistill_cli.engine.cadence import CheckpointCadence
from selfdistill_cli.engine.checkpoint import (
    Checkpoints,
    load_trained_weights,
    random_state,
    restore_random_state,
    tensor_bytes,
    trained_weights,
)
from selfdistill_cli.engine.forwards import with_weights
from selfdistill_cli.engine.grad_shares import recorded
from selfdistill_cli.engine.method import Examples, StepPlan, TrainingMethod
from selfdistill_cli.engine.optimization import make_lr_scheduler, make_optimizer, restore_optimizer
from selfdistill_cli.engine.probes import Probe, rows_of
from selfdistill_cli.engine.processes import gathered, on_main
from selfdistill_cli.engine.profiling import traced
from selfdistill_cli.engine.progress import Outcome, Progress, Scorer, total_steps
from selfdistill_cli.engine.results import StepResult
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.engine.selection import Selection
from selfdistill_cli.engine.sharding import state_in_parts, state_made_whole
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.engine.step_records import Recorder, StepRecord, StepRecords, diverged
from selfdistill_cli.errors import Interrupted
from selfdistill_cli.system.fault_points import passing
from selfdistill_cli.system.signals import finishing_steps

log = logging.getLogger(__name__)


class TrainingLoop:
    """Trains one model by one method on one set of examples."""

    def __init__(
        self,
        *,
        model: nn.Module,
        method: TrainingMethod,
        examples: Examples,
        evaluator: Scorer,
        schedule: DictConfig,
        seed: int,
        runtime: Runtime,
        recorder: Recorder,
        checkpoints: Checkpoints,
        make_probes: Callable[[int], Sequence[Probe]],
    ) -> None:
        """`make_probes` is given the number of steps."""
        self.model = runtime.prepare(model)
        self.method = method
        self.examples = examples
        self.evaluator = evaluator
        self.schedule = schedule
        self.runtime = runtime
        self.accelerator = runtime.accelerator
        self.phases = runtime.phases
        self.recorder = recorder
        self.records = StepRecords(runtime, recorder, schedule)
        self.checkpoints = checkpoints
        self.order = EpochOrder(len(examples), method.fresh_per_step, seed)
        self.total_steps = total_steps(schedule, self.order.steps_per_epoch)
        self.evaluate_every = evaluation_steps(schedule.evaluate_every, self.order.steps_per_epoch)
        optimizer = make_optimizer(model, schedule)
        # In this order: the scheduler marks the step that Accelerate keeps for fp16, else torch takes it for another's.
        self.lr_scheduler = make_lr_scheduler(optimizer, schedule, self.total_steps)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.progress = Progress()
        self.selection = Selection(schedule.keep, schedule.patience, method.begins_at * self.order.steps_per_epoch)
        self.probes = make_probes(self.total_steps)
        self.cadence = CheckpointCadence(
            runtime.settings.checkpoint_every, self.order.steps_per_epoch, 4 * tensor_bytes(trained_weights(model))
        )
        self._began = time.monotonic()  # when the run would have begun if it had never been interrupted

    def run(self) -> Outcome:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises `Interrupted` after a request to stop, with a checkpoint written, and `UserError` if the
        loss is no longer a number or the disk is full.
        """
        self.method.before_training(self.runtime.unwrap(self.model))
        self._restore()
        self.recorder.start(self.total_steps)
        self._began = time.monotonic() - self.progress.seconds
        if self.total_steps == 0 and self.progress.last_metrics is None:
            self._evaluate()
        self.model.train()
        with finishing_steps() as stop, traced(self._steps_to_trace, self.runtime.trace_to) as trace:
            while self.progress.step < self.total_steps and not self.progress.stopped_early:
                self._step_or_say_why_not()
                if trace is not None:
                    trace.step()
                # Signals and clocks differ from process to process; what is done must not.
                wishes = gathered((stop.signal, self.cadence.due(self.progress.step, self._seconds())))
                asked = next((signal for signal, _ in wishes if signal is not None), None)
                if asked is not None or wishes[0][1]:
                    self._save()
                if asked is not None and stop.goes_on_after(asked):
                    stop.signal = None
                elif asked is not None:
                    where = f"stopped after step {self.progress.step} of {self.total_steps}"
                    raise Interrupted(f"{where}, with a checkpoint: the same command goes on from there", asked)
        if self.method.evaluated_weights() is not None:
            load_trained_weights(self.runtime.unwrap(self.model), self._evaluated_weights())
        final = self.selection.choose(self.progress, self.runtime.unwrap(self.model))
        self.progress.seconds = self._seconds()
        self.progress.phase_seconds = dict(self.phases.seconds)
        self.progress.compute = self.runtime.compute.state_dict()
        return Outcome(self.progress, self.order.steps_per_epoch, *final)

    def _step_or_say_why_not(self) -> None:
        try:
            self._step()
        except Exception:
            # Had the training diverged before, it is that which should be heard; a device that failed is not asked again.
            with contextlib.suppress(RuntimeError):
                self.records.settle(self.progress)
            raise

    @property
    def epoch(self) -> float:
        """Where the run stands, in epochs."""
        return self.progress.step / self.order.steps_per_epoch

    @property
    def _steps_to_trace(self) -> int | None:
        return self.runtime.settings.trace_steps if self.runtime.is_main else None

    def _seconds(self) -> float:
        """How long the run has taken, with what it took before it was interrupted."""
        return time.monotonic() - self._began

    def _step(self) -> None:
        began, epoch = self.records.clock.now(), self.epoch
        with self.phases("data"):
            plan = self.method.plan(self.order.fresh(self.progress.step), epoch)
        result = self._backward(plan)
        passing("gradient")
        with self.phases("diagnostics"):
            observed = rows_of(self.probes, self.progress.step + 1, epoch, self.model, result)
        limit = self.schedule.max_grad_norm or math.inf
        with self.phases("optimizer"):
            grad_norm = self.runtime.clip_gradients(self.model, limit)
        with self.phases("loss"):
            self.method.after_backward(plan, result.logits)
        lr = float(self.lr_scheduler.get_last_lr()[0])
        with self.phases("optimizer"):
            self.optimizer.step()
            passing("update")
            self.lr_scheduler.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.accelerator.scaler is None or grad_norm.isfinite():
                # With fp16's scaler a fused optimizer leaves out a step by itself, and tells nobody.
                self.method.after_step(self.runtime.unwrap(self.model))
        self.progress.stepped(len(plan.examples), result.tokens)
        times, result = (began, self.records.clock.now()), replace(result, logits=None)
        record = StepRecord(self.progress.step, self.epoch, epoch, result, grad_norm, lr, times, observed)
        self._after_step(self.records.add(record))

    def _after_step(self, record: StepRecord) -> None:
        """What an epoch's end asks for, the steps' rows, and an evaluation, each if it is time for it."""
        if self.progress.step % self.order.steps_per_epoch == 0:
            self.records.settle(self.progress)
            finished_epoch = self.progress.step // self.order.steps_per_epoch - 1
            with self.phases("evaluation"), self.runtime.compute.part("predictions"):
                record.beside = self.method.after_epoch(finished_epoch, self._predict_training_set)
        evaluates = self.progress.step % self.evaluate_every == 0 or self.progress.step == self.total_steps
        if evaluates or self.records.due:
            self.records.write(self.progress)
        passing("step")
        if evaluates:
            self._evaluate()

    def _backward(self, plan: StepPlan) -> StepResult:
        """Gradients of the step, and what it cost."""
        records = recorded(self.progress.step + 1, self.total_steps)
        work = partial(backward_step, self.model, self.method, self.examples, plan, self.runtime, records)
        return self.runtime.compute.step(plan, self.epoch >= self.method.begins_at, work)

    def _predict_training_set(self) -> Any:
        return self.runtime.predict(self.model, self.examples, keep=self.method.decisions)

    def _evaluate(self) -> None:
        with self.phases("evaluation"):
            try:
                found = with_weights(self.model, self.method.evaluated_weights(), self.evaluator.scores)
            except FloatingPointError as error:  # the last update did it: no step came after it to notice
                raise diverged(f"{error} after step {self.progress.step}", self.epoch, self.schedule) from error
        self.selection.see(self.progress, found, self._evaluated_weights)
        row = {f"eval/{name}": value for name, value in (found.metrics | found.writing).items()}
        row |= {f"signal/{name}": value for name, value in found.signals.items()}
        self.recorder.row({"kind": "eval", "step": self.progress.step, "epoch": round(self.epoch, 6), **row})

    def _weights(self) -> dict[str, Tensor]:
        return trained_weights(self.runtime.unwrap(self.model))

    def _evaluated_weights(self) -> dict[str, Tensor]:
        return self._weights() | dict(self.method.evaluated_weights() or {})

    # --- continuation ---------------------------------------------------------------------------

    def _save(self) -> None:
        """Write a checkpoint; every process takes part, since each has random generators of its own."""
        self.records.write(self.progress)
        random = gathered(random_state())
        began = self.progress.seconds = self._seconds()
        self.progress.phase_seconds = dict(self.phases.seconds)
        self.progress.compute = self.runtime.compute.state_dict()
        self.recorder.flush()
        state = state_made_whole(
            {
                "model": self._weights(),
                "best_model": self.selection.weights,
                "optimizer": self.optimizer.state_dict(),
                "lr_scheduler": self.lr_scheduler.state_dict(),
                "gradient_scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                "method": self.method.state_dict(),
                "probes": {probe.kind: probe.state_dict() for probe in self.probes},
                "progress": asdict(self.progress),
                "metrics_length": self.recorder.position(),
                "random": random,
                **self.runtime.rounding(self.model),
            },
            keep=self.runtime.is_main,
        )
        # A full disk ends all processes, not the one that writes.
        on_main(self.accelerator, lambda: self.checkpoints.save(self.progress.step, state))
        if not self.runtime.is_main:
            return
        ended = self._seconds()
        self.progress.checkpoint_seconds += ended - began
        if self.phases.measure:
            self.phases.seconds["checkpoint"] += ended - began
        self.cadence.saved(self.progress.step, ended, cost=ended - began)
        log.debug("checkpoint after step %d in %.2f s", self.progress.step, ended - began)

    def _restore(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        state = self.checkpoints.load_newest()
        if state is None:
            self.recorder.rewind(0)
            return
        self.runtime.require_same(len(state["random"]), state, self.model)
        state = state_in_parts(state, self.model)
        load_trained_weights(self.runtime.unwrap(self.model), state["model"])
        self.selection.weights = state["best_model"]
        restore_optimizer(self.optimizer, state["optimizer"])
        self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if state["gradient_scaler"]:
            self.accelerator.scaler.load_state_dict(state["gradient_scaler"])
        self.method.load_state_dict(state["method"])
        for probe in self.probes:
            if probe.kind in state["probes"]:  # it may be asked for only now
                probe.load_state_dict(state["probes"][probe.kind])
        self.progress = Progress(**state["progress"])
        self.runtime.compute.load_state_dict(self.progress.compute)
        if self.phases.measure:
            self.phases.seconds |= self.progress.phase_seconds
        self.recorder.rewind(state["metrics_length"])
        restore_random_state(state["random"][self.accelerator.process_index])
        self.cadence.saved(self.progress.step, self.progress.seconds)
        log.info("going on after step %d of %d", self.progress.step, self.total_steps)
