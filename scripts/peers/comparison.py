"""What is compared: a task, a model and settings; the weights and rows that every contender begins with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LR, LORA_RANK, EVALUATED = 5e-5, 8, 8
"""Learning rate, rank of LoRA where there is one, and the validation examples that are scored at the end."""


@dataclass(frozen=True)
class Comparison:
    """One epoch over `batch` x `steps` examples, drawn anew in each round."""

    task: str
    model: str
    batch: int
    steps: int
    settings: tuple[str, ...] = ()
    """Of `sdrun`, beside those of `words`."""
    decoder: bool = False
    """Learns written answers by LoRA; else a classifier, all of whose weights are trained."""

    @property
    def examples(self) -> int:
        """Of one run."""
        return self.batch * self.steps

    def words(self, home: Path, seed: int) -> list[str]:
        """The command line of `sdrun` that trains it."""
        lora = [f"model.lora.rank={LORA_RANK}"] if self.decoder else []
        return [
            f"task={self.task}", f"model={self.model}", "method=vanilla", f"seed={seed}", f"schedule.lr={LR}",
            f"task.train_examples={self.examples}", f"task.validation_examples={EVALUATED}", "schedule.epochs=1",
            f"schedule.batch_size={self.batch}", "schedule.scheduler=constant", "schedule.warmup_ratio=0",
            "task.selection=validation", "schedule.keep=last", "tracking=none", f"paths.outputs={home / 'runs'}",
            f"paths.cache={home / 'cache'}", "runtime.checkpoint_every='9999 steps'", *lora, *self.settings,
        ]  # fmt: skip


COMPARISONS = {
    "rte": Comparison("rte", "minilm", batch=32, steps=12, settings=("task.max_length=128",)),
    "sst2": Comparison("sst2", "minilm", batch=32, steps=24, settings=("task.max_length=128",)),
    "gsm8k": Comparison(
        "gsm8k", "smollm2_135m_q4", batch=8, steps=3, settings=("task.decoding.max_new_tokens=8",), decoder=True
    ),
    "tiny": Comparison("synth_entailment", "tiny_bert", batch=8, steps=4),
    "tiny_decoder": Comparison(
        "synth_arithmetic", "tiny_llama", batch=8, steps=4, settings=("task.decoding.max_new_tokens=4",), decoder=True
    ),
}
"""The last two are for trying whether it all works."""


def composed(words: list[str]) -> Any:
    """The configuration of this command line."""
    import hydra

    from selfdistill_cli.config import schema

    schema.register_schemas()
    with hydra.initialize_config_dir(str(schema.CONF_DIR), version_base="1.3"):
        return hydra.compose("config", overrides=words)


def prepare(comparison: Comparison, home: Path, rounds: int) -> int:
    """Write below `home` the weights and each round's rows in tokens. Returns how many tokens one round has on average.

    Tokens that predict something: of a decoder's row the last one is left out. The other contenders are spared making
    tokens, which counts among what a run of `sdrun` takes.
    """
    import pyarrow as pa
    from pyarrow import parquet

    from selfdistill_cli.kinds import load_task
    from selfdistill_cli.models import load_model

    total = 0
    for seed in range(rounds):
        cfg = composed(comparison.words(home, seed))
        task = load_task(cfg.task, str(cfg.paths.data), seed)
        cfg.model.lora.rank = None  # the weights below it
        loaded = load_model(cfg.model, task, seed, Path(cfg.paths.cache))
        if seed == 0:
            loaded.model.save_pretrained(home / "weights")
            loaded.tokenizer.save_pretrained(home / "weights")
        for name, split in (("train", task.train), ("validation", task.validation[0])):
            rows = list(_rows(task.kind.encode(task, loaded, split), comparison.decoder))
            parquet.write_table(pa.Table.from_pylist(rows), home / f"{name}{seed}.parquet")
            if name == "train":
                total += sum(len(row["input_ids"]) - comparison.decoder for row in rows)
    return total // rounds


def _rows(encoded: Any, decoder: bool) -> Iterator[dict[str, Any]]:
    """Encoded examples as the collators of transformers and TRL take them."""
    for number in range(len(encoded)):
        if decoder:
            prompt, answer = encoded.prompts.row(number).tolist(), encoded.answers.row(number).tolist()
            yield {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}
            continue
        part = slice(encoded.offsets[number], encoded.offsets[number + 1])
        row = {"input_ids": encoded.tokens[part].tolist(), "labels": int(encoded.labels[number])}
        yield row if encoded.segments is None else {**row, "token_type_ids": encoded.segments[part].tolist()}


def require_data() -> None:
    """Exit with a message if no data of the user's is there to be read."""
    if not Path(os.environ.get("SDRUN_DATA", "data")).is_dir():
        raise SystemExit("SDRUN_DATA=<folder> must name the folder of the data (docs/data.md).")
