"""Which of the models in conf/model trains how on which card: the table of docs/memory.md, computed, nothing is run.

python scripts/memory_table.py

Every row is what `sdrun --plan` says of

    sdrun method=vanilla model=<model> task=<rte, of decoders and encoder-decoders gsm8k> runtime.precision=bf16

with the settings of its column besides; rows of 512 tokens at most, batches and token budgets as in conf/.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from selfdistill_cli.config.options import options_of
from selfdistill_cli.config.schema import CONF_DIR, register_schemas
from selfdistill_cli.kinds import kind_of
from selfdistill_cli.planning.memory import GIB, architecture, gib, memory_of

LORA = ("model.lora.rank=8", "model.lora.target_modules=all-linear", "model.dtype=bfloat16")
WAYS = {
    "full": (),
    "full, checkpointing": ("runtime.gradient_checkpointing=true",),
    "LoRA": LORA,
    "LoRA, nf4, checkpointing": (*LORA, "model.quantization=nf4", "runtime.gradient_checkpointing=true"),
}
CARDS = (24, 48, 80)
LIBRARIES = 1.5
"""GiB of a card that are not the run's: CUDA's own, and fragments."""
PROCESSES = (2, 4, 8)


def settings(model: str, *words: str) -> DictConfig:
    """The configuration of a run of this model."""
    common = ("method=vanilla", f"model={model}", "runtime.precision=bf16", "task.max_length=512", *words)
    written = compose("config", overrides=["task=gsm8k", *common])
    try:
        kind_of(written.task).model_class(architecture(written.model))
    except Exception:  # an encoder does not write
        return compose("config", overrides=["task=rte", *common])
    return written


def cell(model: str, words: tuple[str, ...]) -> str:
    """GiB, and the cards that hold them; where none does, of how many of 80 GB each holds a part."""
    needs = memory_of(settings(model, *words)).total
    fits = [card for card in CARDS if needs / GIB + LIBRARIES <= card * 1e9 / GIB]
    if fits:
        return f"{gib(needs)}: {fits[0]} GB"
    if "model.quantization=nf4" in words:
        return f"{gib(needs)}: –"
    for processes in PROCESSES:
        share = memory_of(settings(model, *words, "runtime.shard=full"), processes).total
        if share / GIB + LIBRARIES <= CARDS[-1] * 1e9 / GIB:
            return f"{gib(needs)}: {processes} × {CARDS[-1]} GB ({gib(share)} each)"
    return f"{gib(needs)}: –"


def rows(models: list[str]) -> Iterator[str]:
    """The lines of the table."""
    yield f"| model | {' | '.join(WAYS)} |"
    yield f"|---|{'---|' * len(WAYS)}"
    for model in models:
        yield f"| `{model}` | {' | '.join(cell(model, words) for words in WAYS.values())} |"


def main() -> None:
    """Print it."""
    logging.disable(logging.WARNING)
    register_schemas()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for line in rows(sys.argv[1:] or [name for name in options_of("model") if not name.startswith("tiny_")]):
            print(line, flush=True)


if __name__ == "__main__":
    main()
