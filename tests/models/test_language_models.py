"""Decoders and encoder–decoders: folders laid out as the Hub's, padding, tokenizers, LoRA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from selfdistill_cli import models
from selfdistill_cli.encoding.labelled import encode
from selfdistill_cli.engine.checkpoint import load_trained_weights, trained_weights
from selfdistill_cli.errors import UserError
from selfdistill_cli.models import embedded
from selfdistill_cli.models.lora import save_with_lora
from selfdistill_cli.tasks import Split, TaskData
from tests.helpers.every_method import refusal
from tests.helpers.processes import REPOSITORY
from tests.helpers.runs import composed
from tests.helpers.small_models import SIZES, settings, split_of, task, task_data


def language_task() -> TaskData:
    texts = [f"Question: how many cats are {i} cats and 12 dogs?" for i in range(20)]
    answers = [f" {i} + 12 = {i + 12}\n#### {i}" for i in range(20)]
    split = Split("train", "train", texts, None, np.zeros(20, np.int64), np.arange(20), answers=answers)
    return task_data("generation", [], split, "exact_match")


LLAMA: dict[str, Any] = SIZES | {"vocab_size": 300, "max_position_embeddings": 64, "tie_word_embeddings": True}
T5: dict[str, Any] = {"vocab_size": 300, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
GPT2: dict[str, Any] = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}


def hub_language_model(folder: Path, kind: str, sizes: dict[str, Any], padding: bool = True) -> Path:
    """A folder as on the Hub: weights, configuration, and a tokenizer that may have no padding token, as LLaMA's."""
    name = "tiny_t5" if kind == "t5" else "tiny_llama"
    tokenizer = embedded.trained_tokenizer(name, language_task(), 300)
    special = {"pad_token_id": 0 if padding else None, "eos_token_id": 1, "bos_token_id": None}
    if kind == "t5":
        special["decoder_start_token_id"] = 0
    config = transformers.AutoConfig.for_model(kind, **(sizes | special))
    auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    torch.manual_seed(5)
    auto.from_config(config).save_pretrained(folder)
    if not padding:
        tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "sizes"), [("llama", LLAMA), ("gpt2", GPT2), ("t5", T5)])
def test_a_language_model_as_on_the_hub_keeps_all_its_weights(kind: str, sizes: dict[str, Any], tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "someone" / kind, kind, sizes)
    first, other = (models.load_model(settings(str(folder)), language_task(), seed) for seed in (0, 1))
    auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    reference = auto.from_pretrained(folder)
    for loaded in (first, other):
        for name, tensor in reference.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert first.fingerprint == other.fingerprint
    assert first.model.dtype == torch.float32
    half = models.load_model(settings(str(folder), dtype="bfloat16"), language_task(), 0)
    assert half.model.dtype == torch.bfloat16


def test_a_decoder_without_padding_fills_rows_with_its_end_of_sequence(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA, padding=False)
    loaded = models.load_model(settings(str(folder)), language_task(), 0)
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id == loaded.model.config.pad_token_id == 1


def test_a_folder_without_padding_is_a_teacher_as_it_is_a_student(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA, padding=False)
    finished, student = (
        models.load_finished(folder, language_task()),
        models.load_model(settings(str(folder)), language_task(), 0),
    )
    for loaded in (finished, student):
        assert loaded.tokenizer.pad_token_id == loaded.model.config.pad_token_id == 1
    assert finished.fingerprints == student.fingerprints


def test_an_adapter_s_base_without_padding_classifies_a_batch_as_one_by_one(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA, padding=False)
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["q_proj"], "merge": False}
    cfg = settings(str(folder), lora=lora)
    loaded = models.load_model(cfg, task(), 0)
    save_with_lora(loaded.model, cfg, tmp_path / "adapter")
    loaded.tokenizer.save_pretrained(tmp_path / "adapter")
    again = models.load_finished(tmp_path / "adapter", task()).model.eval()
    short, long = torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9, 10, 11]])
    both = torch.tensor([[5, 6, 7, loaded.tokenizer.pad_token_id], [8, 9, 10, 11]])
    found = again(both, attention_mask=torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])).logits
    assert torch.allclose(found, torch.cat([again(short).logits, again(long).logits]), atol=1e-5)


@pytest.mark.skipif(not hasattr(transformers, "Qwen3_5Config"), reason="this version of transformers has no such model")
def test_of_a_model_of_texts_and_pictures_the_part_for_texts_is_trained_and_comes_back(tmp_path: Path) -> None:
    texts: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    texts |= {"head_dim": 16, "intermediate_size": 64, "vocab_size": 300, "layer_types": ["full_attention"] * 2}
    pictures = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 32}
    config = transformers.Qwen3_5Config(text_config=texts, vision_config=pictures)
    folder = tmp_path / "qwen"
    transformers.Qwen3_5ForConditionalGeneration(config).save_pretrained(folder)
    embedded.trained_tokenizer("tiny_llama", language_task(), 300).save_pretrained(folder)
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["q_proj"], "merge": False}
    cfg = settings(str(folder), lora=lora)
    loaded = models.load_model(cfg, language_task(), 0)
    save_with_lora(loaded.model, cfg, tmp_path / "adapter")
    loaded.tokenizer.save_pretrained(tmp_path / "adapter")
    again = models.load_finished(tmp_path / "adapter", language_task()).model
    ids = torch.tensor([[5, 6, 7]])
    assert again.config.hidden_size == 32
    assert torch.allclose(again.eval()(ids).logits, loaded.model.eval()(ids).logits, atol=1e-6)
    classifier = models.load_model(settings(str(folder)), task(), 0).model
    assert classifier(torch.tensor([[5, 6, 7], [8, 9, 0]])).logits.shape == (2, len(task().label_names))


def test_a_tokenizer_with_neither_padding_nor_end_is_refused(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA, padding=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="neither a padding token nor an end of sequence"):
        models.load_model(settings(str(folder)), language_task(), 0)


@pytest.mark.parametrize("padding", [True, False], ids=["padded", "by_end_of_sequence"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("kind", "sizes"), [("llama", LLAMA), ("gpt2", GPT2)])
def test_a_decoder_classifies_at_its_last_real_token(
    kind: str, sizes: dict[str, Any], side: str, padding: bool, tmp_path: Path
) -> None:
    folder = hub_language_model(tmp_path / kind, kind, sizes, padding)
    loaded = models.load_model(settings(str(folder), dropout=0.0), task(), 0)
    loaded.tokenizer.padding_side = side
    texts = ["cats", "cats and dogs and many more of them"]
    examples = encode(loaded.tokenizer, split_of(texts), max_length=32)
    loaded.model.eval()
    with torch.no_grad():
        together = examples.forward(loaded.model, examples.collate(np.array([0, 1])), torch.device("cpu"))
        alone = [
            examples.forward(loaded.model, examples.collate(np.array([row])), torch.device("cpu")) for row in (0, 1)
        ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_a_pair_of_texts_is_kept_apart_where_the_tokenizer_does_not(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = None
    together = encode(tokenizer, split_of(["cats"], ["dogs"]), max_length=32)
    assert tokenizer.decode(together.tokens) == "cats\ndogs"


def test_digits_are_tokens_of_their_own() -> None:
    for name in ("tiny_llama", "tiny_t5"):
        tokenizer = embedded.trained_tokenizer(name, language_task(), 400)
        text = "how many cats are 1234 cats?\n#### 70"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        pieces = tokenizer.convert_ids_to_tokens(ids)
        assert [piece for piece in pieces if any(c.isdigit() for c in piece)] == list("123470")


@pytest.mark.slow
@pytest.mark.end_to_end
def test_byte_pairs_are_the_same_in_every_process(tmp_path: Path) -> None:
    script = (
        "from tests.models.test_language_models import embedded, language_task; import json; "
        "print(json.dumps(embedded.trained_tokenizer('tiny_llama', language_task(), 400).get_vocab(), sort_keys=True))"
    )
    vocabularies = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    }
    assert len(vocabularies) == 1


def test_lora_starts_as_the_model_and_trains_little(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["q_proj"], "merge": False}
    plain = models.load_model(settings(str(folder)), language_task(), 0).model
    adapted = models.load_model(settings(str(folder), lora=lora), language_task(), 0).model
    tokens = torch.arange(3, 12)[None]
    assert torch.equal(adapted(tokens).logits, plain(tokens).logits)
    assert {n.split(".")[-3] for n, p in adapted.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    assert set(trained_weights(adapted)) == {n for n, p in adapted.named_parameters() if p.requires_grad}


def test_merged_lora_gives_the_outputs_of_the_adapter(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    tokens, saved = torch.arange(3, 12)[None], {}
    for merge in (True, False):
        cfg = settings(str(folder), lora=lora | {"merge": merge})
        adapted = models.load_model(cfg, language_task(), 0).model
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
        saved[merge] = adapted(tokens).logits.detach()
        save_with_lora(adapted, cfg, tmp_path / f"merged {merge}")
    assert not (tmp_path / "merged True" / "adapter_config.json").exists()
    assert (tmp_path / "merged False" / "adapter_config.json").is_file()
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "merged True")
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "merged False")
    for merge in (True, False):
        model = models.load_finished(tmp_path / f"merged {merge}", language_task()).model
        assert torch.allclose(model(tokens).logits, saved[merge], atol=1e-5)


def test_an_update_of_tied_weights_that_would_be_merged_is_refused(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA | {"tie_word_embeddings": True})
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["q_proj", "embed_tokens"]}
    with pytest.raises(UserError, match="share their weights"):
        models.load_model(settings(str(folder), lora=lora | {"merge": True}), language_task(), 0)
    cfg = settings(str(folder), lora=lora | {"merge": False})
    adapted = models.load_model(cfg, language_task(), 0)
    save_with_lora(adapted.model, cfg, tmp_path / "adapter")
    adapted.tokenizer.save_pretrained(tmp_path / "adapter")
    models.load_finished(tmp_path / "adapter", language_task())  # as it is
    with pytest.raises(UserError, match="its adapter updates the layer"):
        models.load_model(settings(str(tmp_path / "adapter")), language_task(), 0)


def test_a_format_that_one_run_gives_a_tokenizer_is_not_the_next_ones(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    first, second = (models.load_model(settings(str(folder)), language_task(), 0) for _ in range(2))
    first.tokenizer.chat_template = "changed"
    third = models.load_model(settings(str(folder)), language_task(), 0)
    assert second.tokenizer.chat_template is third.tokenizer.chat_template is None


def test_trained_weights_hold_tied_ones_once_and_come_back(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    model = models.load_model(settings(str(folder)), language_task(), 0).model
    kept = {name: tensor.clone() for name, tensor in trained_weights(model).items()}
    assert len(kept) == len(model.state_dict()) - 1  # the output layer is the input's
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_trained_weights(model, kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in trained_weights(model).items())
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    with pytest.raises(KeyError, match="another model"):
        load_trained_weights(model, {"other": torch.zeros(1)})


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("task=rte",), True),
        (("task=gsm8k", "model=smollm2_135m"), True),
        (("task=rte", "model.lora.rank=2"), True),
        (("task=gsm8k", "model=smollm2_135m", "model.lora.rank=2"), False),
    ],
)
def test_gradients_in_bfloat16_are_not_scaled(words: tuple[str, ...], refused: bool) -> None:
    asked = ("method=vanilla", *words, "model.dtype=bfloat16")
    said = refusal(*asked, "runtime.precision=fp16")
    assert (said is not None and "runtime.precision=bf16 or model.dtype=float32" in said) == refused
    assert refusal(*asked, "runtime.precision=bf16") is None


def test_of_a_model_in_bfloat16_lora_trains_matrices_in_float32_and_a_head_in_bfloat16() -> None:
    """What the check above stands on."""
    found = {}
    for name, data in (("tiny_llama", language_task()), ("tiny_bert", task())):
        cfg = composed(f"model={name}", "model.dtype=bfloat16", "model.lora.rank=2").model
        model = models.load_model(cfg, data, 0).model
        found[name] = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    assert found == {"tiny_llama": {torch.float32}, "tiny_bert": {torch.float32, torch.bfloat16}}
