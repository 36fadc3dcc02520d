"""A call as a value, for tests of what serves one."""

from __future__ import annotations

import time

from gateway.call import parse_chat
from gateway.story import Clock, Story
from gateway.surfaces import SURFACES
from ledger.ids import uuid7
from policies.principal import Principal


def story() -> Story:
    """A chat that was read and not yet admitted."""
    body = b'{"model": "small", "messages": [{"role": "user", "content": "hello"}]}'
    principal = Principal(uuid7(), uuid7(), "local", "ada", "", "Ada", "user", "paid", "active", "en")
    return Story(uuid7(), SURFACES[0], principal, parse_chat(body), [], "", Clock(time.monotonic()), "paid", "small")
