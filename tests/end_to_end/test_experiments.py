"""Every experiment file through the real command, on one step a run, as `+size=one_step` shrinks it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from selfdistill_cli.config.schema import CONF_DIR
from tests.helpers.processes import user_environment
from tests.helpers.runs import composed, results

EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
WITHOUT_A_NETWORK = ("model=tiny_bert", "task=synth_entailment")
ITS_OWN = {
    "vmm_ablation": (),  # names an embedded model and a generated task itself
    "vmm_pretrained": ("model=tiny_llama", "task=synth_arithmetic"),  # LoRA and all
    "self_training": ("self_training.samples=1",),
    "low_resource": (*WITHOUT_A_NETWORK, "task.generator.train_examples=5000"),  # its largest subset
    "optuna_tau_alpha": (*WITHOUT_A_NETWORK, "hydra.sweeper.n_trials=2"),
    "tuned": (*WITHOUT_A_NETWORK, "hydra.sweeper.trials=1"),
}
ONE_STEP = ("+size=one_step", "tracking=none")
DRIVER = """
import json, sys
from selfdistill_cli.train import main
ends = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv = ["sdrun", *arguments]
    try:
        main()
        ends[name] = None
    except SystemExit as end:
        ends[name] = str(end.code)
print(json.dumps(ends))
"""
"""`sdrun` once for each experiment, in one process: torch is imported once."""


def command(experiment: str, outputs: Path) -> list[str]:
    """The arguments of `sdrun`; an experiment sweeps by itself, without `-m`."""
    seed = {"seeds": [], "optuna_tau_alpha": [], "tuned": ["seed=1"]}.get(experiment, ["seed=0"])
    own = ITS_OWN.get(experiment, WITHOUT_A_NETWORK)
    return [f"+experiment={experiment}", *own, *ONE_STEP, *seed, f"paths.outputs={outputs / experiment}"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all experiments left, each in a folder of its name, and how the commands ended."""
    folder = tmp_path_factory.mktemp("experiments")
    commands = {name: command(name, folder) for name in EXPERIMENTS}
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        cwd=folder,
        env=user_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    (folder / "ends.json").write_text(ended.stdout.splitlines()[-1])
    return folder


def expected_jobs(experiment: str) -> int:
    """The product of what the file sweeps, but for seeds and tasks that the test takes one of; Optuna draws trials.

    A method without a setting that is swept is run without it, once.
    """
    if experiment == "optuna_tau_alpha":
        return 2
    cfg = composed(f"+experiment={experiment}", hydra=True)
    params = cfg.hydra.sweeper.params
    swept = {key: str(values).split(",") for key, values in params.items() if key not in ("task", "method")}
    if experiment != "seeds":
        swept.pop("seed", None)
    jobs = 0
    for method in str(params.get("method", cfg.method.name)).split(","):
        own = composed(f"method={method}")
        jobs += prod(len(values) for key, values in swept.items() if OmegaConf.select(own, key, default="no") != "no")
    return 2 * jobs if experiment == "tuned" else jobs  # a trial each, and a run of the best


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_by_itself_and_every_job_of_it_finishes(experiment: str, outputs: Path) -> None:
    assert json.loads((outputs / "ends.json").read_text())[experiment] is None
    (table,) = (outputs / experiment).glob("sweeps/*/sweep.csv")
    with table.open() as file:
        jobs = list(csv.DictReader(file))
    assert len(jobs) == expected_jobs(experiment)
    assert {job["status"] for job in jobs} == {"finished"}
    for job in jobs:
        run = results(Path(job["directory"]))
        assert run["steps"] == (2 if "vanilla_matched" in job["settings"] else 1)
