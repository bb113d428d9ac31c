"""Whether a host can be reached is asked at the port that its address means."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from selfdistill_cli.system.network import reachable


@pytest.mark.parametrize(
    ("url", "port"), [("http://mirror", 80), ("https://mirror", 443), ("http://mirror:8080/x", 8080)]
)
def test_the_port_is_the_addresss(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(address: Any, timeout: float) -> Any:
        asked.append(address)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", refuse)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    reachable.cache_clear()
    assert not reachable(url)
    assert asked == [("mirror", port)]


@pytest.mark.parametrize("name", ["https_proxy", "all_proxy"])
def test_behind_a_proxy_nothing_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "socks5://proxy:1080")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("asked"))
    reachable.cache_clear()
    assert reachable("https://mirror")
    reachable.cache_clear()
