"""Everything that is not a metered call: who is here, what may be read, and the refusal of every other path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.account import Account, refused
from gateway.downstream import Endpoint
from gateway.errors import Refusal, internal
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.voice import Voice
from ledger.ids import uuid7
from ledger.store import BankUnavailable
from policies.buckets import BucketsBusy, BucketsUnavailable

_log = logging.getLogger("farebox.gateway")
_PING_S = 2.0


class Pingable(Protocol):
    """Something without which calls cannot be decided."""

    async def ping(self) -> None: ...


class Health:
    """``/healthz``: the process is alive. ``/readyz``: it can decide about money now."""

    def __init__(self, open_for_calls: Callable[[], bool], bank: Pingable, limiter: Pingable | None) -> None:
        self._open_for_calls = open_for_calls
        self._bank = bank
        self._limiter = limiter

    async def alive(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        if not self._open_for_calls():
            return _json({"status": "draining"}, 503)
        checks = {"bank": await _answers(self._bank)}
        if self._limiter is not None:
            checks["limiter"] = await _answers(self._limiter)
        well = all(checks.values())
        return _json({"status": "ok" if well else "unavailable", **checks}, 200 if well else 503)


def routes(
    metered: dict[str, Endpoint],
    *,
    models: Models,
    account: Account,
    health: Health,
    metrics: Metrics | None,
    pages: Sequence[Route] = (),
    voice: Voice | None = None,
) -> Starlette:
    """The application around the metered endpoints; ``metrics`` None: they have a port of their own. ``pages`` are for
    people."""
    table = [
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in metered.items()),
        Route("/v1/models", models.__call__, methods=["GET"]),
        Route("/v1/models/{model_id:path}", models.one, methods=["GET"]),
        Route("/v1/account", account.__call__, methods=["GET"]),
        Route("/healthz", health.alive, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        *pages,
    ]
    if metrics is not None:
        table.append(_metrics_route(metrics))
    handlers = {Refusal: refused, HTTPException: _not_here, Exception: _broken}
    app = Starlette(routes=table, exception_handlers=handlers)
    app.state.voice = voice or Voice()
    app.router.redirect_slashes = False  # a redirect is an answer, too: nothing but the paths above has one
    return app


def metrics_routes(metrics: Metrics) -> Starlette:
    """``/metrics`` alone, for a port of its own."""
    return Starlette(routes=[_metrics_route(metrics)])


def _metrics_route(metrics: Metrics) -> Route:
    async def render(request: Request) -> Response:
        return Response(metrics.render(), headers={"content-type": metrics.content_type})

    return Route("/metrics", render, methods=["GET"])


async def _not_here(request: Request, failure: Exception) -> Response:
    """Nothing under ``/v1`` passes unmetered."""
    assert isinstance(failure, HTTPException)
    method, path = request.method, request.url.path
    if failure.status_code == 405:
        refusal = Refusal.of("method_not_allowed", f"{method} is not possible on {path[:200]}.")
    elif path.startswith("/v1/"):
        refusal = Refusal.of("route_not_metered", f"{method} {path[:200]} is not offered here.")
    else:
        refusal = Refusal.of("route_not_metered", "There is nothing here; the API is under /v1.")
    request_id = str(uuid7())
    headers = {"x-request-id": request_id, **(failure.headers or {})}
    return _json(refusal.body(request_id), refusal.status, headers)


async def _broken(request: Request, failure: Exception) -> Response:
    """What no code foresaw: the caller gets an id, the log the rest."""
    request_id = str(uuid7())
    _log.error("request failed", extra={"request_id": request_id, "error": type(failure).__name__})
    refusal = request.app.state.voice.put(internal())
    return _json(refusal.body(request_id), refusal.status, {"x-request-id": request_id})


async def _answers(what: Pingable) -> bool:
    try:
        async with asyncio.timeout(_PING_S):
            await what.ping()
    except (TimeoutError, BankUnavailable, BucketsUnavailable, BucketsBusy):
        return False
    return True


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")
