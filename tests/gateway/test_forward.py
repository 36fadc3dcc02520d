"""Where a call goes: address, credential, body and patience, from the catalogue in force."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from config.catalog import Catalog, Model, Timeouts, Upstream
from config.parts import Limits
from config.parts import Timeouts as Defaults
from gateway.bill import Bill
from gateway.forward import Forwarder, target_of
from gateway.order import Candidate
from gateway.transcription import SURFACES as TRANSCRIPTIONS
from gateway.upstream import Reply, UpstreamFailure, Upstreams
from ledger.price import Price
from ledger.usage import Usage
from tests.backend import Backend, json_answer
from tests.gateway.forms import CONTENT_TYPE, Afar, file, form, part
from tests.gateway.parts import CHAT, EMBEDDINGS, chat_request, embeddings_request

DEFAULTS = Defaults(connect_s=1, first_byte_s=2, idle_s=3, total_s=4)


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    door = Upstreams()
    yield door
    await door.aclose()


def candidate(upstream_model: str = "small", upstream: str = "main") -> Candidate:
    return Candidate(Model("small", upstream, upstream_model), Bill(Price(1, "small"), 1_000_000, Usage(input=0)))


def catalog(url: str, **more: object) -> Catalog:
    return Catalog(upstreams={"main": Upstream("main", url, "TEST_BACKEND_KEY", allow_private=True, **more)})  # type: ignore[arg-type]


def forwarder(upstreams: Upstreams, *catalogs: Catalog) -> Forwarder:
    """Each look finds the next catalogue; the last one stays."""
    waiting = list(catalogs)
    return Forwarder(upstreams, lambda: waiting.pop(0) if len(waiting) > 1 else waiting[0], DEFAULTS, Limits())


async def opened(forward: Forwarder, to: Candidate, cap: int | None = None) -> Reply:
    return await forward.open(
        CHAT,
        chat_request(),
        to,
        forward.patience(to),
        request_id="id-1",
        headers=[(b"content-type", b"application/json"), (b"authorization", b"Bearer callers"), (b"cookie", b"a=b")],
        output_cap=cap,
        sent=lambda instant, whole: None,
    )


async def test_a_call_leaves_with_the_upstreams_key_and_headers_and_nothing_of_the_callers(
    backend: Backend, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_BACKEND_KEY", "sk-backend")
    there = catalog(backend.url, headers={"X-Team": "seven"})
    reply = await opened(forwarder(upstreams, there), candidate("real-name"))
    reply.close()
    (seen,) = backend.requests
    assert (seen.path, seen.json["model"]) == ("/v1/chat/completions", "real-name")
    assert seen.header("authorization") == "Bearer sk-backend"
    assert (seen.header("x-team"), seen.header("x-request-id"), seen.header("cookie")) == ("seven", "id-1", None)


@pytest.mark.parametrize(
    ("name", "field"),
    [("gpt-4o", "max_tokens"), ("o3-mini", "max_completion_tokens"), ("gpt-5.1", "max_completion_tokens")],
)
async def test_a_bound_is_told_under_the_name_the_model_knows(
    backend: Backend, upstreams: Upstreams, name: str, field: str
) -> None:
    forward = forwarder(upstreams, catalog(backend.url))
    (await opened(forward, candidate(name), cap=7)).close()
    assert backend.requests[0].json[field] == 7
    assert {"max_tokens", "max_completion_tokens"} & backend.requests[0].json.keys() == {field}


async def test_the_instant_of_leaving_is_told_before_the_reply(backend: Backend, upstreams: Upstreams) -> None:
    told: list[bool] = []
    forward = forwarder(upstreams, catalog(backend.url))
    reply = await forward.open(
        EMBEDDINGS,
        embeddings_request(),
        candidate(),
        forward.patience(candidate()),
        request_id="id-1",
        headers=[],
        output_cap=None,
        sent=lambda instant, whole: told.append(whole),
    )
    reply.close()
    assert told == [True] and backend.requests[0].path == "/v1/embeddings"


async def test_of_a_form_on_disk_each_piece_is_told_and_which_is_the_last(
    backend: Backend, upstreams: Upstreams
) -> None:
    sound, told = bytes(500_000), list[bool]()
    backend.answer = json_answer({})
    body = Afar(form(file("file", sound), part("model", b"m")))
    (transcriptions, _) = TRANSCRIPTIONS
    forward = forwarder(upstreams, catalog(backend.url))
    reply = await forward.open(
        transcriptions,
        transcriptions.parse(body, CONTENT_TYPE),
        candidate("inner"),
        forward.patience(candidate()),
        request_id="id-1",
        headers=[(b"content-type", CONTENT_TYPE.encode())],
        output_cap=None,
        sent=lambda instant, whole: told.append(whole),
    )
    reply.close()
    assert len(told) > 3 and told.index(True) == len(told) - 1
    (seen,) = backend.requests
    assert (seen.path, seen.header("content-type")) == ("/v1/audio/transcriptions", CONTENT_TYPE)
    same = seen.body == form(file("file", sound), part("model", b"inner"))
    assert same, "what arrived is not the form with another model"


async def test_a_new_catalogue_moves_the_next_call(backend: Backend, upstreams: Upstreams) -> None:
    async with Backend().running() as other:
        current = [catalog(backend.url)]
        forward = Forwarder(upstreams, lambda: current[0], DEFAULTS, Limits())
        (await opened(forward, candidate())).close()
        current[0] = catalog(other.url)
        (await opened(forward, candidate())).close()
        assert (len(backend.requests), len(other.requests)) == (1, 1)


async def test_an_upstream_that_is_not_there_is_a_failure_that_may_be_tried_elsewhere(upstreams: Upstreams) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        await opened(forwarder(upstreams, Catalog()), candidate())
    assert caught.value.safe_to_retry


def test_an_upstreams_own_patience_stands_over_the_settings_but_never_a_longer_total(upstreams: Upstreams) -> None:
    own = Timeouts(first_byte_s=20, total_s=40)
    patience = forwarder(upstreams, catalog("http://x", timeouts=own)).patience(candidate())
    assert patience == (1, 20, 3, 4)
    shorter = msgspec.structs.replace(own, total_s=2.5)
    assert forwarder(upstreams, catalog("http://x", timeouts=shorter)).patience(candidate()).total == 2.5
    assert forwarder(upstreams, Catalog()).patience(candidate()) == (1, 2, 3, 4)


def test_a_target_without_a_key_sends_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_BACKEND_KEY", raising=False)
    assert target_of(Upstream("main", "http://backend/v1", "TEST_BACKEND_KEY")).api_key == ""


def test_an_address_or_key_that_cannot_be_used_says_so_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_BACKEND_KEY", "sk\nbroken")
    for upstream in (Upstream("main", "ftp://x"), Upstream("main", "http://x", "TEST_BACKEND_KEY")):
        with pytest.raises(UpstreamFailure) as caught:
            target_of(upstream)
        assert caught.value.kind == "connect" and "broken" not in str(caught.value)
