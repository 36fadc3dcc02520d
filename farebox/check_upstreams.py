"""The doctor's look at the backends: is the key here, does the name lead somewhere, does somebody answer there.

All are asked together, each for a few seconds, through the same door as calls. What is asked costs nothing: the list of
models. Whoever lies in a private network that the operator did not allow is not asked: a key would be sent there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

from config.catalog import Upstream
from config.environment import environment_secret
from config.places_dns import led_astray
from farebox.findings import Found, Verdict
from gateway.forward import target_of
from gateway.headers import to_upstream
from gateway.target import Target
from gateway.upstream import UpstreamFailure, Upstreams
from ledger.ids import uuid7

_AREA = "upstreams"
_TIMEOUT_S = 5.0
_AT_ONCE = 32
_PATH = "/models"


async def look_at_upstreams(upstreams: Iterable[Upstream]) -> list[Found]:
    """Everything that is to be said of each, in their order."""
    door, turn = Upstreams(), asyncio.Semaphore(_AT_ONCE)
    try:
        found = await asyncio.gather(*(_looked_at(door, turn, upstream) for upstream in upstreams))
    finally:
        await door.aclose()
    return [each for some in found for each in some]


async def _looked_at(door: Upstreams, turn: asyncio.Semaphore, upstream: Upstream) -> list[Found]:
    async with turn:
        return [*_key(upstream), await _answer(door, upstream)]


def _key(upstream: Upstream) -> list[Found]:
    name = upstream.api_key_env
    if not name:
        return []
    if environment_secret(name) is None:
        return [Found(_AREA, upstream.name, "error", f"{name}, which should hold its key, is not set here")]
    return [Found(_AREA, upstream.name, "ok", f"{name} is set")]


async def _answer(door: Upstreams, upstream: Upstream) -> Found:
    try:
        target = target_of(upstream)
        async with asyncio.timeout(_TIMEOUT_S):
            if (refused := await _led_astray(upstream)) is not None:
                return refused
            return await _asked(door, target)
    except TimeoutError:
        return Found(_AREA, upstream.name, "warning", f"does not answer within {_TIMEOUT_S:.0f} s")
    except UpstreamFailure as failure:
        # The operator's own terminal: here the address may be said.
        verdict: Verdict = "error" if failure.kind in ("connect", "connect_timeout") else "warning"
        return Found(_AREA, upstream.name, verdict, f"cannot be reached: {failure}")


async def _led_astray(upstream: Upstream) -> Found | None:
    """Why its address is not asked, if there is a reason: calls would not be let out to it either."""
    host = urlsplit(upstream.base_url).hostname
    try:
        reason = await led_astray(upstream.base_url, private=upstream.allow_private)
    except OSError as error:
        return Found(_AREA, upstream.name, "error", f"{host} leads nowhere: {error}")
    return None if reason is None else Found(_AREA, upstream.name, "error", f"{host} is not asked: {reason}")


async def _asked(door: Upstreams, target: Target) -> Found:
    reply = await door.open(
        target,
        path=_PATH,
        body=b"",
        headers=to_upstream([], target, str(uuid7())),
        connect_timeout_s=_TIMEOUT_S,
        method="GET",
    )
    reply.close()
    if reply.status < 300:
        return Found(_AREA, target.name, "ok", "answers")
    if reply.status in (401, 403):
        return Found(_AREA, target.name, "warning", f"answers, and refuses the key ({reply.status})")
    if reply.status in (404, 405):
        return Found(_AREA, target.name, "note", f"answers, and has no list of models ({reply.status})")
    return Found(_AREA, target.name, "warning", f"answers with {reply.status}")
