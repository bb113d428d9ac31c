"""The command itself: help, Hydra's own commands, the console script, the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from selfdistill_cli import __version__
from tests.helpers.processes import REPOSITORY, Sdrun, run_command, user_environment
from tests.helpers.runs import SMALL

GROUPS = (
    "model",
    "task",
    "method",
    "schedule",
    "runtime",
    "tracking",
    "self_training",
    "size",
    "experiment",
    "hydra/launcher",
)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (REPOSITORY / "conf" / group).glob("*.yaml"))


def test_help_shows_every_group_and_option_and_six_commands(sdrun: Sdrun) -> None:
    said = sdrun("--help")
    assert said.code == 0
    words = said.out.replace(":", " ").split()
    for group in GROUPS:
        assert set(options(group)) <= set(words), group
    examples = said.out.split("Examples")[1].split("The same command")[0]
    assert sum(line.strip().startswith("sdrun") for line in examples.splitlines()) == 6


def test_help_beside_other_words_and_the_version(sdrun: Sdrun) -> None:
    assert sdrun("--help", "method=dcs").out == sdrun("--help").out
    assert sdrun("--version").out == f"sdrun {__version__}\n"
    assert "temperature" in sdrun("--explain", "method.tau").out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["task=custom", "task.path=no.csv", "task.text=a"]]
)
def test_what_needs_no_data_imports_nothing_heavy(
    arguments: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    program = (
        "import sys; from selfdistill_cli import train; sys.argv = ['sdrun'] + sys.argv[1:]\n"
        "try: train.main()\n"
        "except SystemExit as ended: print(ended.code)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'wandb', 'pyarrow', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ("task.path=no.csv: there is no such file" in ended.stdout) == ("task=custom" in arguments)


def test_cfg_job_is_the_whole_configuration(sdrun: Sdrun) -> None:
    cfg = yaml.safe_load(sdrun("--cfg", "job", "method=dcs", "method.lambda_=5").out)
    assert set(cfg) == {
        "model",
        "task",
        "method",
        "schedule",
        "runtime",
        "tracking",
        "paths",
        "seed",
        "rerun",
        "eval_tasks",
        "sequence",
        "self_training",
    }
    assert cfg["method"]["lambda_"] == 5.0
    assert cfg["method"]["teacher"] == {"epochs": 2.0, "path": None, "top_k": 64}


def test_of_an_experiment_the_value_that_was_typed_is_shown(sdrun: Sdrun) -> None:
    shown = sdrun("+experiment=dcs_lambda", "method.max_weight=5", "--cfg", "job")
    assert yaml.safe_load(shown.out)["method"]["max_weight"] == 5.0
    project = sdrun("--cfg", "job", "--resolve", WANDB_PROJECT="mine")
    assert yaml.safe_load(project.out)["tracking"]["project"] == "mine"


@pytest.mark.parametrize("what", ["defaults", "config", "searchpath", "plugins"])
def test_info(what: str, sdrun: Sdrun) -> None:
    assert sdrun("--info", what).code == 0


def test_tab_completion(sdrun: Sdrun) -> None:
    assert "method=dynsdpb" in sdrun("-sc", "query=bash", COMP_LINE="sdrun method=dyn", COMP_POINT="16").out.split()
    offered = sdrun("-sc", "query=bash", COMP_LINE="sdrun ", COMP_POINT="6").out.split()
    assert {"method=", "task=", "seed="} < set(offered)
    assert not {"base/", "schema/", "base=", "schedule_model="} & set(offered)
    values = sdrun("-sc", "query=bash", COMP_LINE="sdrun method.tau_rule=c", COMP_POINT="23").out.split()
    assert values == ["method.tau_rule=confidence", "method.tau_rule=constant"]
    assert "method.tau_rule=" in sdrun("-sc", "query=bash", COMP_LINE="sdrun method.tau_", COMP_POINT="17").out.split()


def test_the_console_script_is_the_module(environment: dict[str, str], tmp_path: Path) -> None:
    script = shutil.which("sdrun", path=str(Path(sys.executable).parent))
    assert script, "the package is not installed"
    outputs = [
        subprocess.run(
            [*command, "--cfg", "job"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout
        for command in ([script], [sys.executable, "-m", "selfdistill_cli.train"])
    ]
    assert outputs[0] == outputs[1]


def test_output_to_a_file_is_plain_lines(sdrun: Sdrun) -> None:
    ended = sdrun("method=vanilla", *SMALL)
    assert ended.code == 0
    assert "accuracy" in ended.out
    assert "synthetic" in ended.out
    assert "\x1b[" not in ended.out
    assert any(line.startswith("step 10/10  epoch 2.00  loss ") for line in ended.out.splitlines())


@pytest.mark.slow
def test_the_wheel_carries_the_configuration_and_runs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(REPOSITORY)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    shipped = {
        path.relative_to(installed / "selfdistill_cli" / "conf")
        for path in installed.glob("selfdistill_cli/conf/**/*.yaml")
    }
    assert shipped == {path.relative_to(REPOSITORY / "conf") for path in (REPOSITORY / "conf").rglob("*.yaml")}
    environment = user_environment(tmp_path) | {"PYTHONPATH": os.fspath(installed)}
    ended = run_command(tmp_path, environment, "method=vanilla", *SMALL)
    assert ended.code == 0, ended.err
    where = subprocess.run(
        [sys.executable, "-c", "import selfdistill_cli.config.schema as c; print(c.CONF_DIR)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert where == str(installed / "selfdistill_cli" / "conf")


def test_a_reader_that_stops_reading_the_help_gets_no_traceback(environment: dict[str, str], tmp_path: Path) -> None:
    command = f"{sys.executable} -m selfdistill_cli.train --help | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in ended.stderr
