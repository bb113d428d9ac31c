"""Who runs the jobs of a sweep: this process, processes beside it, or SLURM.

Hydra's launchers give up at the first job that ends badly. These take their places: they wait for every job
and read its outcome from the record that it left (`sweeps.records`); one that left none was killed, and gets
a record that says so. What has finished earlier is shown here and not submitted again.
"""

from __future__ import annotations

from hydra.core.plugins import Plugins

from selfdistill_cli.errors import UserError, how_to_install

TUNED = "hydra_plugins.selfdistill_cli.Tuned"
"""The `_target_` of conf/hydra/sweeper/tuned.yaml: Hydra takes plugins of that package alone."""


def take_their_places(chosen: str) -> None:
    """Have Hydra make our launchers, and our sweeper over lists, where a configuration names its own.

    `chosen` is the launcher of this sweep.

    Raises `UserError` if the chosen one is not installed.
    """
    from selfdistill_cli.sweeps.grid import Grid
    from selfdistill_cli.sweeps.launchers.in_process import InProcess
    from selfdistill_cli.sweeps.tuned import Tuned

    Plugins.instance().class_name_to_class[TUNED] = Tuned
    ours: list[type] = [InProcess, Grid]
    if "submitit" in chosen:
        try:
            from selfdistill_cli.sweeps.launchers.local import LocalJobs
            from selfdistill_cli.sweeps.launchers.slurm import SlurmJobs
        except ImportError as error:
            raise UserError(
                f"{error}: hydra/launcher=slurm and slurm_local need submitit. {how_to_install('slurm')}"
            ) from error
        ours += [LocalJobs, SlurmJobs]
    for launcher in ours:
        theirs = launcher.__bases__[-1]  # what a configuration's _target_ names
        Plugins.instance().class_name_to_class[f"{theirs.__module__}.{theirs.__qualname__}"] = launcher
