"""Steps of every method and kind of task on a real (tiny) transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from selfdistill_cli.encoding.answers import AnswerExamples, Form
from selfdistill_cli.encoding.labelled import LabelledExamples, Padding
from selfdistill_cli.encoding.room import Flat
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.engine.sharding import is_sharded, whole_of
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.evaluation.drawing import TrainingAnswers
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.labelled import ClassificationLosses, RegressionLosses
from selfdistill_cli.methods import (
    DCS,
    EMA,
    GKD,
    KD,
    MFT,
    SDFT,
    DynSDPB,
    Focal,
    LabelSmoothing,
    Method,
    RDrop,
    Reweight,
    StaticSD,
    TeacherModel,
    TrainingContext,
    Vanilla,
)
from selfdistill_cli.models.output_layer import output_layer
from tests.helpers.runtimes import cpu_runtime

SIZE = 30
KINDS = ["classification", "regression", "decoder", "encoder_decoder"]


def is_language(kind: str) -> bool:
    """Whether a model of this kind writes."""
    return kind in ("decoder", "encoder_decoder")


def make_examples(kind: str) -> Any:
    """`SIZE` examples of random tokens and labels."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 40, SIZE)
    tokens = rng.integers(5, 100, lengths.sum()).astype(np.int32)
    if is_language(kind):
        answer_lengths = rng.integers(1, 12, SIZE)
        answers = rng.integers(5, 100, answer_lengths.sum()).astype(np.int32)
        form = Form(0, decoder_start=None if kind == "decoder" else 0)
        return AnswerExamples(
            Flat(tokens, offsets_of(lengths)), Flat(answers, offsets_of(answer_lengths)), form, truncated=0
        )
    labels = rng.uniform(0, 5, SIZE).astype(np.float32) if kind == "regression" else rng.integers(0, 3, SIZE)
    segments = np.zeros(len(tokens), np.int8)
    return LabelledExamples(tokens, segments, offsets_of(lengths), labels, Padding("right", 0, 0), truncated=0)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where each example begins, and the end."""
    return np.concatenate([[0], np.cumsum(lengths)])


def make_model(kind: str) -> Any:
    """A transformer of two layers without dropout, always with the same weights."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "decoder":
        config = LlamaConfig(**sizes, intermediate_size=64, pad_token_id=0, tie_word_embeddings=True)
        return LlamaForCausalLM(config)
    if kind == "encoder_decoder":
        t5 = T5Config(
            vocab_size=100,
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
        return T5ForConditionalGeneration(t5)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    outputs = 1 if kind == "regression" else 3
    return BertForSequenceClassification(BertConfig(**sizes, **none, intermediate_size=64, num_labels=outputs))


def make_context(kind: str, examples: Any, model: Any) -> TrainingContext:
    """What a method is made with; the teacher is random."""
    torch.manual_seed(1)
    losses: Any = RegressionLosses(5.0) if kind == "regression" else ClassificationLosses()
    teacher: Any = torch.randn(SIZE) if kind == "regression" else torch.randn(SIZE, 3)
    if is_language(kind):
        losses = AnswerLosses(lambda: output_layer(model))
        lengths = examples.answers.lengths
        log_p, entries = torch.randn(int(lengths.sum()), 100).log_softmax(-1).topk(10)
        teacher = TokenRows(torch.from_numpy(lengths), {"log_p": log_p, "entries": entries.int()})
    context = TrainingContext.of(losses, examples, 10, teacher)
    if not is_language(kind) or model is None:
        return context
    other = other_model(kind).eval()
    held = TeacherModel(other, AnswerLosses(lambda: output_layer(other)))

    def writer() -> Any:  # made once the model is prepared; whoever writes has to know whether it lies in parts
        return writer_of(examples, model, cpu_runtime(200, shard="full" if is_sharded(model) else "none"))

    return replace(context, teacher=held, make_writer=writer)


def other_model(kind: str) -> Any:
    """A model as that of `make_model`, with other weights."""
    model = make_model(kind)
    enlarge(model)
    return model


@torch.no_grad()
def enlarge(model: Any) -> None:
    """Change the weights, so that they are about ten times as large as a model begins with."""
    for parameter in model.parameters():
        parameter += 0.3 * torch.sin(70 * parameter)


class ByTokens(TrainingAnswers):
    """Draws answers to examples that have no texts: a demonstration is the gold answer's tokens before the prompt's."""

    def prompted(self, template: str) -> AnswerExamples:
        if template == "{prompt}":
            return self.train
        prompts, answers = self.train.prompts, self.train.answers
        rows = [np.concatenate([answers.row(i), prompts.row(i)]) for i in range(len(self.train))]
        return replace(self.train, prompts=Flat(np.concatenate(rows), offsets_of(np.array([*map(len, rows)]))))


def writer_of(examples: Any, model: Any, runtime: Runtime, seed: int = 0) -> ByTokens:
    """What draws answers of eight tokens at most, by a model that would like to repeat nothing."""
    model.generation_config.repetition_penalty = 5.0  # drawing heeds no such preference
    tokenizer = SimpleNamespace(eos_token_id=1, batch_decode=lambda rows, **_: ["" for _ in rows])
    settings = OmegaConf.create({"name": "t", "max_length": 60, "decoding": {"max_new_tokens": 8}})
    return ByTokens(model, tokenizer, examples, ([], []), settings, runtime, seed)


def make_methods(kind: str, examples: Any, model: Any) -> dict[str, Method]:
    """Every method, and variants that take another path through a step, with a random teacher.

    Without a model, those that draw answers do not work.
    """
    context = make_context(kind, examples, model)
    static: dict[str, Any] = {"tau": 3.0, "alpha": 1.0, "overlap": "append", "match": "vmm", "regression": "scaled"}
    static["start_epoch"] = 0.0
    rules: dict[str, Any] = {"tau_rule": "uncertainty", "alpha_rule": "discrimination", "discrimination": "gold"}
    own: dict[str, Any] = {"signal": "previous", "granularity": "example"}
    methods: dict[str, Method] = {
        "vanilla": Vanilla(context),
        "static_sd": StaticSD(context, **static),
        "dynsdpb": DynSDPB(context, **static, **rules, **own),
        "dynsdpb_whole_step": DynSDPB(context, **static, **rules, signal="current", granularity="batch"),
        "rdrop": RDrop(context, alpha=5.0),
        "ema": EMA(context, tau=2.0, alpha=5.0, beta=0.5, evaluate="student"),
        "kd": KD(context, tau=2.0, alpha=0.5),
        "dcs": DCS(
            context,
            tau=2.0,
            alpha=0.5,
            standardize=False,
            lambda_=3.0,
            factor="lambda",
            reweighting="boosting",
            update="step",
            weight_on="both",
            max_weight=10.0,
            warmup_epochs=0,
            discordance_quantile=0.8,
        ),
    }
    methods["reweight"] = Reweight(context, "boosting", 3.0, max_weight=10.0, warmup_epochs=1, error_quantile=0.8)
    if kind != "regression":
        methods |= {"label_smoothing": LabelSmoothing(context, 0.1), "focal": Focal(context, 2.0)}
        methods["kd_standardized"] = KD(context, tau=0.5, alpha=0.5, standardize=True)
        methods["mft"] = MFT(replace(context, teacher_logits=None) if is_language(kind) else context, theta=0.2)
    if is_language(kind):
        token, apart = static | {"match": "token"}, static | {"overlap": "none"}
        methods |= {
            "static_sd_token": StaticSD(context, **token),
            "dynsdpb_token_batch": DynSDPB(context, **token, **rules, signal="previous", granularity="batch"),
            "static_sd_none": StaticSD(context, **apart),
            "dynsdpb_none": DynSDPB(context, **apart, **rules, **own),
            "dynsdpb_none_current": DynSDPB(context, **apart, **rules, signal="current", granularity="batch"),
        }
        methods |= make_drawing_methods(context, static, rules)
    return methods


def make_drawing_methods(context: TrainingContext, static: dict[str, Any], rules: dict[str, Any]) -> dict[str, Method]:
    """Methods that learn from drawn answers."""
    names = (
        "gkd",
        "sdft_start",
        "sdft_ema",
        "sdft_current",
        "static_sd_sampled",
        "dynsdpb_sampled",
        "dynsdpb_sampled_none",
    )
    if context.make_writer is None:
        return dict.fromkeys(names, Vanilla(context))
    drawing: dict[str, Any] = {"temperature": 0.8, "divergence": "jsd", "beta": 0.3}
    teachers: dict[str, Any] = {"demonstration": "{answer}{prompt}", "ema_beta": 0.5}
    own: dict[str, Any] = {"signal": "previous", "granularity": "example"}
    sampled = static | {"outputs": "sampled"}
    return dict(
        zip(
            names,
            [
                GKD(context, lambda_=1.0, **drawing),
                *(SDFT(context, weights=weights, **teachers, **drawing) for weights in ("start", "ema", "current")),
                StaticSD(context, **sampled),
                DynSDPB(context, **sampled, **rules, **own),
                DynSDPB(context, **sampled | {"overlap": "none"}, **rules, **own),
            ],
            strict=True,
        )
    )


def prepare(method: Method, model: Any) -> None:
    """As before training. Where there are two copies of examples, every second row of a micro-batch computes with other
    embeddings, as with dropout, but always the same. One that teaches itself by its prompt gets larger weights, with
    which prompts have an influence that float32 can tell."""
    if isinstance(method, SDFT):
        enlarge(model)
    method.before_training(model)

    def scale(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        other = output[1::2] * (1 + 0.5 * torch.sin(torch.arange(output.shape[-1])))
        return torch.stack([output[::2], other], dim=1).flatten(0, 1)

    if method.plan([], 0.0).copies == 2:
        for module in model.modules():  # T5 has two of its tokens, of one weight
            if isinstance(module, torch.nn.Embedding) and module.num_embeddings == model.config.vocab_size:
                module.register_forward_hook(scale)


CASES = [(kind, name) for kind in KINDS for name in make_methods(kind, make_examples(kind), None)]


def shards_of(name: str) -> tuple[str, ...]:
    """The ways in which two processes may hold the model of a case of this name."""
    return ("none",) if name.startswith("sdft") else ("none", "full")  # runtime.shard=full refuses it


def gradients_of_second_step(
    kind: str, name: str, batching: Batching, shard: str = "none"
) -> tuple[torch.Tensor, float]:
    """`second_step` of one of `make_methods`."""
    return second_step(kind, lambda examples, model: make_methods(kind, examples, model)[name], batching, shard)


def second_step(
    kind: str, make: Callable[[Any, Any], Method], batching: Batching, shard: str = "none"
) -> tuple[torch.Tensor, float]:
    """All gradients of a method's second step, after an update of the weights, flattened, and its loss.

    `make` is given examples and model. The examples have weights of their own, so that one taken for another would show.
    """
    weights = np.random.default_rng(1).uniform(0, 2, SIZE).astype(np.float32)
    examples, model = replace(make_examples(kind), weights=weights), make_model(kind)
    runtime = cpu_runtime(batching, shard=shard)
    if shard != "none":
        runtime.prepare(model)
    method = make(examples, model)
    prepare(method, model)
    for fresh in (list(range(10)), list(range(10, 20))):
        model.zero_grad()
        plan = method.plan(fresh, 1.0)
        result = backward_step(model, method, examples, plan, runtime)
        method.after_backward(plan, result.logits)
        flat = torch.cat([whole_of(p.grad).flatten() for p in model.parameters() if p.grad is not None])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.sin(100 * parameter)  # any update; the teacher must not follow it
        method.after_step(model)
    return flat, result.loss


def gradients_of_bfloat16() -> torch.Tensor:
    """All gradients of a step of a model whose weights are in bfloat16, flattened, in float32."""
    examples, model = make_examples("classification"), make_model("classification").to(torch.bfloat16)
    method = make_methods("classification", examples, model)["vanilla"]
    backward_step(model, method, examples, method.plan(list(range(10)), 0.0), cpu_runtime(200))
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.bfloat16}
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).float()


def gradients_of_single_example() -> torch.Tensor:
    """All gradients of a step of one example, flattened."""
    examples, model = make_examples("classification"), make_model("classification")
    method = make_methods("classification", examples, model)["vanilla"]
    backward_step(model, method, examples, method.plan([3], 0.0), cpu_runtime(4096))
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
