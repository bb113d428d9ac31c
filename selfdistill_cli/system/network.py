"""Is there a network? Asked once, so that a machine without one answers at once instead of retrying."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies


@lru_cache(maxsize=8)
def reachable(url: str, timeout: float = 3.0) -> bool:
    """Whether the host of this URL takes a connection within `timeout` seconds.

    Behind a proxy only the proxy can tell, so the answer is yes.
    """
    parts = urlsplit(url)
    if parts.scheme in getproxies():
        return True
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=timeout).close()
    except OSError:
        return False
    return True


def use_hub_cache_when_offline() -> None:
    """Make the Hugging Face libraries read their cache only, if the Hub cannot be reached."""
    if reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    # The libraries read the variable when they are imported, which may have happened already.
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
