"""Farebox in front of a model server that is not ours: llama.cpp's own, with a tiny model of random weights.

What the ledger says is held against two accounts of the server: the usage it reports to its caller, and its own totals
of what it has computed. `make test-realmodel` runs this and prints the figures.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import RowMapping

from ledger.money import parse_usd
from tests import house
from tests.house import Caller, Farebox
from tests.realmodel.server import ModelServer, Totals, process, silent
from tests.streams import events, stream, text_of

pytestmark = pytest.mark.realmodel

PRICES = {"input": 290, "cache_read": 70, "output": 1310}  # nano-USD a token: no sum of one kind is one of another
CATALOG = """
[[upstreams]]
name = "llama"
base_url = "{backend}/v1"
allow_private = true

[[models]]
id = "tiny"
upstream = "llama"
prices = {{ input = "0.29", cache_read = "0.07", output = "1.31" }}

[[models]]
id = "tiny-drained"
upstream = "llama"
upstream_model = "tiny"
on_disconnect = "drain"
prices = {{ input = "0.29", cache_read = "0.07", output = "1.31" }}

[[models]]
id = "tiny-text"
upstream = "llama"
upstream_model = "tiny"
kind = "completion"
prices = {{ input = "0.29", cache_read = "0.07", output = "1.31" }}

[[tiers]]
name = "free"

[[tiers]]
name = "single"
concurrency = 1
"""
SILENT = """
[[upstreams]]
name = "silent"
base_url = "{silent}/v1"
allow_private = true

[[models]]
id = "counted"
upstream = "silent"
upstream_model = "tiny"
prices = {{ input = "0.29", output = "1.31" }}

[[models]]
id = "factored"
upstream = "silent"
upstream_model = "tiny"
tokenizer_factor = "{factor:.4f}"
prices = {{ input = "0.29", output = "1.31" }}
"""

PROSE = (
    "It stands between applications that speak the wire format and the backends that answer them. For each call it "
    "knows who is calling, asks whether they may, sets the money aside, passes the answer on, and writes what it cost."
)
MAX_TOKENS = 40
LONG = {"max_tokens": 6000, "ignore_eos": True}  # ten seconds at least
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": PROSE}], "max_tokens": MAX_TOKENS},
    "/v1/completions": {"model": "tiny-text", "prompt": PROSE, "max_tokens": MAX_TOKENS},
    "/v1/responses": {"input": PROSE, "max_output_tokens": MAX_TOKENS},
    "/v1/messages": {"messages": [{"role": "user", "content": PROSE}], "max_tokens": MAX_TOKENS},
}


class Figures:
    """The table that is printed at the end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def add(self, what: str, server: Totals, charge: RowMapping) -> None:
        """One call: the server's totals of it, and its charge."""
        usage = charge["usage"]
        read, written = usage.get("input", 0) + usage.get("cache_read", 0), usage.get("output", 0)
        away = f"{_away(read, server.read + server.cached)} {_away(written, server.written)}"
        cached = f"{server.read}+{server.cached}", f"{usage.get('input', 0)}+{usage.get('cache_read', 0)}"
        source = f"{charge['usage_source']}, {charge['outcome']}"
        self.rows.append((what, cached[0], str(server.written), cached[1], str(written), away, source))

    def __str__(self) -> str:
        head = ("call", "server: in+cached", "out", "ledger: in+cached", "out", "away in, out", "how known, how ended")
        table = [head, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        return "\n".join(["", *lines])


def _away(ours: int, theirs: int) -> str:
    return "-" if not theirs else f"{100 * (ours - theirs) / theirs:+.1f} %"


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    figures = Figures()
    yield figures
    print(figures)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with process(tmp_path_factory.mktemp("model")) as address:
        yield address


@pytest.fixture
async def server(address: str) -> AsyncIterator[ModelServer]:
    async with aiohttp.ClientSession() as http:
        yield ModelServer(address, http)


@pytest.fixture
async def farebox(data_dir: Path, database_url: str, redis_url: str, server: ModelServer) -> AsyncIterator[Farebox]:
    """With the real server as its only backend."""
    async with house.farebox(data_dir, database_url, redis_url, server.url, base=CATALOG) as running:
        yield running


def amount(usage: dict[str, int]) -> int:
    return sum(count * PRICES[kind] for kind, count in usage.items())


def equal(server: Totals, usage: dict[str, int]) -> bool:
    """Whether a charge, or the sum of several, is what the server itself has counted."""
    return server[:3] == (usage.get("input", 0), usage.get("cache_read", 0), usage.get("output", 0))


async def _chat(farebox: Farebox, ada: Caller, content: str, **more: Any) -> bytes:
    answer = await farebox.chat(ada, content, model="tiny", **more)
    assert answer.status == 200, answer.body
    return answer.body


# What the server reports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("route", ROUTES)
async def test_the_ledger_has_the_counts_of_the_server(
    route: str, streamed: bool, farebox: Farebox, server: ModelServer, figures: Figures
) -> None:
    before = await server.totals()
    body = {"model": "tiny", "stream": streamed, **ROUTES[route]}
    answer = await farebox.post(route, body, await farebox.caller())
    assert answer.status == 200, answer.body
    counted, charge = (await server.totals()).since(before), await farebox.charge()
    figures.add(f"{route.removeprefix('/v1/')}, {'streamed' if streamed else 'whole'}", counted, charge)
    assert equal(counted, charge["usage"])
    assert 0 < counted.written <= MAX_TOKENS
    assert (charge["usage_source"], charge["outcome"], charge["problems"]) == ("reported", "completed", [])
    assert charge["amount"] == amount(charge["usage"])
    assert not await farebox.broken()


async def test_what_the_caller_is_told_is_what_is_charged(farebox: Farebox, server: ModelServer) -> None:
    body = await _chat(farebox, await farebox.caller(), PROSE, max_tokens=9, ignore_eos=True)
    told = json.loads(body)["usage"]
    usage = (await farebox.charge())["usage"]
    assert told["completion_tokens"] == usage["output"] == 9
    assert told["prompt_tokens"] == usage.get("input", 0) + usage.get("cache_read", 0)
    assert told["prompt_tokens_details"]["cached_tokens"] == usage.get("cache_read", 0)


async def test_usage_is_asked_for_and_shown_only_to_who_asked(farebox: Farebox) -> None:
    ada = await farebox.caller()
    unasked = events(await _chat(farebox, ada, PROSE, stream=True, max_tokens=9))
    asked = events(await _chat(farebox, ada, PROSE, stream=True, max_tokens=9, stream_options={"include_usage": True}))
    assert not [each for each in unasked[:-1] if each.get("usage")]
    (usage,) = [each["usage"] for each in asked[:-1] if each.get("usage")]
    for_it = (await farebox.charges())[-1]
    assert usage["completion_tokens"] == for_it["usage"]["output"]
    assert parse_usd(usage["cost"]) == for_it["amount"]
    assert unasked[-1] == asked[-1] == "[DONE]"


async def test_a_prompt_said_again_is_charged_as_cached(
    farebox: Farebox, server: ModelServer, figures: Figures
) -> None:
    ada = await farebox.caller()
    said = "Said twice: " + PROSE
    await _chat(farebox, ada, said, max_tokens=5)
    before = await server.totals()
    await _chat(farebox, ada, said, max_tokens=5)
    counted, charge = (await server.totals()).since(before), (await farebox.charges())[-1]
    figures.add("chat, the same prompt again", counted, charge)
    assert equal(counted, charge["usage"])
    assert charge["usage"]["cache_read"] > charge["usage"]["input"]
    assert charge["amount"] == amount(charge["usage"])


async def test_many_at_once_sum_up_to_the_totals_of_the_server(
    farebox: Farebox, server: ModelServer, figures: Figures
) -> None:
    """More than it has slots for, streamed and not: nothing is charged twice, to somebody else, or not at all."""
    before = await server.totals()
    people = [await farebox.caller(name=f"Ada{number}") for number in range(8)]
    calls = [
        _chat(farebox, caller, f"{number} {PROSE}", max_tokens=20 + number, ignore_eos=True, stream=bool(number % 2))
        for number, caller in enumerate(people)
    ]
    await asyncio.gather(*calls)
    counted, charges = (await server.totals()).since(before), await farebox.charges()
    sums = {kind: sum(charge["usage"].get(kind, 0) for charge in charges) for kind in PRICES}
    figures.add("chat, eight at once", counted, {**charges[0], "usage": sums})  # type: ignore[arg-type]
    assert equal(counted, sums)
    for number, caller in enumerate(people):
        (charge,) = await farebox.charges(caller.user.id)
        assert charge["usage"]["output"] == 20 + number
    assert not await farebox.broken()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_of_two_choices_both_are_charged(
    streamed: bool, farebox: Farebox, server: ModelServer, figures: Figures
) -> None:
    """This server reports the usage of one choice alone, so the other's text is counted."""
    before = await server.totals()
    await _chat(farebox, await farebox.caller(), PROSE, n=2, max_tokens=60, ignore_eos=True, seed=5, stream=streamed)
    counted, charge = (await server.totals()).since(before), await farebox.charge()
    figures.add(f"chat, two choices, {'streamed' if streamed else 'whole'}", counted, charge)
    assert counted.written == 120
    assert charge["usage"]["output"] == pytest.approx(120, rel=0.35)
    assert (charge["usage_source"], charge["problems"]) == ("counted", ["usage_of_one_choice"])


async def test_what_the_server_refuses_is_free(farebox: Farebox, server: ModelServer) -> None:
    ada = await farebox.caller(usd="1.00")
    answer = await farebox.chat(ada, PROSE * 200, model="tiny", max_tokens=5)
    assert (answer.status, answer.error["type"]) == (400, "exceed_context_size_error")
    assert await farebox.charges() == []
    assert await farebox.spendable(ada) == 10**9


# A caller who leaves -------------------------------------------------------------------------------------------------


async def test_a_caller_who_leaves_stops_the_server_and_pays_for_what_came(
    farebox: Farebox, server: ModelServer, figures: Figures
) -> None:
    before = await server.totals()
    ada = await farebox.caller(tier="single")
    async with stream(farebox, ada, "Leaving: " + PROSE, model="tiny", **LONG) as reply:
        came = b""
        while came.count(b"content") < 30:
            came += await reply.content.readany()
    charge, counted = await farebox.charge(), (await server.totals()).since(before)
    # Its total of written tokens leaves out what was broken off; each step is one token, but for the prompt's.
    figures.add("chat, left in the middle", counted._replace(written=max(counted.written, counted.steps)), charge)
    assert counted.steps < LONG["max_tokens"] / 4
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "counted")
    assert charge["usage"]["output"] > 0
    assert not await farebox.broken()
    assert (await farebox.chat(ada, "again", model="tiny", max_tokens=3)).status == 200


async def test_a_caller_who_leaves_a_whole_answer_stops_the_server_too(farebox: Farebox, server: ModelServer) -> None:
    before = await server.totals()
    ada = await farebox.caller(tier="single")
    call = asyncio.create_task(farebox.chat(ada, "Leaving: " + PROSE, model="tiny", **LONG))
    async with asyncio.timeout(5):
        while not await server.busy():
            await asyncio.sleep(0.01)
    call.cancel()
    charge = await farebox.charge()
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "counted")
    assert (await server.totals()).since(before).steps < LONG["max_tokens"] / 4


async def test_an_answer_read_to_its_end_is_charged_as_reported(
    farebox: Farebox, server: ModelServer, figures: Figures
) -> None:
    """The model's entry says that answers are read to their end when the caller leaves: then the server reports."""
    before = await server.totals()
    more = {"model": "tiny-drained", "max_tokens": 300, "ignore_eos": True}
    async with stream(farebox, await farebox.caller(), PROSE, **more) as reply:
        await reply.content.readany()
    charge, counted = await farebox.charge(), (await server.totals()).since(before)
    figures.add("chat, left, read to its end", counted, charge)
    assert equal(counted, charge["usage"])
    assert (charge["outcome"], charge["usage_source"]) == ("caller_left", "reported")
    assert charge["usage"]["output"] == 300


# A server that says nothing of usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_without_usage_the_count_is_of_the_order_of_the_servers(
    streamed: bool,
    data_dir: Path,
    database_url: str,
    redis_url: str,
    server: ModelServer,
    figures: Figures,
) -> None:
    """Another vocabulary: the count is an estimate. A factor learned from one answer makes it a close one."""
    word = "streamed" if streamed else "whole"
    more = {"max_tokens": 300, "ignore_eos": True, "stream": streamed}
    async with silent(server.url, server.http) as address:
        factor = 1.0
        for seed, model in enumerate(("counted", "factored")):
            catalog = SILENT.format(silent=address, factor=factor)
            async with house.farebox(
                data_dir, database_url, redis_url, server.url, base=CATALOG, catalog=catalog
            ) as farebox:
                before = await server.totals()
                answer = await farebox.chat(await farebox.caller(), PROSE, **more, model=model, seed=seed)
                charge, counted = (await farebox.charges())[-1], (await server.totals()).since(before)
                figures.add(f"no usage, {word}, {model} {factor:.4f}", counted, charge)
                assert answer.status == 200 and (charge["usage_source"], charge["outcome"]) == ("counted", "completed")
                if streamed:
                    assert text_of(answer.body)
                assert charge["usage"]["output"] == pytest.approx(counted.written, rel=0.5 if factor == 1.0 else 0.15)
                factor = counted.written / charge["usage"]["output"]
                assert not await farebox.broken()
