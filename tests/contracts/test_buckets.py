"""What every place where limits are counted promises, held against this process's memory and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from msgspec.structs import replace

from policies.buckets import Ask, Buckets, Level, Ticket
from policies.buckets_memory import BucketsMemory
from policies.buckets_queue import BucketsQueue
from policies.buckets_redis import BucketsRedis, connect
from policies.concurrency import SLOT_TTL_MS
from policies.decision import Deny
from policies.lanes import LANES
from policies.tier import Window

REQUESTS, TOKENS, COST = Window(3, "requests", 60), Window(1000, "tokens", 3600), Window(10**15, "cost", 2592000)
START = 1_700_000_000_000


class Clock:
    """Time in ms that moves when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis", "queue"])
async def buckets(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Buckets]:
    place: Buckets
    if request.param == "memory":
        place = BucketsMemory(clock)
    elif request.param == "queue":
        place = BucketsQueue(BucketsMemory(clock))
    else:
        place = BucketsRedis(connect(request.getfixturevalue("redis_url"), connect_timeout=30, timeout=30), clock)
    yield place
    await place.aclose()


def ask(*rules: tuple[Window, int], concurrency: int = 0, idempotency: str = "", user: str = "u") -> Ask:
    return Ask("wallet", user, str(uuid4()), concurrency, idempotency, rules)


async def admitted(buckets: Buckets, question: Ask) -> Ticket:
    answer = await buckets.admit(question)
    assert isinstance(answer, Ticket), answer
    return answer


async def denied(buckets: Buckets, question: Ask) -> Deny:
    answer = await buckets.admit(question)
    assert isinstance(answer, Deny), answer
    return answer


async def used(buckets: Buckets, *windows: Window, user: str = "u") -> list[int]:
    return [level.used for level in (await buckets.read("wallet", user, windows)).levels]


async def test_a_call_is_counted_in_every_window_it_was_asked_for(buckets: Buckets) -> None:
    await admitted(buckets, ask((REQUESTS, 1), (TOKENS, 400), (COST, 7)))
    await admitted(buckets, ask((REQUESTS, 1), (TOKENS, 100)))
    assert await used(buckets, REQUESTS, TOKENS, COST) == [2, 500, 7]


async def test_a_full_window_refuses_with_the_smallest_wait_that_helps(buckets: Buckets, clock: Clock) -> None:
    for _ in range(3):
        await admitted(buckets, ask((REQUESTS, 1)))
    denial = await denied(buckets, ask((REQUESTS, 1)))
    assert denial == Deny("rate_limit_requests", "requests/60", 3, 3, 1, 0, 61_000)
    clock.now += 60_999
    assert (await denied(buckets, ask((REQUESTS, 1)))).retry_after_ms == 1
    clock.now += 1
    await admitted(buckets, ask((REQUESTS, 1)))
    assert await used(buckets, REQUESTS) == [1]


async def test_a_refused_call_changes_nothing(buckets: Buckets) -> None:
    await admitted(buckets, ask((REQUESTS, 1), (TOKENS, 900), (COST, 5)))
    before = await buckets.read("wallet", "u", [REQUESTS, TOKENS, COST])
    refused = ask((REQUESTS, 1), (COST, 5), (TOKENS, 200), idempotency="again")
    assert (await denied(buckets, refused)).code == "rate_limit_tokens"
    assert await buckets.read("wallet", "u", [REQUESTS, TOKENS, COST]) == before
    await admitted(buckets, ask((REQUESTS, 1), idempotency="again"))


async def test_of_several_refusals_the_longest_wait_is_told(buckets: Buckets) -> None:
    await admitted(buckets, ask((REQUESTS, 3), (TOKENS, 1000)))
    assert (await denied(buckets, ask((TOKENS, 1), (REQUESTS, 1)))).limit == "tokens/3600"
    assert (await denied(buckets, ask((REQUESTS, 1), (TOKENS, 1), concurrency=1))).limit == "tokens/3600"


async def test_of_equal_waits_the_first_rule_is_told(buckets: Buckets) -> None:
    tokens = Window(3, "tokens", 60)
    await admitted(buckets, ask((REQUESTS, 3), (tokens, 3)))
    assert (await denied(buckets, ask((tokens, 1), (REQUESTS, 1)))).limit == "tokens/60"
    assert (await denied(buckets, ask((REQUESTS, 1), (tokens, 1)))).limit == "requests/60"


async def test_what_can_never_fit_is_told_before_any_wait(buckets: Buckets) -> None:
    await admitted(buckets, ask((TOKENS, 1000)))
    denial = await denied(buckets, ask((TOKENS, 1), (REQUESTS, 4), concurrency=1))
    assert denial == Deny("rate_limit_requests", "requests/60", 3, 0, 4, 3, 0)


@pytest.mark.parametrize(
    ("of", "code"),
    [
        ("requests", "rate_limit_requests"),
        ("tokens", "rate_limit_tokens"),
        ("input_tokens", "rate_limit_tokens"),
        ("output_tokens", "rate_limit_tokens"),
        ("cost", "rate_limit_cost"),
    ],
)
async def test_each_kind_of_window_has_its_code(buckets: Buckets, of: str, code: str) -> None:
    window = Window(1, of, 60)  # type: ignore[arg-type] # the names of the contract, as text
    assert (await denied(buckets, ask((window, 2)))).code == code


async def test_amounts_stay_exact_above_what_a_careless_double_prints(buckets: Buckets) -> None:
    window = Window(2**53 - 1, "cost", 2592000)
    ticket = await admitted(buckets, ask((window, 2**52 + 1)))
    await admitted(buckets, ask((window, 2**51 + 1)))
    assert await used(buckets, window) == [2**52 + 2**51 + 2]
    await buckets.correct(ticket, [10**14 + 1])
    assert await used(buckets, window) == [2**51 + 1 + 10**14 + 1]
    denial = await denied(buckets, ask((window, 2**53 - 1)))
    assert denial.used == 2**51 + 10**14 + 2


async def test_a_correction_takes_effect_where_the_call_was_counted(buckets: Buckets, clock: Clock) -> None:
    ticket = await admitted(buckets, ask((REQUESTS, 1), (TOKENS, 900)))
    clock.now += 120_000
    await admitted(buckets, ask((TOKENS, 50)))
    await buckets.correct(ticket, [1, 300])
    assert await used(buckets, TOKENS) == [350]
    clock.now += 3_660_000 - 120_000
    assert await used(buckets, TOKENS) == [50]


async def test_a_call_ends_without_anybody_waiting_before_what_is_asked_next(buckets: Buckets) -> None:
    only = ask((TOKENS, 500), concurrency=1, idempotency="key")
    told: list[Exception] = []
    buckets.end(await admitted(buckets, only), [300], told.append, forget=True)
    await admitted(buckets, replace(only, request_id="next"))
    assert await used(buckets, TOKENS) == [800]
    assert told == []


async def test_a_correction_may_put_a_window_above_its_limit(buckets: Buckets) -> None:
    ticket = await admitted(buckets, ask((TOKENS, 10)))
    await buckets.correct(ticket, [5000])
    assert await used(buckets, TOKENS) == [5000]
    assert (await denied(buckets, ask((TOKENS, 1)))).available == 0


async def test_a_correction_that_comes_too_late_is_void(buckets: Buckets, clock: Clock) -> None:
    ticket = await admitted(buckets, ask((TOKENS, 900)))
    clock.now += 3_660_000
    await admitted(buckets, ask((TOKENS, 50)))
    await buckets.correct(ticket, [0])
    assert await used(buckets, TOKENS) == [50]


async def test_an_undone_call_leaves_no_trace(buckets: Buckets) -> None:
    question = ask((REQUESTS, 1), (TOKENS, 900), concurrency=1, idempotency="key")
    await buckets.undo(await admitted(buckets, question))
    reading = await buckets.read("wallet", "u", [REQUESTS, TOKENS])
    assert reading.levels == (Level(0, 0), Level(0, 0))
    assert reading.open_calls == 0
    await admitted(buckets, question)


async def test_undo_and_correction_never_go_below_zero(buckets: Buckets) -> None:
    ticket = await admitted(buckets, ask((TOKENS, 900)))
    await buckets.clear("wallet", "u", [TOKENS])
    await admitted(buckets, ask((TOKENS, 5)))
    await buckets.undo(ticket)
    assert await used(buckets, TOKENS) == [0]


async def test_concurrency_is_the_number_of_open_calls(buckets: Buckets) -> None:
    first = await admitted(buckets, ask(concurrency=2))
    await admitted(buckets, ask(concurrency=2))
    denial = await denied(buckets, ask(concurrency=2))
    assert (denial.code, denial.limit_value, denial.used) == ("too_many_concurrent", 2, 2)
    await buckets.correct(first, [])
    await admitted(buckets, ask(concurrency=2))


async def test_each_lane_has_open_calls_of_its_own(buckets: Buckets, clock: Clock) -> None:
    asks = {lane: replace(ask(concurrency=1), lane=lane) for lane in LANES}
    tickets = {lane: await admitted(buckets, asks[lane]) for lane in LANES}
    for lane in LANES:
        again = replace(ask(concurrency=1), lane=lane)
        deny = await denied(buckets, again)
        name = "concurrency" if lane == "own" else f"{lane}/concurrency"
        assert (deny.code, deny.limit, deny.used) == ("too_many_concurrent", name, 1)
        assert (await buckets.peek(again)).open_calls == 1
    # A reading is of what a person asked for.
    assert (await buckets.read("wallet", "u", ())).open_calls == 1
    await buckets.correct(tickets["tasks"], ())
    await admitted(buckets, replace(ask(concurrency=1), lane="tasks"))
    await denied(buckets, ask(concurrency=1))
    clock.now += SLOT_TTL_MS - 1
    await buckets.renew([tickets["embeddings"]])
    clock.now += 2
    assert [(await buckets.peek(asks[lane])).open_calls for lane in LANES] == [0, 0, 1]
    buckets.leave("nobody waits by this id")


async def test_a_slot_without_a_beat_frees_itself_and_a_renewed_one_does_not(buckets: Buckets, clock: Clock) -> None:
    kept = await admitted(buckets, ask(concurrency=2))
    await admitted(buckets, ask(concurrency=2))
    clock.now += SLOT_TTL_MS - 1
    await buckets.renew([kept])
    clock.now += 1
    assert (await buckets.read("wallet", "u", [])).open_calls == 1
    await admitted(buckets, ask(concurrency=2))
    assert (await denied(buckets, ask(concurrency=2))).used == 2


async def test_a_beat_does_not_open_a_slot_again(buckets: Buckets, clock: Clock) -> None:
    ended, expired = await admitted(buckets, ask()), await admitted(buckets, ask())
    await buckets.correct(ended, [])
    clock.now += SLOT_TTL_MS
    await buckets.renew([ended, expired])
    assert (await buckets.read("wallet", "u", [])).open_calls == 0


async def test_one_beat_renews_the_calls_of_many_users(buckets: Buckets, clock: Clock) -> None:
    tickets = [await admitted(buckets, ask(user=user)) for user in ("a", "a", "b")]
    clock.now += SLOT_TTL_MS - 1
    await buckets.renew(tickets)
    clock.now += SLOT_TTL_MS - 1
    assert [(await buckets.read("wallet", user, [])).open_calls for user in ("a", "b")] == [2, 1]


async def test_an_open_request_id_is_refused_and_named(buckets: Buckets) -> None:
    question = ask((REQUESTS, 1))
    await admitted(buckets, question)
    assert await denied(buckets, question) == Deny("idempotency_conflict", limit=question.request_id)
    assert await used(buckets, REQUESTS) == [1]


async def test_an_idempotency_key_is_remembered_after_the_call_has_ended(buckets: Buckets) -> None:
    first = ask(idempotency="key")
    await buckets.correct(await admitted(buckets, first), [])
    assert await denied(buckets, ask(idempotency="key")) == Deny("idempotency_conflict", limit=first.request_id)
    await admitted(buckets, ask(idempotency="other"))
    await admitted(buckets, ask(idempotency="key", user="somebody else"))


async def test_an_idempotency_key_of_a_call_that_came_to_nothing_is_free_again(buckets: Buckets) -> None:
    first = await admitted(buckets, ask((REQUESTS, 1), idempotency="key"))
    await buckets.correct(first, [1], forget=True)
    await admitted(buckets, ask((REQUESTS, 1), idempotency="key"))


async def test_an_undo_does_not_take_the_mark_of_another_call(buckets: Buckets) -> None:
    first = ask(idempotency="key")
    ticket = await admitted(buckets, first)
    await buckets.undo(ticket)
    second = ask(idempotency="key")
    await admitted(buckets, second)
    await buckets.undo(ticket)
    assert (await denied(buckets, ask(idempotency="key"))).limit == second.request_id


async def test_users_of_a_wallet_and_scopes_of_a_window_are_counted_apart(buckets: Buckets) -> None:
    chat = Window(3, "requests", 60, "chat.completions")
    await admitted(buckets, ask((REQUESTS, 3)))
    await admitted(buckets, ask((chat, 3)))
    await admitted(buckets, ask((REQUESTS, 3), user="other"))
    assert await used(buckets, REQUESTS, chat) == [3, 3]


async def test_a_changed_limit_keeps_what_was_used(buckets: Buckets) -> None:
    await admitted(buckets, ask((Window(10, "requests", 60), 8)))
    assert (await denied(buckets, ask((Window(5, "requests", 60), 1)))).used == 8
    await admitted(buckets, ask((Window(9, "requests", 60), 1)))


async def test_a_peek_answers_as_admit_would_and_counts_nothing(buckets: Buckets, clock: Clock) -> None:
    questions = [
        ask((REQUESTS, 1), (TOKENS, 100)),
        ask((REQUESTS, 1), (TOKENS, 900), concurrency=1),
        ask((REQUESTS, 4), (TOKENS, 1)),
        ask((TOKENS, 901), (REQUESTS, 1)),
        ask((REQUESTS, 1), concurrency=2),
    ]
    for question in (ask((REQUESTS, 2), (TOKENS, 100)), *questions):
        clock.now += 1000
        before = await buckets.read("wallet", "u", [REQUESTS, TOKENS])
        look = await buckets.peek(question)
        assert await buckets.read("wallet", "u", [REQUESTS, TOKENS]) == before
        assert look.open_calls == before.open_calls
        answer = await buckets.admit(question)
        assert look.deny == (answer if isinstance(answer, Deny) else None)


async def test_a_peek_tells_how_full_each_window_of_the_ask_is(buckets: Buckets) -> None:
    await admitted(buckets, ask((REQUESTS, 2), (TOKENS, 100)))
    look = await buckets.peek(ask((TOKENS, 1), (REQUESTS, 1)))
    reading = await buckets.read("wallet", "u", [TOKENS, REQUESTS])
    assert [level.used for level in look.levels] == [100, 2]
    assert look.levels == reading.levels


async def test_clearing_empties_the_windows_and_leaves_open_calls_open(buckets: Buckets) -> None:
    await admitted(buckets, ask((REQUESTS, 3), (TOKENS, 10)))
    await buckets.clear("wallet", "u", [REQUESTS])
    await buckets.clear("wallet", "u", [])
    reading = await buckets.read("wallet", "u", [REQUESTS, TOKENS])
    assert ([level.used for level in reading.levels], reading.open_calls) == ([0, 10], 1)


async def test_a_ticket_and_a_reading_agree_on_how_full_the_windows_are(buckets: Buckets, clock: Clock) -> None:
    clock.now += 12_345
    ticket = await admitted(buckets, ask((REQUESTS, 1), (TOKENS, 10)))
    levels = tuple(Level(each.limit - each.remaining, each.reset_ms) for each in ticket.standings)
    assert (await buckets.read("wallet", "u", [REQUESTS, TOKENS])).levels == levels
    assert levels[0] == Level(1, 60_655)


async def test_exactly_as_many_pass_at_once_as_the_limit_says(buckets: Buckets) -> None:
    window = Window(37, "requests", 60)
    answers = await asyncio.gather(*(buckets.admit(ask((window, 1), (COST, 10))) for _ in range(200)))
    assert sum(isinstance(answer, Ticket) for answer in answers) == 37
    assert await used(buckets, window, COST) == [37, 370]


async def test_exactly_as_many_are_open_at_once_as_the_limit_says(buckets: Buckets) -> None:
    answers = await asyncio.gather(*(buckets.admit(ask(concurrency=23)) for _ in range(200)))
    assert sum(isinstance(answer, Ticket) for answer in answers) == 23


async def test_a_place_that_is_well_answers_a_ping(buckets: Buckets) -> None:
    await buckets.ping()
