"""Conversations of a user's file, from the file to new answers, on a model without a chat format of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import parquet
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfdistill_cli import experiment
from selfdistill_cli.encoding.conversations import PLAIN
from selfdistill_cli.evaluate import evaluate
from selfdistill_cli.evaluation import answers as evaluation
from selfdistill_cli.evaluation.decoding import write_answers
from selfdistill_cli.predict import predict
from tests.helpers.runs import composed, only_run, results

CHATS = [
    [
        {"role": "user", "content": f"What is {n} + 1?"},
        {"role": "assistant", "content": f"{n + 1}, and that is all."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": f"Yes, {n + 1}."},
    ]
    for n in range(8)
]


def write(path: Path, chats: list[Any]) -> Path:
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of token matching with the batch before, so that every answer of a conversation is matched."""
    folder = tmp_path_factory.mktemp("chats")
    experiment.run(
        composed(
            *("task=chat", "model=tiny_llama", "method=dynsdpb", "method.match=token", "tracking=none"),
            *("schedule.batch_size=4", "schedule.epochs=1", "task.metrics=[rougeL]", "task.decoding.max_new_tokens=5"),
            *(f"task.path={write(folder / 'train.jsonl', CHATS)}", f"paths.outputs={folder}/outputs"),
            *(f"task.validation_path={write(folder / 'dev.jsonl', CHATS[:3])}", "runtime.precision=fp32"),
        )
    )
    return only_run(folder / "outputs")


def test_every_run_of_a_process_gets_the_format_although_tokens_are_made_once(tmp_path: Path) -> None:
    words = ("task=chat", "model=tiny_llama", "method=vanilla", "tracking=none", "task.metrics=[rougeL]")
    chats = f"task.path={write(tmp_path / 'train.jsonl', CHATS)}"
    for seed in (0, 1):
        experiment.run(
            composed(
                *words, chats, f"seed={seed}", "schedule.max_steps=1", "task.decoding.max_new_tokens=2",
                f"paths.outputs={tmp_path}/outputs",
            )
        )  # fmt: skip
    folders = list(tmp_path.glob("outputs/*/*/*/*/model"))
    assert [AutoTokenizer.from_pretrained(folder).chat_template for folder in folders] == [PLAIN] * 2


def test_the_loss_is_that_of_all_answers_in_the_models_own_rendering(run: Path) -> None:
    model, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert tokenizer.chat_template == PLAIN
    losses = []
    for chat in CHATS[:3]:
        ids = tokenizer.apply_chat_template(chat, return_dict=False)
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        learned, inside = [], False
        for place, token in enumerate(ids):  # an answer goes from behind the second "Assistant:" to its end of sequence
            if inside:
                learned.append(-log_p[place - 1, token])
            if tokenizer.decode(ids[: place + 1]).endswith("Assistant:"):
                inside = True
            inside = inside and token != tokenizer.eos_token_id
        losses.append(torch.stack(learned).mean())
    found = results(run)
    assert found["metrics"]["final"]["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


def test_what_was_written_is_shown_counted_and_timed(run: Path) -> None:
    found, table = results(run), parquet.read_table(run / "predictions.parquet").to_pydict()
    assert found["metric"] == "rougeL"
    assert table["prompt"][0].endswith("User: Sure?\nAssistant:")
    assert table["references"][0] == ["Yes, 1."]
    writing = found["writing"]
    assert writing["answers"] == 6  # one evaluation, and the predictions of the chosen weights
    assert 6 <= writing["tokens"] <= 30
    assert writing["tokens_per_s"] == pytest.approx(writing["tokens"] / writing["seconds"], rel=0.01)
    assert found["peak_memory_mb"] > 0


def test_new_conversations_are_answered(run: Path, tmp_path: Path) -> None:
    new = write(tmp_path / "new.jsonl", [CHATS[0][:1], CHATS[1]])
    predict([str(run), str(new), "--out", str(tmp_path / "out.jsonl")])
    told = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"].count("Assistant:") for row in told] == [1, 2]
    assert all(isinstance(row["written"], str) for row in told)


def test_a_file_is_scored_with_each_answer_written_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds: list[int] = []

    def counting(model: Any, tokenizer: Any, examples: Any, *others: Any) -> Any:
        rounds.append(len(examples))
        return write_answers(model, tokenizer, examples, *others)

    monkeypatch.setattr(evaluation, "write_answers", counting)
    evaluate([str(run), "--file", str(write(tmp_path / "june.jsonl", CHATS[:2]))])
    assert rounds == [2]  # for the scores, and not again for the predictions
    told = capsys.readouterr().out
    assert re.search(r"file-june: rougeL 0\.\d{4} \(2 examples; \d+ tokens written in .* s, .* a second\)", told)
    record = json.loads((run / "evaluations" / "file-june.json").read_text())
    assert (record["writing"]["answers"], record["examples"]) == (2, 2)
    assert 0 <= record["writing_quality"]["writing/distinct_1"] <= 1
