"""Every code of the contract by a real call: its status, its sentence, its details; and many ways to some of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from gateway import admission
from gateway.errors import KINDS
from gateway.language import Wait, language_of
from tests import house
from tests.backend import Backend, Gate, Pause, Stall, chat, error, head, plain, stream
from tests.house import Answer, Caller, Farebox, until

TIERS = """
[[tiers]]
name = "penny"
allowance = { usd = "0.01", every = "month" }
upgrade_to = "pro"
upgrade_url = "https://fare.example/pro"

[[tiers]]
name = "slow"
concurrency = 1
windows = [
    { limit = 1, of = "requests", per = "hour", models = ["flat"] },
    { limit = 2000, of = "tokens", per = "minute", models = ["small"] },
    { limit = "0.01", of = "cost", per = "day", models = ["large"] },
]

[[tiers]]
name = "bounded"
max_output = 100
max_context = 50
"""
DEAF = """
[[upstreams]]
name = "deaf"
base_url = "http://127.0.0.1:{port}/v1"
allow_private = true

[[models]]
id = "deaf"
upstream = "deaf"
prices = {{ input = "1.00" }}
"""


@dataclass
class Scene:
    """A gateway, its backend, and the server behind its ledger."""

    farebox: Farebox
    backend: Backend
    server_url: str
    monkeypatch: pytest.MonkeyPatch


@dataclass(frozen=True)
class Story:
    """A call that ends with a code, and what the contract says of it."""

    status: int
    type: str
    play: Callable[[Scene], Awaitable[Answer]]
    settings: dict[str, Any] = field(default_factory=dict)


STORIES: dict[str, Story] = {}
Play = Callable[[Scene], Awaitable[Answer]]


def tells(code: str, status: int, kind: str, **settings: Any) -> Callable[[Play], Play]:
    """This story ends with this code."""

    def note(play: Play) -> Play:
        STORIES[code] = Story(status, kind, play, settings)
        return play

    return note


@pytest.fixture
async def open_scene(
    data_dir: Path,
    database_url: str,
    redis_url: str,
    server_url: str,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Open a scene with these settings; ``redis_url`` may be another one."""

    @asynccontextmanager
    async def opened(*, redis_url: str = redis_url, catalog: str = "", **settings: Any) -> AsyncIterator[Scene]:
        toml = TIERS + catalog
        async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=toml, **settings) as farebox:
            yield Scene(farebox, backend, server_url, monkeypatch)

    return opened


def test_every_code_has_a_story() -> None:
    assert STORIES.keys() == KINDS.keys()
    assert {code for code, story in STORIES.items() if story.settings} == set(IN_TROUBLE)


async def test_a_refusal_says_what_the_contract_promises(open_scene: Callable[..., Any]) -> None:
    """Those a house with the usual settings can give, one after another in the same house."""
    async with open_scene() as scene:
        for code, story in STORIES.items():
            if not story.settings:
                await assert_told(code, scene)
        assert not await scene.farebox.broken()


IN_TROUBLE = ("request_timeout", "ledger_unavailable", "limiter_unavailable", "draining", "upstream_timeout")


@pytest.mark.parametrize("code", IN_TROUBLE)
async def test_a_refusal_of_a_house_in_trouble_says_what_the_contract_promises(
    code: str, open_scene: Callable[..., Any]
) -> None:
    async with open_scene(**STORIES[code].settings) as scene:
        await assert_told(code, scene)
        assert not await scene.farebox.broken()


async def assert_told(code: str, scene: Scene) -> None:
    """Play the story of a code, and look at its end."""
    story = STORIES[code]
    answer = await story.play(scene)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (story.status, code, story.type)
    assert_well_formed(answer)


def assert_well_formed(answer: Answer) -> None:
    """What holds for every refusal before the first byte."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.error.keys() == {"message", "type", "code", "param", "farebox"}
    details = answer.error["farebox"]
    assert details["request_id"] == answer.headers["x-request-id"]
    assert UUID(details["request_id"]).version == 7
    assert_plain(answer.error["message"])
    wait = details.get("retry_after_s")
    assert answer.headers.get("retry-after") == (None if wait is None else str(wait))
    if answer.status in (429, 503):
        assert wait is not None and wait >= 1
    if wait is not None and answer.error["code"] != "price_missing":  # whose end nobody can foretell
        assert answer.error["message"].endswith(f" Try again in {language_of().text(Wait(wait))}.")
    if answer.status == 402:
        assert answer.error["message"].endswith(f": {details['upgrade_url']}")


def assert_plain(message: str) -> None:
    """A person can read it in a toast: one line, short, no markup, nothing twice."""
    assert message.isprintable() and len(message) < 300
    assert not set("<>`*[]|{}") & set(message)
    assert message[0].isupper() or message.startswith(("POST", "GET"))
    assert message.endswith(".") or message.rpartition(" ")[2].startswith("https://")
    assert message.lower().count("try again") <= 1


# One story for each code --------------------------------------------------------------------------------------------


@tells("invalid_request", 400, "invalid_request_error")
async def no_json(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    return await scene.farebox.post("/v1/chat/completions", b"{", ada)


@tells("invalid_api_key", 401, "authentication_error")
async def no_key(scene: Scene) -> Answer:
    return await scene.farebox.chat({})


@tells("key_expired", 401, "authentication_error")
async def expired(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    full, _ = await scene.farebox.accounts.create_key(name="old", user_id=ada.user.id, expires_at=yesterday)
    return await scene.farebox.chat({"authorization": f"Bearer {full}"})


@tells("key_revoked", 401, "authentication_error")
async def revoked(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    full, key = await scene.farebox.accounts.create_key(name="lost", user_id=ada.user.id)
    await scene.farebox.accounts.revoke_key(key.id)
    return await scene.farebox.chat({"authorization": f"Bearer {full}"})


@tells("identity_missing", 401, "authentication_error")
async def a_service_names_nobody(scene: Scene) -> Answer:
    return await scene.farebox.chat({"authorization": f"Bearer {await scene.farebox.service()}"})


@tells("insufficient_balance", 402, "insufficient_quota")
async def nothing_paid_in(scene: Scene) -> Answer:
    answer = await scene.farebox.chat(await scene.farebox.caller(usd="0"), model="flat")
    details = answer.error["farebox"]
    assert (details["needed"], details["available"], details["tier"]) == ("0.0100", "0.0000", "paid")
    assert (details["upgrade_tier"], house.tokenless(details["upgrade_url"])) == ("pro", house.PERSONAL)
    return answer


@tells("allowance_exhausted", 402, "insufficient_quota")
async def the_allowance_is_gone(scene: Scene) -> Answer:
    ada = await scene.farebox.caller(tier="penny", usd="0")
    assert (await scene.farebox.chat(ada, model="flat")).status == 200
    await scene.farebox.settled()
    answer = await scene.farebox.chat(ada, model="flat")
    details = answer.error["farebox"]
    resets_at = datetime.strptime(details["resets_at"], "%Y-%m-%dT%H:%M:%SZ")
    assert resets_at > datetime.now(UTC).replace(tzinfo=None) and resets_at.day == 1
    assert f"It renews on {resets_at:%Y-%m-%d}." in answer.error["message"]
    assert details["upgrade_url"] == "https://fare.example/pro"
    return answer


@tells("model_not_allowed", 403, "permission_error")
async def a_model_of_another_tier(scene: Scene) -> Answer:
    answer = await scene.farebox.chat(await scene.farebox.caller(tier="free"), model="large")
    assert house.tokenless(answer.error["message"]).endswith(f" Upgrade: {house.PERSONAL}")
    return answer


@tells("feature_not_allowed", 403, "permission_error")
async def tools_of_another_tier(scene: Scene) -> Answer:
    tool = {"type": "function", "function": {"name": "look"}}
    answer = await scene.farebox.chat(await scene.farebox.caller(tier="free"), tools=[tool])
    assert answer.error["farebox"]["limit"] == "tools"
    return answer


@tells("account_suspended", 403, "permission_error")
async def suspended(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    await scene.farebox.accounts.set_status(ada.user.id, "suspended")
    return await scene.farebox.chat(ada)


@tells("model_not_found", 404, "invalid_request_error")
async def no_such_model(scene: Scene) -> Answer:
    answer = await scene.farebox.chat(await scene.farebox.caller(), model="gpt-unheard")
    assert answer.error["param"] == "model" and "gpt-unheard" in answer.error["message"]
    return answer


@tells("route_not_metered", 404, "invalid_request_error")
async def a_route_nobody_counts(scene: Scene) -> Answer:
    return await scene.farebox.post("/v1/files", {}, await scene.farebox.caller())


@tells("method_not_allowed", 405, "invalid_request_error")
async def a_get_where_a_post_belongs(scene: Scene) -> Answer:
    answer = await scene.farebox.get("/v1/chat/completions", await scene.farebox.caller())
    assert answer.headers["allow"] == "POST"
    return answer


@tells("request_timeout", 408, "invalid_request_error", limits={"body_timeout_s": 0.2})
async def the_body_does_not_come(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    return await raw_call(scene.farebox, ada, b'{"model"', length=1000)


@tells("idempotency_conflict", 409, "invalid_request_error")
async def the_same_key_again(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    headers = {**ada.headers, "idempotency-key": "order-7"}
    first = await scene.farebox.chat(headers)
    answer = await scene.farebox.chat(headers)
    assert answer.error["farebox"]["limit"] == first.headers["x-request-id"]
    assert len(await scene.farebox.charges(ada.user.id)) == 1
    return answer


@tells("request_too_large", 413, "invalid_request_error")
async def an_answer_longer_than_the_tier_grants(scene: Scene) -> Answer:
    answer = await scene.farebox.chat(await scene.farebox.caller(tier="bounded"), max_tokens=101)
    assert (answer.error["farebox"]["limit"], answer.error["farebox"]["limit_value"]) == ("max_output", 100)
    assert "100" in answer.error["message"]
    return answer


@tells("rate_limit_requests", 429, "rate_limit_error")
async def one_request_too_many(scene: Scene) -> Answer:
    ada = await scene.farebox.caller(tier="slow")
    assert (await scene.farebox.chat(ada, model="flat")).status == 200
    answer = await scene.farebox.chat(ada, model="flat")
    wait = answer.error["farebox"]["retry_after_s"]
    assert 3500 < wait <= 3660 and answer.error["message"].endswith(f" Try again in {-(-wait // 60)} min.")
    return answer


@tells("rate_limit_tokens", 429, "rate_limit_error")
async def one_token_too_many(scene: Scene) -> Answer:
    ada = await scene.farebox.caller(tier="slow")
    scene.backend.then(chat(usage={"prompt_tokens": 1000, "completion_tokens": 999, "total_tokens": 1999}))
    assert (await scene.farebox.chat(ada, max_tokens=10)).status == 200
    await scene.farebox.settled()
    return await scene.farebox.chat(ada, max_tokens=10)


@tells("rate_limit_cost", 429, "rate_limit_error")
async def one_cent_too_much(scene: Scene) -> Answer:
    ada = await scene.farebox.caller(tier="slow")
    scene.backend.then(chat(usage={"prompt_tokens": 4000, "completion_tokens": 0, "total_tokens": 4000}))
    assert (await scene.farebox.chat(ada, model="large", max_tokens=10)).status == 200
    await scene.farebox.settled()
    answer = await scene.farebox.chat(ada, model="large", max_tokens=10)
    assert "0.0100 USD per day" in answer.error["message"]
    return answer


@tells("too_many_concurrent", 429, "rate_limit_error")
async def two_at_once(scene: Scene) -> Answer:
    ada = await scene.farebox.caller(tier="slow")
    opened, before = asyncio.Event(), len(scene.backend.requests)
    scene.backend.then(lambda seen: [Gate(opened), *plain(b"{}")])
    async with asyncio.TaskGroup() as group:
        first = group.create_task(scene.farebox.chat(ada, max_tokens=10))
        await scene.backend.arrived(before + 1)
        answer = await scene.farebox.chat(ada, model="large", max_tokens=10)
        opened.set()
    assert first.result().status == 200
    return answer


@tells("internal", 500, "api_error")
async def something_breaks_here(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    scene.monkeypatch.setattr(admission, "candidates_of", broken)
    answer = await scene.farebox.chat(ada)
    scene.monkeypatch.undo()
    assert "secret" not in answer.body.decode()
    return answer


@tells("upstream_error", 502, "api_error")
async def the_backend_fails(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    scene.backend.then(error(500, "stack trace of a secret place"))
    answer = await scene.farebox.chat(ada)
    assert "secret" not in answer.body.decode()
    assert not await scene.farebox.charges(ada.user.id)
    return answer


@tells("price_missing", 503, "api_error")
async def a_model_without_a_price(scene: Scene) -> Answer:
    before = len(scene.backend.requests)
    answer = await scene.farebox.chat(await scene.farebox.caller(), model="unpriced")
    assert len(scene.backend.requests) == before
    return answer


@tells("ledger_unavailable", 503, "api_error", bank={"beat_s": 0.5, "hold_ttl_s": 3, "statement_timeout_s": 2})
async def the_bank_does_not_answer(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    assert (await scene.farebox.chat(ada)).status == 200
    await scene.farebox.settled()
    async with scene.farebox.engine.begin() as connection:
        await connection.execute(text("LOCK TABLE wallets IN ACCESS EXCLUSIVE MODE"))
        answer = await scene.farebox.chat(ada)
    assert len(scene.backend.requests) == 1
    return answer


@tells("limiter_unavailable", 503, "api_error", redis_url="redis://127.0.0.1:9/0", redis={"on_failure": "refuse"})
async def the_limiter_does_not_answer(scene: Scene) -> Answer:
    answer = await scene.farebox.chat(await scene.farebox.caller())
    assert (await scene.farebox.get("/readyz")).status == 503
    assert not scene.backend.requests
    return answer


@tells("draining", 503, "api_error", drain_timeout_s=1)
async def the_house_closes(scene: Scene) -> Answer:
    ada = await scene.farebox.caller()
    await scene.farebox.run.gateway.drain(0)
    assert (await scene.farebox.get("/readyz")).status == 503
    assert (await scene.farebox.get("/healthz")).status == 200
    return await scene.farebox.chat(ada)


@tells("upstream_timeout", 504, "api_error", timeouts={"first_byte_s": 0.3})
async def the_backend_says_nothing(scene: Scene) -> Answer:
    scene.backend.then([Stall()])
    answer = await scene.farebox.chat(await scene.farebox.caller())
    assert answer.error["farebox"]["limit"] == "first_byte_timeout"
    assert not await scene.farebox.charges()
    return answer


# Other ways to the same codes ---------------------------------------------------------------------------------------

BAD_BODIES = [
    (b"", None),
    (b"[]", None),
    (b'{"model": "small", "messages": [{}]', None),
    (b"\xff\xfe", None),
    (b'{"messages": []}', "model"),
    (b'{"model": 7, "messages": []}', "model"),
    (b'{"model": "small"}', "messages"),
    (b'{"model": "small", "messages": "hello"}', "messages"),
    (b'{"model": "small", "messages": ["hello"]}', "messages"),
    (b'{"model": "small", "messages": [], "stream": "yes"}', "stream"),
    (b'{"model": "small", "messages": [], "n": 0}', "n"),
    (b'{"model": "small", "messages": [], "max_tokens": -1}', "max_tokens"),
    (b'{"model": "embed", "messages": []}', "model"),
]


async def test_a_bad_field_is_named(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    for body, param in BAD_BODIES:
        answer = await farebox.post("/v1/chat/completions", body, ada)
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_request", param), body
        assert_well_formed(answer)
        assert param is None or param in answer.error["message"]
    assert not backend.requests


async def test_what_a_caller_writes_cannot_break_the_sentence(farebox: Farebox) -> None:
    ada = await farebox.caller()
    for name in ("two\nlines", "<b>bold</b>", "\u202ereversed", "x" * 100_000):
        answer = await farebox.chat(ada, model=name)
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert answer.error["message"].isprintable() and len(answer.error["message"]) < 300
    for path in ("/v1/two%0Alines", "/v1/models/two%0Alines", f"/v1/{'x' * 5000}"):
        answer = await farebox.get(path, ada)
        assert answer.status == 404
        assert answer.error["message"].isprintable() and len(answer.error["message"]) < 300


async def test_no_other_path_passes(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller()
    for path in ("/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/v1//chat/completions", "/v1/realtime", "/v2/x"):
        for answer in (await farebox.post(path, {}, ada), await farebox.get(path, ada)):
            assert (answer.status, answer.error["code"]) == (404, "route_not_metered"), path
            assert_well_formed(answer)
    assert not backend.requests


async def test_a_body_over_its_bound_is_refused_with_the_bound(open_scene: Callable[..., Any]) -> None:
    async with open_scene(limits={"body_bytes_max": 2048}) as scene:
        farebox, backend = scene.farebox, scene.backend
        ada = await farebox.caller()
        told = await farebox.chat(ada, "x" * 4096)
        counted = await farebox.http.post(
            f"{farebox.url}/v1/chat/completions", data=in_pieces(b"x" * 1000, 5), headers=ada.headers
        )
        answers = [told, Answer(counted.status, counted.headers, await counted.read())]
        for answer in answers:
            assert (answer.status, answer.error["code"]) == (413, "request_too_large")
            assert "2048 bytes" in answer.error["message"]
        assert (await farebox.chat(ada, "x" * 1500)).status == 200
        assert len(backend.requests) == 1


async def test_a_compressed_body_is_refused_by_name(farebox: Farebox) -> None:
    ada = await farebox.caller()
    answer = await farebox.post("/v1/chat/completions", b"\x1f\x8b", {**ada.headers, "content-encoding": "gzip"})
    assert (answer.status, answer.error["param"]) == (400, "content-encoding")


async def test_a_conversation_over_the_tiers_bound_is_refused_with_the_bound(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        bob = await scene.farebox.caller(tier="bounded")
        answer = await scene.farebox.chat(bob, "word " * 200)
        assert (answer.status, answer.error["farebox"]["limit"]) == (413, "max_context")
        assert_well_formed(answer)
        assert (await scene.farebox.chat(bob, "word " * 20)).status == 200


async def test_a_reply_that_begins_and_stops_is_a_timeout(open_scene: Callable[..., Any]) -> None:
    async with open_scene(timeouts={"idle_s": 0.3}) as scene:
        scene.backend.then([head(200, (("content-type", "application/json"), ("content-length", "99"))), Stall()])
        answer = await scene.farebox.chat(await scene.farebox.caller())
        assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
        assert answer.error["farebox"]["limit"] == "idle_timeout"
        assert_well_formed(answer)


async def test_a_stream_that_stops_ends_with_one_event_and_done(open_scene: Callable[..., Any]) -> None:
    async with open_scene(timeouts={"idle_s": 0.3}) as scene:
        scene.backend.then(chat(end=[Stall()]))
        answer = await scene.farebox.chat(await scene.farebox.caller(), stream=True)
        assert answer.status == 200
        *_, last, done = answer.body.split(b"\n\n")[:-1]
        assert done == b"data: [DONE]"
        event = msgspec.json.decode(last.removeprefix(b"data: "))
        assert event.keys() == {"error"}
        assert event["error"]["code"] == "upstream_timeout"
        assert event["error"]["farebox"]["request_id"] == answer.headers["x-request-id"]
        assert (await scene.farebox.charge())["outcome"] == "upstream_error"
        assert not await scene.farebox.broken()


async def test_a_call_that_never_ends_is_ended(open_scene: Callable[..., Any]) -> None:
    async with open_scene(timeouts={"total_s": 2}) as scene:
        trickle = [step for _ in range(100) for step in (b": still here\n\n", Pause(0.1))]
        scene.backend.then(stream(trickle))
        answer = await scene.farebox.chat(await scene.farebox.caller(), stream=True)
        assert b'"limit":"total_timeout"' in answer.body and answer.body.endswith(b"data: [DONE]\n\n")
        await asyncio.wait_for(scene.backend.requests[0].left.wait(), 30)


async def test_a_backend_that_takes_no_connection_is_a_timeout(open_scene: Callable[..., Any]) -> None:
    with deaf_port() as port:
        catalog = DEAF.format(port=port)
        async with open_scene(catalog=catalog, timeouts={"connect_s": 0.3}, limits={"retries_max": 0}) as scene:
            answer = await scene.farebox.chat(await scene.farebox.caller(), model="deaf")
            assert not await scene.farebox.broken()
        assert (answer.status, answer.error["farebox"]["limit"]) == (504, "connect_timeout")
        assert_well_formed(answer)


async def test_while_postgres_takes_nobody_calls_get_503_and_afterwards_pass(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        farebox = scene.farebox
        ada = await farebox.caller()
        assert (await farebox.chat(ada)).status == 200
        await farebox.settled()
        async with closed_to_connections(scene):
            answer = await farebox.chat(ada)
            assert (answer.status, answer.error["code"]) == (503, "ledger_unavailable")
            assert_well_formed(answer)
            assert (await farebox.get("/readyz")).status == 503
            assert (await farebox.get("/v1/account", ada)).error["code"] == "ledger_unavailable"
        await until(lambda: passes(farebox, ada))
        assert (await farebox.get("/readyz")).status == 200
        assert not await farebox.broken()


async def test_a_house_ends_in_good_order_while_postgres_takes_nobody(open_scene: Callable[..., Any]) -> None:
    async with AsyncExitStack() as afterwards, open_scene() as scene:
        assert (await scene.farebox.chat(await scene.farebox.caller())).status == 200
        await scene.farebox.settled()
        await afterwards.enter_async_context(closed_to_connections(scene))


async def test_a_house_with_all_it_can_run_says_so(open_scene: Callable[..., Any]) -> None:
    async with open_scene(limits={"streams_max": 1}) as scene:
        ada = await scene.farebox.caller()
        opened = asyncio.Event()
        scene.backend.then(lambda seen: [Gate(opened), *plain(b"{}")])
        async with asyncio.TaskGroup() as group:
            group.create_task(scene.farebox.chat(ada))
            await scene.backend.arrived()
            answer = await scene.farebox.chat(ada)
            opened.set()
        assert (answer.status, answer.error["code"]) == (503, "draining")
        assert_well_formed(answer)


async def test_a_defect_before_admission_shows_an_id_and_nothing_else(open_scene: Callable[..., Any]) -> None:
    async with open_scene() as scene:
        ada = await scene.farebox.caller()
        scene.monkeypatch.setattr("gateway.identity._credential", broken)
        answers = [await scene.farebox.chat(ada), await scene.farebox.get("/v1/account", ada)]
        scene.monkeypatch.undo()
        for answer in answers:
            assert (answer.status, answer.error["code"]) == (500, "internal")
            assert_well_formed(answer)
            assert b"secret" not in answer.body


async def test_a_backends_own_refusal_goes_through_with_its_status_and_costs_nothing(
    farebox: Farebox, backend: Backend
) -> None:
    ada = await farebox.caller(usd="1.00")
    for status in (400, 404, 422, 429):
        backend.then(error(status, "The backend's own words.", headers=[("retry-after", "7")]))
        answer = await farebox.chat(ada)
        assert (answer.status, answer.error["message"]) == (status, "The backend's own words.")
        assert answer.error["code"] == "backend_says_no" and "x-request-id" in answer.headers
    assert not await farebox.charges()
    assert await farebox.spendable(ada) == 10**9
    assert not await farebox.broken()


# Small helps --------------------------------------------------------------------------------------------------------


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a secret of the house")


async def raw_call(farebox: Farebox, caller: Caller, body: bytes, *, length: int) -> Answer:
    """A call whose body is shorter than it says."""
    url = farebox.url.removeprefix("http://")
    host, _, port = url.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        lines = ["POST /v1/chat/completions HTTP/1.1", f"host: {url}", f"authorization: Bearer {caller.key}"]
        writer.write("\r\n".join([*lines, f"content-length: {length}", "", ""]).encode() + body)
        head_bytes = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        first, *rest = head_bytes.decode().rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return Answer(int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"])))
    finally:
        writer.close()
        await writer.wait_closed()


async def in_pieces(piece: bytes, times: int) -> AsyncIterator[bytes]:
    """A body without a length."""
    for _ in range(times):
        yield piece


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port that lets nobody in: its queue of one is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for each in waiting:
                each.close()


@asynccontextmanager
async def closed_to_connections(scene: Scene) -> AsyncIterator[None]:
    """The gateway's database lets nobody in and throws out who is there, but for the test's own connections."""
    name = make_url(scene.farebox.run.urls.database).database
    away = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND application_name <> 'test'"
    engine = create_async_engine(scene.server_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            await connection.execute(text(away), {"name": name})
            try:
                yield
            finally:
                await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    finally:
        await engine.dispose()


async def passes(farebox: Farebox, caller: Caller) -> bool:
    return (await farebox.chat(caller)).status == 200
