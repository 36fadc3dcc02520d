"""Pace: several windows at once, slots, corrections after the answer; and that a refused call changes no counter."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests import house
from tests.backend import Backend, Gate, Stall, chat, embeddings, plain
from tests.house import Answer, Caller, Farebox, until

TIERS = """
[[tiers]]
name = "paced"
models = ["flat", "small", "large", "embed", "unpriced"]
features = ["images"]
max_output = 1000
concurrency = 50
windows = [
    { limit = 20, of = "requests", per = "hour" },
    { limit = 2, of = "requests", per = "hour", route = "embeddings" },
    { limit = 3, of = "requests", per = "hour", models = ["fl*"] },
    { limit = 100000, of = "tokens", per = "hour" },
    { limit = "5.00", of = "cost", per = "day" },
]

[[tiers]]
name = "ten"
windows = [{ limit = 10, of = "requests", per = "hour" }]

[[tiers]]
name = "three"
concurrency = 3

[[tiers]]
name = "tight"
windows = [
    { limit = 5, of = "requests", per = "hour" },
    { limit = 1, of = "tokens", per = "hour" },
]
"""
Opener = Callable[..., AbstractAsyncContextManager[Farebox]]


@pytest.fixture
async def open_house(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> Opener:
    """Open a gateway with the tiers above; ``redis_url`` may be another one."""

    @asynccontextmanager
    async def opened(*, redis_url: str = redis_url, **settings: Any) -> AsyncIterator[Farebox]:
        async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=TIERS, **settings) as farebox:
            yield farebox

    return opened


@pytest.fixture
async def paced(open_house: Opener) -> AsyncIterator[Farebox]:
    async with open_house() as farebox:
        yield farebox


async def counters(farebox: Farebox, caller: Caller) -> dict[str, Any]:
    """Everything that counts for this caller: windows, slots, money set aside, holds."""
    await farebox.settled()
    account = (await farebox.get("/v1/account", caller)).json()
    return {
        "windows": {limit["name"]: limit["left"] for limit in account["limits"]},
        "slots": account["concurrency"]["used"],
        "held": account["held"],
        "balance": account["balance"],
        "holds": await farebox.rows(
            "SELECT id, state, amount FROM holds WHERE wallet_id = :w", w=caller.user.wallet_id
        ),
    }


async def embed(farebox: Farebox, caller: Caller) -> Answer:
    return await farebox.post("/v1/embeddings", {"model": "embed", "input": "hello"}, caller)


# A refused call changes nothing -------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("invalid_request", {"n": 0}),
    ("model_not_found", {"model": "nobody"}),
    ("feature_not_allowed", {"tools": [{"type": "function", "function": {"name": "look"}}]}),
    ("request_too_large", {"max_tokens": 1001}),
    ("price_missing", {"model": "unpriced"}),
    ("rate_limit_tokens", {"n": 128, "max_tokens": 1000}),
    ("rate_limit_requests", {"model": "flat"}),
]


async def test_a_refused_call_changes_no_counter(paced: Farebox, backend: Backend) -> None:
    ada = await paced.caller(tier="paced")
    for _ in range(3):
        assert (await paced.chat(ada, model="flat")).status == 200
    before = await counters(paced, ada)
    assert before["windows"]["requests/3600"] == 17 and before["windows"]["requests/3600/*/fl*"] == 0
    for code, more in REFUSED:
        answer = await paced.chat(ada, **more)
        assert answer.error["code"] == code
        assert await counters(paced, ada) == before, code
    assert len(backend.requests) == 3
    assert not await paced.broken()


async def test_a_call_the_bank_refuses_gives_its_windows_and_its_slot_back(paced: Farebox, backend: Backend) -> None:
    bob = await paced.caller(tier="paced", usd="0")
    before = await counters(paced, bob)
    for _ in range(25):  # more than the window has: each of them took its place and gave it back
        assert (await paced.chat(bob, model="small", max_tokens=10)).error["code"] == "insufficient_balance"
    assert await counters(paced, bob) == before
    assert before["windows"]["requests/3600"] == 20 and before["slots"] == 0
    assert not backend.requests
    assert not await paced.broken()


async def test_a_suspended_wallet_takes_no_place(paced: Farebox) -> None:
    ada = await paced.caller(tier="paced")
    before = await counters(paced, ada)
    async with paced.engine.begin() as connection:
        await connection.exec_driver_sql(f"UPDATE wallets SET state = 'suspended' WHERE id = '{ada.user.wallet_id}'")
    assert (await paced.chat(ada)).error["code"] == "account_suspended"
    assert (await counters(paced, ada))["windows"] == before["windows"]


async def test_a_refused_call_leaves_its_idempotency_key_free(paced: Farebox) -> None:
    bob = await paced.caller(tier="paced", usd="0")
    headers = {**bob.headers, "idempotency-key": "order-1"}
    for _ in range(2):
        assert (await paced.chat(headers)).error["code"] == "insufficient_balance"
    await paced.bank.credit(bob.user.wallet_id, 10**9, "paid", source="later", funding="cash:test")
    assert (await paced.chat(headers)).status == 200
    assert (await paced.chat(headers)).error["code"] == "idempotency_conflict"
    carol = await paced.caller(tier="paced", name="Carol")
    assert (await paced.chat({**carol.headers, "idempotency-key": "order-1"})).status == 200


# Windows ------------------------------------------------------------------------------------------------------------


async def test_a_call_counts_in_every_window_that_covers_it_and_in_no_other(paced: Farebox, backend: Backend) -> None:
    ada = await paced.caller(tier="paced")
    await paced.chat(ada, model="flat")
    await paced.chat(ada, model="small")
    backend.answer = embeddings()
    await embed(paced, ada)
    left = (await counters(paced, ada))["windows"]
    assert left["requests/3600"] == 18  # embeddings take no place of what people ask for
    assert left["requests/3600/embeddings"] == 1
    assert left["requests/3600/*/fl*"] == 2


async def test_each_window_refuses_for_itself(paced: Farebox, backend: Backend) -> None:
    ada = await paced.caller(tier="paced")
    backend.answer = embeddings()
    assert [(await embed(paced, ada)).status for _ in range(3)] == [200, 200, 429]
    backend.answer = chat()
    assert [(await paced.chat(ada, model="flat")).status for _ in range(4)] == [200, 200, 200, 429]
    assert (await paced.chat(ada, model="small", max_tokens=10)).status == 200
    refused = await paced.chat(ada, model="flat")
    assert refused.error["farebox"]["limit"] == "requests/3600/*/fl*"


async def test_a_reply_says_what_is_left(paced: Farebox) -> None:
    ada = await paced.caller(tier="paced")
    first = await paced.chat(ada, max_tokens=10)
    await paced.settled()
    second = await paced.chat(ada, max_tokens=10, stream=True)
    for answer, left in ((first, "19"), (second, "18")):
        assert answer.headers["x-ratelimit-limit-requests"] == "20"
        assert answer.headers["x-ratelimit-remaining-requests"] == left
        assert 3500 < int(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 3660
        assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
    # What was set aside for the first answer (10) was corrected to what it was (3), before the second was counted.
    spent = 100_000 - int(second.headers["x-ratelimit-remaining-tokens"])
    assert 14 + 10 < spent < 14 + 10 + 20


async def test_tokens_and_cost_are_corrected_to_what_the_call_was(paced: Farebox, backend: Backend) -> None:
    ada = await paced.caller(tier="paced")
    backend.then(chat(usage={"prompt_tokens": 4000, "completion_tokens": 1000, "total_tokens": 5000}))
    assert (await paced.chat(ada, model="large")).status == 200
    left = (await counters(paced, ada))["windows"]
    assert left["tokens/3600"] == 95_000
    assert left["cost/86400"] == "4.9800"  # 4000 at 2.50 and 1000 at 10.00 USD per million


async def test_a_call_that_cost_nothing_gives_its_tokens_back_and_stays_a_request(
    paced: Farebox, backend: Backend
) -> None:
    ada = await paced.caller(tier="paced")
    backend.then(plain(b"{}", status=500))
    assert (await paced.chat(ada)).status == 502
    left = (await counters(paced, ada))["windows"]
    assert (left["tokens/3600"], left["cost/86400"], left["requests/3600"]) == (100_000, "5.0000", 19)


async def test_what_can_never_fit_is_refused_without_a_wait(paced: Farebox) -> None:
    ada = await paced.caller(tier="tight")
    answer = await paced.chat(ada)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_tokens")
    assert house.tokenless(answer.error["message"]).endswith(f" Upgrade: {house.PERSONAL}")
    assert (await counters(paced, ada))["windows"] == {"requests/3600": 5, "tokens/3600": 1}


async def test_of_200_calls_at_once_exactly_as_many_pass_as_the_window_has(paced: Farebox) -> None:
    ada = await paced.caller(tier="ten")
    answers = await asyncio.gather(*(paced.chat(ada, max_tokens=5) for _ in range(200)))
    assert Counter(answer.status for answer in answers) == {200: 10, 429: 190}
    assert len(await paced.charges()) == 10
    assert not await paced.broken()


# Slots --------------------------------------------------------------------------------------------------------------


async def test_of_many_calls_at_once_only_so_many_run_and_the_ends_make_room(paced: Farebox, backend: Backend) -> None:
    ada = await paced.caller(tier="three")
    opened = asyncio.Event()
    backend.answer = lambda seen: [Gate(opened), *plain(b"{}")]
    calls = [asyncio.create_task(paced.chat(ada, max_tokens=5)) for _ in range(20)]
    await backend.arrived(3)
    await until(lambda: done(calls, 17))
    assert (await paced.get("/v1/account", ada)).json()["concurrency"] == {"limit": 3, "used": 3}
    opened.set()
    statuses = Counter(answer.status for answer in await asyncio.gather(*calls))
    assert statuses == {200: 3, 429: 17}
    assert (await counters(paced, ada))["slots"] == 0
    assert (await paced.chat(ada)).status == 200


async def test_a_caller_who_leaves_frees_the_slot(paced: Farebox, backend: Backend) -> None:
    ada = await paced.caller(tier="three")
    backend.answer = [Stall()]
    calls = [asyncio.create_task(paced.chat(ada, max_tokens=5)) for _ in range(3)]
    await backend.arrived(3)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    for seen in backend.requests:
        await asyncio.wait_for(seen.left.wait(), 30)
    assert (await counters(paced, ada))["slots"] == 0
    backend.answer = chat()
    assert (await paced.chat(ada)).status == 200
    assert not await paced.broken()


async def done(tasks: list[asyncio.Task[Answer]], count: int) -> bool:
    return sum(task.done() for task in tasks) >= count


# Redis away ---------------------------------------------------------------------------------------------------------


async def test_without_redis_each_process_counts_until_it_is_back(
    open_house: Opener, redis_url: str, backend: Backend
) -> None:
    async with cable(redis_url) as line, open_house(redis_url=line.url) as farebox:
        ada, bob = await farebox.caller(tier="ten"), await farebox.caller(tier="ten", name="Bob")
        assert (await farebox.chat(ada, max_tokens=5)).status == 200
        assert await told(farebox, "farebox_limiter_degraded") == 0
        opened = asyncio.Event()
        backend.then(lambda seen: [Gate(opened), *chat()(seen)])
        running = asyncio.create_task(farebox.chat(ada, max_tokens=5))
        await backend.arrived(2)
        await line.cut()
        opened.set()
        assert (await running).status == 200
        assert await told(farebox, "farebox_limiter_corrections_lost_total") == 1
        statuses = [(await farebox.chat(bob, max_tokens=5)).status for _ in range(12)]
        assert statuses == [200] * 10 + [429] * 2
        assert await told(farebox, "farebox_limiter_degraded") == 1
        assert (await farebox.get("/readyz")).status == 200
        await line.mend()
        await until(lambda: is_well(farebox))
        assert (await farebox.chat(ada, max_tokens=5)).headers["x-ratelimit-remaining-requests"] == "7"
        assert not await farebox.broken()


async def test_a_flushed_redis_gives_windows_back_and_no_money(paced: Farebox, redis_url: str) -> None:
    ada = await paced.caller(tier="ten", usd="0.10")
    assert (await paced.chat(ada, model="flat")).status == 200
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
        await client.script_flush()
    answer = await paced.chat(ada, model="flat")
    assert (answer.status, answer.headers["x-ratelimit-remaining-requests"]) == (200, "9")
    assert await paced.spendable(ada) == 80_000_000
    assert not await paced.broken()


async def told(farebox: Farebox, name: str) -> float:
    lines = (await farebox.get("/metrics")).body.decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


async def is_well(farebox: Farebox) -> bool:
    return await told(farebox, "farebox_limiter_degraded") == 0


class Cable:
    """A loopback port in front of the Redis server, which can be cut and mended."""

    def __init__(self, target: str) -> None:
        self._there = Redis.from_url(target).connection_pool.connection_kwargs
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/{self._there.get('db') or 0}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._open()
        self._ends |= {writer, back}
        try:
            await asyncio.gather(_carry(reader, back), _carry(there, writer))
        finally:
            self._ends -= {writer, back}

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if "path" in self._there:
            return await asyncio.open_unix_connection(self._there["path"])
        return await asyncio.open_connection(self._there["host"], self._there["port"])


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def cable(target: str) -> AsyncIterator[Cable]:
    line = Cable(target)
    await line.mend()
    try:
        yield line
    finally:
        await line.cut()
