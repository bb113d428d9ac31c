"""Self-training in rounds, each a run of its own: `self_training=star` or `correction`, with any method.

Round 0 learns from the gold answers alone: an ordinary run. In every further round the model of the round before
writes answers to the training problems; what is made of them joins the gold answers, and training starts again from
the starting weights. A round's run is found by the content of what joined (task.added), and goes on after a kill.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS, check
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.lease import held
from selfdistill_cli.system.ranks import is_main
from selfdistill_cli.system.words import counted

log = logging.getLogger(__name__)

ADDED, ABOUT = "added.parquet", "round.json"
"""The examples, and what was drawn and kept; the latter is written last, so its presence means that both are whole."""


def trains_itself(cfg: DictConfig) -> bool:
    """Whether the configuration asks for rounds; not of the run of one."""
    return bool(cfg.self_training.name != "none" and cfg.self_training.round is None)


def require_possible(cfg: DictConfig) -> None:
    """Raise `UserError` if the task has no written answers, or something else is asked for that rounds exclude."""
    name = cfg.self_training.name
    kind = KINDS.get(cfg.task.kind)
    if kind is None or "added" not in kind.uses:
        raise UserError(
            f"self_training={name} draws answers, and task={cfg.task.name} has none that are written: "
            "choose a generation task (task=gsm8k, task=synth_arithmetic …), or self_training=none."
        )
    if cfg.task.messages is not None:
        raise UserError(
            f"self_training={name} learns from drawn answers that are right, and of what is said in a conversation "
            "(task.messages) no rule tells that: leave one of them out."
        )
    if cfg.task.added is not None:
        raise UserError(f"self_training={name} fills task.added itself: leave it out.")
    if cfg.task.weight is not None:
        raise UserError(
            f"self_training={name} adds examples that have no weight, so task.weight={cfg.task.weight} does not go with "
            "it: leave one of them out (task.weight=null, or self_training=none)."
        )
    if cfg.get("sequence"):
        raise UserError("sequence and self_training do not go together: leave one of them out.")
    if cfg.self_training.rounds < 1:
        raise UserError(
            f"self_training.rounds={cfg.self_training.rounds}: must be at least 1. "
            "self_training=none learns from the gold answers alone."
        )


def run_rounds(cfg: DictConfig, group: str | None = None) -> dict[str, Any]:
    """Do all rounds, print how they went, and return the last one's results, with the scores of all `rounds`.

    `group` names the sweep that they belong to. A round in which no drawn answer was right adds nothing: the rounds
    end there, with a remark. Raises `UserError` before the first round if it cannot work.
    """
    require_possible(cfg)
    check(cfg)
    from selfdistill_cli import experiment  # heavy: only once everything is checked

    _require_room(gold_alone(cfg), cfg)
    rows: list[dict[str, Any]] = []
    results = experiment.run(gold_alone(cfg), group)
    rows.append({"round": 0, "results": results})
    for number in range(1, cfg.self_training.rounds + 1):
        folder, about = _additions(cfg, Path(results["directory"]), number)
        if about["added"] == 0:
            log.warning("round %d: %s; round %d stands", number, _why_nothing_joined(about), number - 1)
            rows.append({"round": number, "about": about})
            break
        stage = with_added(cfg, folder, number)
        results = experiment.run(stage, group)
        rows.append({"round": number, "about": about, "results": results, **_second_attempts(stage, results)})
    if is_main():
        _print(cfg, rows)
    scored = [{"round": row["round"], "score": row["results"]["score"]} for row in rows if "results" in row]
    return results | {"rounds": scored}


def _require_room(first: DictConfig, cfg: DictConfig) -> None:
    """Raise `UserError` before round 0 (`first`) is trained if what later rounds read would be too long for them."""
    from selfdistill_cli.experiment import task_data
    from selfdistill_cli.models import load_model
    from selfdistill_cli.runs.directory import RunDirectory
    from selfdistill_cli.self_training import room

    if cfg.rerun or RunDirectory(first).results() is None:  # else whoever draws asks, with the model that it has
        task = task_data(cfg)
        loaded = load_model(cfg.model, task, cfg.seed, Path(cfg.paths.cache).absolute())
        if cfg.self_training.name == "correction":
            room.require_room(cfg, task, loaded)
        else:
            room.require_room_to_draw(cfg, task, loaded)


def gold_alone(cfg: DictConfig) -> DictConfig:
    """Round 0: the run that learns from the gold answers alone."""
    first = cfg.copy()
    first.self_training.name = "none"  # it is the run that an ordinary command makes
    return first


def place_of(cfg: DictConfig, before: Path, number: int) -> Path:
    """The folder for what this round adds, in that of the run before: named by what it depends on."""
    settings: Any = OmegaConf.to_container(cfg.self_training, resolve=True)
    settings |= {"rounds": None, "round": number, "decoding": OmegaConf.to_container(cfg.task.decoding)}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    return before / "rounds" / key


def with_added(cfg: DictConfig, folder: Path, number: int) -> DictConfig:
    """A later round: the run that learns from what lies in the folder as well."""
    stage = cfg.copy()
    stage.task.added, stage.self_training.round = str(folder / ADDED), number
    return stage


def _why_nothing_joined(about: dict[str, Any]) -> str:
    if about["right"] == 0:
        return f"none of {about['drawn']} drawn answers was right"
    why = "texts that are learned already"
    if about.get("too_long"):
        why = f"{why}, or too long for task.max_length ({about['too_long']})"
    return f"{about['right']} of {about['drawn']} drawn answers were right, all of them {why}"


def _additions(cfg: DictConfig, run: Path, number: int) -> tuple[Path, dict[str, Any]]:
    """The folder with what this round adds, drawn by the model of the round before if it is not there; and about it."""
    from selfdistill_cli.engine.processes import on_main
    from selfdistill_cli.engine.runtime import make_runtime

    folder = place_of(cfg, run, number)
    runtime = make_runtime(cfg.runtime, cfg.model.dtype)
    with contextlib.ExitStack() as lock:

        def found() -> dict[str, Any] | None:
            if not (folder / ABOUT).is_file():
                lock.enter_context(held(folder.with_suffix(".lock")))
            return read_json(folder / ABOUT)  # another process may have drawn them in the meantime

        about = on_main(runtime.accelerator, found)
        if about is None:
            about = _drawn(cfg, run, runtime, number, folder)
    return folder, about


def _drawn(cfg: DictConfig, run: Path, runtime: Any, number: int, folder: Path) -> dict[str, Any]:
    from selfdistill_cli.engine.processes import on_main
    from selfdistill_cli.experiment import task_data
    from selfdistill_cli.self_training import drawing, room
    from selfdistill_cli.tasks.added import write_added

    asked, task = cfg.self_training, task_data(cfg)
    writer = drawing.Writer.of(run / "model", task, runtime, cfg)
    if asked.name == "correction":
        room.require_room(cfg, task, writer.loaded)
    decoding = OmegaConf.merge(cfg.task.decoding, {"temperature": asked.temperature, "num_beams": 1})
    assert isinstance(decoding, DictConfig)
    if runtime.is_main:
        print(
            f"round {number}: drawing {counted(asked.samples, 'answer')} to each of {counted(len(task.train), 'training problem')}",
            flush=True,
        )
    with runtime.compute.part("drawing"):
        draws = [
            writer.write(task.train.texts, decoding, f"{task.name}, round {number}", draw=number * 1000 + sample)
            for sample in range(asked.samples)
        ]
    too_long = 0
    if asked.name == "star":
        prompts, answers = drawing.kept(task, draws)
        prompts, answers, too_long = room.that_fit(writer.loaded, task, prompts, answers)
        if too_long:
            log.warning(
                "round %d: %s not fit into task.max_length=%d and were left out",
                *(number, counted(too_long, "right answer does", "right answers do"), cfg.task.max_length),
            )
    else:
        attempts = [room.held_to(writer.loaded, task, task.train, texts, asked.request) for texts in draws]
        prompts, answers = drawing.corrections(task, attempts, asked.request)
    correct = [drawing.right(task, task.train, texts) for texts in draws]
    cost = runtime.compute.parts["drawing"]
    about = {
        "name": asked.name,
        "round": number,
        "before": run.name,
        "temperature": asked.temperature,
        "drawn": len(draws) * len(task.train),
        "right": sum(map(sum, correct)),
        "solved": sum(map(any, zip(*correct, strict=True))),
        "problems": len(task.train),
        "added": len(prompts),
        "too_long": too_long,
        "generated_tokens": cost.generated_tokens,
        "compute": cost.as_dict(),
    }

    def save() -> None:
        write_added(folder / ADDED, prompts, answers)
        write_json(folder / ABOUT, about)

    on_main(runtime.accelerator, save)
    return about


def _second_attempts(cfg: DictConfig, results: dict[str, Any]) -> dict[str, Any]:
    """Of a round of self-correction: how second attempts at the validation problems went. Kept in second_attempts.json."""
    if cfg.self_training.name != "correction":
        return {}
    from pyarrow import parquet

    from selfdistill_cli.engine.processes import on_main
    from selfdistill_cli.engine.runtime import make_runtime
    from selfdistill_cli.experiment import task_data
    from selfdistill_cli.self_training import drawing, room

    run = Path(results["directory"])
    place = run / "second_attempts.json"
    runtime = make_runtime(cfg.runtime, cfg.model.dtype)
    found = on_main(runtime.accelerator, lambda: read_json(place))
    if found is None:
        task = task_data(cfg)
        split = task.validation[0]
        table = parquet.read_table(run / "predictions.parquet").to_pylist()
        attempts = [row["text"] for row in table if row["split"] == split.name]
        writer = drawing.Writer.of(run / "model", task, runtime, cfg)
        held = room.held_to(writer.loaded, task, split, attempts, cfg.self_training.request)
        asked = room.second_prompts(split.texts, held, cfg.self_training.request)
        again = writer.write(asked, cfg.task.decoding, f"{task.name}, second attempts")
        pairs = list(zip(*(drawing.right(task, split, texts) for texts in (attempts, again)), strict=True))
        found = {
            "first": sum(first for first, _ in pairs) / len(pairs),
            "second": sum(second for _, second in pairs) / len(pairs),
            "wrong_to_right": sum(second and not first for first, second in pairs) / len(pairs),
            "right_to_wrong": sum(first and not second for first, second in pairs) / len(pairs),
            "examples": len(pairs),
        }
        on_main(runtime.accelerator, lambda: write_json(place, found))
    return {"second": found}


def _print(cfg: DictConfig, rows: list[dict[str, Any]]) -> None:
    from selfdistill_cli.tracking.tables import Column, print_table
    from selfdistill_cli.tracking.terminal import make_console

    def of(part: str, name: str, form: str) -> list[str]:
        return [form.format(row[part][name]) if part in row else "–" for row in rows]

    columns = [
        Column("round", [str(row["round"]) for row in rows]),
        Column(rows[0]["results"]["metric"], of("results", "score", "{:.4f}"), right=True),
        Column("drawn right", of("about", "right", "{:,}"), right=True),
        Column("of", of("about", "drawn", "{:,}"), right=True),
        Column("added", of("about", "added", "{:,}"), right=True),
    ]
    if any("second" in row for row in rows):
        columns += [
            Column("second attempt", of("second", "second", "{:.4f}"), right=True),
            Column("wrong to right", of("second", "wrong_to_right", "{:.4f}"), right=True, leaves=1),
            Column("right to wrong", of("second", "right_to_wrong", "{:.4f}"), right=True, leaves=2),
        ]
    print_table(
        make_console(), f"{cfg.self_training.name} with {cfg.method.name}, seed {cfg.seed}: round by round", columns
    )
