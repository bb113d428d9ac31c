"""What a run computes: examples forwarded and backward, tokens, floating-point operations, by part of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from selfdistill_cli.engine.passes import Passes

if TYPE_CHECKING:
    from selfdistill_cli.engine.method import StepPlan
    from selfdistill_cli.engine.results import StepResult

WRITING = "written answers"
"""The rate of operations of what a language model writes."""


@dataclass
class Writing:
    """What a language model wrote, and how long it took."""

    answers: int = 0
    tokens: int = 0
    """Of the answers, ends of sequence among them."""
    seconds: float = 0.0

    def since(self, before: Writing) -> Writing:
        """What came after `before`."""
        return Writing(self.answers - before.answers, self.tokens - before.tokens, self.seconds - before.seconds)

    def as_dict(self) -> dict[str, float]:
        """For a file, with rates."""
        rates = {"answers_per_s": self.answers / self.seconds, "tokens_per_s": self.tokens / self.seconds}
        return {**asdict(self), **rates} | {"seconds": round(self.seconds, 6)}


@dataclass
class Rate:
    """Operations a token, padding included, of the steps (or rounds of written answers) that were counted."""

    steps: int = 0
    """Counted or not."""
    flops: int = 0
    padded_tokens: int = 0

    @property
    def counts_next(self) -> bool:
        """Steps 1, 4, 16, 64 … are counted: what differs from step to step averages out, and short runs do not notice."""
        number = self.steps + 1
        return number & (number - 1) == 0 and number % 3 == 1

    def of(self, tokens: int) -> float:
        """Operations on so many tokens."""
        return self.flops / self.padded_tokens * tokens if self.padded_tokens else 0.0


@dataclass
class Compute:
    """Adds up what a run computes.

    Operations are those that torch's `FlopCounterMode` counts (matrix products, attention) in forward and backward
    pass, losses included. Some steps, and one batch of each round of predictions, are counted; the others cost as much
    for each token. They are those on real tokens: padding is a matter of speed.
    """

    parts: dict[str, Passes] = field(default_factory=dict)
    """By part: `training` (its steps), `predictions` (of the training set, made for the method), `drawing`
    (answers drawn in training), `teacher` (its predictions of the training set), `evaluation`."""
    rates: dict[str, Rate] = field(default_factory=dict)
    """By kind of step (see `step`), and of written answers."""
    writing: Writing = field(default_factory=Writing)
    """Of this process: all rounds of written answers."""
    _part: str = "evaluation"
    _counter: Operations | None = field(default=None, compare=False)
    """Of the step that is being done, if it is counted; after it, of that one."""
    _apart: int = 0
    """Operations of this step's diagnostics."""

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """While this lasts, predictions belong to the part `name`; else to `evaluation`."""
        before, self._part = self._part, name
        try:
            yield
        finally:
            self._part = before

    def step(self, plan: StepPlan, begun: bool, work: Callable[[], StepResult]) -> StepResult:
        """Do the step of this plan. begun: whether the method departs from plain training by now.

        Steps of a kind cost the same for each token: the first, those with or without a previous batch, before or after
        the method began.
        """
        first = "training" not in self.parts
        kind = f"first={first} previous={len(plan.previous) > 0} begun={begun}"
        rate = self.rates.setdefault(kind, Rate())
        self._apart = 0
        with counting(rate.counts_next) as self._counter:
            result = work()
        rate.steps += 1
        if self._counter is not None:
            rate.flops += self._counter.get_total_flops() - self._apart
            rate.padded_tokens += result.padded_tokens
        own = Passes(result.examples, result.examples, result.tokens, rate.of(result.tokens))
        self._add("training", own + result.beside)
        return result

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """While this lasts, what a step computes is a diagnostic and not counted."""
        before = self._counted
        yield
        self._apart += self._counted - before

    @property
    def _counted(self) -> int:
        return 0 if self._counter is None else self._counter.get_total_flops()

    def predicted(self, examples: int, tokens: int, counted: Sequence[tuple[int, int]]) -> None:
        """A round of predictions has been made. counted: operations and tokens with padding of the batches counted."""
        rate = Rate(1, sum(operations for operations, _ in counted), sum(of_batch for _, of_batch in counted))
        self._add(self._part, Passes(forward=examples, tokens=tokens, flops=rate.of(tokens)))

    @property
    def counts_writing(self) -> bool:
        """Whether the next round of written answers is to be counted: it takes long, so it is done ever less often."""
        return self.rates.get(WRITING, Rate()).counts_next

    def timed_writing(self, answers: int, tokens: int, seconds: float) -> None:
        """A round of so many answers, which have so many tokens, took so long. Those of evaluations alone are noted."""
        if self._part != "evaluation":
            return
        before = self.writing
        self.writing = Writing(before.answers + answers, before.tokens + tokens, before.seconds + seconds)

    def wrote(self, examples: int, prompts: int, new: int, counted: Sequence[tuple[int, int]]) -> None:
        """A round of answers has been written: tokens of the prompts, and those written. counted: as in `predicted`."""
        tokens = prompts + new
        rate = self.rates.setdefault(WRITING, Rate())
        rate.steps += 1
        rate.flops += sum(operations for operations, _ in counted)
        rate.padded_tokens += sum(of_batch for _, of_batch in counted)
        self._add(self._part, Passes(forward=examples, tokens=tokens, flops=rate.of(tokens), generated_tokens=new))

    def _add(self, part: str, passes: Passes) -> None:
        self.parts[part] = self.parts.get(part, Passes()) + passes

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "parts": {name: asdict(passes) for name, passes in self.parts.items()},
            "rates": {kind: asdict(rate) for kind, rate in self.rates.items()},
            "writing": asdict(self.writing),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.parts = {name: Passes(**passes) for name, passes in state["parts"].items()}
        self.rates = {kind: Rate(**rate) for kind, rate in state["rates"].items()}
        self.writing = Writing(**state.get("writing", {}))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operations of matrix products and attention while it lasts, as torch's `FlopCounterMode` does.

    That one also follows modules and tries with each operation whether it is made of others, every time: a step took
    half as long again. This one takes a third of that, which short runs notice.
    """

    _whole: ClassVar[set[OpOverload[..., Any]]] = set()
    """Operations that are known not to be made of others."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._formulas = flop_registry | _attention_formulas()
        self._total = 0

    def get_total_flops(self) -> int:
        """So far."""
        return self._total

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = self._formulas.get(getattr(func, "_overloadpacket", func))
        if formula is None and func not in self._whole and isinstance(func, OpOverload):
            with self:
                made_of_others = func.decompose(*args, **kwargs)
            if made_of_others is not NotImplemented:
                return made_of_others
            self._whole.add(func)
        out = func(*args, **kwargs)
        if formula is not None:
            self._total += formula(*args, **kwargs, out_val=out)
        return out


def counting(now: bool) -> contextlib.AbstractContextManager[Any]:
    """Count the operations of what is done while this lasts, if `now`: gives an `Operations`, or None."""
    return Operations() if now else contextlib.nullcontext()


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Scores and their product with the values, [batch, heads, places, size] each, for every head of the queries."""
    batch, heads, places, size = query.shape
    return 2 * batch * heads * places * key.shape[-2] * (size + value.shape[-1])


def _attention_backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> int:
    """The scores again, and the gradients of scores, values, queries and keys."""
    batch, heads, places, size = query.shape
    return 2 * batch * heads * places * key.shape[-2] * (3 * size + 2 * value.shape[-1])


def _attention_formulas() -> dict[Any, Callable[..., int]]:
    """Of torch's fused attention. Its own formulas leave a processor's out and, before torch 2.12, stop a run in which
    several heads of the queries share one of the keys."""
    kinds = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
    return {
        getattr(torch.ops.aten, f"_scaled_dot_product_{kind}{backward}"): formula
        for kind in kinds
        for backward, formula in (("", _attention), ("_backward", _attention_backward))
    }
