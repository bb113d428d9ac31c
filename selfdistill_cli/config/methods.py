"""Types and bounds of the methods' settings, one dataclass each; a plugin subclasses `Method` in a module of its own."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from selfdistill_cli.config.fields import choice, location, number


@dataclass
class Method:
    """What the runner reads of every method; a plugin's own settings need not have `passes`."""

    name: str = MISSING
    passes: float = number(above=0, neutral=1)


@dataclass
class Vanilla(Method):
    _target_: str = "selfdistill_cli.methods.Vanilla"


@dataclass
class StaticSD(Method):
    _target_: str = "selfdistill_cli.methods.StaticSD"
    tau: float = number(above=0)
    alpha: float = number(at_least=0)
    overlap: str = choice("append", "half", "none")
    match: str = choice("vmm", "token")
    start_epoch: float = number(at_least=0, neutral=0)


@dataclass
class DynSDPB(StaticSD):
    _target_: str = "selfdistill_cli.methods.DynSDPB"
    tau_rule: str = choice("uncertainty", "confidence", "constant")
    alpha_rule: str = choice("discrimination", "certainty", "product", "constant")
    signal: str = choice("previous", "current")
    granularity: str = choice("example", "batch")
    discrimination: str = choice("gold", "margin")


@dataclass
class Teacher:
    epochs: float = number(at_least=0)
    path: str | None = location(None)
    top_k: int = number(at_least=1)


@dataclass
class KD(Method):
    _target_: str = "selfdistill_cli.methods.KD"
    tau: float = number(above=0)
    alpha: float = number(at_least=0, at_most=1)
    teacher: Teacher = MISSING


@dataclass
class DCS(KD):
    _target_: str = "selfdistill_cli.methods.DCS"
    lambda_: float = number(at_least=0)
    factor: str = choice("lambda", "exp")
    reweighting: str = choice("boosting", "reset")
    update: str = choice("epoch", "step")
    weight_on: str = choice("both", "ce", "kd")
    max_weight: float = number(above=1)
    warmup_epochs: int = number(at_least=0, neutral=0)
    discordance_quantile: float = number(at_least=0, at_most=1)


@dataclass
class LabelSmoothing(Method):
    _target_: str = "selfdistill_cli.methods.LabelSmoothing"
    epsilon: float = number(at_least=0, below=1)


@dataclass
class Focal(Method):
    _target_: str = "selfdistill_cli.methods.Focal"
    gamma: float = number(at_least=0)


@dataclass
class Reweight(Method):
    _target_: str = "selfdistill_cli.methods.Reweight"
    rule: str = choice("boosting", "jtt")
    lambda_: float = number(at_least=1)
    max_weight: float = number(above=1)
    warmup_epochs: int = number(at_least=1)
    error_quantile: float = number(at_least=0, at_most=1)


def methods() -> list[type[Method]]:
    """Every dataclass of a method's settings, the built-in ones and those that plugins have defined."""
    found: list[type[Method]] = []
    below = list(Method.__subclasses__())
    for declared in below:
        found.append(declared)
        below.extend(declared.__subclasses__())
    return list(dict.fromkeys(found))
