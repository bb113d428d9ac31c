"""Self-training: what is kept of drawn answers, what each round learns from, and rounds that are found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from pyarrow import parquet

from selfdistill_cli.errors import UserError
from selfdistill_cli.experiment import task_data
from selfdistill_cli.self_training import drawing, rounds
from selfdistill_cli.self_training.rounds import _why_nothing_joined
from selfdistill_cli.tasks.added import NO_ROW, with_added, write_added
from tests.helpers.runs import composed, results

QUICK = ("task=synth_arithmetic", "model=tiny_llama", "method=vanilla", "task.train_examples=12", "schedule.max_steps=2",
         "task.validation_examples=4", "task.decoding.max_new_tokens=6", "tracking=none", "runtime.device=cpu",
         "task.max_length=256")  # fmt: skip


def two_problems() -> Any:
    task = task_data(composed(*QUICK, "task.train_examples=2"))
    train = replace(
        task.train,
        texts=["Q: 1 + 1?\nA:", "Q: 2 + 3?\nA:"],
        answers=[" 1 + 1 = 2\n#### 2", " 2 + 3 = 5\n#### 5"],
        references=[[" 1 + 1 = 2\n#### 2"], [" 2 + 3 = 5\n#### 5"]],
    )
    return replace(task, train=train)


DRAWS = [
    [" it is two\n#### 2", " 2 + 3 = 6\n#### 6"],
    [" it is two\n#### 2 ", " 2 + 3 = 5\n#### 5"],  # again, but for a space; the gold answer
    [" 1 + 1 is\n#### 2.0", " no answer"],
]


def test_each_right_text_is_kept_once_and_gold_ones_not_again() -> None:
    prompts, answers = drawing.kept(two_problems(), DRAWS)
    assert list(zip(prompts, answers, strict=True)) == [
        ("Q: 1 + 1?\nA:", " it is two\n#### 2"),
        ("Q: 1 + 1?\nA:", " 1 + 1 is\n#### 2.0"),
    ]


def test_right_is_what_the_tasks_rule_reads() -> None:
    task = two_problems()
    assert [drawing.right(task, task.train, texts) for texts in DRAWS] == [[True, False], [True, True], [True, False]]


def test_first_attempts_right_and_wrong_ask_for_the_gold_answer() -> None:
    prompts, answers = drawing.corrections(two_problems(), DRAWS[:2], "Check it.\nA:")
    assert list(zip(prompts, answers, strict=True)) == [
        ("Q: 1 + 1?\nA: it is two\n#### 2\nCheck it.\nA:", " 1 + 1 = 2\n#### 2"),
        ("Q: 2 + 3?\nA: 2 + 3 = 6\n#### 6\nCheck it.\nA:", " 2 + 3 = 5\n#### 5"),
        ("Q: 2 + 3?\nA: 2 + 3 = 5\n#### 5\nCheck it.\nA:", " 2 + 3 = 5\n#### 5"),
    ]


def test_added_examples_stand_behind_the_tasks_own(tmp_path: Path) -> None:
    train = two_problems().train
    write_added(tmp_path / "added.parquet", ["P"], [" four"])
    longer = with_added(train, tmp_path / "added.parquet")
    assert list(longer.texts) == [*train.texts, "P"]
    assert longer.answers is not None
    assert list(longer.answers) == [*(train.answers or []), " four"]
    assert longer.references is not None
    assert longer.references[2] == [" four"]
    assert longer.rows.tolist() == [*train.rows.tolist(), NO_ROW]
    assert len(longer) == len(longer.labels) == 3


def test_a_file_that_cannot_be_added_is_named(tmp_path: Path) -> None:
    train = two_problems().train
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"task\.added=.*broken.*no Parquet file with columns prompt and answer"):
        with_added(train, tmp_path / "broken.parquet")
    write_added(tmp_path / "empty.parquet", ["P", "Q"], ["a", " "])
    with pytest.raises(UserError, match=r"row 1 has an empty prompt or answer"):
        with_added(train, tmp_path / "empty.parquet")
    write_added(tmp_path / "fine.parquet", ["P"], ["a"])
    with pytest.raises(UserError, match=r"task\.weight"):
        with_added(replace(train, weights=np.ones(2)), tmp_path / "fine.parquet")


def test_no_answer_may_be_added_where_it_is_one(tmp_path: Path) -> None:
    train = two_problems().train
    write_added(tmp_path / "added.parquet", ["P", "Q"], ["a", ""])
    assert list(with_added(train, tmp_path / "added.parquet", no_answer="").answers or [])[-2:] == ["a", ""]
    with pytest.raises(UserError, match=r"row 1 has an empty prompt or answer"):
        with_added(train, tmp_path / "added.parquet", no_answer="none")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("task=synth_entailment",), r"self_training=star draws answers, and task=synth_entailment has none"),
        (("task=synth_arithmetic", "task.added=x.parquet"), r"fills task\.added itself"),
        (("task=synth_arithmetic", "task.weight=w"), r"self_training=star adds .* task\.weight=w does not go with"),
        (("task=synth_arithmetic", "sequence=[synth_arithmetic,synth_facts]"), r"do not go together"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_round(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        rounds.run_rounds(composed("self_training=star", "model=tiny_llama", *words))


def test_no_rounds_are_refused() -> None:
    with pytest.raises(UserError, match=r"self_training\.rounds=0: must be at least 1\. self_training=none learns"):
        rounds.run_rounds(composed(*QUICK, "self_training=star", "self_training.rounds=0"))


# --- whole rounds ---------------------------------------------------------------------------------


def asked(tmp_path: Path, *words: str) -> Any:
    return composed(*QUICK, f"paths.outputs={tmp_path}", *words)


@pytest.fixture
def all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an untrained model writes is right, whatever it is."""
    monkeypatch.setattr(drawing, "right", lambda task, split, texts: [bool(text.strip()) for text in texts])


@pytest.mark.slow
@pytest.mark.usefixtures("all_right")
def test_a_round_learns_from_gold_and_kept_and_is_found_again(tmp_path: Path, monkeypatch: Any) -> None:
    words = ("self_training=star", "self_training.samples=2", "self_training.rounds=2")
    last = rounds.run_rounds(asked(tmp_path, *words))
    runs = {path.parent: json.loads(path.read_text()) for path in tmp_path.glob("*/*/*/*/results.json")}
    by_round = {(found.get("self_training") or {"round": 0})["round"]: (run, found) for run, found in runs.items()}
    assert sorted(by_round) == [0, 1, 2]
    for number in (1, 2):
        before, after = by_round[number - 1], by_round[number]
        (added,) = before[0].glob("rounds/*/added.parquet")
        about = after[1]["self_training"]
        assert after[1]["train_examples"] == 12 + parquet.read_table(added).num_rows == 12 + about["added"]
        assert (about["drawn"], about["problems"], about["name"]) == (24, 12, "star")
        assert about["before"] == before[1]["key"]
        assert 0 < about["generated_tokens"] <= about["drawn"] * 6  # task.decoding.max_new_tokens
        assert after[1]["compute"]["earlier_rounds"]["generated_tokens"] >= about["generated_tokens"]
        earlier = after[1]["compute"]["earlier_rounds"]
        assert earlier["forward"] == before[1]["compute"]["total"]["forward"] + about["drawn"]
        assert earlier["flops"] > before[1]["compute"]["total"]["flops"]
        assert OmegaConf.load(after[0] / "config.yaml").task.added == str(added)
        # Training starts again from the same weights, in the same tokens.
        assert after[1]["fingerprints"]["weights"] == before[1]["fingerprints"]["weights"]
        assert after[1]["fingerprints"]["tokenizer"] == before[1]["fingerprints"]["tokenizer"]
    assert last["key"] == by_round[2][1]["key"]
    assert last["rounds"] == [{"round": number, "score": by_round[number][1]["score"]} for number in (0, 1, 2)]
    assert by_round[0][1]["key"] == results(by_round[0][0])["key"]
    monkeypatch.setattr(drawing.Writer, "write", lambda *_, **__: pytest.fail("drawn again"))
    again = rounds.run_rounds(asked(tmp_path, *words))
    assert (again["key"], again["status"]) == (last["key"], "finished earlier")


@pytest.mark.slow
@pytest.mark.usefixtures("all_right")
def test_a_kill_while_drawing_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("self_training=star", "self_training.samples=2")
    whole = rounds.run_rounds(asked(tmp_path / "whole", *words))
    written = drawing.Writer.write

    def dies_at_the_second(self: Any, *rest: Any, **named: Any) -> list[str]:
        if named["draw"] % 1000 == 1:
            raise KeyboardInterrupt
        return written(self, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(drawing.Writer, "write", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            rounds.run_rounds(asked(tmp_path / "killed", *words))
    assert not list((tmp_path / "killed").glob("**/round.json"))
    continued = rounds.run_rounds(asked(tmp_path / "killed", *words))
    assert continued["key"] == whole["key"]  # made of the content of what was added
    assert continued["metrics"] == whole["metrics"]


@pytest.mark.slow
def test_a_round_without_a_right_answer_leaves_the_one_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(drawing, "right", lambda task, split, texts: [False] * len(texts))
    last = rounds.run_rounds(asked(tmp_path, "self_training=star", "self_training.samples=1"))
    assert "self_training" not in last
    assert "none of 12 drawn answers was right; round 0 stands" in caplog.text
    assert capsys.readouterr().out.rstrip().splitlines()[-1].split() == ["1", "–", "0", "12", "0"]
    assert len(list(tmp_path.glob("*/*/*/*/results.json"))) == 1


def test_right_answers_that_are_learned_already_are_not_called_wrong() -> None:
    assert _why_nothing_joined({"right": 0, "drawn": 12}) == "none of 12 drawn answers was right"
    assert "3 of 12 drawn answers were right, all of them texts" in _why_nothing_joined({"right": 3, "drawn": 12})


@pytest.mark.slow
def test_second_attempts_are_counted_by_what_became_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def right(task: Any, split: Any, texts: list[str]) -> list[bool]:
        return [True, False, True, False] if texts[0].startswith("second") else [True, True, False, False]

    cfg = asked(tmp_path, "self_training=correction")
    written = drawing.Writer.write

    def write(self: Any, prompts: Any, decoding: Any, what: str, draw: int = 0) -> list[str]:
        if "second attempts" not in what:
            return written(self, prompts, decoding, what, draw)
        assert all(prompt.endswith(cfg.self_training.request) for prompt in prompts)
        return ["second"] * len(prompts)

    monkeypatch.setattr(drawing.Writer, "write", write)
    monkeypatch.setattr(drawing, "right", lambda task, split, texts: right(task, split, list(texts)) if len(texts) == 4 else [True] * len(texts))  # fmt: skip
    last = rounds.run_rounds(cfg)
    found = json.loads((Path(last["directory"]) / "second_attempts.json").read_text())
    assert found == {"first": 0.5, "second": 0.5, "wrong_to_right": 0.25, "right_to_wrong": 0.25, "examples": 4}
