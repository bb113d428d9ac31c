"""Files of conversations: how they are recognised and read, and the rows that are refused by what is wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from omegaconf import DictConfig, OmegaConf
from pyarrow import parquet

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS, check, load_task
from selfdistill_cli.other_tasks import AS_BEFORE
from selfdistill_cli.recognised import as_conversations
from selfdistill_cli.runs.keys import run_key, scientific_settings
from selfdistill_cli.tasks import TaskData
from selfdistill_cli.tasks.data import load_validation_alone
from selfdistill_cli.tasks.unlabelled import unlabelled_rows, without_labels
from tests.helpers.runs import composed

ASKED = {"role": "user", "content": "Is 7 prime?"}
TOLD = {"role": "assistant", "content": "Yes."}
BRIEF = {"role": "system", "content": "Be brief."}
GOOD = [ASKED, TOLD]


def write(path: Path, *conversations: Any) -> Path:
    path.write_text("".join(json.dumps({"id": n, "messages": one}) + "\n" for n, one in enumerate(conversations)))
    return path


def settings(path: Path, **changes: Any) -> DictConfig:
    task: DictConfig = composed("task=chat", f"task.path={path}").task
    task.update(changes)
    return task


def load(tmp_path: Path, *conversations: Any, **changes: Any) -> TaskData:
    return load_task(settings(write(tmp_path / "chats.jsonl", *conversations), **changes), "nowhere", 0)


def test_conversations_are_prompts_with_the_last_answer_and_said_in_the_line(tmp_path: Path) -> None:
    whole = [BRIEF, ASKED, TOLD, {"role": "user", "content": "And 9?"}, {"role": "assistant", "content": "No."}]
    task = load(tmp_path, whole, GOOD, validation_path=str(write(tmp_path / "dev.jsonl", GOOD)))
    assert list(task.train.turns or []) == [whole, GOOD]
    assert task.train.texts[0] == "System: Be brief.\nUser: Is 7 prime?\nAssistant: Yes.\nUser: And 9?\nAssistant:"
    assert list(task.train.answers or []) == ["No.", "Yes."]
    assert "2 rows, generation, conversations with 3 turns of the assistant in training" in task.summary
    assert task.metric == "loss"


@pytest.mark.parametrize(
    ("conversation", "says"),
    [
        ([{"from": "human", "value": "a"}], r"messages\[0\] has no role and content \(it has from, value\)"),
        ([ASKED, {"role": "gpt", "content": "a"}, TOLD], r"messages\[1\] has the role 'gpt'; there are system, user"),
        ([ASKED, TOLD, TOLD], r"messages\[1\] and messages\[2\] are both the assistant's"),
        ([ASKED, BRIEF, TOLD], r"messages\[1\] is a system turn"),
        ([TOLD], "begins with the assistant's turn"),
        ([BRIEF, TOLD], "begins with the assistant's turn"),
        ([ASKED, {"role": "assistant", "content": " "}], r"messages\[1\] has no content"),
        ([ASKED, {"role": "assistant", "content": None}], r"messages\[1\] has no content"),
        (
            [{"role": "user", "content": [{"type": "image"}]}, TOLD],
            r"content of messages\[0\] is not only text \(image",
        ),
        ([{"role": "user", "content": {"a": 1}}, TOLD], r"content of messages\[0\] is no text"),
        ([ASKED, {**TOLD, "tool_calls": [{"name": "f"}]}], r"messages\[1\] calls tools"),
        ([ASKED, {"role": "assistant", "content": "Yes \ud83d"}], r"messages\[1\] holds half of a character \(a lone"),
        ("hello", "is no list of turns"),
        ({"role": "user"}, "is no list of turns"),
        (["hello"], r"messages\[0\] has no role and content \(it is no record"),
    ],
)
def test_what_is_no_conversation_is_refused_by_rows(conversation: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"2 of 4 rows are no conversation .*\n.*rows 1, 3: .*{says}"):
        load(tmp_path, GOOD, conversation, GOOD, conversation, missing="drop")


@pytest.mark.parametrize("nothing", [[], None, [ASKED], [BRIEF, ASKED]])
def test_a_row_without_an_answer_is_missing(nothing: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows 1, 3 .* has no turn of the assistant; 2 of 5 rows have no answered"):
        load(tmp_path, GOOD, nothing, GOOD, nothing, GOOD)
    task = load(tmp_path, GOOD, nothing, GOOD, nothing, GOOD, GOOD, GOOD, missing="drop")
    assert sorted([*task.train.rows, *task.validation[0].rows]) == [0, 2, 4, 5, 6]
    assert "2 rows left out (2 without answered conversation)" in task.summary


def test_turns_that_nobody_answers_are_said_and_left_off(tmp_path: Path) -> None:
    chats = [GOOD, [*GOOD, ASKED], GOOD]
    task = load(tmp_path, *chats, validation_path=str(write(tmp_path / "dev.jsonl", GOOD)))
    assert any(
        "1 of 3 conversations end with a turn that the assistant does not answer (row 1)" in f for f in task.findings
    )
    assert list(task.train.answers or []) == ["Yes."] * 3


def test_shapes_may_differ_and_parts_of_text_are_joined(tmp_path: Path) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Is 7"}, {"type": "text", "text": " prime?"}]}, TOLD]
    named = [{**ASKED, "name": "Ada", "weight": 1}, {**TOLD, "tool_calls": []}]
    task = load(tmp_path, GOOD, parts, named, validation_path=str(write(tmp_path / "dev.jsonl", parts)))
    assert list(task.train.turns or []) == [GOOD] * 3


@pytest.mark.parametrize("ending", ["parquet", "csv", "json", "jsonl"])
def test_every_format_that_can_hold_them(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"chats.{ending}"
    if ending == "parquet":
        parquet.write_table(pa.table({"messages": [GOOD] * 5}), path)
    elif ending == "csv":
        cell = json.dumps(GOOD).replace('"', '""')
        path.write_text("id,messages\n" + f'1,"{cell}"\n' * 5)
    else:
        rows = [{"messages": GOOD}] * 5
        path.write_text(json.dumps(rows) if ending == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    task = load_task(settings(path, missing="drop"), "nowhere", 0)
    assert [list(task.train.turns or []), len(task.validation[0])] == [[GOOD] * 4, 1]
    words, note = as_conversations(["task=custom", f"task.path={path}"])
    assert (words[0] == "task=chat") == bool(note) == (ending != "csv")  # a CSV's cell might be anything


def test_a_file_of_conversations_is_recognised_unless_something_else_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "chats.jsonl", GOOD)
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"messages": []}\n' * 500)[:60])
    assert as_conversations(["task=custom", f"task.path={broken}"])[1] is None  # whoever reads it says what is wrong
    words, note = as_conversations(["-m", "task=custom", f"task.path={path}", "seed=0,1"])
    assert words == ["-m", "task=chat", f"task.path={path}", "seed=0,1"]
    assert note
    assert "column 'messages'" in note
    for other in ("task.text=id", "task.label=id"):
        assert as_conversations(["task=custom", f"task.path={path}", other])[1] is None
    assert as_conversations(["task=custom", "task.path=x", "task.messages=chat"])[0][0] == "task=chat"
    for untouched in (["task=rte"], ["task=custom", f"task.path={tmp_path / 'none.jsonl'}"], ["task=custom"]):
        assert as_conversations(untouched) == (untouched, None)
    (tmp_path / "other.jsonl").write_text('{"text": "a"}\n')
    assert as_conversations(["task=custom", f"task.path={tmp_path / 'other.jsonl'}"])[1] is None


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["task=chat"], "needs a file of conversations"),
        (["task=chat", "task.path=x.jsonl", "task.text=other"], "task.text=other does nothing beside task.messages"),
        (["task=chat", "task.path=x.jsonl", "task.answer=other"], "task.answer=other does not go with task.messages"),
        (["task=chat", "task.path=x.jsonl", "method=sdft"], "method=sdft draws one answer to each prompt"),
        (
            ["task=chat", "task.path=x.jsonl", "method=dynsdpb", "method.outputs=sampled"],
            "outputs=sampled draws one answer",
        ),
        (["task=gsm8k", "task.turns=last"], "task.turns=last is of conversations"),
        (["task=rte", "task.messages=chats"], "task.messages=chats: a task of classification does not use it"),
    ],
)
def test_settings_that_do_not_go_together(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(composed(*overrides))


def test_keys_count_what_is_learned_and_keep_those_of_before() -> None:
    assert set(AS_BEFORE) >= {"messages", "turns", "no_answer"}
    chat = ["task=chat", "task.path=x.jsonl"]
    assert len({run_key(composed(*chat, *more)) for more in ([], ["task.turns=last"], ["task.chat_template=off"])}) == 3
    assert not {"messages", "turns", "no_answer"} & set(scientific_settings(composed("task=gsm8k"))["task"])


def test_new_rows_are_asked_for_the_next_answer(tmp_path: Path) -> None:
    plain: Any = OmegaConf.to_container(settings(write(tmp_path / "chats.jsonl", GOOD)), resolve=True)
    task = OmegaConf.create(plain)  # as a run's config.yaml gives it
    new = write(tmp_path / "new.jsonl", [BRIEF, ASKED], [ASKED, TOLD])
    raw = unlabelled_rows(task, "nowhere", new, tmp_path / "cache")[0]
    assert list(KINDS["generation"].unlabelled(without_labels(task), raw).turns or []) == [[BRIEF, ASKED], [ASKED]]
    raw = unlabelled_rows(task, "nowhere", write(tmp_path / "bad.jsonl", [BRIEF]), tmp_path / "cache")[0]
    with pytest.raises(UserError, match="row 0: no turn of a user asks for an answer at its end"):
        KINDS["generation"].unlabelled(without_labels(task), raw)


def test_conversations_are_kept_in_files_as_they_are(tmp_path: Path) -> None:
    from selfdistill_cli.tasks.prepared import read_split, write_split

    task = load(tmp_path, GOOD, [BRIEF, *GOOD], GOOD, GOOD, GOOD)
    write_split(tmp_path / "0.arrow", [task.train])
    again = read_split(tmp_path / "0.arrow", "train")
    assert list(again.turns or []) == list(task.train.turns or [])
    scored = load_validation_alone(task.settings, KINDS, "nowhere")
    assert list(scored.validation[0].turns or []) == list(task.validation[0].turns or [])
