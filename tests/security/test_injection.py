"""Nothing that somebody writes becomes a header, a line or a path of its own: towards backends, callers, the log."""

from __future__ import annotations

import json

import pytest

from tests.backend import Backend, json_answer, stream
from tests.house import Farebox
from tests.security.raw import exchange, statuses, whole

EVIL = "a\r\nx-evil: 1\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"
ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'


async def test_what_a_caller_writes_into_its_body_becomes_no_header_of_the_backends(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller()
    await farebox.admin.made("/models", {"id": "any", "upstream": "main", "prices": {"per_request": "0.01"}})
    await farebox.chat(ada, EVIL, user=EVIL, metadata={EVIL: EVIL}, stop=[EVIL])
    await farebox.chat(ada, model=EVIL)
    (seen,) = backend.requests
    assert b"evil" not in seen.head and seen.path == "/v1/chat/completions"


@pytest.mark.parametrize("name", [b"openai-beta", b"accept", b"anthropic-beta", b"content-type"])
async def test_a_header_that_may_pass_carries_nothing_else_along(
    farebox: Farebox, backend: Backend, name: bytes
) -> None:
    ada = await farebox.caller()
    sent = whole(ada).replace(b"content-type: application/json\r\n", b"")
    sent = sent.replace(b"host: farebox\r\n", b"host: farebox\r\n%s: a\xff\xc3\x28\tb\r\n" % name)
    (status,) = statuses(await exchange(farebox, sent))
    assert status in (200, 400)
    assert all(b"evil" not in seen.head for seen in backend.requests)


@pytest.mark.parametrize("value", ["a\rb: c", "a\nb: c", "a\r\nb: c", "a\0b", "a\x01b", "a\x7fb", "é"])
async def test_an_operators_header_is_one_line_of_plain_text(farebox: Farebox, value: str) -> None:
    body = {"name": "u", "base_url": "https://backend.example", "headers": {"x-note": value}}
    assert (await farebox.admin.post("/upstreams", body)).status == 422


@pytest.mark.parametrize("name", ["a b", "a\r\nb", "a:", "", "é", "host", "transfer-encoding", "authorization"])
async def test_an_operators_header_has_a_plain_name_that_is_not_ours(farebox: Farebox, name: str) -> None:
    upstream = f"u-{name}"
    made = await farebox.admin.post(
        "/upstreams", {"name": upstream, "base_url": "https://backend.example", "headers": {name: "v"}}
    )
    if made.status == 201:  # told by the doctor, and by every call
        model = {"id": f"on-{name}", "upstream": upstream, "prices": {"per_request": "0.01"}}
        await farebox.admin.made("/models", model)
        assert (await farebox.chat(await farebox.caller(), model=f"on-{name}")).status == 502
    else:
        assert made.status == 422


NASTY = [
    b"x-note: a\x01b",
    b"x-note: a\x7fb",
    b"x-note: \x80\xff",
    b"x-note: a\rx-evil: 1",
    b"x note: a",
    b"x(note): a",
    b"x-n\xc3\xb6te: a",
    b": a",
    b"x-note: a\r\n folded",
    b"x-farebox-balance: 1000000",
    b"x-ratelimit-remaining-requests: 1000000",
    b"set-cookie: session=stolen",
    b"x-request-id: theirs",
    b"access-control-allow-origin: *",
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("line", NASTY)
async def test_a_backends_header_is_passed_on_whole_or_not_at_all(
    farebox: Farebox, backend: Backend, line: bytes, streamed: bool
) -> None:
    ada = await farebox.caller()
    kind = b"text/event-stream" if streamed else b"application/json"
    body = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n' if streamed else ANSWER
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n\r\n" % (kind, len(body), line)
    backend.answer = [head + body]
    answer = await farebox.chat(ada, stream=streamed)
    assert answer.status in (200, 502), answer.body
    assert "x-evil" not in answer.headers and "set-cookie" not in answer.headers
    assert answer.headers.get("x-farebox-balance") != "1000000" and answer.headers["x-request-id"] != "theirs"
    assert not await farebox.broken()


async def test_a_backends_content_type_is_one_line(farebox: Farebox, backend: Backend) -> None:
    backend.answer = json_answer({"choices": []}, headers=(("content-type", "text/html\x01"),))
    answer = await farebox.chat(await farebox.caller())
    assert answer.status in (200, 502) and "text/html" not in answer.headers.get("content-type", "")


async def test_an_event_that_a_caller_caused_is_one_event(farebox: Farebox, backend: Backend) -> None:
    """What a backend repeats of a question cannot end a stream or begin an event: JSON has no line breaks."""
    echo = json.dumps(
        {"choices": [{"index": 0, "delta": {"content": EVIL + '\n\ndata: {"error": {}}\n\ndata: [DONE]'}}]}
    )
    backend.answer = stream([f"data: {echo}\n\n".encode(), b"data: [DONE]\n\n"])
    answer = await farebox.chat(await farebox.caller(), stream=True)
    assert answer.body.count(b"\n\n") == 2 and answer.body.count(b"\ndata: [DONE]") == 1


async def test_a_line_of_the_log_is_one_line(farebox: Farebox, capfd: pytest.CaptureFixture[str]) -> None:
    service = await farebox.service()
    for value in ("a\tb", "a b", "a\x85b", '"}{"event":"call"'):
        headers = {
            "authorization": f"Bearer {service}",
            "x-openwebui-user-id": "u-1",
            "x-openwebui-user-name": "Eve%0A%7B%22event%22%3A%22call%22%7D",
            "x-openwebui-chat-id": value,
            "x-openwebui-task": value,
        }
        await farebox.chat(headers, model='small"}\n{"event":"call"')
    await farebox.settled()
    await farebox.run.gateway.flush(1)
    (user,) = await farebox.rows("SELECT name FROM users WHERE subject = 'u-1'")
    assert user["name"] == ""
    lines = [line for line in capfd.readouterr().out.splitlines() if line]
    assert all(json.loads(line)["event"] == "call" for line in lines)
