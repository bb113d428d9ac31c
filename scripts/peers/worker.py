"""One training of one contender in a process of its own: python -m peers.worker <task> <contender> <precision> <seed> <home>.

What it took stands in the last line of its standard output, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.comparison import COMPARISONS, LORA_RANK, LR, Comparison

Train = Callable[[Comparison, str, int, Path, Any], None]


def sdrun(comparison: Comparison, precision: str, seed: int, home: Path, clock: Any) -> None:
    """The command `sdrun`."""
    from selfdistill_cli.models.embedded import EMBEDDED
    from selfdistill_cli.train import main

    words = [*comparison.words(home, seed), f"runtime.precision={precision}", "rerun=true"]
    if comparison.model not in EMBEDDED:  # whose weights are random, and have no folder
        words.append(f"model.name={home / 'weights'}")
    sys.argv = ["sdrun", *words]
    with clock.running(), clock.looking_at_modules():
        main()


def trainer(comparison: Comparison, precision: str, seed: int, home: Path, clock: Any, **settings: Any) -> None:
    """The Trainer of transformers."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(home / "weights")
    train, validation = (_table(home / f"{name}{seed}.parquet").to_pylist() for name in ("train", "validation"))
    theirs = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(home / "weights"),
        args=TrainingArguments(**_arguments(comparison, precision, seed, home), **settings),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())},
    )
    _trained(theirs, clock)


def sft(comparison: Comparison, precision: str, seed: int, home: Path, clock: Any, **settings: Any) -> None:
    """The SFTTrainer of TRL with LoRA through peft."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    train, validation = (Dataset(_table(home / f"{name}{seed}.parquet")) for name in ("train", "validation"))
    theirs = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(home / "weights"),
        args=SFTConfig(
            **_arguments(comparison, precision, seed, home),
            max_length=None,
            gradient_checkpointing=False,  # its default, which saves memory and costs time
            **settings,
        ),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=AutoTokenizer.from_pretrained(home / "weights"),
        peft_config=LoraConfig(r=LORA_RANK, lora_alpha=16, lora_dropout=0.05, task_type="CAUSAL_LM"),
    )
    _trained(theirs, clock)


def _arguments(comparison: Comparison, precision: str, seed: int, home: Path) -> dict[str, Any]:
    """What both of their trainers are told, the settings of `Comparison.words`."""
    import torch

    return {
        "output_dir": str(home / "theirs"), "num_train_epochs": 1, "per_device_train_batch_size": comparison.batch,
        "learning_rate": LR, "lr_scheduler_type": "constant", "weight_decay": 0.01, "max_grad_norm": 1.0, "seed": seed,
        "optim": "adamw_torch_fused", "bf16": precision == "bf16", "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(), "report_to": "none", "save_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True,
        "train_sampling_strategy": "sequential",  # rows lie as group_by_length orders them: `comparison.grouped`
    }  # fmt: skip


def _trained(theirs: Any, clock: Any) -> None:
    """Train, score, save: all that a run of `sdrun` does."""
    theirs.data_collator = clock.collated(theirs.data_collator)
    with clock.running():
        theirs.train()
    theirs.evaluate()
    theirs.save_model()


def _table(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


CONTENDERS: dict[str, tuple[Train, dict[str, Any]]] = {
    "sdrun": (sdrun, {}),
    "trainer": (trainer, {}),
    "trainer_compiled": (trainer, {"torch_compile": True}),
    "sft": (sft, {}),
    "sft_padding_free": (sft, {"padding_free": True}),
}


def main() -> None:
    """Train as the command line says."""
    task, contender, precision, seed, home = sys.argv[1:]
    comparison = COMPARISONS[task]
    train, settings = CONTENDERS[contender]
    import torch

    from peers.clock import Clock

    clock = Clock(comparison.steps)
    train(comparison, precision, int(seed), Path(home), clock, **settings)
    from selfdistill_cli.system.overhead import peak_memory_mb

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    taken = {"seconds": clock.seconds, "late_seconds": clock.late_seconds, "tokens": clock.tokens}
    print(json.dumps({**taken, "memory": peak_memory_mb(device)}))


if __name__ == "__main__":
    main()
