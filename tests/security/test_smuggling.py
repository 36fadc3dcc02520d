"""Two readers of one connection never see two different requests: whatever is ambiguous is refused, and the connection
closed with it."""

from __future__ import annotations

import pytest

from tests.backend import Backend
from tests.house import Farebox
from tests.security.raw import chat, exchange, request, statuses, whole

BODY = chat()
LENGTH = b"content-length: %d" % len(BODY)
CHUNKED = b"transfer-encoding: chunked"
ONE_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

AMBIGUOUS: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "a length and chunks": (ONE_CHUNK, (LENGTH, CHUNKED)),
    "chunks and a length": (ONE_CHUNK, (CHUNKED, LENGTH)),
    "two lengths": (BODY, (LENGTH, b"content-length: 5")),
    "the same length twice": (BODY, (LENGTH, LENGTH)),
    "a list of lengths": (BODY, (b"content-length: %d, %d" % (len(BODY), len(BODY)),)),
    "a signed length": (BODY, (b"content-length: +%d" % len(BODY),)),
    "a negative length": (BODY, (b"content-length: -1",)),
    "a length in hex": (BODY, (b"content-length: 0x40",)),
    "a length beyond any number": (BODY, (b"content-length: 99999999999999999999999",)),
    "an empty length": (BODY, (b"content-length:",)),
    "an unknown coding": (ONE_CHUNK, (b"transfer-encoding: xchunked",)),
    "chunks that are not last": (ONE_CHUNK, (b"transfer-encoding: chunked, identity",)),
    "two codings, a length": (ONE_CHUNK, (CHUNKED, b"transfer-encoding: identity", LENGTH)),
    "a space before the colon": (ONE_CHUNK, (b"transfer-encoding : chunked",)),
    "a folded header": (ONE_CHUNK, (b"transfer-encoding:\r\n chunked", LENGTH)),
    "a folded value": (BODY, (LENGTH, b"x-note: a\r\n b")),
    "a control before the coding": (ONE_CHUNK, (b"transfer-encoding: \x0bchunked",)),
    "a bare line feed": (BODY, (LENGTH, b"x-note: a\nx-openwebui-user-id: victim")),
    "a bare carriage return": (BODY, (LENGTH, b"x-note: a\rx-openwebui-user-id: victim")),
    "a NUL in a value": (BODY, (LENGTH, b"x-note: a\0b")),
    "a NUL in a name": (BODY, (LENGTH, b"x-no\0te: a")),
    "a name with a space": (BODY, (LENGTH, b"x note: a")),
    "a line without a name": (BODY, (LENGTH, b": a")),
    "a chunk size that is none": (b"zz\r\n" + BODY, (CHUNKED,)),
    "a negative chunk size": (b"-5\r\n" + BODY, (CHUNKED,)),
    "a chunk size with a prefix": (b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), (CHUNKED,)),
    "a chunk size beyond any number": (b"fffffffffffffffff\r\n" + BODY, (CHUNKED,)),
    "a chunk longer than its size": (b"5\r\n" + BODY + b"\r\n0\r\n\r\n", (CHUNKED,)),
    "a chunk that ends with a bare line feed": (b"%x\n%s\n0\n\n" % (len(BODY), BODY), (CHUNKED,)),
}


@pytest.mark.parametrize(("body", "headers"), AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_an_ambiguous_request_is_refused_with_all_that_follows(
    farebox: Farebox, backend: Backend, body: bytes, headers: tuple[bytes, ...]
) -> None:
    ada = await farebox.caller()
    replies = await exchange(farebox, request(ada, body, *headers) + whole(ada, b"smuggled"))
    assert statuses(replies) == [400]
    assert backend.requests == []
    assert not await farebox.charges(ada.user.id)


async def test_a_request_hidden_in_a_body_stays_a_body(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    hidden = whole(ada, b"smuggled")
    body = b'{"model":"small","messages":[{"role":"user","content":"hello"}]}' + b" " * 10 + hidden
    sent = request(ada, body, b"content-length: %d" % len(body))
    assert statuses(await exchange(farebox, sent)) == [400]
    assert backend.requests == []


async def test_two_requests_one_after_the_other_are_two(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    replies = await exchange(farebox, whole(ada, b"first") + whole(ada, b"second"), replies=2)
    assert statuses(replies) == [200, 200]
    assert [seen.json["messages"][0]["content"] for seen in backend.requests] == ["first", "second"]


async def test_what_comes_behind_a_chunked_body_is_no_header(farebox: Farebox, backend: Backend) -> None:
    service, body = await farebox.service(), chat()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: f\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" % service.encode()
    )
    trailer = b"%x\r\n%s\r\n0\r\nx-openwebui-user-id: victim\r\n\r\n" % (len(body), body)
    replies = await exchange(farebox, head + trailer)
    assert statuses(replies) == [401] and b"identity_missing" in replies
    assert backend.requests == []
    assert not await farebox.rows("SELECT 1 FROM users WHERE subject = 'victim'")


@pytest.mark.parametrize(
    "line",
    [
        b"POST /v1/chat/completions HTTP/1.1 HTTP/1.1",
        b"POST /v1/chat/completions",
        b"POST /v1/chat/completions HTTP/9.9",
        b"POST /v1/chat\0/completions HTTP/1.1",
        b"PO\0ST /v1/chat/completions HTTP/1.1",
        b"POST /v1/chat/completions\tHTTP/1.1",
        b"PRI * HTTP/2.0",
        b"CONNECT 169.254.169.254:80 HTTP/1.1",
        b"GET http://169.254.169.254/latest HTTP/1.1",
    ],
)
async def test_a_request_line_that_is_none_reaches_no_backend(farebox: Farebox, backend: Backend, line: bytes) -> None:
    ada = await farebox.caller()
    head = b"\r\nhost: f\r\nauthorization: Bearer %s\r\n%s\r\n\r\n" % (ada.key.encode(), LENGTH)
    (status,) = statuses(await exchange(farebox, line + head + BODY))
    assert status in (400, 404, 405)
    assert backend.requests == [] and not await farebox.charges(ada.user.id)
