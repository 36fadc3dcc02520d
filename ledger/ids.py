"""Call ids: UUIDs of version 7 (RFC 9562 section 5.7).

The leading 48 bits are the Unix time in milliseconds, so ids sort by time and a table partitioned by month can be
partitioned by its primary key. The next 12 bits are the fraction of that millisecond (section 6.2, method 3): what one
process writes one after the other sorts in that order. ``uuid7`` reads the clock; ``floor`` is pure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from struct import Struct, iter_unpack
from uuid import UUID

from asyncpg.pgproto import pgproto

LAST = UUID(int=2**128 - 1)
"""Behind every id: where a list begins that goes backwards."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)
_NANOS = 1_000_000  # in a millisecond
_DRAWN = 512  # ids whose random bits are drawn at once

_VARIANT = 0b10 << 62  # before the random bits
_words = Struct(">QQ").pack

_spare: list[int] = []  # random bits for ids to come, the variant before them
_uuid: Callable[[bytes], UUID] = pgproto.UUID  # the driver's own kind, as in its rows: made and written in C


def uuid7() -> UUID:
    """A new id, unique without coordination (62 random bits)."""
    try:
        noise = _spare.pop()
    except IndexError:
        noise = _drawn()
    return _uuid(_words(_head(time.time_ns()), noise))


def uuid7_words(count: int) -> list[str]:
    """So many new ids as hexadecimal words, in their order: for who only writes them down."""
    noise = _noise(count)
    return [f"{_head(time.time_ns()):016x}{each:016x}" for each in noise]


def uuid7_at(instant: datetime) -> UUID:
    """A new id as if it were made then: what is told later takes its place in the order of time."""
    return _uuid(_words(_head((instant - _EPOCH) // _MICROSECOND * 1000), _noise(1)[0]))


def floor(instant: datetime) -> UUID:
    """The smallest id of this instant: the bound of a partition or of a search by time."""
    return _uuid(_words(_head((instant - _EPOCH) // _MILLISECOND * _NANOS), _VARIANT))


def instant_of(call_id: UUID) -> datetime:
    """When a version 7 id was made, to the millisecond."""
    return _EPOCH + (call_id.int >> 80) * _MILLISECOND


def draw_anew() -> None:
    """Let go of the random bits that were drawn ahead: for a process that has taken over another one's memory, and for
    who changes where chance comes from."""
    _spare.clear()


def _drawn() -> int:
    """Random bits for one id, and for many to come: a system call for each would cost more than all else that makes
    it."""
    _forks_are_told()
    drawn = _noise(_DRAWN)
    noise = drawn.pop()
    _spare.extend(drawn)
    return noise


def _noise(count: int) -> list[int]:
    """The second halves of so many ids: the variant, then 62 random bits."""
    return [_VARIANT | word >> 2 for (word,) in iter_unpack(">Q", os.urandom(8 * count))]


@cache
def _forks_are_told() -> None:
    """A child that went on with its parent's random bits would make its parent's ids."""
    os.register_at_fork(after_in_child=draw_anew)


def _head(nanos: int) -> int:
    """The first half of an id: milliseconds, the version, and the fraction of the millisecond."""
    millis, rest = divmod(nanos, _NANOS)
    return (millis & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | (rest << 12) // _NANOS
