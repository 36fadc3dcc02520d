"""Bodies that are small to send and large to read: refused in a sentence, by every reader there is."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from tests.backend import Backend, json_answer, plain
from tests.house import Caller, Farebox

DEEP = 10_000
ROUTES = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/rerank",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/audio/speech",
]
FORMS = ["/v1/audio/transcriptions", "/v1/images/edits"]
ASKED = b'"model":"small","max_tokens":5,"input":"hi","prompt":"hi","query":"q","documents":["d"],"voice":"v"'
CHAT = b'"messages":[{"role":"user","content":"hi"}]'


ANSWER = json_answer({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}})
"""Of a backend that reads nothing of what it is sent: this file is about what Farebox reads."""


def nested(opened: bytes, closed: bytes) -> bytes:
    return opened * DEEP + closed * DEEP


DEPTHS = {
    "lists": nested(b"[", b"]"),
    "objects": nested(b'{"a":', b"}").replace(b":}", b":1}"),
    "a list never closed": b"[" * DEEP,
    "an object never closed": b'{"a":' * DEEP,
    "a list in a field": b'{%s,%s,"metadata":%s}' % (ASKED, CHAT, nested(b"[", b"]")),
    "a list for a content": b'{%s,"messages":[{"role":"user","content":%s}]}' % (ASKED, nested(b"[", b"]")),
    "a tool's schema": b'{%s,%s,"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]}'
    % (ASKED, CHAT, nested(b'{"a":', b"}").replace(b":}", b":1}")),
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", DEPTHS.values(), ids=DEPTHS)
async def test_a_body_of_ten_thousand_levels_is_refused_or_passed_and_breaks_nothing(
    farebox: Farebox, backend: Backend, path: str, body: bytes
) -> None:
    backend.answer = ANSWER
    ada = await farebox.caller()
    answer = await farebox.post(path, body, {**ada.headers, "content-type": "application/json"})
    # A depth in what Farebox only hands on is the backend's to refuse.
    assert answer.status in (200, 400, 404, 502), (answer.status, answer.body[:300])
    assert (await farebox.chat(ada)).status == 200


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_whose_field_is_ten_thousand_levels_deep_breaks_nothing(farebox: Farebox, path: str) -> None:
    ada = await farebox.caller()
    fields = {"model": "small", "prompt": "p", "response_format": DEPTHS["lists"].decode(), "n": "[" * DEEP}
    parts = "".join(f'--b\r\ncontent-disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items())
    headers = {**ada.headers, "content-type": "multipart/form-data; boundary=b"}
    answer = await farebox.post(path, (parts + "--b--\r\n").encode(), headers)
    assert answer.status in (400, 404), answer.body[:300]


@pytest.mark.parametrize("body", [DEPTHS["lists"], DEPTHS["objects"], DEPTHS["an object never closed"]])
async def test_the_admin_api_reads_no_ten_thousand_levels(farebox: Farebox, body: bytes) -> None:
    for method, path in (("POST", "/users"), ("POST", "/tiers"), ("PATCH", "/upstreams/main"), ("POST", "/charges")):
        answer = await farebox.admin.ask(method, path, body, match='"1"')
        assert answer.status in (400, 422), (path, answer.body[:300])
    assert (await farebox.admin.post("/auth/login", body)).status in (400, 422)


async def test_a_backend_that_answers_in_ten_thousand_levels_breaks_its_own_call_at_most(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller()
    for body in (DEPTHS["lists"], b'{"choices":[],"usage":%s}' % DEPTHS["lists"]):
        backend.answer = plain(body)
        assert (await farebox.chat(ada)).status in (200, 502)
        backend.answer = plain(b"data: %s\n\ndata: [DONE]\n\n" % body, content_type="text/event-stream")
        assert (await farebox.chat(ada, stream=True)).status in (200, 502)
    assert not await farebox.broken()


NUMBERS = [
    "1e999",
    "-1e999",
    "1e-999",
    "9" * 400,
    "9" * 5000,
    "1" + "0" * 100_000,
    "NaN",
    "Infinity",
    "-0",
    "1.5",
    "0x5",
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:12])
@pytest.mark.parametrize("field", ["max_tokens", "n", "temperature", "seed"])
async def test_a_number_beyond_all_is_refused_or_passed_and_holds_no_more_than_there_is(
    farebox: Farebox, backend: Backend, number: str, field: str
) -> None:
    backend.answer = ANSWER
    ada = await farebox.caller()
    body = f'{{"model":"small","{field}":{number},"messages":[{{"role":"user","content":"hi"}}]}}'
    answer = await farebox.post("/v1/chat/completions", body.encode(), ada)
    assert answer.status in (200, 400, 402, 413), answer.body[:300]
    assert (await farebox.spendable(ada)) > 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model":"unpriced","model":"small","messages":[{"role":"user","content":"hi"}]}', {200, 400}),
        (b'{"model":"small","model":"large","messages":[{"role":"user","content":"hi"}]}', {200, 400}),
        (b'{"model":"small","stream":false,"stream":true,"messages":[{"role":"user","content":"hi"}]}', {200, 400}),
    ],
)
async def test_of_two_fields_of_one_name_the_backend_reads_the_one_that_was_charged(
    farebox: Farebox, backend: Backend, body: bytes, status: set[int]
) -> None:
    ada = await farebox.caller()
    answer = await farebox.post("/v1/chat/completions", body, ada)
    assert answer.status in status, answer.body
    for seen in backend.requests:
        firsts = json.loads(seen.body, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
        (charge,) = await farebox.charges(ada.user.id)
        assert seen.json["model"] == firsts["model"] == charge["model"]
        assert bool(seen.json.get("stream")) == bool(firsts.get("stream"))


async def test_text_that_is_no_utf8_names_nothing_here(farebox: Farebox, backend: Backend) -> None:
    backend.answer = ANSWER
    ada = await farebox.caller()
    for text in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"):
        body = b'{"model":"small","messages":[{"role":"user","content":"%s"}]}' % text
        assert (await farebox.post("/v1/chat/completions", body, ada)).status in (200, 400)
        assert (await farebox.post("/v1/chat/completions", body.replace(b"small", text), ada)).status in (400, 404)
        assert (await farebox.admin.post("/users", b'{"name":"%s"}' % text)).status in (400, 422)


async def test_very_many_fields_are_read_once_or_refused(farebox: Farebox, backend: Backend) -> None:
    backend.answer = ANSWER
    ada = await farebox.caller()
    many = ",".join(f'"f{number}":{number}' for number in range(50_000))
    body = f'{{"model":"small",{many},"messages":[{{"role":"user","content":"hi"}}]}}'
    assert (await farebox.post("/v1/chat/completions", body.encode(), ada)).status in (200, 400, 413)
    messages = [{"role": "user", "content": ""}] * 25_000
    assert (await farebox.post("/v1/chat/completions", {"model": "small", "messages": messages}, ada)).status in (
        200,
        400,
        402,
        413,
    )
    assert (await farebox.admin.post("/users", f"{{{many}}}".encode())).status in (413, 422)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
async def test_a_compressed_body_is_not_opened(farebox: Farebox, backend: Backend, coding: str) -> None:
    ada = await farebox.caller()
    bomb = gzip.compress(b" " * 10_000_000) if "gzip" in coding else zlib.compress(b" " * 10_000_000)
    for path in (*ROUTES[:5], *FORMS):
        headers = {**ada.headers, "content-type": "application/json", "content-encoding": coding}
        assert (await farebox.post(path, bomb, headers)).status == 400
    headers = {"content-encoding": coding}
    assert (await farebox.admin.ask("POST", "/users", bomb, headers=headers)).status in (400, 415)
    assert backend.requests == []


async def test_nobody_is_asked_for_a_compressed_answer(farebox: Farebox, backend: Backend) -> None:
    ada: Caller = await farebox.caller()
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
    await farebox.post("/v1/chat/completions", body, {**ada.headers, "accept-encoding": "gzip, br, zstd"})
    (seen,) = backend.requests
    assert seen.header("accept-encoding") == "identity"
