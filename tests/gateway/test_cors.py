"""Calls of web pages: told what they may read, asked nothing beforehand; other calls pass untouched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.cors import Cors, with_cors

PAGE = "https://chat.example.org"
Seen = list[dict[str, Any]]


class App:
    """Says who called it, with a header of its own."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sends: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["method"])
        self.sends.append(send)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"1")]})
        await send({"type": "http.response.body", "body": b"hello"})


async def asked(
    app: Any, method: str = "POST", path: str = "/v1/chat/completions", origin: str | None = PAGE
) -> tuple[int, dict[str, str], Seen]:
    sent: Seen = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"x")] + ([(b"origin", origin.encode())] if origin is not None else [])
    await app({"type": "http", "method": method, "path": path, "headers": headers}, None, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, sent


def open_to(*origins: str) -> tuple[App, Any]:
    app = App()
    return app, with_cors(app, origins)


def test_where_no_origin_is_set_nothing_stands_around_the_application() -> None:
    app = App()
    assert with_cors(app, ()) is app and isinstance(with_cors(app, (PAGE,)), Cors)


async def test_a_browser_is_answered_what_it_asks_first_and_the_house_is_not_asked() -> None:
    app, around = open_to(PAGE)
    status, headers, sent = await asked(around, "OPTIONS")
    assert (status, sent[1]["body"], app.asked) == (204, b"", [])
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-methods"] == "GET, POST"
    assert headers["access-control-allow-headers"] == "authorization, content-type"
    assert "access-control-allow-credentials" not in headers and headers["vary"] == "Origin"


async def test_a_page_of_another_origin_is_told_nothing() -> None:
    for origin in ("https://evil.example", "null", PAGE + ".evil.example", PAGE.upper(), "http://chat.example.org"):
        _, around = open_to(PAGE)
        for method in ("OPTIONS", "POST"):
            _, headers, _ = await asked(around, method, origin=origin)
            assert not [name for name in headers if name.startswith("access-control")], origin


async def test_an_allowed_page_may_read_what_the_api_says_in_headers() -> None:
    app, around = open_to("https://other.example", PAGE)
    status, headers, sent = await asked(around)
    assert (status, sent[1]["body"], app.asked) == (200, b"hello", ["POST"])
    assert (headers["access-control-allow-origin"], headers["x-request-id"]) == (PAGE, "1")
    exposed = headers["access-control-expose-headers"].split(", ")
    wanted: Sequence[str] = ("x-request-id", "x-farebox-cost", "x-farebox-balance", "retry-after")
    assert set(wanted) <= set(exposed) and "x-ratelimit-remaining-tokens" in exposed


async def test_any_origin_may_be_allowed() -> None:
    _, around = open_to("*")
    assert (await asked(around, "OPTIONS", origin="null"))[1]["access-control-allow-origin"] == "null"


async def test_other_paths_are_open_to_no_page() -> None:
    app, around = open_to("*")
    for path in ("/metrics", "/account", "/v1", "/v10/models"):
        _, headers, _ = await asked(around, "OPTIONS", path)
        assert not [name for name in headers if name.startswith("access-control")]
    assert len(app.asked) == 4


async def test_a_call_without_an_origin_passes_as_if_nothing_stood_there() -> None:
    app, around = open_to(PAGE)
    sent: Seen = []

    async def send(message: Any) -> None:
        sent.append(message)

    await around({"type": "http", "method": "POST", "path": "/v1/x", "headers": []}, None, send)
    assert app.sends == [send] and sent[0]["headers"] == [(b"x-request-id", b"1")]
    assert "vary" not in (await asked(around, origin=None))[1]
