"""Names of a test's own: what the resolver of this machine says of them; all other names go their usual way."""

from __future__ import annotations

import socket
from typing import Any

import pytest

Zone = dict[str, list[str]]
"""Addresses by name; an empty list for a name that leads nowhere."""


def zone_in(monkeypatch: pytest.MonkeyPatch) -> Zone:
    """A zone that may be changed while the test runs."""
    zone: Zone = {}
    usual = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host not in zone:
            return usual(host, port, *args, **more)
        if not zone[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_place(address, int(port or 0)) for address in zone[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return zone


def _place(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
