"""Libraries' warnings that a user can do nothing about: named one by one, so that every other one still shows."""

from __future__ import annotations

import logging
import re
import warnings

USELESS: tuple[tuple[str, type[Warning]], ...] = (
    # Columns of prepared data are mapped from the disk, and read only: nothing here writes into a label.
    ("The given NumPy array is not writable", UserWarning),
    # transformers 5 has new names for these; peft and we use those that version 4 knows as well.
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),
    ("`gradient_checkpointing_enable` is deprecated", FutureWarning),
    # Of model.quantization=int8, whose products are in float16.
    ("MatMul8bitLt: inputs will be cast", UserWarning),
)
"""How a message begins, and its category."""


def quiet_libraries() -> None:
    """Keep these from the terminal for the rest of this process."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it misses a kernel of the Hub's
    for beginning, category in USELESS:
        warnings.filterwarnings("ignore", message=re.escape(beginning), category=category)
