"""When a call has something to tell beside its answer, and that it never harms the answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from gateway.notices import Notice, Notices
from gateway.voice import Voice
from ledger.period import Plan
from ledger.store import Balance, BankUnavailable
from policies.principal import Principal

USD = 10**9
WALLET = UUID(int=2)
URL = "https://shop.example"


class Told:
    """What was said, in memory."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.away = False

    async def first(self, name: str, ttl_s: int) -> bool:
        if self.away:
            raise RuntimeError("a defect")
        assert ttl_s > 0
        new = name not in self.names
        self.names.add(name)
        return new

    async def forget(self, name: str) -> None:
        self.names.discard(name)


class Bank:
    """A wallet with this much of its plan left."""

    def __init__(self, left: int = 0, failure: Exception | None = None) -> None:
        self.left = left
        self.failure = failure

    async def balance(self, wallet_id: UUID, plan: Plan) -> Balance:
        if self.failure is not None:
            raise self.failure
        return Balance(100 * USD, 0, {"plan": self.left, "paid": 50 * USD})


def house(bank: Bank | None = None, how: Any = "status", low: int = USD) -> Notices:
    return Notices(how, cast(Any, bank or Bank()), Voice(), Told(), low)


def story(**more: Any) -> Any:
    named = ("webui", "u", "", "Ada", "user", "free", "active", "en")
    labels: dict[str, Any] = {"forwarded": True, "chat_id": "c", "message_id": "m", **more}
    route, stream = labels.pop("route", "chat.completions"), labels.pop("stream", True)
    return SimpleNamespace(
        principal=Principal(UUID(int=1), WALLET, *named, **labels),
        request=SimpleNamespace(stream=stream, model="small"),
        surface=SimpleNamespace(route=route),
        request_id=UUID(int=3),
    )


def admission(plan: Plan | None = None, available: int = 0, held: int = 0, house: bool = False) -> Any:
    purse = SimpleNamespace(plan=plan, house=house)
    parts = {"purse": purse, "wallet_id": WALLET, "in_tokens": False, "upgrade_url": URL}
    return SimpleNamespace(**parts, available=available, held=held)


def watched(notices: Notices, *args: Any, **more: Any) -> Notice:
    notice = notices.watch(story(**more), admission(*args))
    assert notice is not None
    return notice


def words(chunk: bytes) -> str:
    (line,) = [line for line in chunk.split(b"\n") if line]
    return str(msgspec.json.decode(line.removeprefix(b"data: "))["event"]["data"]["description"])


@pytest.mark.parametrize(
    "more",
    [
        {"forwarded": False},
        {"chat_id": ""},
        {"message_id": ""},
        {"task": "title_generation"},
        {"stream": False},
        {"route": "completions"},
    ],
)
async def test_only_what_a_chat_page_shows_is_watched(more: dict[str, Any]) -> None:
    assert house().watch(story(**more), admission()) is None


async def test_where_the_house_pays_or_nothing_is_given_there_is_nothing_to_tell() -> None:
    assert house().watch(story(), admission(house=True)) is None
    assert house().watch(story(), admission(Plan(0))) is None
    assert house(low=0).watch(story(), admission()) is None


@pytest.mark.parametrize(
    ("left", "amount", "told"),
    [
        (3 * USD, USD // 2, ""),
        (3 * USD, USD, "80% of your monthly allowance is used, 2.0000 USD is left."),
        (2 * USD, USD, "90% of your monthly allowance is used"),
        (2 * USD, 2 * USD, "100% of your monthly allowance is used, 0.0000 USD is left."),
        (USD, 2 * USD, "100% of"),
    ],
)
async def test_what_is_left_is_what_the_plan_has_left_whatever_else_there_is(left: int, amount: int, told: str) -> None:
    chunk = await watched(house(Bank(left)), Plan(10 * USD)).chunk(amount)
    assert bool(chunk) is bool(told) and (not told or words(chunk).startswith(told))
    assert not told or words(chunk).endswith(f"Details: {URL}")


async def test_each_step_is_told_once_and_the_further_one_silences_the_nearer() -> None:
    notices = house(Bank(2 * USD))
    assert await watched(notices, Plan(10 * USD)).chunk(1)
    assert not await watched(notices, Plan(10 * USD)).chunk(1)
    assert "95" in words(await watched(notices, Plan(10 * USD)).chunk(15 * USD // 10))
    assert not await watched(notices, Plan(10 * USD)).chunk(2 * USD)
    fresh = house(Bank(USD // 10))
    assert await watched(fresh, Plan(10 * USD)).chunk(1)
    fresh.bank.left = 15 * USD // 10  # type: ignore[attr-defined]
    assert not await watched(fresh, Plan(10 * USD)).chunk(1)
    assert await watched(fresh, Plan(10 * USD, name="another plan")).chunk(1)


async def test_a_bank_that_does_not_answer_costs_the_notice_and_nothing_else() -> None:
    for failure in (BankUnavailable("away"), LookupError("no wallet"), TimeoutError()):
        assert await watched(house(Bank(0, failure)), Plan(USD)).chunk(1) == b""


async def test_a_defect_costs_the_notice_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    notices = house(Bank(0))
    cast(Told, notices.told).away = True
    assert await watched(notices, Plan(USD)).chunk(1) == b""
    assert [record.message for record in caplog.records] == ["notice not given"]


async def test_an_answer_that_ends_another_way_leaves_no_unheard_failure() -> None:
    watched(house(Bank(0, BankUnavailable("away"))), Plan(USD))
    await asyncio.sleep(0)


async def test_a_low_balance_is_told_until_it_is_filled_and_falls_again() -> None:
    notices = house()
    assert not await watched(notices, None, USD, USD).chunk(USD)
    assert words(await watched(notices, None, USD, USD).chunk(USD + 60_000_000)).startswith(
        "Your balance is down to 0.9400 USD."
    )
    assert not await watched(notices, None, 0, USD).chunk(USD // 2)
    assert not await watched(notices, None, 5 * USD, 0).chunk(1)
    assert await watched(notices, None, 0, USD).chunk(USD // 2)


async def test_small_amounts_are_told_exactly_and_large_ones_rounded_down() -> None:
    assert "0.000123456 USD" in words(await watched(house(), None, 123_457, 0).chunk(1))
    assert "0.9876 USD" in words(await watched(house(), None, 987_654_322, 0).chunk(1))


async def test_both_forms_are_those_of_open_webui() -> None:
    for how, event in (
        ("status", {"type": "status", "data": {"description": "…", "done": True}}),
        ("toast", {"type": "notification", "data": {"type": "warning", "content": "…"}}),
    ):
        chunk = await watched(house(how=how), None, 0, 0).chunk(0)
        assert chunk.startswith(b"\ndata: ") and chunk.endswith(b"\n\n") and chunk.count(b"\n") == 3
        said = msgspec.json.decode(chunk.strip().removeprefix(b"data: "))
        assert said["choices"] == [] and said["model"] == "small"
        (text,) = [value for value in said["event"]["data"].values() if str(value).startswith("Your balance")]
        assert msgspec.json.encode(said["event"]).decode().replace(text, "…") == msgspec.json.encode(event).decode()
