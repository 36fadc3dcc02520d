"""Everything beside the metered calls: health, metrics, and the no to every other path."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.downstream import Receive, Scope, Send, send_reply
from gateway.metrics import Metrics
from gateway.routes import Health, metrics_routes, routes
from ledger.store import BankUnavailable
from policies.buckets import BucketsBusy, BucketsUnavailable
from tests.gateway.parts import App, asked


class Well:
    """Answers."""

    async def ping(self) -> None:
        return None


class Ill:
    """Fails so, or never answers."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure

    async def ping(self) -> None:
        if self._failure is not None:
            raise self._failure
        await asyncio.Event().wait()


class Nothing:
    """Stands for the account and the models, which have tests of their own; calling it breaks."""

    async def __call__(self, request: Any) -> Any:
        raise RuntimeError("a secret of the house")

    one = __call__


class Metered:
    """Stands for a metered endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_reply(scope, send, 200, [(b"content-type", b"text/plain")], b"metered")


def app(health: Health | None = None, metrics: Metrics | None = None) -> App:
    nothing: Any = Nothing()
    chosen = health or Health(lambda: True, Well(), None)
    return routes({"/v1/chat": Metered()}, models=nothing, account=nothing, health=chosen, metrics=metrics)


async def ready(health: Health) -> tuple[int, Any]:
    status, _, body = await asked(app(health), "/readyz")
    return status, body


async def test_alive_is_alive_whatever_is_away() -> None:
    status, _, body = await asked(app(Health(lambda: False, Ill(), Ill())), "/healthz")
    assert (status, body) == (200, {"status": "ok"})


async def test_ready_is_a_bank_that_answers() -> None:
    assert await ready(Health(lambda: True, Well(), None)) == (200, {"status": "ok", "bank": True})
    away = Health(lambda: True, Ill(BankUnavailable("away")), None)
    assert await ready(away) == (503, {"status": "unavailable", "bank": False})


@pytest.mark.parametrize("failure", [BucketsUnavailable(), BucketsBusy()])
async def test_ready_asks_the_limiter_only_where_calls_would_be_refused_without_it(failure: Exception) -> None:
    strict = Health(lambda: True, Well(), Ill(failure))
    assert await ready(strict) == (503, {"status": "unavailable", "bank": True, "limiter": False})


async def test_ready_waits_for_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.routes._PING_S", 0.01)
    assert (await ready(Health(lambda: True, Ill(), None)))[0] == 503


async def test_a_house_that_drains_is_not_ready() -> None:
    assert await ready(Health(lambda: False, Well(), None)) == (503, {"status": "draining"})


async def test_a_metered_path_goes_to_its_endpoint() -> None:
    assert (await asked(app(), "/v1/chat", "POST"))[2] == b"metered"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/v1/chat/", 404, "route_not_metered"),
        ("DELETE", "/v1/files/x", 404, "route_not_metered"),
        ("GET", "/", 404, "route_not_metered"),
        ("GET", "/metrics", 404, "route_not_metered"),
    ],
)
async def test_nothing_else_passes(method: str, path: str, status: int, code: str) -> None:
    got, headers, body = await asked(app(), path, method)
    assert (got, body["error"]["code"]) == (status, code)
    assert headers["x-request-id"] == body["error"]["farebox"]["request_id"]


async def test_a_path_cannot_break_the_sentence() -> None:
    _, _, body = await asked(app(), "/v1/two\nlines" + "x" * 1000)
    message = body["error"]["message"]
    assert message.isprintable() and len(message) < 300


async def test_a_defect_shows_an_id_and_nothing_else() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/v1/account", "headers": [], "query_string": b""}
    with pytest.raises(RuntimeError):  # for the server's log; the caller has its answer by then
        await app()(scope, None, send)
    assert sent[0]["status"] == 500
    assert b'"code":"internal"' in sent[1]["body"] and b"secret" not in sent[1]["body"]


async def test_metrics_stand_on_the_house_or_alone() -> None:
    status, headers, body = await asked(app(metrics=Metrics()), "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain") and b"farebox_streams_open 0.0" in body
    alone = metrics_routes(Metrics())
    assert (await asked(alone, "/metrics"))[0] == 200
    assert (await asked(alone, "/v1/models"))[0] == 404
