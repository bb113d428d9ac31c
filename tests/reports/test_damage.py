"""Damage: whatever file of a run is broken, the report is made of the rest and names what it left out."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.command import report
from selfdistill_cli.reports.report import chapters
from selfdistill_cli.reports.runs import Run, find_runs, read_run, with_whole_tables
from selfdistill_cli.reports.search import search
from tests.helpers.made_runs import make_run

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with every file that a report reads."""
    outputs = tmp_path_factory.mktemp("sound")
    for method in ("vanilla", "dynsdpb"):
        run = make_run(outputs, f"method={method}")
        (run / "evaluations").mkdir()
        shutil.copy(run / "predictions.parquet", run / "evaluations" / "snli.parquet")
        (run / "evaluations" / "snli.json").write_text('{"metric": "accuracy", "score": 0.5}')
        parquet.write_table(pa.table({"index": [0, 1], "weight": [0.5, 1.5]}), run / "examples.parquet")
        (run / "environment.json").write_text("{}")
    return outputs


def edited(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return edit


EMPTY, CUT = edited(lambda old: b""), edited(lambda old: old[: len(old) // 2])
NOT_TEXT = edited(lambda old: b"\xff\xfe\x00" + old)


def hole(path: Path) -> None:
    """Both ends are sound and nothing between: what a lost block of a disk leaves."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4)
        file.write(b"\xa5" * (size // 4))


def holds(content: str) -> Callable[[Path], None]:
    return edited(lambda old: content.encode())


def without(name: str) -> Callable[[Path], None]:
    return edited(lambda old: json.dumps({k: v for k, v in json.loads(old).items() if k != name}).encode())


def having(**values: object) -> Callable[[Path], None]:
    return edited(lambda old: json.dumps(json.loads(old) | values).encode())


def read_with_a_broken(
    file: str, breaks: Callable[[Path], None], sound: Path, tmp_path: Path
) -> tuple[dict[Path, Run], Path]:
    """All runs by their folders, after this file of one of them was broken; and that one's folder."""
    outputs = shutil.copytree(sound, tmp_path / "outputs")
    victim = next(outputs.glob("*/*/dynsdpb/*"))
    breaks(victim / file)
    return {run.path: run for run in with_whole_tables(find_runs([outputs]))}, victim


@pytest.mark.parametrize(("file", "breaks", "why"), [
    ("predictions.parquet", CUT, "predictions.parquet is cut, or no parquet file"),
    ("predictions.parquet", EMPTY, "predictions.parquet is empty"),
    ("predictions.parquet", Path.unlink, "predictions.parquet is missing"),
    ("predictions.parquet", hole, "predictions.parquet cannot be read: "),
    ("results.json", EMPTY, "results.json is empty"),
    ("results.json", CUT, "results.json cannot be read: "),
    ("results.json", NOT_TEXT, "results.json cannot be read: "),
    ("results.json", holds("[1]"), "results.json holds no names with values"),
    ("results.json", without("score"), "results.json has no score"),
    ("results.json", having(score=None), "results.json has None as score"),
    ("results.json", having(score=float("nan")), "results.json has nan as score"),
    ("results.json", having(schema_version=99), "results.json is of a later version"),
    ("config.yaml", EMPTY, "config.yaml holds no names with values"),
    ("config.yaml", holds("model: ["), "config.yaml cannot be read: "),
    ("config.yaml", holds("just words"), "config.yaml holds no names with values"),
    ("config.yaml", NOT_TEXT, "config.yaml cannot be read: "),
    ("config.yaml", holds("model: {}\ntask: {}\n"), "config.yaml lacks settings of a run: "),
    ("config.yaml", Path.unlink, "config.yaml cannot be read: No such file"),
])  # fmt: skip
def test_a_broken_file_that_a_score_stands_on_makes_its_run_damaged_and_no_other(
    file: str, breaks: Callable[[Path], None], why: str, sound: Path, tmp_path: Path
) -> None:
    runs, victim = read_with_a_broken(file, breaks, sound, tmp_path)
    assert sorted(run.status for run in runs.values()) == ["damaged", "finished"]
    assert runs[victim].reason.startswith(why)


@pytest.mark.parametrize(("file", "breaks", "why"), [
    ("metrics.jsonl", edited(lambda old: old.replace(b'{"kind": "train", "step": 7,', b'{"kind": "tr')), "metrics.jsonl: lines that cannot be read: 1"),
    ("metrics.jsonl", edited(lambda old: b"[]\n3\nnull\n{}\n" + old), "metrics.jsonl: lines that cannot be read: 4"),
    ("evaluations/snli.json", EMPTY, "evaluations/snli.json is empty"),
    ("evaluations/snli.json", holds('{"metric": "accuracy"}'), "evaluations/snli.json has no score"),
    ("evaluations/snli.parquet", CUT, "evaluations/snli.parquet is cut, or no parquet file"),
    ("evaluations/snli.parquet", hole, "evaluations/snli.parquet cannot be read: "),
    ("examples.parquet", CUT, "examples.parquet cannot be read: "),
])  # fmt: skip
def test_a_broken_file_beside_the_score_is_left_out_and_the_run_counts(
    file: str, breaks: Callable[[Path], None], why: str, sound: Path, tmp_path: Path
) -> None:
    runs, victim = read_with_a_broken(file, breaks, sound, tmp_path)
    assert [run.status for run in runs.values()] == ["finished", "finished"]
    (told,) = runs[victim].left_out.values()
    assert told.startswith(why)
    assert victim.joinpath(file).is_file()
    assert ("snli" in runs[victim].other_tasks) == (not file.startswith("evaluations"))
    assert (runs[victim].file("examples.parquet") is None) == (file == "examples.parquet")


def test_the_page_is_made_of_the_rest_and_the_terminal_names_what_was_left_out(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = shutil.copytree(sound, tmp_path / "outputs")
    for seed, breaks in enumerate((CUT, EMPTY, hole), start=1):
        breaks(make_run(outputs, "method=dynsdpb", f"seed={seed}") / "predictions.parquet")
    CUT(next(outputs.glob("*/*/dynsdpb/*/examples.parquet")))
    CUT(next(outputs.glob("*/*/vanilla/*/evaluations/snli.parquet")))
    (outputs / "lightning_logs" / "version_0").mkdir(parents=True)
    (outputs / "lightning_logs" / "version_0" / "config.yaml").write_text("trainer: {max_epochs: 3}\nmodel: {}\n")
    report([str(outputs), "--out", str(tmp_path / "page")])
    said = capsys.readouterr().out
    assert "5 runs: 2 finished, 3 damaged" in said
    assert re.search(r"without examples\.parquet cannot be read", said)
    assert "without evaluations/snli.parquet is cut" in said
    assert re.search(r"passed over, since sdrun did not make them: \S*lightning_logs/version_0", said)
    page = (tmp_path / "page" / "report.md").read_text()
    assert page.count("| damaged |") == 3
    assert page.count("snli.parquet is cut, or no parquet file |") == 1


def test_runs_without_any_record_of_training_are_reported(tmp_path: Path) -> None:
    signals = [{"kind": "train", "step": 1, "epoch": 0.1, "loss": 1.0, "tau/mean": 3.0, "alpha/mean": 1.0}]
    for method in ("static_sd", "dynsdpb"):
        for seed in range(2):
            run = make_run(tmp_path, f"method={method}", f"seed={seed}", rows=signals)
            if method == "static_sd" or seed:
                EMPTY(run / "metrics.jsonl")
    assert [run.status for run in find_runs([tmp_path])] == ["finished"] * 4
    assert any("static_sd" in str(chapter) for chapter in chapters(find_runs([tmp_path])))


def test_links_are_followed_once_and_loops_end(sound: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "linked").symlink_to(sound / "synth_entailment")
    (outputs / "twice").symlink_to(sound / "synth_entailment")
    (outputs / "loop").symlink_to(outputs)
    (outputs / "nowhere").symlink_to(tmp_path / "gone")
    (outputs / "ring_a").mkdir()
    (outputs / "ring_a" / "ring_b").symlink_to(outputs / "ring_a")
    assert [run.status for run in find_runs([outputs])] == ["finished", "finished"]
    assert len(find_runs([outputs, sound])) == 2  # the same runs by two ways
    alone = tmp_path / "one"
    alone.symlink_to(next(sound.glob("*/*/vanilla/*")))
    assert [run.method for run in find_runs([alone])] == ["vanilla"]


def test_folders_of_other_programs_are_no_runs_and_what_lies_below_them_is_found(sound: Path, tmp_path: Path) -> None:
    outputs = shutil.copytree(sound, tmp_path / "outputs")
    others = {
        "config.yaml": "defaults: []\n",  # in the folder of all runs
        "2026-01-01/12-00-00/.hydra/config.yaml": "model: {}\ntask: {}\nmethod: {}\nschedule: {}\nseed: 0\n",
        "2026-01-01/12-00-00/train.log": "of Hydra",
        "wandb/run-1/files/config.yaml": "wandb_version: 1\n",
        "lightning_logs/version_0/config.yaml": "trainer: {}\n",
        "sweeps/2026-01-01/multirun.yaml": "hydra: {}\n",  # what a sweep of ours leaves
        "sweeps/2026-01-01/optimization_results.yaml": "name: optuna\n",
        "sweeps/2026-01-01/jobs/1.json": "{}",
        "sweeps/2026-01-01/.submitit/1/1_0_log.out": "of a job",
        "bert/all_results.json": "{}",
        "bert/results.json": '{"eval_accuracy": 0.9}',
    }
    for name, content in others.items():
        (outputs / name).parent.mkdir(parents=True, exist_ok=True)
        (outputs / name).write_text(content)
    places = search([outputs])
    assert len(places.runs) == 2
    assert {str(path.relative_to(outputs)) for path in places.foreign} == {".", "bert", "lightning_logs/version_0"}


def test_runs_below_a_folder_that_is_called_as_those_of_sweeps_are_found(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "results" / "sweeps")
    assert len(find_runs([tmp_path / "results"])) == 2


def test_a_run_that_ended_before_it_began_to_train_is_interrupted_with_its_reason(tmp_path: Path) -> None:
    run = tmp_path / "rte" / "minilm" / "vanilla" / "0123456789"
    run.mkdir(parents=True)
    (run / "train.log").write_text("2026-01-01 10:00:00,0 ERROR ended by UserError: no such data\n")
    (found,) = find_runs([tmp_path])
    assert (found.status, found.reason) == ("interrupted", "ended by UserError: no such data")
    with (run / "train.log").open("a") as log:
        log.write("2026-01-01 11:00:00,0 INFO interrupted: stopped after step 9 of 20\n")
    assert read_run(run).reason == "stopped after step 9 of 20"
    assert (found.task, found.method) == ("rte", "vanilla")
    (run / "run.json").write_text("{}")
    (run / "config.yaml").write_text("")  # the disk was full
    assert [one.status for one in find_runs([tmp_path])] == ["damaged"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(sound: Path, tmp_path: Path) -> None:
    outputs = shutil.copytree(sound, tmp_path / "outputs")
    closed = next(outputs.glob("*/*/dynsdpb"))
    closed.chmod(0)
    try:
        runs = {run.path: run for run in find_runs([outputs])}
        assert runs[closed].reason == "the folder cannot be read: Permission denied"
    finally:
        closed.chmod(0o755)


@pytest.mark.parametrize("flags", [[], ["--title", "a title"]])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    flags: list[str], sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").write_text("mine")
    for out in ("a_file", "a_file/below/it"):
        with pytest.raises(UserError, match=rf"--out .*{out}: .*a_file is a file. --out names another"):
            report([str(sound), *flags, "--out", str(tmp_path / out)])
    assert (tmp_path / "a_file").read_text() == "mine"
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # what a read-only disk says, to root as well
    with pytest.raises(UserError, match=rf"--out .*: {tmp_path} may not be written"):
        report([str(sound), *flags, "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
