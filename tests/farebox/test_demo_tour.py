"""The tour notices when a Farebox does not do what the tour tells: on a gateway whose catalogue promises otherwise."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from config.catalog import Declared, Rates
from farebox import demo_backend
from farebox.demo_people import Guest
from farebox.demo_stage import Stage
from farebox.demo_tour import MODEL, Tour, TourError
from ledger.money import format_usd
from policies.tier import Tier
from tests import house
from tests.house import Farebox

_CATALOG = """
[[upstreams]]
name = "main"
base_url = "{backend}"
allow_private = true

[[models]]
id = "demo-small"
upstream = "main"
prices = {{ input = "0.15", output = "0.60" }}

[[tiers]]
name = "free"
upgrade_to = "slow"

[[tiers]]
name = "slow"
windows = [{{ limit = 1, of = "requests", per = "minute" }}]
"""
_RATES = Rates(pico={"input": 150_000, "output": 600_000})
_TIERS = (Tier(name="free"), Tier(name="slow"))


@pytest.fixture
async def running(data_dir: Path, database_url: str, redis_url: str) -> AsyncIterator[Farebox]:
    backend = await demo_backend.start(pace_s=0)
    try:
        async with house.farebox(data_dir, database_url, redis_url, backend.url, base=_CATALOG) as farebox:
            yield farebox
    finally:
        await backend.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def _tour(farebox: Farebox, http: aiohttp.ClientSession, out: io.StringIO, rates: Rates = _RATES) -> Tour:
    return Tour(http, farebox.url, Declared(tiers=_TIERS, rates={MODEL: rates}), Stage(out))


async def _guest(farebox: Farebox, tier: str, usd: str) -> Guest:
    return Guest("Ada", tier, usd, (await farebox.caller(tier=tier, usd=usd)).key)


async def test_a_chat_is_told_with_its_charge_and_both_balances(running: Farebox, http: aiohttp.ClientSession) -> None:
    out = io.StringIO()
    await _tour(running, http, out).chat(await _guest(running, "free", "1.00"))
    charge = await running.charge()
    assert f"= {format_usd(charge['amount'])} USD" in out.getvalue()
    assert f"Balance after    {format_usd(10**9 - charge['amount'])} USD" in out.getvalue()


async def test_a_charge_that_differs_from_the_one_by_hand_is_an_error(
    running: Farebox, http: aiohttp.ClientSession
) -> None:
    tour = _tour(running, http, io.StringIO(), Rates(pico={"input": 1, "output": 1}))
    with pytest.raises(TourError, match="by hand"):
        await tour.chat(await _guest(running, "free", "1.00"))


async def test_a_chat_that_is_refused_is_an_error(running: Farebox, http: aiohttp.ClientSession) -> None:
    with pytest.raises(TourError, match="was answered 402"):
        await _tour(running, http, io.StringIO()).chat(await _guest(running, "free", "0"))


async def test_the_429_is_quoted_as_its_caller_reads_it(running: Farebox, http: aiohttp.ClientSession) -> None:
    out = io.StringIO()
    await _tour(running, http, out).too_fast(await _guest(running, "slow", "1.00"))
    assert "You have reached your limit of 1 requests per minute. Try again in" in out.getvalue()


async def test_a_limit_that_does_not_come_is_an_error(running: Farebox, http: aiohttp.ClientSession) -> None:
    with pytest.raises(TourError, match="no 429 came"):
        await _tour(running, http, io.StringIO()).too_fast(await _guest(running, "free", "1.00"))


async def test_the_402_is_quoted_with_its_hint(running: Farebox, http: aiohttp.ClientSession) -> None:
    out = io.StringIO()
    await _tour(running, http, out).too_poor(await _guest(running, "free", "0"))
    assert f"upgrade_tier slow, upgrade_url {house.PERSONAL}" in out.getvalue()


async def test_a_call_that_should_have_been_too_dear_and_passed_is_an_error(
    running: Farebox, http: aiohttp.ClientSession
) -> None:
    with pytest.raises(TourError, match="expected a 402"):
        await _tour(running, http, io.StringIO()).too_poor(await _guest(running, "free", "1.00"))
