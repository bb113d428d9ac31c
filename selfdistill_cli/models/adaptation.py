"""What is set on a model before it is trained: dropout and padding."""

from __future__ import annotations

import logging
import re
from typing import Any

from selfdistill_cli.errors import UserError

log = logging.getLogger(__name__)


def set_dropout(config: Any, dropout: float | None) -> None:
    """Set every dropout rate of a Hugging Face configuration, whatever the architecture calls it."""
    if dropout is None:
        return
    for name, value in vars(config).items():
        is_rate = isinstance(value, (int, float)) and not isinstance(value, bool)
        # classifier_dropout is None where it follows the hidden dropout. Layer dropping removes whole
        # layers, another thing, but a deterministic forward must not have it either.
        if "layerdrop" in name:
            if dropout == 0 and is_rate:
                setattr(config, name, 0.0)
        elif re.search(r"drop(out)?(_|$)|dropout", name) and (is_rate or value is None):
            setattr(config, name, dropout)


def set_padding(tokenizer: Any, config: Any) -> None:
    """Give the model something to fill rows with; decoders that have nothing use their end of sequence.

    Raises `UserError` if there is neither.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                "This model's tokenizer has neither a padding token nor an end of sequence, so examples cannot be put "
                'into batches. Add one to its tokenizer_config.json: "pad_token".'
            )
        tokenizer.pad_token = tokenizer.eos_token
        log.debug("the tokenizer has no padding token: rows are filled with its end of sequence")
    # A decoder's classifier reads the last token that is not this one. (Encoders may count positions from it.)
    config = config.get_text_config()
    if config.pad_token_id is None or tokenizer.cls_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id


def recompute_activations(model: Any, name: str) -> None:
    """Have the backward pass compute activations again instead of keeping them (gradient checkpointing).

    `name`: of the model, in messages. Raises `UserError` if its code cannot do that.
    """
    try:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise UserError(
            f"runtime.gradient_checkpointing=true: model={name} ({type(model).__name__}) cannot do that. Leave it out; a "
            "smaller runtime.token_budget saves memory as well."
        ) from error
