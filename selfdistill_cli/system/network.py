"""Is there a network? Asked once, so that a machine without one answers at once instead of retrying."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies

SECONDS = 3.0


@lru_cache(maxsize=8)
def reachable(url: str) -> bool:
    """Whether the host of this URL takes a connection within `SECONDS`.

    Behind a proxy only the proxy can tell, so the answer is yes.
    """
    parts = urlsplit(url)
    if {parts.scheme, "all"} & getproxies().keys():
        return True
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def hub_reachable() -> bool:
    """Whether the Hugging Face Hub, or what HF_ENDPOINT names in its place, can be."""
    return reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))


def use_hub_cache_when_offline() -> None:
    """Make the Hugging Face libraries read their cache only, if the Hub cannot be reached."""
    if hub_reachable():
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    # The libraries read the variable when they are imported, which may have happened already.
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
