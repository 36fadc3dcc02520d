"""One metered route as an ASGI endpoint: receive, identify, and hand the call to its pump.

The rest of the story is ``pump.py``'s. Where the server is our own, the call is told in this very task, and the server
tells when its caller has left. Elsewhere this task only waits: for the call to end, or for the caller to leave.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from uuid import UUID

from config.catalog import Catalog
from config.parts import Limits
from gateway import multipart, sentences
from gateway.call import BadRequest
from gateway.downstream import (
    Caller,
    CallerLeft,
    Headers,
    Receive,
    Scope,
    Send,
    body_at_hand,
    caller_of,
    read_body,
    send_reply,
    until_gone,
)
from gateway.errors import Refusal, internal
from gateway.identity import Identity, ServiceKey
from gateway.pump import RESTART_S, House, Pump
from gateway.story import Clock, Story
from gateway.surface import Request, Surface
from gateway.upload import Upload, Uploads
from ledger.ids import uuid7
from policies.principal import Principal

_log = logging.getLogger("farebox.gateway")
_IDEMPOTENCY = b"idempotency-key"
_IDEMPOTENCY_MAX = 255
_BUSY_S = 2
_UNKNOWN = "unknown"


class Gate:
    """Whether new calls may begin: not while draining, and not more at once than this process is set to run."""

    def __init__(self, streams_max: int, running: Callable[[], int]) -> None:
        self._streams_max = streams_max
        self._running = running
        self.draining = False

    def check(self) -> None:
        """Raises Refusal (draining)."""
        if self.draining:
            raise sentences.waiting("draining", "restarting", RESTART_S)
        if self._running() >= self._streams_max:
            raise sentences.waiting("draining", "too_busy", _BUSY_S, limit="streams_max")


class Proxy:
    """The endpoint of one surface."""

    def __init__(
        self,
        surface: Surface,
        house: House,
        identity: Identity,
        gate: Gate,
        catalog: Callable[[], Catalog],
        limits: Limits,
        uploads: Uploads,
    ) -> None:
        self._surface = surface
        self._house = house
        self._identity = identity
        self._gate = gate
        self._catalog = catalog
        self._limits = limits
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, caller = uuid7(), caller_of(scope)
        try:
            story = await self._received(scope, receive, caller, request_id)
        except CallerLeft:
            return
        except Refusal as refusal:
            return await self._refuse(scope, send, refusal, request_id)
        except Exception:
            _log.exception("call failed before admission", extra={"request_id": str(request_id)})
            return await self._refuse(scope, send, internal(), request_id)
        pump = Pump(story, scope, send, self._house)
        if caller is not None:
            return await pump.run_here(caller)
        pump.start()
        await self._attend(pump, receive)

    async def _attend(self, pump: Pump, receive: Receive) -> None:
        """Wait for the end of the call, and tell it when its caller has left."""
        this = asyncio.current_task()
        assert this is not None
        pump.broken_off = this.cancel
        try:
            await until_gone(receive)
        except asyncio.CancelledError:
            if not pump.done:
                raise
            # Broken off under a caller who does not read: to return now is what makes the server close.
            this.uncancel()
        finally:
            pump.broken_off = None
            # Also when this very task is cancelled: the pump is the server's, and hears of it.
            if not pump.done:
                pump.caller_left()
        await pump.wait()

    async def _refuse(self, scope: Scope, send: Send, refusal: Refusal, request_id: UUID) -> None:
        self._house.books.refused(self._surface.route, refusal, request_id)
        self._house.voice.put(refusal)
        await send_reply(scope, send, *self._surface.envelope.reply(refusal, str(request_id)))

    async def _received(self, scope: Scope, receive: Receive, caller: Caller | None, request_id: UUID) -> Story:
        clock, headers, surface = Clock(time.monotonic()), scope["headers"], self._surface
        self._gate.check()
        principal = await self._identity.identify(headers)
        if isinstance(principal, ServiceKey):
            raise principal.no_user()
        named = dict(headers)  # tells at once which of the fields that we look for are not there
        try:
            here = None if surface.form else body_at_hand(caller, named, self._limits.body_bytes_max)
            body = await self._body(scope, receive, principal, clock) if here is None else here
            content_type = _content_type(headers) if surface.form else ""
            if isinstance(body, bytes):
                request = surface.parse(body, content_type)
            else:
                request = await self._parsed(body, content_type)
        except BadRequest as bad:
            raise Refusal.of("invalid_request", bad.message, param=bad.param) from None
        except Refusal as refusal:
            refusal.language = refusal.language or principal.language
            raise
        catalog = self._catalog()
        return Story(
            request_id=request_id,
            surface=surface,
            principal=principal,
            request=request,
            headers=headers,
            idempotency=_idempotency(headers) if _IDEMPOTENCY in named else "",
            clock=clock,
            tier=principal.tier if principal.tier in catalog.tiers else _UNKNOWN,
            known_model=request.model if request.model in catalog.models else _UNKNOWN,
            upload=body if isinstance(body, Upload) else None,
        )

    async def _body(self, scope: Scope, receive: Receive, principal: Principal, clock: Clock) -> bytes | Upload:
        """The body as it comes. A caller's own pace is none of ours: the time it takes counts for nothing."""
        limits, known = self._limits, time.monotonic()
        body: bytes | Upload
        if self._surface.form:
            multipart.boundary_of(_content_type(scope["headers"]))  # what is no form is refused before all of it came
            body = await self._uploads.receive(scope, receive, principal.user_id)
        else:
            body = await read_body(scope, receive, bytes_max=limits.body_bytes_max, timeout_s=limits.body_timeout_s)
        clock.begun += time.monotonic() - known
        return body

    async def _parsed(self, body: Upload, content_type: str) -> Request:
        try:
            self._gate.check()  # again: an upload may take minutes
            return await self._uploads.run(self._surface.parse, body, content_type)
        except BaseException:
            body.close()
            raise


def _content_type(headers: Headers) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == b"content-type"), "")


def _idempotency(headers: Headers) -> str:
    for name, value in headers:
        if name == _IDEMPOTENCY:
            return value[:_IDEMPOTENCY_MAX].decode("latin-1")
    return ""
