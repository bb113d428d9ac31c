"""Training methods: vanilla, static_sd, dynsdpb, kd, dcs. A plugin subclasses `Method`."""

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss, StepPlan
from selfdistill_cli.methods.base import Method, TrainingContext
from selfdistill_cli.methods.dcs import DCS
from selfdistill_cli.methods.dynsdpb import DynSDPB
from selfdistill_cli.methods.kd import KD
from selfdistill_cli.methods.static_sd import StaticSD
from selfdistill_cli.methods.vanilla import Vanilla

__all__ = [
    "DCS",
    "KD",
    "DynSDPB",
    "Method",
    "MicroBatch",
    "PerExampleLoss",
    "StaticSD",
    "StepPlan",
    "TrainingContext",
    "Vanilla",
]
