"""The sockets on which calls leave: each is made for one address, and none for an address that may not be asked.

This is the last moment before connecting, after every resolving: a name that leads elsewhere than when it was saved
gains nothing. A connection that is kept was let out by the same rule.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from config.places import refusal

AddressInfo = tuple[Any, ...]
"""As ``getaddrinfo`` gives it: family, type, protocol, name, and the address with its port."""


def sockets(*, private: bool) -> Callable[[AddressInfo], socket.socket]:
    """What makes them; ``private``: also for private networks. It raises OSError where an address may not be asked."""

    def made(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, place = info
        if reason := refusal(str(place[0]), private=private):
            raise PermissionError(errno.EACCES, reason)
        return socket.socket(family, kind, protocol)

    return made
