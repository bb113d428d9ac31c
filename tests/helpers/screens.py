"""A terminal of any width, and a file, as rich sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO

from rich.console import Console

TERMINALS = (50, 80, 120)


def shown(show: Callable[[Console], None], width: int | None) -> str:
    """What `show` prints on a terminal of this width, or, with None, into a file."""
    out = StringIO()
    if width is None:
        console = Console(file=out, highlight=False, width=80)
    else:
        console = Console(file=out, highlight=False, width=width, force_terminal=True, color_system=None)
    show(console)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
