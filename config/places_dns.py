"""Where names of backends lead, by the resolver of this machine, and whether they may lead there."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from config.places import refusal

_PORTS = {"http": 80, "https": 443}


async def addresses_of(url: str) -> list[str]:
    """Every address behind the host of a URL. Raises OSError where it leads nowhere."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    try:
        places = await loop.getaddrinfo(
            parts.hostname, parts.port or _PORTS.get(parts.scheme, 0), type=socket.SOCK_STREAM
        )
    except UnicodeError as error:
        raise OSError(str(error)) from error
    return list(dict.fromkeys(str(place[4][0]) for place in places))


async def led_astray(url: str, *, private: bool) -> str | None:
    """Why nothing is asked at this URL, for the operator: ONE of its addresses may not be asked. None where all may.

    Raises OSError where it leads nowhere.
    """
    reasons = (refusal(address, private=private) for address in await addresses_of(url))
    return next((reason for reason in reasons if reason is not None), None)
