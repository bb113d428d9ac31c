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
    """One epoch over `batch` x `steps` examples, others in each round."""

    task: str
    model: str
    batch: int
    steps: int
    settings: tuple[str, ...] = ()
    """Of `sdrun`, beside those of `words`."""
    compiles: bool = False
    """Whether torch_compile is tried, which takes about a minute for each precision."""
    decoder: bool = False
    """Learns written answers by LoRA; else a classifier, all of whose weights are trained."""

    @property
    def examples(self) -> int:
        """Of one run."""
        return self.batch * self.steps

    @property
    def generated(self) -> bool:
        """Whether its examples are made, and stand in no file."""
        return self.task.startswith("synth_")

    def words(self, home: Path, seed: int) -> list[str]:
        """The command line of `sdrun` that trains it."""
        data = f"task.train_examples={self.examples}" if self.generated else f"paths.data={home / f'round{seed}'}"
        lora = [f"model.lora.rank={LORA_RANK}"] if self.decoder else []
        return [
            f"task={self.task}", f"model={self.model}", "method=vanilla", f"seed={seed}", f"schedule.lr={LR}",
            data, f"task.validation_examples={EVALUATED}", "schedule.epochs=1",
            f"schedule.batch_size={self.batch}", "schedule.scheduler=constant", "schedule.warmup_ratio=0",
            "task.selection=validation", "schedule.keep=last", "tracking=none", f"paths.outputs={home / 'runs'}",
            f"paths.cache={home / 'cache'}", "runtime.checkpoint_every='9999 steps'", *lora, *self.settings,
        ]  # fmt: skip


COMPARISONS = {
    "rte": Comparison("rte", "minilm", batch=32, steps=19, settings=("task.max_length=128",)),
    "sst2": Comparison("sst2", "minilm", batch=32, steps=50, settings=("task.max_length=128",), compiles=True),
    "gsm8k": Comparison(
        "gsm8k", "smollm2_135m_q4", batch=8, steps=4, settings=("task.decoding.max_new_tokens=8",), decoder=True
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
    """Write below `home` the weights, each round's examples, and their tokens in the order of the others' batches.

    Returns how many tokens one round has on average, of a decoder's rows without the last one, which predicts nothing.
    """
    import pyarrow as pa
    from pyarrow import parquet

    total = 0
    for seed in range(rounds):
        candidates = None if comparison.generated else _candidates(comparison, home / f"round{seed}", seed)
        train, validation = _encoded(comparison, home, seed)
        chosen = grouped(comparison, [len(row["input_ids"]) for row in train], seed)
        if candidates is not None:  # of which those that are not chosen are not for us to read either
            parquet.write_table(candidates.take(chosen), home / f"round{seed}" / comparison.task / "train.parquet")
        train = [train[row] for row in chosen]
        for name, rows in (("train", train), ("validation", validation)):
            parquet.write_table(pa.Table.from_pylist(rows), home / f"{name}{seed}.parquet")
        total += sum(len(row["input_ids"]) - comparison.decoder for row in train)
    return total // rounds


def grouped(comparison: Comparison, lengths: list[int], seed: int) -> list[int]:
    """Numbers of the examples of an epoch, as the others' `group_by_length` puts them into batches.

    It sorts as many as fill fifty batches (or a quarter of a smaller set). Of the batches that it makes of these,
    as many as there are steps, evenly spaced from long to short: a short epoch over few examples would group them worse.
    Raises ValueError if there are fewer.
    """
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    generator = torch.Generator().manual_seed(seed)
    several = max(1, len(lengths) // comparison.batch)
    if several < comparison.steps:
        raise ValueError(
            f"{comparison.steps} steps of {comparison.batch} from {len(lengths)} examples: some would come twice"
        )
    order = get_length_grouped_indices(lengths, comparison.batch, several, generator)
    batches = [order[begin : begin + comparison.batch] for begin in range(0, len(order), comparison.batch)]
    places = [int((step + 0.5) * several / comparison.steps) for step in range(comparison.steps)]
    return [row for place in places for row in batches[place]]


def _candidates(comparison: Comparison, folder: Path, seed: int) -> Any:
    """As many examples of the training set as the others group at a time: written into `folder`, and a few others to score."""
    import numpy as np
    from pyarrow import parquet

    source, target = Path(os.environ["SDRUN_DATA"]) / comparison.task, folder / comparison.task
    target.mkdir(parents=True)
    for file in source.glob("*.parquet"):
        rows = parquet.read_table(file)
        if file.stem == "train":
            several = min(len(rows) // (4 * comparison.batch), 50)
            drawn = np.random.default_rng(seed).permutation(len(rows))[: several * comparison.batch]
            rows = candidates = rows.take(drawn)
        else:
            rows = rows.slice(0, EVALUATED)
        parquet.write_table(rows, target / file.name)
    return candidates


def _encoded(comparison: Comparison, home: Path, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and validation examples as the others take them. Writes the weights, if they are not there."""
    from selfdistill_cli.kinds import load_task
    from selfdistill_cli.models import load_model

    cfg = composed(comparison.words(home, seed))
    task = load_task(cfg.task, str(cfg.paths.data), seed)
    cfg.model.lora.rank = None  # the weights below it
    loaded = load_model(cfg.model, task, seed, Path(cfg.paths.cache))
    if not (home / "weights").is_dir():
        loaded.model.save_pretrained(home / "weights")
        loaded.tokenizer.save_pretrained(home / "weights")
    train, validation = (
        list(_rows(task.kind.encode(task, loaded, split), comparison.decoder))
        for split in (task.train, task.validation[0])
    )
    return train, validation


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


def require_data(comparison: Comparison) -> None:
    """Exit with a message if its data are not there to be read."""
    folder = os.environ.get("SDRUN_DATA", "")
    if not comparison.generated and not (Path(folder) / comparison.task / "train.parquet").is_file():
        raise SystemExit(
            f"SDRUN_DATA={folder}: there is no {comparison.task}/train.parquet. SDRUN_DATA=<folder> must name the folder "
            "of the data (docs/data.md); --task tiny needs none."
        )
