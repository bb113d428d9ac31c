"""Who runs the jobs of a sweep: this process, processes forked from it, or SLURM.

Hydra's launchers give up at the first job that ends badly. These take their places: they wait for every job
and read its outcome from the record that it left (`sweeps.records`); one that left none was killed, and gets
a record that says so. What has finished earlier is shown here and not submitted again.
"""

from __future__ import annotations

from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from selfdistill_cli.config.checks import check_node
from selfdistill_cli.errors import UserError, how_to_install

TUNED, SIDE_BY_SIDE = "hydra_plugins.selfdistill_cli.Tuned", "hydra_plugins.selfdistill_cli.SideBySide"
"""The `_target_` of conf/hydra/sweeper/tuned.yaml and conf/hydra/launcher/local.yaml: Hydra takes plugins of that package alone."""


def take_their_places(chosen: DictConfig) -> None:
    """Have Hydra make our launchers, and our sweeper over lists, where a configuration names its own.

    `chosen`: the settings of this sweep's launcher.

    Raises `UserError` if the chosen one is not installed, or has a setting out of bounds.
    """
    from selfdistill_cli.sweeps.grid import Grid
    from selfdistill_cli.sweeps.launchers.in_process import InProcess
    from selfdistill_cli.sweeps.launchers.local import SideBySide
    from selfdistill_cli.sweeps.tuned import Tuned

    check_node(chosen, "hydra.launcher.")
    Plugins.instance().class_name_to_class |= {TUNED: Tuned, SIDE_BY_SIDE: SideBySide}
    ours: list[type] = [InProcess, Grid]
    if "submitit" in chosen._target_:
        try:
            from selfdistill_cli.sweeps.launchers.slurm import SlurmJobs
        except ImportError as error:
            raise UserError(f"{error}: hydra/launcher=slurm needs submitit. {how_to_install('slurm')}") from error
        ours.append(SlurmJobs)
    for launcher in ours:
        theirs = launcher.__bases__[-1]  # what a configuration's _target_ names
        Plugins.instance().class_name_to_class[f"{theirs.__module__}.{theirs.__qualname__}"] = launcher
