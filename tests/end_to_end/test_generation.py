"""Language models through the real command line: every method on a decoder and on an encoder–decoder."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import peft
import pytest
import torch
from pyarrow import parquet
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tests.helpers.every_method import SELF_CONTAINED, forwards_twice, given_teacher, run_of
from tests.helpers.processes import Finished, Sdrun, run_command, user_environment
from tests.helpers.runs import assert_one_clear_message, assert_same, only_run, results, rows

SMALL = (
    "task=synth_arithmetic",
    "tracking=none",
    "task.generator.train_examples=40",
    "task.generator.validation_examples=10",
    "task.decoding.max_new_tokens=6",
    "schedule.batch_size=8",
    "schedule.epochs=2",
)
TINY = {
    "tiny_llama": ("model.config.hidden_size=32", "model.config.intermediate_size=64"),
    "tiny_t5": ("model.config.d_model=32", "model.config.d_ff=64"),
}
LLAMA = ("model=tiny_llama", *TINY["tiny_llama"], *SMALL)


def words_of(methods: Sequence[str], model: str) -> list[str]:
    return [f"method={','.join(methods)}", f"model={model}", "model.dropout=0.1", *TINY[model], *SMALL]


Swept = Callable[[str], tuple[Path, Finished]]
MODELS = ["tiny_llama", pytest.param("tiny_t5", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """All methods on one of the models, once: their outputs, and what the command said."""

    @cache
    def of(model: str) -> tuple[Path, Finished]:
        folder = tmp_path_factory.mktemp(model)
        ended = run_command(folder, user_environment(folder), "-m", *words_of(SELF_CONTAINED, model))
        return folder / "outputs", ended

    return of


@pytest.mark.parametrize("model", MODELS)
def test_every_method_finishes(model: str, swept: Swept) -> None:
    outputs, ended = swept(model)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert f"{len(SELF_CONTAINED)} jobs" in ended.out
    for method in SELF_CONTAINED:
        run = run_of(outputs, *words_of([method], model))
        found = results(run)
        assert found["metric"] == "exact_match"
        assert found["examples_forwarded"] % 80 == (152 % 80 if forwards_twice(method) else 0)
        losses = [row["loss"] for row in rows(run, "train")]
        assert losses[-1] < losses[0]
        if method == "dynsdpb":
            assert 0 < rows(run, "train")[-1]["uncertainty/mean"] <= 1


@pytest.mark.parametrize("model", MODELS)
def test_what_was_written_is_in_the_predictions(model: str, swept: Swept) -> None:
    run = only_run(swept(model)[0], "dynsdpb")
    table = parquet.read_table(run / "predictions.parquet").to_pydict()
    assert table["index"] == list(range(10))
    assert set(table) == {"split", "index", "prompt", "text", "answer", "references", "correct"}
    assert all(len(accepted) == 1 and accepted[0].isdigit() for accepted in table["references"])
    (chosen,) = (row for row in rows(run, "eval") if row["epoch"] == results(run)["best_epoch"])
    assert chosen["eval/writing/repeated"] == pytest.approx(1 - len(set(table["text"])) / 10)
    assert chosen["eval/writing/empty"] == sum(not text.strip() for text in table["text"]) / 10
    assert chosen["eval/writing/entropy"] > 0
    # What the saved model writes by itself is what was scored.
    kind = AutoModelForCausalLM if model == "tiny_llama" else AutoModelForSeq2SeqLM
    saved, tokenizer = kind.from_pretrained(run / "model"), AutoTokenizer.from_pretrained(run / "model")
    question = "Question: " + problem(0) + "\nAnswer:"
    inputs = tokenizer(question, return_tensors="pt", return_token_type_ids=False)
    written = saved.generate(**inputs, max_new_tokens=6, do_sample=False)
    new = written[0, inputs["input_ids"].shape[1] :] if model == "tiny_llama" else written[0]
    assert tokenizer.decode(new, skip_special_tokens=True) == table["text"][0]


def problem(number: int) -> str:
    from selfdistill_cli.tasks.synthetic import synth_arithmetic

    question: str = synth_arithmetic(10, seed=1)["question"][number]  # the validation stream
    return question


@pytest.mark.parametrize("model", MODELS)
def test_a_finished_run_corrects_what_the_student_writes(model: str, swept: Swept, tmp_path: Path) -> None:
    outputs, _ = swept(model)
    words = [*words_of(["gkd"], model), *given_teacher("gkd", run_of(outputs, *words_of(["vanilla"], model)))]
    more = ["model.lora.rank=4", "runtime.precision=bf16", "method.lambda_=1", "method.temperature=0.5"]
    ended = run_command(tmp_path, user_environment(tmp_path), *words, *more)
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    parts = results(run)["compute"]
    assert (parts["training"]["forward"], parts["training"]["backward"]) == (
        160,
        80,
    )  # the teacher's forward passes too
    assert (parts["drawing"]["forward"], parts["drawing"]["backward"]) == (80, 0)
    assert 80 <= parts["drawing"]["generated_tokens"] < parts["drawing"]["tokens"]  # without the prompts
    assert parts["teacher"]["forward"] == 80  # what its own run took
    assert parts["total"]["forward"] == 320
    assert all(1 <= row["drawn_tokens/min"] <= row["drawn_tokens/max"] <= 6 for row in rows(run, "train"))


def test_reweighting_sees_the_answers(swept: Swept) -> None:
    run = only_run(swept("tiny_llama")[0], "dcs")
    described = [row for row in rows(run, "train") if "discordant/fraction" in row]
    assert len(described) == 2
    assert described[-1]["weights/effective_sample_size"] <= 40


@pytest.mark.parametrize(
    "extra", ["method.match=token", "method.overlap=half", "method.overlap=none", "method.outputs=sampled"]
)
def test_the_arms_of_the_vmm_ablation(extra: str, sdrun: Sdrun, tmp_path: Path) -> None:
    assert sdrun("method=dynsdpb", *LLAMA, extra).code == 0
    run = only_run(tmp_path / "outputs")
    assert results(run)["examples_forwarded"] == {"method.overlap=none": 80, "method.overlap=half": 156}.get(extra, 152)
    assert ("drawing" in results(run)["compute"]) == ("sampled" in extra)
    assert any(row["loss/kd"] > 0 for row in rows(run, "train"))


def test_lora_trains_little_and_leaves_a_model_that_is_whole(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("method=dynsdpb", *LLAMA, "model.lora.rank=4")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    found = results(run)
    assert found["trained_parameters"] == 3 * 2 * 2 * 4 * 32  # layers × (q, v) × (A, B) × rank × hidden
    assert found["trained_parameters"] < found["parameters"] / 10
    assert not (run / "model" / "adapter_config.json").exists()  # a random base could not be found again
    AutoModelForCausalLM.from_pretrained(run / "model")


@pytest.mark.slow
def test_a_pretrained_folder_with_lora_teaches_by_its_adapter(sdrun: Sdrun, tmp_path: Path) -> None:
    assert sdrun("method=vanilla", *LLAMA).code == 0
    base = only_run(tmp_path / "outputs") / "model"
    words = [f"model.name={base}"]
    assert sdrun("method=vanilla", "model=smollm2_135m", *words, *SMALL, "model.lora.rank=2").code == 0
    (adapter,) = tmp_path.rglob("adapter_config.json")
    peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter.parent)
    student = sdrun("method=kd", f"method.teacher.path={adapter.parent.parent}", "model=gpt2", *words, *SMALL)
    assert student.code == 0, student.err


def test_multiple_choice_is_decided_by_likelihood(sdrun: Sdrun, tmp_path: Path) -> None:
    lines = [
        json.dumps({"ctx": f"{a} plus {b} is", "endings": [str(a + b), f"{a + b + 1} or so", "nothing"], "label": "0"})
        for a in range(6)
        for b in range(6)
    ]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines))
    words = (
        "task=custom",
        "task.kind=multiple_choice",
        "task.path=sums.jsonl",
        "task.text=ctx",
        "task.choices=endings",
    )
    ended = sdrun(
        *words, "model=tiny_llama", *TINY["tiny_llama"], "tracking=none", "schedule.epochs=6", "schedule.batch_size=4"
    )
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    assert results(run)["metric"] == "accuracy"
    assert results(run)["score"] > 0.5  # "or so" and "nothing" never are the answer
    table = parquet.read_table(run / "predictions.parquet").to_pydict()
    for likelihoods, prediction in zip(table["logits"], table["prediction"], strict=True):
        assert prediction == max(range(3), key=likelihoods.__getitem__)
    # The same by hand: the mean log-likelihood of the choice's tokens and its end.
    model = AutoModelForCausalLM.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    row = json.loads(lines[table["index"][0]])
    for ending, found in zip(row["endings"], table["logits"][0], strict=True):
        prompt, answer = (tokenizer(text)["input_ids"] for text in (row["ctx"], f" {ending}"))
        answer = [*answer, tokenizer.eos_token_id]
        with torch.no_grad():
            log_p = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        expected = sum(float(log_p[place, token]) for place, token in zip(places, answer, strict=True)) / len(answer)
        assert found == pytest.approx(expected, abs=1e-4)


def test_a_file_of_questions_and_answers(sdrun: Sdrun, tmp_path: Path) -> None:
    lines = ["q,a", *(f"what is {i} and one,{i + 1}" for i in range(40))]
    (tmp_path / "qa.csv").write_text("\n".join(lines))
    words = ("task=custom", "task.kind=generation", "task.path=qa.csv", "task.text=q", "task.answer=a")
    ended = sdrun(
        *words,
        "model=tiny_llama",
        *TINY["tiny_llama"],
        "tracking=none",
        "schedule.epochs=1",
        "task.decoding.max_new_tokens=3",
    )
    assert ended.code == 0, ended.err
    assert results(only_run(tmp_path / "outputs"))["metric"] == "exact_match"


def test_a_decoder_classifies(sdrun: Sdrun, tmp_path: Path) -> None:
    words = ("task=synth_entailment", "task.generator.train_examples=40", "task.generator.validation_examples=20")
    assert sdrun("model=tiny_llama", *TINY["tiny_llama"], *words, "tracking=none", "schedule.epochs=1").code == 0
    assert results(only_run(tmp_path / "outputs"))["metric"] == "accuracy"


MISTAKES = {
    "an encoder": (["model=tiny_bert", *SMALL], ["needs a model that writes", "model=tiny_llama"]),
    "a long prompt": ([*LLAMA, "task.max_length=36"], ["prompts leave no room", "task.long_prompts=cut"]),
    "cut answers": ([*LLAMA, "task.max_length=50"], ["answers do not fit", "task.max_length"]),
    "a long answer wanted": (
        [*LLAMA, "task.decoding.max_new_tokens=500"],
        ["do not fit into this model's context of 512"],
    ),
    "more than the context": ([*LLAMA, "task.max_length=513"], ["takes at most 512 tokens"]),
    "token by token without pairs": (
        [*LLAMA, "method=static_sd", "method.match=token", "method.overlap=none"],
        ["different lengths", "method.match=vmm"],
    ),
    "drawn answers token by token": (
        [*LLAMA, "method=static_sd", "method.match=token", "method.outputs=sampled"],
        ["different lengths", "method.match=vmm"],
    ),
    "no teacher": ([*LLAMA, "method=gkd"], ["method.teacher.path is required"]),
    "a probability above one": (
        [*LLAMA, "method=gkd", "method.teacher.path=x", "method.lambda_=1.5"],
        ["method.lambda_=1.5: must be at most 1"],
    ),
    "no temperature": ([*LLAMA, "method=sdft", "method.temperature=0"], ["method.temperature=0.0", "greater than 0"]),
    "a demonstration of what is not there": (
        [*LLAMA, "method=sdft", "method.demonstration='{question} {answer}'"],
        ["there is no {question}", "{prompt}"],
    ),
    "a demonstration without the question": (
        [*LLAMA, "method=sdft", "method.demonstration='{answer}'"],
        ["lacks {prompt}"],
    ),
    "a demonstration without the answer": (
        [*LLAMA, "method=sdft", "method.demonstration='{prompt}'"],
        ["lacks {answer}"],
    ),
    "a demonstration of numbers": (
        [*LLAMA, "method=sdft", "method.demonstration='{prompt:d} {answer}'"],
        ["cannot be read", "format code"],
    ),
    "a demonstration in parts": (
        [*LLAMA, "method=sdft", "runtime.shard=full"],
        ["method=sdft does not go with runtime.shard=full"],
    ),
    "an unfinished demonstration": ([*LLAMA, "method=sdft", "method.demonstration='{prompt'"], ["cannot be read"]),
    "a demonstration that is too long": (
        [*LLAMA, "method=sdft", f"method.demonstration='{'x ' * 500}{{prompt}} {{answer}}'"],
        ["method.demonstration", "do not fit into this model's context of 512"],
    ),
    "a layer that is not there": (
        [*LLAMA, "model.lora.rank=2", "model.lora.target_modules=[q_prj]"],
        ["no layer 'q_prj'", "Did you mean 'q_proj'?"],
    ),
    "an output layer that cannot be merged": (
        [*LLAMA, "model.lora.rank=2", "model.lora.target_modules=[lm_head]"],
        ["cannot be merged"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_clear_message(mistake: str, sdrun: Sdrun, tmp_path: Path) -> None:
    arguments, words = MISTAKES[mistake]
    assert_one_clear_message(sdrun(*arguments), words)
    assert not list(tmp_path.rglob("results.json"))


@pytest.mark.slow
def test_a_teacher_of_another_vocabulary_is_refused(sdrun: Sdrun, tmp_path: Path) -> None:
    other = [word for word in LLAMA if "train_examples" not in word]
    assert sdrun("method=vanilla", *other, "task.generator.train_examples=30", "model.config.vocab_size=300").code == 0
    teacher = only_run(tmp_path / "outputs")
    ended = sdrun("method=kd", f"method.teacher.path={teacher}", *LLAMA)
    assert_one_clear_message(ended, ["another vocabulary (300 entries) than the student", "same tokenizer"])


@pytest.mark.slow
def test_a_killed_run_with_lora_goes_on_as_the_undisturbed_one(tmp_path: Path) -> None:
    words = ("method=dynsdpb", *LLAMA, "model.lora.rank=4", "runtime.checkpoint_every=3 steps")
    runs = []
    for name, faults in (("undisturbed", [{}]), ("killed", [{"SDRUN_FAULT_AT": "40"}, {}])):
        folder = tmp_path / name
        folder.mkdir()
        ends = [run_command(folder, user_environment(folder) | fault, *words).code for fault in faults]
        assert ends == [-signal.SIGKILL, 0][-len(ends) :]
        runs.append(only_run(folder / "outputs"))
    assert_same(*runs)
