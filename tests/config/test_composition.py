"""conf/ holds together: every option composes and passes the checks, every key is read, no name escapes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.checks import idle
from selfdistill_cli.config.method_checks import never_acts
from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.runs.keys import run_key
from tests.helpers.every_method import given_teacher, methods_for
from tests.helpers.keys_read import keys_read
from tests.helpers.processes import REPOSITORY
from tests.helpers.runs import composed

pytestmark = pytest.mark.thorough

PLAIN_GROUPS = ("model", "task", "method", "schedule", "runtime", "tracking")
OPTIONS = [(group, path.stem) for group in PLAIN_GROUPS for path in sorted((CONF_DIR / group).glob("*.yaml"))]
EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
SIZES = sorted(path.stem for path in (CONF_DIR / "size").glob("*.yaml"))
TASKS = [option for group, option in OPTIONS if group == "task"]
LAUNCHERS = sorted(path.stem for path in (CONF_DIR / "hydra" / "launcher").glob("*.yaml"))
OF_FILES = {"custom": ["task.path=x.csv", "task.text=body"], "chat": ["task.path=x.jsonl"]}
"""What options need that read a file of the user's."""


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_passes_the_checks(group: str, option: str) -> None:
    if group == "method" and option not in methods_for():
        needed = [*given_teacher(option), "task=synth_arithmetic", "model=tiny_llama"]
    else:
        needed = OF_FILES.get(option, [])
    check(composed(f"{group}={option}", *needed))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_is_a_sweep_by_itself_and_its_header_says_what_it_is(experiment: str) -> None:
    cfg = composed(f"+experiment={experiment}", hydra=True)
    assert cfg.hydra.mode == RunMode.MULTIRUN
    assert cfg.hydra.sweeper.params
    check(composed(f"+experiment={experiment}"))
    lines = (CONF_DIR / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    header = " ".join(line for line in lines if line.startswith("#"))
    assert f"sdrun +experiment={experiment}" in header
    assert re.search("[Tt]ime", header)
    assert re.search("[Rr]esult", header)
    cited = re.search(r'docs/results/README.md, "(\w+)"', header)
    if "docs/results" in header:
        assert cited
        assert f"\n## {cited[1]}" in (CONF_DIR.parent / "docs" / "results" / "README.md").read_text()


@pytest.mark.parametrize("task", TASKS)
def test_one_step_goes_with_every_task(task: str) -> None:
    words = (f"task={task}", *OF_FILES.get(task, []))
    cfg, full = composed(*words, "+size=one_step"), composed(*words)
    check(cfg)
    changed = {name for name in map(str, full.task) if cfg.task._get_node(name) != full.task._get_node(name)}
    assert changed == {"train_examples", "validation_examples", "decoding"}


def test_sizes_are_in_order() -> None:
    steps = {size: composed(f"+size={size}").task.train_examples for size in SIZES}
    assert steps == {"one_step": 16, "small": 200, "full": None}
    assert composed("+size=full") == composed()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_one_step_is_one_step_in_every_experiment(experiment: str) -> None:
    cfg = composed("+size=one_step", f"+experiment={experiment}")
    assert (cfg.schedule.max_steps, cfg.schedule.batch_size) == (1, 4)
    assert (cfg.task.train_examples, cfg.task.validation_examples) == (16, 8)
    assert cfg.task.decoding.max_new_tokens == 4


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_composes(launcher: str) -> None:
    assert composed(f"hydra/launcher={launcher}", hydra=True).hydra.launcher._target_.startswith("hydra_plugins.")


FILES = sorted(CONF_DIR.rglob("*.yaml"))
EXPLAINED = [path for path in FILES if path.parent.name in ("method", "runtime") or path.stem == "default"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF_DIR)))
def test_every_file_says_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert any(line.startswith("#") and "@package" not in line for line in lines[:3])


def test_every_key_of_method_schedule_and_runtime_is_explained() -> None:
    lines = [line for path in EXPLAINED for line in path.read_text().splitlines()]
    found = [line for line in lines if re.match(r"\s*[a-z_]+: [^\s{]", line) and not line.startswith("name:")]
    assert len(found) > 40
    assert [line for line in found if "#" not in line] == []


def keys(node: DictConfig) -> set[str]:
    """All keys of a configuration, but what is handed on whole to other libraries."""
    found = set()
    for key in map(str, node):
        child = node._get_node(key)
        found |= {key} if key not in ("_target_", "config") else set()
        if isinstance(child, DictConfig) and not child._is_none() and key != "config":
            found |= keys(child)
    return found


def test_no_key_is_dead() -> None:
    # What only the schema and the checks know is not in use.
    sources = [path for path in (REPOSITORY / "selfdistill_cli").rglob("*.py") if path.parent.name != "config"]
    read = set().union(*(keys_read(path.read_text()) for path in sources))
    methods = [option for group, option in OPTIONS if group == "method"]
    every = set().union(*(keys(composed(f"method={method}")) for method in methods))
    assert {"tau", "lambda_", "lr", "token_budget"} < every
    assert every - read == set()


DEAD = '''
"""Reads tau, and alpha too."""
class Method:
    """Its tau."""
    def __init__(self, tau: float) -> None:
        """The tau of it."""
        self.tau = tau  # tau
        print("tau")
'''


def test_a_word_about_a_key_does_not_make_it_alive() -> None:
    assert "tau" not in keys_read(DEAD)


@pytest.mark.parametrize("use", ["self.tau", "cfg.method.tau", 'cfg["tau"]', 'cfg.get("tau")', '"tau" in cfg'])
def test_a_key_that_is_read_is_alive(use: str) -> None:
    assert "tau" in keys_read(f"{DEAD}        print({use})\n")


def test_a_parameter_in_use_is_alive() -> None:
    assert "tau" in keys_read("def generate(tau: int) -> int:\n    return 2 * tau\n")


SCIENCE = ["seed=1", "schedule.lr=1e-4", "method.tau=2", "task.max_length=64", "model.dropout=0", "model.lora.rank=8"]
SPEED = [
    "runtime.precision=bf16",
    "runtime.compile=true",
    "runtime.gradient_checkpointing=true",
    "runtime.token_budget=9",
    "tracking=none",
    "paths.data=/elsewhere",
    "rerun=true",
]


@pytest.mark.parametrize("override", SCIENCE)
def test_science_changes_the_key(override: str) -> None:
    assert run_key(composed(override)) != run_key(composed())


@pytest.mark.parametrize("override", SPEED)
def test_speed_and_place_do_not_change_the_key(override: str) -> None:
    assert run_key(composed(override)) == run_key(composed())


REFUSED = {
    "method.tau=0": "must be greater than 0",
    "method.alpha=-1": "must be at least 0",
    "method.tau=nan": "finite",
    "schedule.batch_size=0": "must be at least 1",
    "schedule.lr=0": "greater than 0",
    "method.passes=0": "greater than 0",
    "method.passes=inf": "finite",
    "schedule.warmup_ratio=1.5": "at most 1",
    "method.tau_rule=confidnce": "Did you mean 'confidence'?",
    "method.overlap=none": "nothing to compare",
    "task.name=../../x": "names a folder",
    "task.train=../../x": "names a folder",
    "task.metrics=[acuracy]": "Did you mean 'accuracy'?",
    "task.metric=f1": "not among",
    "task.train_examples=0": "at least 1",
    "model.dropout=2": "at most 0.99",
    "runtime.checkpoint_every=often": "2 minutes",
    "schedule.evaluate_every=never": "'epoch'",
    "seed=-1": "at least 0",
}


@pytest.mark.parametrize("override", REFUSED)
def test_values_out_of_bounds_are_refused_with_what_is_allowed(override: str) -> None:
    with pytest.raises(UserError, match=re.escape(REFUSED[override])):
        check(composed(override))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=dcs", "method.lambda_=0.5"], "at least 1"),
        (["method=dcs", "method.alpha=1.1"], "at most 1"),
        (["method=dcs", "method.max_weight=1"], "greater than 1"),
        (["method.overlap=half", "schedule.batch_size=1"], "at least 2"),
        (["task=stsb", "method.discrimination=margin"], "class probabilities"),
        (["task=custom"], "task.path=reviews.csv"),
        (["task=gsm8k", "method.overlap=none", "method.match=token"], "different lengths"),
        (["task=rte", "method.match=token"], "answer tokens"),
        (["task=gsm8k", "task.metrics=[rouge3]"], "Did you mean 'rouge"),
        (["task=rte", "task.kind=generation"], "needs task.answer"),
        (["task=rte", "task.kind=multiple_choice"], "needs task.choices"),
        (["task=custom", "task.path=x.csv"], "task.text is required"),
    ],
)
def test_values_that_do_not_go_together_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(composed(*overrides))


@pytest.mark.parametrize(
    ("overrides", "begins"),
    [
        (["method=static_sd", "method.start_epoch=3"], "method.start_epoch=3"),
        (["method=dynsdpb", "method.passes=0.5", "method.start_epoch=1.5"], "method.start_epoch=1.5"),
        (["method=dcs", "schedule.epochs=1"], "method.warmup_epochs=1"),
    ],
)
def test_a_method_that_would_never_act_is_refused(overrides: list[str], begins: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(begins)}: training ends after"):
        check(composed(*overrides))


def test_a_method_that_acts_in_the_last_part_of_training_is_taken() -> None:
    check(composed("method=static_sd", "method.start_epoch=2.9"))
    check(composed("method=dcs", "schedule.epochs=1.5"))
    check(composed("method=dcs", "schedule.epochs=1", "schedule.max_steps=9"))  # the data will tell
    assert "nothing of dcs" in never_acts(composed("method=dcs").method, 0.5)
    late = composed("method=static_sd", "method.start_epoch=2.9").method
    assert never_acts(late, 3.0, step=1 / 10) == ""  # the last of 30 steps begins at 2.9
    assert "nothing of static_sd" in never_acts(late, 3.0, step=1 / 7)  # the last of 21 at 2.86


@pytest.mark.parametrize(
    ("overrides", "idle_ones"),
    [
        (["model.lora.alpha=8"], ["model.lora.alpha"]),
        (["model.lora.alpha=8", "model.lora.rank=4"], []),
        (["schedule.epochs=9", "schedule.max_steps=5"], ["schedule.epochs"]),
        (["method=kd", "method.teacher.epochs=9", "method.teacher.path=x"], ["method.teacher.epochs"]),
        (["method=dcs", "method.reweighting=reset", "method.max_weight=5"], ["method.max_weight"]),
        (["method.temperature=2"], ["method.temperature"]),  # nothing is drawn
        (["method=sdft", "method.beta=0.2", "method.temperature=2"], ["method.beta"]),
        (["schedule.patience=3"], ["schedule.patience"]),
        (["schedule.patience=2"], []),
        (["task=rte", "task.decoding.num_beams=4"], ["task.decoding.num_beams"]),
        (["task=gsm8k", "task.decoding.num_beams=4"], []),
        (["task=rte", "method=kd", "method.teacher.top_k=5"], ["method.teacher.top_k"]),
        (["task=rte", "method=reweight", "method.error_quantile=0.5"], ["method.error_quantile"]),
        (["task=stsb", "method.tau=1", "method.tau_rule=constant"], ["method.tau", "method.tau_rule"]),
        (["task=stsb", "method.regression=width", "method.tau=1"], []),
        (["task=mnli", "task.validation=[validation_matched]", "task.validation_path=hans.csv"], ["task.validation"]),
        (["task=gsm8k", "self_training=star", "self_training.request=again"], ["self_training.request"]),
        (["task=gsm8k", "self_training=correction", "self_training.request=again"], []),
    ],
)
def test_settings_that_do_nothing_beside_others_are_named(overrides: list[str], idle_ones: list[str]) -> None:
    said = idle(composed(*overrides), [word.partition("=")[0] for word in overrides])
    assert [line.partition(" does nothing")[0] for line in said] == idle_ones


def test_exp_allows_lambda_from_zero() -> None:
    check(composed("method=dcs", "method.factor=exp", "method.lambda_=0"))


def test_the_key_is_the_same_in_every_process() -> None:
    first = OmegaConf.to_container(composed("method=dcs"), resolve=True)
    assert run_key(OmegaConf.create(first)) == run_key(composed("method=dcs"))  # type: ignore[arg-type]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_chooses_on_a_held_out_part_and_reports_validation(experiment: str) -> None:
    assert composed(f"+experiment={experiment}").task.selection == "held_out"


@pytest.mark.parametrize("word", ["+method.alfa=1", "+task.pth=x", "+model.lora.rnk=4", "+schedule.epoch=3"])
def test_a_setting_that_was_added_and_that_nothing_reads_is_refused(word: str) -> None:
    part, _, key = word.lstrip("+").partition("=")[0].rpartition(".")
    with pytest.raises(
        UserError, match=rf"there is no setting {part}\.{key}\. Did you mean '(alpha|path|rank|epochs)'"
    ):
        check(composed("method=dynsdpb", word))
