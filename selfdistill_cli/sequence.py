"""Tasks trained one after the other, each from the weights of the one before, all of them scored each time.

`sdrun 'sequence=[synth_arithmetic,synth_facts]' model=tiny_llama`. Each stage is a run of its own, found by its content
and continued like any other; the stage before the first is the starting model, scored and not trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from selfdistill_cli.config.checks import eval_tasks_of, require_data_of_their_own
from selfdistill_cli.config.metrics import forgotten, main_metric
from selfdistill_cli.config.options import option
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.system.ranks import is_main

Scores = dict[str, float]
"""By task."""


def sequence_of(cfg: DictConfig) -> list[str]:
    """The names in `sequence`; none of an ordinary run.

    Raises `UserError` if there is one alone, one twice or one without data, or `eval_tasks` beside them.
    """
    asked = cfg.get("sequence")
    if not asked:
        return []
    names = list(asked) if isinstance(asked, ListConfig) else [asked]
    if len(names) < 2 or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"sequence=[{','.join(map(str, names))}]: name two tasks or more, each once: 'sequence=[first,second]'."
        )
    require_data_of_their_own("sequence", names)
    if eval_tasks_of(cfg.eval_tasks):
        raise UserError("sequence scores all of its tasks after each of them: leave eval_tasks out.")
    return names


def of_no_stage(cfg: DictConfig, given: Sequence[str]) -> list[str]:
    """What to say of settings of a task that were `given` (their keys) and reach no stage: those that it has by itself."""
    names, said = sequence_of(cfg), []
    if names and "task" in given and cfg.task.name not in names:
        said.append(f"task={cfg.task.name} does nothing here: sequence names the tasks.")
    for key in (key for key in given if names and key.startswith("task.")):
        value, own = OmegaConf.select(cfg, key), key.removeprefix("task.")
        others = [name for name in names if OmegaConf.select(option("task", name), own) != value]
        if others and value == OmegaConf.select(option("task", cfg.task.name), own):
            said.append(
                f"{key}={value} does nothing here: task={cfg.task.name} has it by itself, and the tasks of a sequence take "
                f"over what is changed. Name one of them that has it otherwise: task={others[0]}."
            )
    return said


def run_sequence(cfg: DictConfig, group: str | None = None) -> dict[str, Any]:
    """Do the stages of `cfg.sequence` in order, print their forgetting matrix, and return the last one's results.

    `group` names the sweep that they belong to. Raises `UserError` before the first stage if any of them cannot work.
    """

    def run(stage: DictConfig, others: list[DictConfig]) -> dict[str, Any]:
        from selfdistill_cli import experiment  # heavy: only once all stages are checked

        return experiment.run(stage, group, others)

    results, matrix = stages(cfg, run)
    if is_main():
        _print(cfg, matrix)
    return results


def planned(cfg: DictConfig) -> list[DictConfig]:
    """The stages in order, before it is known what each starts from."""
    tasks = [_task(cfg, name) for name in sequence_of(cfg)]
    for task in tasks:
        task.max_length = max(one.max_length for one in tasks)  # each is scored on the others' examples
    return [_stage(cfg, task) for task in tasks]


def stages(
    cfg: DictConfig, run: Callable[[DictConfig, list[DictConfig]], dict[str, Any]]
) -> tuple[dict[str, Any], list[tuple[str, Scores]]]:
    """The last results, and the forgetting matrix; `run` does a run and scores it on other tasks as well.

    The matrix's rows are the task of each stage (before training: "start") and the scores of all tasks then.
    """
    names, asked = sequence_of(cfg), planned(cfg)
    for stage in asked:
        check(stage)
    tasks = [stage.task for stage in asked]
    matrix: list[tuple[str, Scores]] = []
    results: dict[str, Any] = {}
    for number, task in enumerate([tasks[0], *tasks]):
        stage = _start(cfg, task) if number == 0 else _trained(cfg, task, results if number > 1 else None)
        others = [other for other in tasks if other.name != task.name]
        results = run(stage, others)
        scores = {task.name: results["score"], **results["other_tasks"]}
        matrix.append((task.name if number else "start", {name: scores[name] for name in names}))
    return results, matrix


def forgetting(matrix: Sequence[tuple[str, Scores]], metrics: Mapping[str, str | None] | None = None) -> Scores:
    """By task but the last one, what `forgotten` says of its scores, in the metric's own points.

    metrics: by task, where not all are ones of which more is better.
    """
    last, final = matrix[-1]
    named = metrics or {}
    return {task: forgotten(named.get(task), [scores[task] for _, scores in matrix]) for task in final if task != last}


def _task(cfg: DictConfig, name: str) -> DictConfig:
    """A task with what was changed of `cfg.task` from the task that it is: a subset, a length, a decoding."""
    task = option("task", name)
    return OmegaConf.merge(task, _changed(cfg.task, option("task", cfg.task.name), task))  # type: ignore[return-value]


def _changed(node: DictConfig, named: DictConfig, other: DictConfig) -> dict[str, Any]:
    """What `node` has otherwise than `named`, part by part, as far as `other` has such a part."""
    changed: dict[str, Any] = {}
    for key in (str(key) for key in node if key in named and node[key] != named[key]):
        if isinstance(node[key], DictConfig) and isinstance(named[key], DictConfig):
            if isinstance(other.get(key), DictConfig):
                changed[key] = _changed(node[key], named[key], other[key])
        else:
            changed[key] = node[key]
    return changed


def _start(cfg: DictConfig, task: DictConfig) -> DictConfig:
    """The model that the first stage starts from, whatever the method: one run for all methods of a sweep."""
    start = _stage(cfg, task)
    OmegaConf.update(start, "method", option("method", "vanilla"), merge=False, force_add=True)
    start.schedule.epochs, start.schedule.max_steps = 0, None
    start.rerun = False  # as of a teacher: other jobs read it
    return start


def _trained(cfg: DictConfig, task: DictConfig, before: dict[str, Any] | None) -> DictConfig:
    stage = _stage(cfg, task)
    if before is not None:
        stage.model.name, stage.model.config = before["directory"], {}
    return stage


def _stage(cfg: DictConfig, task: DictConfig) -> DictConfig:
    stage = cfg.copy()
    stage.task, stage.sequence = task, []
    return stage


def _print(cfg: DictConfig, matrix: Sequence[tuple[str, Scores]]) -> None:
    from selfdistill_cli.tracking.tables import Column, print_table
    from selfdistill_cli.tracking.terminal import make_console

    rows = [(f"after {name}" if number else name, scores) for number, (name, scores) in enumerate(matrix)]
    lost = forgetting(matrix, {name: main_metric(_task(cfg, name)) for name in matrix[0][1]})
    columns = [Column("trained on", [*(name for name, _ in rows), "forgotten"])]
    for task in matrix[0][1]:
        shown = f"{lost[task]:+.4f}" if task in lost else "–"
        columns.append(Column(f"on {task}", [*(f"{scores[task]:.4f}" for _, scores in rows), shown], right=True))
    print_table(make_console(), f"{cfg.method.name}, seed {cfg.seed}: scores after each stage", columns)
