"""The money ends in the middle of an answer: it stops there, says so, and nobody pays more than there was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ledger.money import format_usd
from tests import house
from tests.backend import Backend, Pause, Step
from tests.backend import stream as script
from tests.house import Farebox
from tests.streams import DONE, HELLO_TOKENS, LARGE, delta, event, events, stream, text_of, tokens, usage

_WORDS = [f"word{n % 10} and " for n in range(2000)]
_SMALL_ALLOWANCE = """
[[tiers]]
name = "trial"
models = ["*"]
allowance = { usd = "0.001", every = "month", zone = "UTC" }
upgrade_to = "pro"
upgrade_url = "https://fare.example/upgrade"
"""


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_SMALL_ALLOWANCE) as running:
        yield running


def _endless(pause_s: float = 0.0) -> list[Step]:
    """A backend that heeds no bound."""
    paced: list[Step] = []
    for word in _WORDS:
        paced += [delta(word), Pause(pause_s)] if pause_s else [delta(word)]
    return script([*paced, delta("", "stop"), usage(8, 9000), DONE])


@pytest.mark.parametrize("asked", [{}, {"max_tokens": 5000}], ids=["no max_tokens", "max_tokens"])
async def test_the_answer_stops_where_the_money_does(asked: dict[str, Any], farebox: Farebox, backend: Backend) -> None:
    backend.answer = _endless(0.001)
    ada = await farebox.caller(usd="0.001")
    async with asyncio.timeout(30), stream(farebox, ada, model="large", **asked) as reply:
        body = await reply.read()
    *said, length, refusal, done = events(body)
    assert length["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}] and done == "[DONE]"
    assert refusal["error"]["code"] == "insufficient_balance" and "choices" not in refusal
    assert house.PERSONAL in refusal["error"]["message"]
    assert refusal["error"]["farebox"]["upgrade_tier"] == "pro"
    assert "".join(_WORDS).startswith(text_of(body)) and len(said) > 5
    await asyncio.wait_for(backend.requests[0].left.wait(), 30)
    charge = await farebox.charge()
    assert charge["outcome"] == "cut_by_balance"
    assert 0 < charge["amount"] <= 10**6 and charge["overrun"] == 0
    # Nothing was given away: what was delivered is within what was charged.
    delivered = HELLO_TOKENS * LARGE["input"] + tokens(text_of(body)) * LARGE["output"]
    assert delivered <= charge["amount"]
    assert await farebox.spendable(ada) == 10**6 - charge["amount"]
    assert not await farebox.broken()


async def test_who_asked_for_usage_sees_what_the_cut_answer_cost(farebox: Farebox, backend: Backend) -> None:
    backend.answer = _endless()
    ada = await farebox.caller(usd="0.001")
    async with stream(farebox, ada, model="large", stream_options={"include_usage": True}) as reply:
        *_, ended, _, _ = events(await reply.read())
    charge = await farebox.charge()
    left = await farebox.spendable(ada)
    counted = {"prompt_tokens": HELLO_TOKENS, "completion_tokens": charge["usage"]["output"]}
    assert charge["outcome"] == "cut_by_balance" and ended["choices"][0]["finish_reason"] == "length"
    assert ended["usage"] == counted | {
        "total_tokens": HELLO_TOKENS + charge["usage"]["output"],
        "cost": format_usd(charge["amount"]),
        "balance": format_usd(left),
    }


async def test_the_backend_is_told_what_the_wallet_covers(farebox: Farebox, backend: Backend) -> None:
    ada = await farebox.caller(usd="0.001")
    assert (await farebox.chat(ada, model="large", max_tokens=5000)).status == 200
    told = backend.requests[0].json["max_tokens"]
    assert told == (10**6 - HELLO_TOKENS * LARGE["input"]) // LARGE["output"]


async def test_an_allowance_that_ends_says_so(farebox: Farebox, backend: Backend) -> None:
    backend.answer = _endless()
    bob = await farebox.caller(tier="trial", usd="0")
    async with stream(farebox, bob, model="large") as reply:
        *_, refusal, _ = events(await reply.read())
    assert refusal["error"]["code"] == "allowance_exhausted"
    assert "https://fare.example/upgrade" in refusal["error"]["message"]
    assert (await farebox.charge())["amount"] <= 10**6
    assert not await farebox.broken()


async def test_a_backend_that_reports_as_it_goes_is_charged_no_more_than_there_was(
    farebox: Farebox, backend: Backend
) -> None:
    """Even where its last report before the cut is above what was held."""

    def frame(output: int) -> bytes:
        said = {"prompt_tokens": 8, "completion_tokens": output, "total_tokens": 8 + output}
        return event({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": said})

    backend.answer = script([*(step for n in range(1, 20) for step in (frame(n * 40), Pause(0.005))), DONE])
    ada = await farebox.caller(usd="0.001")
    async with stream(farebox, ada, model="large") as reply:
        *_, refusal, _ = events(await reply.read())
    assert refusal["error"]["code"] == "insufficient_balance"
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("cut_by_balance", "reported")
    assert charge["amount"] <= 10**6 and charge["overrun"] == 0
    assert await farebox.spendable(ada) >= 0
    assert not await farebox.broken()


async def test_ten_answers_on_one_wallet_share_what_there_is(farebox: Farebox, backend: Backend) -> None:
    backend.answer = _endless(0.001)
    ada = await farebox.caller(usd="0.004")

    async def ask() -> int:
        async with stream(farebox, ada, model="large") as reply:
            await reply.read()
            return reply.status

    statuses = await asyncio.gather(*(ask() for _ in range(10)))
    assert set(statuses) <= {200, 402} and 200 in statuses
    charges = await farebox.charges()
    assert sum(charge["amount"] for charge in charges) <= 4 * 10**6
    assert {charge["outcome"] for charge in charges} == {"cut_by_balance"}
    assert await farebox.spendable(ada) == 4 * 10**6 - sum(charge["amount"] for charge in charges)
    assert not await farebox.broken()
