"""What a run leaves in model/ is used as its card says: the snippet of each card is run, and gives what the run gave."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pyarrow import parquet
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from selfdistill_cli import experiment, models
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.keys import model_slug
from tests.helpers.runs import composed, only_run, results
from tests.helpers.small_models import SIZES, settings, task
from tests.helpers.task_files import write

pytestmark = pytest.mark.slow  # eight runs are trained first

TEXTS = [f"the {colour} door is number {n}" for n in range(6) for colour in ("red", "blue", "green")]
COLUMNS: dict[str, list[Any]] = {
    "text": TEXTS,
    "colour": [text.split()[1] for text in TEXTS],
    "number": [i / 7 for i in range(18)],
    "choices": [["red", "blue"]] * 18,
    "right": [0, 1] * 9,
}
QUICK = (
    "task=custom",
    "method=vanilla",
    "tracking=none",
    "runtime.device=cpu",
    "schedule.epochs=4",
    "schedule.lr=2e-3",
)
LORA = ("model.lora.rank=2", "model.lora.target_modules=all-linear")
GENERATION = ("task.kind=generation", "task.answer=colour", "task.decoding.max_new_tokens=25")
RUNS = {
    "classes": ("bert", ("task.text=text", "task.label=colour", *LORA)),
    "number": ("bert", ("task.text=text", "task.label=number", "task.kind=regression", *LORA)),
    "plain": ("bert", ("task.text=text", "task.label=colour")),
    "answers": ("llama", ("task.text='Q: {text}'", *GENERATION, *LORA)),
    "rounded": ("llama", ("task.text='Q: {text}'", *GENERATION, *LORA, "model.quantization=nf4")),
    "t5": ("t5", ("task.text='Q: {text}'", *GENERATION)),
    "chat": ("chat", ("task.text='Q: {text}'", *GENERATION)),
    "choices": ("llama", ("task.text=text", "task.kind=multiple_choice", "task.choices=choices", "task.label=right")),
}
NEED_A_PACKAGE = {"rounded": "bitsandbytes"}
TINY: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "llama": SIZES | {"num_key_value_heads": 2, "vocab_size": 300},
    "chat": SIZES | {"num_key_value_heads": 2, "vocab_size": 300},
    "t5": {"d_model": 32, "d_kv": 16, "num_layers": 2, "num_heads": 2, "d_ff": 64, "vocab_size": 300},
}
CHAT_TEMPLATE = (
    "{% for turn in messages %}[{{ turn['role'] }}] {{ turn['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs that start from folders as the Hub's."""
    place = tmp_path_factory.mktemp("saved")
    rows = write(place / "rows.parquet", COLUMNS)
    found = {}
    for name, (base, words) in RUNS.items():
        if importlib.util.find_spec(NEED_A_PACKAGE.get(name, "torch")) is None:
            continue
        if not (place / base).exists():
            start = composed(
                f"model=tiny_{'llama' if base == 'chat' else base}",
                *(f"model.config.{key}={value}" for key, value in TINY[base].items()),
            )
            data = task() if base == "bert" else _language_task()
            loaded = models.load_model(start.model, data, 0)
            whole = loaded.model.bert if base == "bert" else loaded.model
            whole.save_pretrained(place / base)
            loaded.tokenizer.chat_template = CHAT_TEMPLATE if base == "chat" else None
            loaded.tokenizer.save_pretrained(place / base)
        files = (f"task.path={rows}", f"task.validation_path={rows}", f"paths.outputs={place}/{name}")
        experiment.run(composed(*QUICK, *files, f"model.name={place / base}", *words))
        found[name] = only_run(place / name)
    return found


def _language_task() -> Any:
    from tests.helpers.task_files import load

    return load("task=synth_arithmetic", "task.generator.train_examples=20", "task.generator.validation_examples=5")


def card(run: Path) -> str:
    return (run / "model" / "README.md").read_text()


def called(run: Path, values: dict[str, str]) -> str:
    """What the snippet of the run's card prints, with a row's values in the places of its columns."""
    (code,) = re.findall(r"```python\n(.*?)```", card(run), flags=re.DOTALL)
    code = code.replace('folder = "."', f"folder = {str(run / 'model')!r}")
    for name, value in values.items():
        assert f"<{name}>" in code
        code = code.replace(f"<{name}>", value)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue().strip()


@pytest.mark.parametrize("name", ["classes", "plain"])
def test_the_card_of_a_classifier_gives_names_and_probabilities(name: str, runs: dict[str, Path]) -> None:
    said = parquet.read_table(runs[name] / "predictions.parquet").to_pylist()[4]
    found = {one["label"]: one["score"] for one in yaml.safe_load(called(runs[name], {"text": said["text"]}))}
    expected = torch.tensor(said["logits"]).softmax(-1).tolist()
    assert [found[label] for label in ("blue", "green", "red")] == pytest.approx(expected, abs=1e-4)


def test_the_card_of_a_regressor_gives_its_number(runs: dict[str, Path]) -> None:
    said = parquet.read_table(runs["number"] / "predictions.parquet").to_pylist()[4]
    found = yaml.safe_load(called(runs["number"], {"text": said["text"]}))
    assert found["score"] == pytest.approx(said["prediction"], abs=1e-4)


@pytest.mark.parametrize("name", ["answers", "rounded", "t5", "chat"])
def test_the_card_of_a_writer_gives_its_answer(name: str, runs: dict[str, Path]) -> None:
    pytest.importorskip(NEED_A_PACKAGE.get(name, "torch"))
    said = parquet.read_table(runs[name] / "predictions.parquet").to_pylist()[4]
    assert said["prompt"] == f"Q: {TEXTS[4]}"
    assert called(runs[name], {"text": TEXTS[4]}) == said["text"].strip()


def test_the_card_of_a_chooser_gives_the_likeliest(runs: dict[str, Path]) -> None:
    said = parquet.read_table(runs["choices"] / "predictions.parquet").to_pylist()[4]
    values = {"text": said["prompt"], "first of choices": "red", "second": "blue"}
    assert called(runs["choices"], values) == ["red", "blue"][said["prediction"]]


def test_an_adapter_stands_in_a_pipeline_with_its_names(runs: dict[str, Path]) -> None:
    folder = runs["classes"] / "model"
    config = AutoConfig.from_pretrained(folder / "model_config.json")
    assert list(config.id2label.values()) == ["blue", "green", "red"]
    model = AutoModelForSequenceClassification.from_pretrained(folder, config=config)  # without peft's own classes
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    said = parquet.read_table(runs["classes"] / "predictions.parquet").to_pylist()[0]
    assert classify(said["text"])[0]["label"] == said["prediction_name"]
    assert not (folder / "config.json").exists()  # transformers would look for the weights there


def test_a_loaded_model_writes_as_it_was_scored(runs: dict[str, Path]) -> None:
    folder = runs["t5"] / "model"
    assert json.loads((folder / "generation_config.json").read_text())["max_new_tokens"] == 25
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    said = parquet.read_table(runs["t5"] / "predictions.parquet").to_pylist()
    written = [
        tokenizer.decode(
            model.generate(**tokenizer(row["prompt"], return_tensors="pt", return_token_type_ids=False))[0],
            skip_special_tokens=True,
        )
        for row in said[:3]
    ]
    assert written == [row["text"] for row in said[:3]]
    assert "pipeline_tag: text2text-generation" in card(runs["t5"])


def test_every_file_of_a_model_has_the_same_permissions(runs: dict[str, Path]) -> None:
    for name in ("plain", "classes"):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (runs[name] / "model").iterdir()}
        assert len(set(modes.values())) == 1, modes


# --- the card's head and tables -------------------------------------------------------------------


def test_the_card_says_what_is_known_and_no_more(runs: dict[str, Path]) -> None:
    text, found = card(runs["classes"]), results(runs["classes"])
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "peft"
    assert "lora" in head["tags"]
    assert "license" not in head
    assert "base_model" not in head  # a folder is no place that the Hub knows
    (entry,) = head["model-index"]
    scores = {metric["name"]: metric["value"] for one in entry["results"] for metric in one["metrics"]}
    assert scores["accuracy"] == pytest.approx(found["score"], abs=1e-6)
    assert entry["results"][0]["dataset"]["split"] == "validation"
    assert f"| accuracy | validation | {found['score']:.4f} |" in text
    assert "Starts from the weights of bert. Data: rows.parquet, rows.parquet; 18 training examples." in text
    assert str(runs["classes"].parents[4]) not in text  # a card is read by others
    assert "rank: 2" in text
    assert "warmup_ratio: 0.0" not in text  # a setting that did nothing
    assert "lora" not in card(runs["plain"])


def test_what_the_base_models_card_says_is_taken_over(runs: dict[str, Path], tmp_path: Path) -> None:
    base = Path(yaml.safe_load((runs["plain"] / "config.yaml").read_text())["model"]["name"])
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: de\nbase_model: someone/base\n---\n# x\n")
    rows = write(tmp_path / "rows.csv", COLUMNS)
    words = (f"task.path={rows}", f"model.name={base}", "task.text=text", "task.label=colour", "schedule.max_steps=1")
    experiment.run(composed(*QUICK, *words, "task.folds=3", "task.fold=1", f"paths.outputs={tmp_path}/outputs"))
    text = card(only_run(tmp_path / "outputs"))
    assert "Data: rows.csv (fold 1 of 3, counted from 0, held out for validation); 12 training examples" in text
    head = yaml.safe_load(text.split("---")[1])
    assert (head["license"], head["language"], head["base_model"]) == ("mit", "de", "someone/base")


def test_tables_carry_texts_and_names(runs: dict[str, Path]) -> None:
    rows = parquet.read_table(runs["plain"] / "predictions.parquet").to_pylist()
    assert [(row["text"], row["label_name"]) for row in rows] == list(zip(TEXTS, COLUMNS["colour"], strict=True))
    assert {row["prediction_name"] for row in rows} <= {"red", "blue", "green"}


# --- runs as starting points ----------------------------------------------------------------------


def test_a_run_is_a_model_by_its_own_name(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["plain"]
    key = results(run)["key"]
    assert model_slug(str(run)) == model_slug(f"{run}/model") == f"bert-vanilla-{key}"
    rows = write(tmp_path / "rows.parquet", COLUMNS)
    words = (f"task.path={rows}", "task.text=text", "task.label=colour", "schedule.max_steps=1")
    keys = set()
    for name in (run, f"{run}/model", runs["classes"]):
        cfg = composed(*QUICK, *words, f"model.name={name}", f"paths.outputs={tmp_path}/outputs")
        keys.add(experiment.run(cfg)["key"])
    assert len(keys) == 2
    found = sorted(path.name for path in (tmp_path / "outputs" / "custom").iterdir())
    assert found == sorted([f"bert-vanilla-{key}", f"bert-vanilla-{results(runs['classes'])['key']}"])


def test_an_adapters_run_goes_on_with_its_update(runs: dict[str, Path]) -> None:
    """The model that a run starts from an adapter with gives the adapter's own logits."""
    names = ["blue", "green", "red"]
    said = parquet.read_table(runs["classes"] / "predictions.parquet").to_pylist()[0]
    from dataclasses import replace

    loaded = models.load_model(settings(str(runs["classes"])), replace(task(), label_names=names), 0)
    inputs = loaded.tokenizer(said["text"], return_tensors="pt")
    assert loaded.model.eval()(**inputs).logits[0].tolist() == pytest.approx(said["logits"], abs=1e-4)
    assert type(loaded.model) is type(AutoModelForSequenceClassification.from_config(loaded.model.config))


def test_an_unfinished_run_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match="this run has no model: it has not finished"):
        models.load_model(settings(str(tmp_path)), task(), 0)
