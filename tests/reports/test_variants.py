"""What is averaged and what is not: runs are gathered by what they are, and named by what sets them apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.reports.sections import overview
from selfdistill_cli.reports.variants import Study, short_values, study
from tests.helpers.made_runs import make_run

pytestmark = pytest.mark.thorough


def studied(outputs: Path) -> Study:
    """The runs below a folder in groups."""
    return study(find_runs([outputs]))


def test_runs_of_different_settings_are_never_one_group_and_say_how_they_differ(tmp_path: Path) -> None:
    for words in (["method.tau=1"], ["method.tau=2"], ["method.tau=2", "schedule.lr=1e-4"], ["method.tau=2", "seed=1"]):
        make_run(tmp_path, "method=dynsdpb", *words)
    made = studied(tmp_path)
    assert made.variants == [
        "dynsdpb (tau=1.0, lr=5e-05)",
        "dynsdpb (tau=2.0, lr=5e-05)",
        "dynsdpb (tau=2.0, lr=0.0001)",
    ]
    assert sorted(len(group.runs) for group in made.groups) == [1, 1, 2]


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0, 0, 0)])
def test_settings_of_a_model_set_runs_apart_beside_another_model(seeds: tuple[int, ...], tmp_path: Path) -> None:
    ways = ("model.dropout=null", "model.lora.rank=4", "model.dropout=0.2")
    for way, seed in zip(ways, seeds, strict=True):
        make_run(tmp_path, "method=vanilla", "model=tiny_bert", way, f"seed={seed}")
    make_run(tmp_path, "method=vanilla", "model=minilm")
    made = studied(tmp_path)
    assert sorted(made.variants) == [
        "vanilla (model=minilm, dropout=none, lora.rank=none)",
        "vanilla (model=tiny_bert, dropout=0.2, lora.rank=none)",
        "vanilla (model=tiny_bert, dropout=none, lora.rank=4)",
        "vanilla (model=tiny_bert, dropout=none, lora.rank=none)",
    ]
    assert [len(group.runs) for group in made.groups] == [1, 1, 1, 1]


def test_what_follows_from_the_model_needs_no_words(tmp_path: Path) -> None:
    for model in ("tiny_bert", "minilm"):  # tiny_bert has a config of its own
        make_run(tmp_path, "method=vanilla", f"model={model}")
    assert studied(tmp_path).variants == ["vanilla (model=minilm)", "vanilla (model=tiny_bert)"]


def test_two_folds_are_two_tasks(tmp_path: Path) -> None:
    for fold in ("fold1", "fold2"):
        path = f"/a/long/way/to/the/data/{fold}/train.csv"
        make_run(tmp_path, "task=custom", f"task.path={path}", "task.text=a", "task.kind=classification")
    made = studied(tmp_path)
    assert made.tasks == ["custom (path=…/fold1/train.csv)", "custom (path=…/fold2/train.csv)"]
    assert [len(group.runs) for group in made.groups] == [1, 1]


def test_long_paths_keep_as_much_of_their_end_as_tells_them_apart() -> None:
    one, other, third = "/home/somebody/x/fold1/a/train.csv", "/home/somebody/x/fold2/a/train.csv", "short/b.csv"
    assert short_values([one, other, third, None, 2.0]) == {
        one: "…/fold1/a/train.csv",
        other: "…/fold2/a/train.csv",
        third: third,
        "None": "none",
        "2.0": "2.0",
    }


def test_runs_by_one_and_by_two_processes_are_not_pooled(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", "seed=0")
    make_run(tmp_path, "method=vanilla", "seed=1", processes=1)
    make_run(tmp_path, "method=vanilla", "seed=2", processes=2)
    made = studied(tmp_path)
    assert made.variants == ["vanilla (processes=1)", "vanilla (processes=2)"]
    assert [list(made.group("synth_entailment", name).runs) for name in made.variants] == [[0, 1], [2]]  # type: ignore[union-attr]


def test_a_run_that_was_found_twice_counts_once_and_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "here", accuracy=0.9)
    make_run(tmp_path / "here", "seed=1")
    again = make_run(tmp_path / "there", accuracy=0.5)
    runs = find_runs([tmp_path])
    made = study(runs)
    assert [(kept.path, other.path) for kept, other in made.duplicates] == [(run, again)]
    assert made.groups[0].runs[0].path == run
    section = overview.section(made, runs)
    assert "Finished runs with the settings and seed of another: 1; the first of each counts." in section.words
    (table,) = section.parts
    assert not isinstance(table, str)
    assert [cell.text for cell in table.cells[0]] == [  # type: ignore[union-attr]
        str(again), f"{made.duplicates[0][1].results['score']:.4f}", str(run), f"{made.groups[0].runs[0].results['score']:.4f}"
    ]  # fmt: skip


def test_a_copied_folder_of_runs_has_no_run_of_its_own(tmp_path: Path) -> None:
    make_run(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    made = studied(tmp_path)
    assert (len(made.groups), len(made.groups[0].runs), len(made.duplicates)) == (1, 1, 1)


def test_vanilla_is_first_and_other_methods_follow_by_the_alphabet(tmp_path: Path) -> None:
    for method in ("static_sd", "kd", "vanilla", "dcs"):
        make_run(tmp_path, f"method={method}")
    make_run(tmp_path, "method=kd", "method.name=a_plugin")
    assert studied(tmp_path).variants == ["vanilla", "a_plugin", "dcs", "kd", "static_sd"]


def test_baselines_are_told_by_passes_and_by_examples_forwarded(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", examples_forwarded=300)
    make_run(tmp_path, "method=vanilla", passes=2, examples_forwarded=600)
    make_run(tmp_path, "method=vanilla", passes=3, examples_forwarded=900)
    make_run(tmp_path, "method=vanilla", "schedule.lr=1e-4", passes=2, examples_forwarded=590)
    make_run(tmp_path, "method=static_sd", examples_forwarded=590)
    make_run(tmp_path, "method=static_sd", "seed=1", examples_forwarded=598)
    make_run(tmp_path, "method=kd", examples_forwarded=300)
    make_run(tmp_path, "method=dynsdpb", examples_forwarded=760)  # 15 % from what is nearest
    make_run(tmp_path, "method=dcs", "schedule.lr=1e-4", examples_forwarded=590)
    made = studied(tmp_path)
    found = {}
    for group in made.groups:
        if (method := group.settings["method.name"]) != "vanilla":
            baselines = made.baseline(group), made.equal_compute_baseline(group)
            found[method] = [(b.settings["method.passes"], b.settings["schedule.lr"]) if b else None for b in baselines]
    assert found == {
        "static_sd": [(1, 5e-5), (2, 5e-5)],
        "kd": [(1, 5e-5), (1, 5e-5)],
        "dynsdpb": [(1, 5e-5), None],
        "dcs": [None, (2, 1e-4)],
    }
