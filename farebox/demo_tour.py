"""The tour of `farebox demo`: a few calls over real HTTP, each told to a person and checked as it is told.

It knows Farebox from outside alone, as a client does: an address, keys, prices. What does not come out as it should is
a ``TourError``, so that the tour is also a test of the machine it runs on.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from config.catalog import Declared
from farebox.demo_people import Guest
from farebox.demo_stage import Stage
from ledger.money import format_price, format_usd, parse_usd
from ledger.price import PPM, Price, charge_amount
from ledger.usage import Usage

MODEL = "demo-small"
QUESTION = "What does a call cost, and who keeps the balance?"
_TRIES_MAX = 10
_LOOKS_MAX, _LOOK_EVERY_S = 200, 0.05


class TourError(Exception):
    """A step did not do what it should; the message says which."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal as its caller reads it."""

    status: int
    message: str
    details: Mapping[str, Any]


class Tour:
    """The steps, in any order. ``url`` is the gateway's address, ``declared`` the catalogue it was started with."""

    def __init__(self, http: aiohttp.ClientSession, url: str, declared: Declared, stage: Stage) -> None:
        self._http = http
        self._url = url
        self._stage = stage
        rates = declared.rates[MODEL]
        self._price = Price(0, MODEL, rates.pico, rates.per_request)
        self._factor = {tier.name: tier.markup_ppm for tier in declared.tiers}

    async def chat(self, guest: Guest) -> None:
        """One streamed answer, what it cost by hand and by the gateway, and the balance before and after."""
        say = self._stage.line
        before = await self._balance(guest)
        say(f"Balance before   {format_usd(before)} USD")
        say(f"{guest.name} asks".ljust(17) + QUESTION)
        usage, first_ms = await self._streamed(guest)
        cost = self._reckoned(usage, guest)
        _expect(
            parse_usd(usage["cost"]) == cost, f"the gateway says {usage['cost']} USD, by hand it is {cost} nano-USD"
        )
        self._stage.aside(f"first word after {first_ms:.0f} ms; the last frame says cost {usage['cost']} USD")
        after = await self._balance_after(guest, before - cost)
        say(f"Balance after    {format_usd(after)} USD")

    async def too_fast(self, guest: Guest) -> None:
        """Short calls until the pace is too high."""
        for count in range(_TRIES_MAX):
            refused = await self._short(guest)
            if refused is not None:
                _expect(refused.status == 429, f"expected a 429, got {refused.status}: {refused.message}")
                _expect(bool(refused.details.get("retry_after_s")), "the 429 does not say how long to wait")
                self._stage.line(f"call {count + 1}: 429, and {guest.name} reads:")
                return self._quote(refused.message)
            self._stage.line(f"call {count + 1}: 200")
        raise TourError(f"no 429 came in {_TRIES_MAX} calls")

    async def too_poor(self, guest: Guest) -> None:
        """A call without money, refused with a hint; the refusal takes nothing."""
        before = await self._balance(guest)
        refused = await self._short(guest)
        _expect(refused is not None and refused.status == 402, "expected a 402 for a call without money")
        assert refused is not None
        self._stage.line(f"402, and {guest.name} reads:")
        self._quote(refused.message)
        hint = {name: refused.details.get(name) for name in ("needed", "available", "upgrade_tier", "upgrade_url")}
        _expect(all(hint.values()), f"the 402 gives no full hint: {hint}")
        self._stage.aside("for programs: " + ", ".join(f"{name} {value}" for name, value in hint.items()))
        _expect(await self._balance(guest) == before, "the refused call changed the balance")

    async def _streamed(self, guest: Guest) -> tuple[dict[str, Any], float]:
        """The answer, spoken as it arrives: its usage, and milliseconds to the first word."""
        begun, first_ms, usage = time.monotonic(), 0.0, None
        body = _chat(QUESTION, stream=True, stream_options={"include_usage": True})
        async with self._http.post(self._chats, data=body, headers=_headers(guest)) as reply:
            await _answered(reply)
            async for event in _events(reply):
                _expect("error" not in event, f"the stream broke off: {event.get('error')}")
                for piece in _pieces(event):
                    first_ms = first_ms or (time.monotonic() - begun) * 1000
                    self._stage.speak(piece)
                usage = event.get("usage") or usage
        self._stage.spoken()
        _expect(bool(first_ms) and usage is not None and "cost" in usage, "the stream ended without answer or usage")
        return usage or {}, first_ms

    def _reckoned(self, usage: Mapping[str, Any], guest: Guest) -> int:
        """The charge by hand, shown; nano-USD."""
        tokens = Usage(input=usage["prompt_tokens"], output=usage["completion_tokens"])
        factor = self._factor[guest.tier]
        cost = charge_amount(tokens, self._price, factor)
        prices = [format_price(self._price.rate(kind)) for kind in ("input", "output")]
        markup = f" x {factor / PPM:g} for the tier" if factor != PPM else ""
        self._stage.line(
            f"Charge           ({tokens.input} tokens x {prices[0]} + {tokens.output} tokens x {prices[1]}) "
            f"/ 1M{markup} = {format_usd(cost)} USD"
        )
        return cost

    async def _short(self, guest: Guest) -> Refused | None:
        """A call of a few tokens; None when it was answered."""
        body = _chat("hello", max_tokens=4)
        async with self._http.post(self._chats, data=body, headers=_headers(guest)) as reply:
            if reply.status == 200:
                await reply.read()
                return None
            error = msgspec.json.decode(await reply.read())["error"]
            return Refused(reply.status, error["message"], error["farebox"])

    async def _balance(self, guest: Guest) -> int:
        """What is free in the guest's wallet; nano-USD."""
        async with self._http.get(f"{self._url}/v1/account", headers=_headers(guest)) as reply:
            await _answered(reply)
            return parse_usd(msgspec.json.decode(await reply.read())["balance"])

    async def _balance_after(self, guest: Guest, expected: int) -> int:
        """The balance once the charge is posted, which is a moment after the answer's end."""
        for _ in range(_LOOKS_MAX):
            if (balance := await self._balance(guest)) == expected:
                return balance
            await asyncio.sleep(_LOOK_EVERY_S)
        raise TourError(f"the balance is {format_usd(balance)} USD and not {format_usd(expected)}")

    def _quote(self, message: str) -> None:
        for piece in re.findall(r"\s*\S+", message):
            self._stage.speak(piece)
        self._stage.spoken()

    @property
    def _chats(self) -> str:
        return f"{self._url}/v1/chat/completions"


def _chat(question: str, **more: Any) -> bytes:
    return msgspec.json.encode({"model": MODEL, "messages": [{"role": "user", "content": question}], **more})


def _headers(guest: Guest) -> dict[str, str]:
    return {"authorization": f"Bearer {guest.key}", "content-type": "application/json"}


async def _events(reply: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a streamed answer, up to its end mark."""
    async for line in reply.content:
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            return
        if data:
            yield msgspec.json.decode(data)
    raise TourError("the stream ended without its end mark")


def _pieces(event: Mapping[str, Any]) -> list[str]:
    """The words of one chunk."""
    return [text for choice in event.get("choices") or () if (text := choice["delta"].get("content"))]


async def _answered(reply: aiohttp.ClientResponse) -> None:
    if reply.status != 200:
        said = (await reply.read())[:500].decode("utf-8", "replace")
        raise TourError(f"{reply.url.path} was answered {reply.status}: {said}")


def _expect(held: bool, otherwise: str) -> None:
    if not held:
        raise TourError(otherwise)
