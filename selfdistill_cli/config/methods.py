"""Types and bounds of the methods' settings, one dataclass each; a plugin subclasses `Method` in a module of its own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING, DictConfig, OmegaConf

from selfdistill_cli.config.fields import Acts, choice, location, number, switch
from selfdistill_cli.system.words import listed

OF_DISTRIBUTIONS = ("classification", "generation", "multiple_choice")
"""Kinds of task whose predictions are distributions, which a temperature changes."""
OF_WIDTH = ("regression", "width")
"""The setting with which a temperature changes a regression as well."""


@dataclass
class Method:
    """What the runner reads of every method; a plugin's own settings need not have `passes`."""

    needs_dropout: ClassVar[bool] = False
    """Whether it compares passes that differ by dropout alone, as far as that is known before the method is made."""
    needs_distribution: ClassVar[bool] = False
    """Whether its loss is one of probabilities, which a regression does not have."""
    draws_answers: ClassVar[bool] = False
    """Whether it learns from answers that the model writes, whatever its settings are."""
    holds_teacher: ClassVar[bool] = False
    """Whether its teacher is held in memory, and no logits of it are stored."""
    keeps_weights: ClassVar[bool] = False
    """Whether it may keep another copy of the trained weights beside the model's own."""
    forwards: ClassVar[int] = 1
    """Examples that a step forwards for each of the batch, at most."""
    name: str = MISSING
    passes: float = number(above=0, neutral=1)


@dataclass
class Vanilla(Method):
    _target_: str = "selfdistill_cli.methods.Vanilla"


@dataclass
class StaticSD(Method):
    forwards: ClassVar[int] = 2
    _target_: str = "selfdistill_cli.methods.StaticSD"
    tau: float = number(above=0, acts=Acts(acts_in=OF_DISTRIBUTIONS, or_with=OF_WIDTH, void_as=3))
    alpha: float = number(at_least=0)
    overlap: str = choice("append", "half", "none")
    match: str = choice("vmm", "token")
    # Neutral is what runs from before the setting computed, and not the default: those are no runs of the default.
    regression: str = choice("scaled", "width", neutral="width", acts=Acts(acts_in=("regression",)))
    start_epoch: float = number(at_least=0, neutral=0)
    outputs: str = choice("gold", "sampled", neutral="gold")
    temperature: float = number(above=0, acts=Acts(acts_with=("outputs", "sampled")))


@dataclass
class DynSDPB(StaticSD):
    _target_: str = "selfdistill_cli.methods.DynSDPB"
    tau_rule: str = choice(
        *("uncertainty", "confidence", "constant"),
        acts=Acts(acts_in=OF_DISTRIBUTIONS, or_with=OF_WIDTH, void_as="uncertainty"),
    )
    alpha_rule: str = choice("discrimination", "uncertainty", "certainty", "product", "constant")
    signal: str = choice("previous", "current")
    granularity: str = choice("example", "batch")
    discrimination: str = choice("gold", "margin")


@dataclass
class StoredLogits:
    top_k: int = number(at_least=1)


@dataclass
class Teacher:
    epochs: float = number(at_least=0)
    path: str | None = location(None)


@dataclass
class StoredTeacher(Teacher, StoredLogits):
    pass


@dataclass
class Distillation(Method):
    tau: float = number(above=0, acts=Acts(acts_in=OF_DISTRIBUTIONS, void_as=2))
    alpha: float = number(at_least=0, at_most=1)
    standardize: bool = switch()


@dataclass
class KD(Distillation):
    _target_: str = "selfdistill_cli.methods.KD"
    teacher: StoredTeacher = MISSING


@dataclass
class BornAgain(Distillation):
    _target_: str = "selfdistill_cli.methods.BornAgain"
    tau: float = number(above=0, acts=Acts(acts_in=OF_DISTRIBUTIONS, void_as=1))
    generations: int = number(at_least=1)
    teacher: StoredLogits = MISSING


@dataclass
class MFT(Method):
    needs_distribution: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = True
    _target_: str = "selfdistill_cli.methods.MFT"
    theta: float = number(at_least=0, below=1)
    # Of written answers the starting model itself is corrected.
    teacher: Teacher = dataclasses.field(
        default=MISSING, metadata=dataclasses.asdict(Acts(acts_in=("classification",)))
    )


@dataclass
class DCS(KD):
    _target_: str = "selfdistill_cli.methods.DCS"
    lambda_: float = number(at_least=0)
    factor: str = choice("lambda", "exp")
    reweighting: str = choice("boosting", "reset")
    update: str = choice("epoch", "step")
    weight_on: str = choice("both", "ce", "kd")
    max_weight: float = number(above=1, acts=Acts(acts_with=("reweighting", "boosting"), void_as=10))
    warmup_epochs: int = number(at_least=0, neutral=0)
    discordance_quantile: float = number(at_least=0, at_most=1, acts=Acts(acts_in=("regression",), void_as=0.8))


@dataclass
class LabelSmoothing(Method):
    needs_distribution: ClassVar[bool] = True
    _target_: str = "selfdistill_cli.methods.LabelSmoothing"
    epsilon: float = number(at_least=0, below=1)


@dataclass
class Focal(Method):
    needs_distribution: ClassVar[bool] = True
    _target_: str = "selfdistill_cli.methods.Focal"
    gamma: float = number(at_least=0)


@dataclass
class Reweight(Method):
    _target_: str = "selfdistill_cli.methods.Reweight"
    rule: str = choice("boosting", "jtt")
    lambda_: float = number(at_least=1)
    max_weight: float = number(above=1, acts=Acts(acts_with=("rule", "boosting"), void_as=10))
    warmup_epochs: int = number(at_least=1)
    error_quantile: float = number(at_least=0, at_most=1, acts=Acts(acts_in=("regression",), void_as=0.8))


@dataclass
class RDrop(Method):
    needs_dropout: ClassVar[bool] = True
    forwards: ClassVar[int] = 2
    _target_: str = "selfdistill_cli.methods.RDrop"
    alpha: float = number(at_least=0)


@dataclass
class EMA(Method):
    keeps_weights: ClassVar[bool] = True
    _target_: str = "selfdistill_cli.methods.EMA"
    tau: float = number(above=0, acts=Acts(acts_in=OF_DISTRIBUTIONS, void_as=1))
    alpha: float = number(at_least=0)
    beta: float = number(at_least=0, below=1)
    evaluate: str = choice("student", "average")


@dataclass
class OnDrawnAnswers(Method):
    draws_answers: ClassVar[bool] = True
    temperature: float = number(above=0)
    divergence: str = choice("forward_kl", "reverse_kl", "jsd")
    beta: float = number(above=0, below=1, acts=Acts(acts_with=("divergence", "jsd")))


@dataclass
class HeldTeacher:
    path: str = location()


@dataclass
class GKD(OnDrawnAnswers):
    holds_teacher: ClassVar[bool] = True
    _target_: str = "selfdistill_cli.methods.GKD"
    lambda_: float = number(at_least=0, at_most=1)
    teacher: HeldTeacher = MISSING


@dataclass
class SDFT(OnDrawnAnswers):
    keeps_weights: ClassVar[bool] = True
    _target_: str = "selfdistill_cli.methods.SDFT"
    demonstration: str = MISSING
    weights: str = choice("start", "ema", "current")
    ema_beta: float = number(at_least=0, below=1, acts=Acts(acts_with=("weights", "ema")))


def methods() -> list[type[Method]]:
    """Every dataclass of a method's settings, the built-in ones and those that plugins have defined."""
    found: list[type[Method]] = []
    below = list(Method.__subclasses__())
    for declared in below:
        found.append(declared)
        below.extend(declared.__subclasses__())
    return list(dict.fromkeys(found))


def declared(method: DictConfig) -> type | None:
    """The dataclass of a method's settings, also where a plain copy of the configuration has lost it; None: it has none."""
    typed = OmegaConf.get_type(method)
    if dataclasses.is_dataclass(typed):
        return typed
    target = method.get("_target_")
    return next((known for known in methods() if getattr(known, "_target_", None) == target), None)


def draws_answers(method: DictConfig) -> bool:
    """Whether the method learns from answers that the model writes in training."""
    return getattr(declared(method), "draws_answers", False) or method.get("outputs") == "sampled"


def holds_teacher(method: DictConfig) -> bool:
    """Whether the method's teacher is held in memory."""
    return getattr(declared(method), "holds_teacher", False)


def void(method: DictConfig) -> dict[str, str]:
    """By name, settings of the method that another one makes void, and that one as it is given: `outputs=gold`."""
    schema, found = declared(method), {}
    for field in () if schema is None else dataclasses.fields(schema):
        name, value = field.metadata.get("acts_with") or (None, None)
        if name is not None and method.get(name) != value:
            found[field.name] = f"{name}={method.get(name)}"
    return found


def acting_elsewhere(method: DictConfig, kind: str | None) -> dict[str, str]:
    """By name, settings of the method that do nothing in this kind of task (None: not known yet), with where they do."""
    schema, found = declared(method), {}
    for field in () if schema is None or kind is None else dataclasses.fields(schema):
        kinds: tuple[str, ...] = field.metadata.get("acts_in") or ()
        name, value = field.metadata.get("or_with") or (None, None)
        if kinds and kind not in kinds and (name is None or method.get(name) != value):
            found[field.name] = listed(kinds) + (f", and with method.{name}={value}" if name is not None else "")
    return found


def in_keys_though_void(method: DictConfig) -> dict[str, float | str]:
    """By name, what stands in a run's key for a setting of the method where it does nothing."""
    schema = declared(method)
    fields = () if schema is None else dataclasses.fields(schema)
    return {field.name: field.metadata["void_as"] for field in fields if field.metadata.get("void_as") is not None}
