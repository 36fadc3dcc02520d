"""What a call leaves behind: one settlement, corrected windows, numbers, and a line."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from config.catalog import Model
from gateway.admission import Admission
from gateway.bill import Bill
from gateway.books import Books
from gateway.calllog import CallLog
from gateway.meter import Reading
from gateway.metrics import Metrics
from gateway.order import Candidate
from gateway.purse import Purse
from gateway.story import Clock, Story
from ledger.hold import CallFacts, Outcome, Settlement
from ledger.price import BY_TOKENS, TOKEN_PRICE, Price
from ledger.usage import Usage, UsageSource
from policies.buckets import Ask, BucketsUnavailable, Failed, Ticket, unheard
from policies.buckets_memory import BucketsMemory
from policies.estimate import RunningP90, RunningRatio
from policies.principal import Principal
from policies.tier import Of, Tier, Window
from tests.gateway.parts import CHAT, chat_request

WALLET, USER, CALL = UUID(int=1), UUID(int=2), UUID(int=3)
KINDS: tuple[Of, ...] = ("requests", "tokens", "input_tokens", "output_tokens", "cost")
WINDOWS = tuple(Window(10**9, of, 3600) for of in KINDS)
PRICE = Price(7, "small", {"input": 150_000, "output": 600_000})
USED = Reading(Usage(input=11, output=3, reasoning=2), UsageSource.REPORTED)


class Desk:
    """Books, and what they wrote."""

    def __init__(self, buckets: BucketsMemory | None = None) -> None:
        self.posted: list[Settlement] = []
        self.metrics = Metrics()
        self.out = io.BytesIO()
        self.log = CallLog(self.out)
        self.buckets = buckets or BucketsMemory()
        self.output_seen = RunningP90()
        poster: Any = SimpleNamespace(submit=self.posted.append)
        self.tallied: list[tuple[str, str]] = []
        tally: Any = SimpleNamespace(count=lambda code, tier: self.tallied.append((code, tier)))
        self.books = Books(poster, self.buckets, self.metrics, self.log, tally, self.output_seen, RunningRatio())

    def line(self) -> dict[str, Any]:
        self.log.start()
        self.log.stop()
        return dict(msgspec.json.decode(self.out.getvalue()))

    def value(self, name: str) -> dict[frozenset[str], float]:
        families = text_string_to_metric_families(self.metrics.render().decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return {frozenset(sample.labels.values()): sample.value for sample in samples}


def story(**more: Any) -> Story:
    now = time.monotonic()
    principal = Principal(
        USER, WALLET, "r", "s", "ada@example.org", "Ada", "user", "free", "active", "en", chat_id="chat-1", task="title"
    )
    usual: dict[str, Any] = {
        "request_id": CALL,
        "surface": CHAT,
        "principal": principal,
        "request": chat_request("a prompt"),
        "headers": [(b"authorization", b"Bearer secret")],
        "idempotency": "",
        "clock": Clock(now - 3, now - 2.5, now - 1.5, now - 1, now - 0.5),
        "tier": "free",
        "known_model": "small",
        "status": 200,
    }
    return Story(**{**usual, **more})


async def admission(buckets: BucketsMemory, concurrency: int = 1, currency: str = "USD") -> Admission:
    rules = tuple((window, 1 if window.of == "requests" else 1000) for window in WINDOWS)
    ticket = await buckets.admit(Ask(str(WALLET), str(USER), str(CALL), concurrency, "", rules))
    assert isinstance(ticket, Ticket)
    facts = CallFacts(user_id=USER, tier="free", model="small", route="chat.completions", upstream="main")
    purse = Purse(WALLET, currency, None, (candidate(),), 1000, 1000)
    return Admission(Tier("free"), purse, ticket, 1000, 0, None, facts, "https://fare.example")


def candidate(name: str = "small", upstream: str = "main") -> Candidate:
    return Candidate(Model(name, upstream, name), Bill(PRICE, 2_000_000, Usage(input=11)))


def pump(told: Story, admitted: Admission | None) -> Any:
    """A call as its books see it."""
    answering = {"model_id": "small", "upstream_name": "main"} if admitted else {"model_id": "", "upstream_name": ""}
    return SimpleNamespace(story=told, admission=admitted, corrected=None, held=0, **answering)


async def used(desk: Desk) -> tuple[list[int], int]:
    reading = await desk.buckets.read(str(WALLET), str(USER), WINDOWS)
    return [level.used for level in reading.levels], reading.open_calls


# The settlement -----------------------------------------------------------------------------------------------------


async def test_a_charge_is_handed_over_with_all_that_recomputes_it() -> None:
    desk = Desk()
    told, admitted = story(), await admission(desk.buckets)
    desk.books.post(told, admitted, candidate(), USED, Outcome.COMPLETED)
    (event,) = desk.posted
    assert told.amount == event.amount == 2 * (11 * 150 + 5 * 600)
    assert (event.request_id, event.wallet_id, event.void) == (CALL, WALLET, False)
    assert (event.price_version, event.factor_ppm, event.usage, event.source) == (7, 2_000_000, *USED[:2])
    assert (event.outcome, event.facts) == (Outcome.COMPLETED, admitted.facts)
    assert event.ttft_ms is not None and event.duration_ms is not None
    assert 1900 <= event.ttft_ms <= 2100 and 2900 <= event.duration_ms <= 60_000


async def test_a_call_nothing_was_sent_for_has_no_time_to_its_first_byte() -> None:
    desk = Desk()
    told = story(clock=Clock(time.monotonic()))
    desk.books.post(told, await admission(desk.buckets), candidate(), USED, Outcome.CALLER_LEFT)
    assert desk.posted[0].ttft_ms is None


async def test_the_model_that_answered_is_charged_not_the_one_asked_for() -> None:
    desk = Desk()
    desk.books.post(story(), await admission(desk.buckets), candidate("other", "second"), USED, Outcome.COMPLETED)
    assert (desk.posted[0].facts.model, desk.posted[0].facts.upstream) == ("other", "second")


async def test_a_charge_in_tokens_is_no_money() -> None:
    desk = Desk()
    told, admitted = story(), await admission(desk.buckets, currency="TOK")
    paid = Candidate(Model("small", "main", "small"), Bill(TOKEN_PRICE, 1_000_000, Usage(input=11)))
    desk.books.post(told, admitted, paid, USED, Outcome.COMPLETED)
    (event,) = desk.posted
    assert (event.amount, event.price_version, event.factor_ppm) == (16, BY_TOKENS, 1_000_000)
    assert (told.tokens, told.amount) == (16, 0)
    told.reading = USED
    desk.books.close(pump(told, admitted))
    assert desk.value("farebox_charged_usd_total") == {frozenset(("small", "free")): 0}
    assert (await used(desk))[0] == [1, 16, 11, 5, 0]
    line = desk.line()
    assert (line["cost_usd"], line["cost_tokens"]) == ("0.0000", 16)


async def test_a_void_charges_nothing_and_counts_nothing() -> None:
    desk = Desk()
    told, admitted = story(), await admission(desk.buckets)
    desk.books.void(told, admitted)
    desk.books.close(pump(told, admitted))
    (event,) = desk.posted
    assert event.void and event.amount == 0 and event.usage == Usage()
    assert not desk.value("farebox_charged_usd_total")


async def test_odd_reports_are_counted_by_their_reason() -> None:
    desk = Desk()
    odd = USED._replace(problems=("no_price", "no_usage"))
    desk.books.post(story(), await admission(desk.buckets), candidate(), odd, Outcome.COMPLETED)
    assert desk.value("farebox_uncharged_total") == {frozenset(["no_price"]): 1, frozenset(["no_usage"]): 1}
    assert desk.posted[0].problems == ("no_price", "no_usage")


@pytest.mark.parametrize(("outcome", "learns"), [(Outcome.COMPLETED, True), (Outcome.CALLER_LEFT, False)])
async def test_only_whole_answers_teach_how_long_answers_are(outcome: Outcome, learns: bool) -> None:
    desk = Desk()
    admitted, before = await admission(desk.buckets), desk.output_seen.expected("small")
    short = USED._replace(usage=Usage(input=11, output=8))
    for _ in range(100):
        desk.books.post(story(), admitted, candidate(), short, outcome)
    assert (desk.output_seen.expected("small") < before) is learns


async def test_how_long_answers_are_is_learnt_as_holds_are_measured() -> None:
    desk = Desk()
    admitted, short = await admission(desk.buckets), USED._replace(usage=Usage(input=11, output=8))
    for _ in range(100):
        desk.books.post(story(), admitted, candidate(), short, Outcome.COMPLETED, passed=67)
    assert 67 <= desk.output_seen.expected("small") < 84


# The windows --------------------------------------------------------------------------------------------------------


async def test_windows_become_what_the_call_was_and_the_slot_is_free() -> None:
    desk = Desk()
    admitted = await admission(desk.buckets)
    assert await used(desk) == ([1, 1000, 1000, 1000, 1000], 1)
    desk.books.close(pump(story(reading=USED, amount=9300), admitted))
    assert await used(desk) == ([1, 16, 11, 5, 9300], 0)


async def test_a_call_that_consumed_nothing_was_a_request_all_the_same() -> None:
    desk = Desk()
    desk.books.close(pump(story(status=502, code="upstream_error"), await admission(desk.buckets)))
    assert await used(desk) == ([1, 0, 0, 0, 0], 0)


class Away(BucketsMemory):
    """Cannot be told."""

    def end(self, ticket: Ticket, actual: Any, failed: Failed = unheard, *, forget: bool = False) -> None:
        failed(BucketsUnavailable())


async def test_limits_that_are_away_keep_no_call_from_its_last_lines() -> None:
    desk = Desk(Away())
    desk.books.close(pump(story(), await admission(desk.buckets)))
    assert desk.line()["event"] == "call"


# Numbers and the line -----------------------------------------------------------------------------------------------


async def test_a_call_is_counted_once_by_how_it_ended() -> None:
    desk = Desk()
    desk.books.close(pump(story(reading=USED), await admission(desk.buckets)))
    labels = frozenset(("chat.completions", "small", "free", "200", ""))
    assert desk.value("farebox_requests_total") == {labels: 1}
    assert desk.value("farebox_refusals_total") == {}
    assert desk.value("farebox_upstream_seconds_count") == {frozenset(("small", "main")): 1}
    assert desk.value("farebox_ttft_seconds_count") == {frozenset(["small"]): 1}
    assert desk.value("farebox_overhead_seconds_count") == {frozenset(["before"]): 1, frozenset(["total"]): 1}


async def test_what_was_waited_for_the_backend_is_no_overhead_of_ours() -> None:
    desk = Desk()
    now = time.monotonic()
    told = story(clock=Clock(now - 10, now - 9.5, now - 8, now - 8, now - 0.5))
    desk.books.close(pump(told, await admission(desk.buckets)))
    sums = desk.value("farebox_overhead_seconds_sum")
    assert abs(sums[frozenset(["before"])] - 0.5) < 0.01
    assert 1.0 <= sums[frozenset(["total"])] < 5  # the half before and the half after, and what this test took


async def test_a_refusal_is_counted_as_one_under_names_of_the_catalogue_only() -> None:
    desk = Desk()
    told = story(status=404, code="model_not_found", known_model="unknown", clock=Clock(time.monotonic()))
    desk.books.close(pump(told, None))
    assert desk.value("farebox_refusals_total") == {frozenset(("model_not_found", "free")): 1}
    labels = frozenset(("chat.completions", "unknown", "free", "404", "model_not_found"))
    assert desk.value("farebox_requests_total") == {labels: 1}
    assert not desk.value("farebox_upstream_seconds_count")
    assert desk.tallied == [("model_not_found", "free")]


async def test_the_line_has_names_and_numbers_and_nothing_of_the_words() -> None:
    desk = Desk()
    told = story(reading=USED, amount=9300, outcome=Outcome.COMPLETED)
    desk.books.close(pump(told, await admission(desk.buckets)))
    line = desk.line()
    assert (line["request_id"], line["user"], line["key"]) == (str(CALL), str(USER), None)
    assert (line["model"], line["tier"], line["status"], line["outcome"]) == ("small", "free", 200, "completed")
    assert (line["chat"], line["task"], line["cost_usd"]) == ("chat-1", "title", "0.0000093")
    assert (line["usage"], line["usage_source"], line["problems"]) == (
        {"input": 11, "output": 3, "reasoning": 2},
        "reported",
        [],
    )
    assert 1900 <= line["upstream_ms"] <= 2100 and 900 <= line["gateway_ms"] <= 60_000
    assert b"prompt" not in desk.out.getvalue() and b"secret" not in desk.out.getvalue()


async def test_the_line_names_the_admin_who_acted_for_the_user() -> None:
    desk = Desk()
    told = story()
    told.principal = msgspec.structs.replace(told.principal, acted_by="admin:root")
    desk.books.close(pump(told, await admission(desk.buckets)))
    assert desk.line()["acted_by"] == "admin:root"


async def test_a_refused_callers_own_words_are_cut_in_the_line() -> None:
    desk = Desk()
    told = story(status=404, code="model_not_found", request=chat_request(model="x" * 100_000))
    desk.books.close(pump(told, None))
    line = desk.line()
    assert len(line["model"]) == 200 and "usage" not in line and line["outcome"] is None
