"""The last moment before connecting: what socket is made, and what none is made for."""

from __future__ import annotations

import errno
import socket

import pytest

from gateway.sockets import sockets


def info(address: str) -> tuple[int, int, int, str, tuple[str, int]]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, 6, "", (address, 443))


def test_a_socket_is_made_for_the_address_that_is_connected_to() -> None:
    with sockets(private=False)(info("1.1.1.1")) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)
    with sockets(private=True)(info("::1")) as made:
        assert made.family == socket.AF_INET6


@pytest.mark.parametrize(("address", "private"), [("127.0.0.1", False), ("::ffff:10.0.0.1", False), ("fe80::1", True)])
def test_none_is_made_for_an_address_that_may_not_be_asked(address: str, private: bool) -> None:
    with pytest.raises(PermissionError) as caught:
        sockets(private=private)(info(address))
    assert caught.value.errno == errno.EACCES and address in str(caught.value)
