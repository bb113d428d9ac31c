"""The loop: steps, evaluation points, selection of the best model, checkpoints, continuation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from accelerate import Accelerator
from omegaconf import DictConfig
from torch import Tensor, nn

from selfdistill_cli.checks import checkpoint_interval, evaluation_steps
from selfdistill_cli.encoding import Examples
from selfdistill_cli.engine.batching import EpochOrder
from selfdistill_cli.engine.checkpoint import Checkpoints, random_state, restore_random_state
from selfdistill_cli.engine.interruption import StopRequest
from selfdistill_cli.engine.optimization import make_lr_scheduler, make_optimizer
from selfdistill_cli.engine.prediction import predict
from selfdistill_cli.engine.step import StepResult, TrainingMethod, backward_step
from selfdistill_cli.errors import Interrupted, UserError


class Recorder(Protocol):
    """Takes the rows of metrics.jsonl and can be set back to an earlier length."""

    def row(self, values: dict[str, Any]) -> None: ...
    def position(self) -> int: ...
    def rewind(self, position: int) -> None: ...
    def flush(self) -> None: ...


@dataclass
class Progress:
    """How far a run has come; part of every checkpoint."""

    step: int = 0
    examples_forwarded: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] | None = None
    last_metrics: dict[str, float] | None = None
    evaluations_without_gain: int = 0
    stopped_early: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a finished loop leaves: the chosen weights are in the model."""

    progress: Progress
    steps_per_epoch: int
    final_metrics: dict[str, float]


class TrainingLoop:
    """Trains one model by one method on one set of examples."""

    def __init__(
        self,
        *,
        model: nn.Module,
        method: TrainingMethod,
        examples: Examples,
        evaluate: Callable[[nn.Module], dict[str, float]],
        main_metric: str,
        schedule: DictConfig,
        runtime: DictConfig,
        seed: int,
        accelerator: Accelerator,
        recorder: Recorder,
        checkpoints: Checkpoints,
    ) -> None:
        self.model = accelerator.prepare_model(model)
        self.method = method
        self.examples = examples
        self.evaluate = evaluate
        self.main_metric = main_metric
        self.schedule = schedule
        self.runtime = runtime
        self.accelerator = accelerator
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.order = EpochOrder(len(examples), method.fresh_per_step, seed)
        self.total_steps = total_steps(schedule, self.order.steps_per_epoch, method.forwards_per_example)
        self.evaluate_every = evaluation_steps(schedule.evaluate_every, self.order.steps_per_epoch)
        self.optimizer = accelerator.prepare_optimizer(make_optimizer(model, schedule))
        self.lr_scheduler = make_lr_scheduler(self.optimizer.optimizer, schedule, self.total_steps)
        self.progress = Progress()
        self._saved_at = (0, 0.0)  # step and seconds of the last checkpoint

    def run(self) -> Outcome:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises `Interrupted` after SIGINT or SIGTERM, with a checkpoint written, and `UserError` if the
        loss is no longer a number or the disk is full.
        """
        self._restore()
        stop = StopRequest()
        clock = time.monotonic() - self.progress.seconds
        if self.total_steps == 0 and self.progress.last_metrics is None:
            self._evaluate()
        self.model.train()
        with stop.listening():
            while self.progress.step < self.total_steps and not self.progress.stopped_early:
                self._step()
                self.progress.seconds = time.monotonic() - clock
                if self._checkpoint_due() or stop.wanted:
                    self._save()
                if stop.wanted:
                    raise Interrupted(f"stopped after step {self.progress.step} of {self.total_steps}")
        self._choose_weights()
        self.progress.seconds = time.monotonic() - clock
        final = self.progress.best_metrics if self.schedule.keep == "best" else self.progress.last_metrics
        assert final is not None
        return Outcome(self.progress, self.order.steps_per_epoch, final)

    @property
    def epoch(self) -> float:
        """Where the run stands, in epochs."""
        return self.progress.step / self.order.steps_per_epoch

    def _step(self) -> None:
        began = time.perf_counter()
        plan = self.method.plan(self.order.fresh(self.progress.step), self.epoch)
        result = backward_step(
            self.model, self.method, self.examples, plan, self.runtime.token_budget, self.accelerator
        )
        self._require_finite("loss", result.loss)
        limit = self.schedule.max_grad_norm or math.inf
        grad_norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), limit))
        if self.runtime.precision != "fp16":  # whose gradient scaler skips such steps by itself
            self._require_finite("gradient norm", grad_norm)
        lr = float(self.lr_scheduler.get_last_lr()[0])
        self.optimizer.step()
        self.lr_scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(plan, result.logits)
        self.progress.step += 1
        self.progress.examples_forwarded += len(plan.examples)
        seconds = time.perf_counter() - began
        row = self._train_row(result, lr, grad_norm, seconds)
        if self.progress.step % self.order.steps_per_epoch == 0:
            finished_epoch = self.progress.step // self.order.steps_per_epoch - 1
            row |= self.method.after_epoch(finished_epoch, self._predict_training_set)
        self.recorder.row(row)
        if self.progress.step % self.evaluate_every == 0 or self.progress.step == self.total_steps:
            self._evaluate()

    def _train_row(self, result: StepResult, lr: float, grad_norm: float, seconds: float) -> dict[str, Any]:
        return {
            "kind": "train",
            "step": self.progress.step,
            "epoch": round(self.epoch, 6),
            "loss": result.loss,
            **result.parts,
            "lr": lr,
            "grad_norm": grad_norm,
            **result.signals,
            "examples": result.examples,
            "examples_per_s": round(result.examples / seconds, 2),
            "tokens_per_s": round(result.tokens / seconds, 1),
        }

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise UserError(
                f"The {what} is {value} at step {self.progress.step + 1} (epoch {self.epoch:.2f}): training diverged. "
                f"Try a lower schedule.lr (now {self.schedule.lr:g}), a longer schedule.warmup_ratio, "
                "schedule.max_grad_norm=1, or runtime.precision=fp32. Nothing was saved as finished."
            )

    def _predict_training_set(self) -> Tensor:
        return predict(self.model, self.examples, self.runtime.token_budget, self.accelerator.device)

    def _evaluate(self) -> None:
        metrics = self.evaluate(self.model)
        progress = self.progress
        progress.last_metrics = metrics
        score = metrics[self.main_metric]
        if progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_step, progress.best_metrics = score, progress.step, metrics
            progress.evaluations_without_gain = 0
            if self.schedule.keep == "best":
                self.checkpoints.save_best(self._weights())
        else:
            progress.evaluations_without_gain += 1
            if self.schedule.patience and progress.evaluations_without_gain >= self.schedule.patience:
                progress.stopped_early = True
        row = {f"eval/{name}": value for name, value in metrics.items()}
        self.recorder.row({"kind": "eval", "step": progress.step, "epoch": round(self.epoch, 6), **row})

    def _choose_weights(self) -> None:
        if self.schedule.keep == "best" and self.progress.best_step != self.progress.step:
            self.accelerator.unwrap_model(self.model).load_state_dict(self.checkpoints.load_best())

    def _weights(self) -> dict[str, Tensor]:
        return self.accelerator.unwrap_model(self.model).state_dict()

    # --- continuation ---------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        amount, unit = checkpoint_interval(self.runtime.checkpoint_every)
        step, seconds = self._saved_at
        steps = self.progress.step - step
        if unit == "minutes":
            return self.progress.seconds - seconds >= 60 * amount
        return steps >= amount if unit == "steps" else steps >= amount * self.order.steps_per_epoch

    def _save(self) -> None:
        self.recorder.flush()
        self.checkpoints.save(
            self.progress.step,
            {
                "model": self._weights(),
                "optimizer": self.optimizer.state_dict(),
                "lr_scheduler": self.lr_scheduler.state_dict(),
                "method": self.method.state_dict(),
                "progress": asdict(self.progress),
                "metrics_length": self.recorder.position(),
                "random": random_state(),
            },
        )
        self._saved_at = (self.progress.step, self.progress.seconds)

    def _restore(self) -> None:
        state = self.checkpoints.load_newest()
        if state is None:
            self.recorder.rewind(0)
            return
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        self.method.load_state_dict(state["method"])
        self.progress = Progress(**state["progress"])
        self.recorder.rewind(state["metrics_length"])
        restore_random_state(state["random"])
        self._saved_at = (self.progress.step, self.progress.seconds)


def total_steps(schedule: DictConfig, steps_per_epoch: int, forwards_per_example: int) -> int:
    """Optimizer steps of a run: `max_steps`, else `epochs`.

    With `match_compute` a method that forwards each example once gets twice as many, so that it
    forwards as many examples as previous-batch self-distillation does.
    """
    factor = 2 // forwards_per_example if schedule.match_compute else 1
    if schedule.max_steps is not None:
        return int(schedule.max_steps) * factor
    return math.ceil(round(schedule.epochs * factor * steps_per_epoch, 6))
