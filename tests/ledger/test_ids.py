"""Ids are UUIDs of version 7, and sort by the millisecond they were made in."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.ids import draw_anew, floor, instant_of, uuid7, uuid7_at, uuid7_words
from tests.ledger.till import Till

_instants = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = uuid7()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_ids_do_not_repeat() -> None:
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_a_process_does_not_repeat_the_ids_of_the_one_it_was_forked_from() -> None:
    instant = datetime(2026, 12, 1, tzinfo=UTC)
    uuid7()  # random bits for more ids than this one are drawn
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"".join(uuid7_at(instant).bytes for _ in range(100)))
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(reading, 1600)
    for end in (reading, writing):
        os.close(end)
    theirs = {uuid.UUID(bytes=told[at : at + 16]) for at in range(0, 1600, 16)}
    assert len(theirs) == 100 and theirs.isdisjoint(uuid7_at(instant) for _ in range(1000))


def test_random_bits_that_were_drawn_ahead_can_be_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    instant = datetime(2026, 12, 1, tzinfo=UTC)
    monkeypatch.setattr(os, "urandom", bytes)
    draw_anew()
    assert uuid7_at(instant) == floor(instant)
    monkeypatch.undo()
    draw_anew()
    assert uuid7_at(instant) > floor(instant)


def test_ids_of_one_process_sort_as_they_were_made() -> None:
    made = []
    for _ in range(1000):
        made.append(uuid7())
        time.sleep(0.000_001)
    assert made == sorted(made)


@given(_instants)
def test_an_id_of_a_later_microsecond_is_larger(instant: datetime) -> None:
    assert uuid7_at(instant) < uuid7_at(instant + timedelta(microseconds=1))


def test_an_id_tells_when_it_was_made() -> None:
    before = datetime.now(UTC)
    assert before - timedelta(milliseconds=1) <= instant_of(uuid7()) <= datetime.now(UTC)


@given(_instants)
def test_the_floor_of_an_instant_is_that_millisecond_exactly(instant: datetime) -> None:
    assert instant_of(floor(instant)) == instant.replace(microsecond=instant.microsecond // 1000 * 1000)


@given(_instants)
def test_the_floor_is_the_smallest_id_of_its_millisecond(instant: datetime) -> None:
    lowest = floor(instant)
    assert lowest.version == 7
    assert lowest.int & ((1 << 62) - 1) == 0 and lowest.int >> 64 & 0xFFF == 0
    assert lowest < floor(instant + timedelta(milliseconds=1))


async def test_the_database_cuts_months_where_the_floor_says(till: Till) -> None:
    instant = datetime(2026, 12, 1, tzinfo=UTC)
    assert await till.value("SELECT uuid7_floor($1)", instant) == floor(instant)


@given(_instants)
def test_an_id_for_an_instant_tells_that_instant_and_is_no_other(instant: datetime) -> None:
    made = uuid7_at(instant)
    assert instant_of(made) == instant_of(floor(instant)) and made >= floor(instant)
    assert made.version == 7 and made != uuid7_at(instant)


def test_ids_that_are_only_written_down_are_such_ids_in_their_order() -> None:
    before, words, after = uuid7(), uuid7_words(100), uuid7()
    ids = [uuid.UUID(word) for word in words]
    assert {(each.version, each.variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert before < ids[0] < ids[-1] < after and len({*ids}) == 100
    assert uuid7_words(0) == []
