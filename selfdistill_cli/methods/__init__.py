"""Training methods, one file each. A plugin subclasses `Method`."""

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss, StepPlan
from selfdistill_cli.methods.base import Method, TeacherModel, TrainingContext
from selfdistill_cli.methods.born_again import BornAgain
from selfdistill_cli.methods.dcs import DCS
from selfdistill_cli.methods.dynsdpb import DynSDPB
from selfdistill_cli.methods.ema import EMA
from selfdistill_cli.methods.focal import Focal
from selfdistill_cli.methods.gkd import GKD
from selfdistill_cli.methods.kd import KD
from selfdistill_cli.methods.label_smoothing import LabelSmoothing
from selfdistill_cli.methods.mft import MFT
from selfdistill_cli.methods.rdrop import RDrop
from selfdistill_cli.methods.reweight import Reweight
from selfdistill_cli.methods.sdft import SDFT
from selfdistill_cli.methods.static_sd import StaticSD
from selfdistill_cli.methods.vanilla import Vanilla

__all__ = [
    "DCS",
    "EMA",
    "GKD",
    "KD",
    "MFT",
    "SDFT",
    "BornAgain",
    "DynSDPB",
    "Focal",
    "LabelSmoothing",
    "Method",
    "MicroBatch",
    "PerExampleLoss",
    "RDrop",
    "Reweight",
    "StaticSD",
    "StepPlan",
    "TeacherModel",
    "TrainingContext",
    "Vanilla",
]
