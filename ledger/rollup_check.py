"""Whether the statistics are what the charges say: sums against sums, by month and currency, on the server.

What still waits on ``charges_to_roll`` is added to the statistics before they are compared, so a roller that lags
breaks nothing; a charge that was counted twice, wrongly or not at all does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any
from uuid import UUID

import msgspec

from ledger.ids import instant_of
from ledger.months import bounds, month_of, plus
from ledger.rollup import HOUSE_MEASURES, MEASURES, TABLES, measures
from ledger.usage import INPUT_KINDS, OUTPUT_KINDS

_BOUNDS = """
    SELECT (SELECT request_id FROM charges ORDER BY request_id LIMIT 1) AS first,
           (SELECT request_id FROM charges ORDER BY request_id DESC LIMIT 1) AS last,
           (SELECT count(*) FROM charges_to_roll) AS queued
"""

_ACTIVE = """
    SELECT period, starts, coalesce(c.users, 0) AS told, coalesce(a.users, 0) AS found
    FROM active_user_counts c
    FULL JOIN (SELECT period, starts, count(*) AS users FROM active_users GROUP BY period, starts) AS a
        USING (period, starts)
    WHERE coalesce(c.users, 0) <> coalesce(a.users, 0)
"""

_SILENT = """
    SELECT month, user_id FROM (
        SELECT month, user_id FROM usage_by_user_month GROUP BY month, user_id HAVING sum(calls) > 0
        EXCEPT SELECT starts, user_id FROM active_users WHERE period = 'month'
    ) AS silent LIMIT 5
"""

# Compared without the list price: that one needs the prices themselves, which is the roller's own work.
_COMPARED = (*MEASURES, *(each for each in HOUSE_MEASURES if each != "list_amount"))

Sums = dict[tuple[date, str], tuple[int, ...]]


async def check(connection: Any) -> tuple[int, list[str]]:
    """How many sums were compared, and a line for each that differs. On an asyncpg connection, in a transaction."""
    found = await connection.fetchrow(_BOUNDS)
    months = list(_months(found["first"], found["last"]))
    charged = _plus(await _carried(connection), await _all_charged(connection, months))
    queued = await _charged(connection, _QUEUED, months) if found["queued"] else {}
    expected = _plus(charged, {key: tuple(-value for value in values) for key, values in queued.items()})
    broken = []
    for table in TABLES:
        told = _by_year(expected) if "year" in TABLES[table] else expected
        broken += list(_differences(table, told, await _rolled(connection, table)))
    broken += [
        f"active users of the {row['period']} of {row['starts']}: {row['told']} told, {row['found']} found"
        for row in await connection.fetch(_ACTIVE)
    ]
    broken += [
        f"user {row['user_id']} called in {row['month']:%Y-%m} and is not among its active users"
        for row in await connection.fetch(_SILENT)
    ]
    return len(expected) * len(TABLES), broken


async def charged_in(connection: Any, month: date) -> dict[str, dict[str, int]]:
    """What the charges of one month come to, by currency and measure: what its seal carries."""
    sums = await _all_charged(connection, [month])
    return {currency: dict(zip(_COMPARED, values, strict=True)) for (_, currency), values in sums.items()}


async def _carried(connection: Any) -> Sums:
    """What the charges of detached months came to."""
    rows = await connection.fetch("SELECT month, charged::text AS charged FROM month_seals WHERE state = 'detached'")
    return {
        (row["month"], currency): tuple(sums[each] for each in _COMPARED)
        for row in rows
        for currency, sums in msgspec.json.decode(row["charged"], type=dict[str, dict[str, int]]).items()
    }


async def _all_charged(connection: Any, months: list[date]) -> Sums:
    return _plus(*[await _charged(connection, words, months) for words in (_LAST_WORDS, _ONLY_WORDS)])


def _months(first: UUID | None, last: UUID | None) -> Iterator[date]:
    """The months the ids are of, each by its first day."""
    if first is None or last is None:
        return
    month, end = (month_of(instant_of(each)) for each in (first, last))
    while month <= end:
        yield month
        month = plus(month, 1)


def _tokens(kinds: tuple[str, ...]) -> str:
    """What is no number counts as nothing: that is I7's to say."""
    parts = (
        f"CASE jsonb_typeof(c.usage -> '{kind}') WHEN 'number' THEN (c.usage -> '{kind}')::numeric ELSE 0 END"
        for kind in kinds
    )
    return " + ".join(parts)


_VALUES = {
    "calls": "1",
    "input_tokens": _tokens(INPUT_KINDS),
    "cached_tokens": _tokens(("cache_read",)),
    "output_tokens": _tokens(OUTPUT_KINDS),
    "amount": "c.amount",
    "overrun": "c.overrun",
    "house_amount": "CASE WHEN c.house THEN c.amount ELSE 0 END",
}


def _summed(source: str, sign: str = "1") -> str:
    values = ", ".join(f"sum(({sign}) * ({_VALUES[each]}))::bigint" for each in _COMPARED)
    return f"""
        SELECT width_bucket(c.request_id, $1::uuid[]) AS month, c.currency, {values} FROM {source}
            AND c.request_id >= $2 AND c.request_id < $3 GROUP BY 1, 2
    """


# The many and the few in two queries: the first one can then be shared among the server's processes.
_LAST_WORDS = _summed("charges c WHERE c.rev <> 'provisional'")
_ONLY_WORDS = _summed(
    """charges c WHERE c.rev = 'provisional' AND (
           SELECT f.rev FROM charges f WHERE f.request_id = c.request_id AND f.rev <> 'provisional' LIMIT 1) IS NULL"""
)
_QUEUED = _summed(
    """charges_to_roll q JOIN charges c ON c.request_id = q.request_id
           AND (c.rev = q.rev OR (c.rev = 'provisional' AND q.rev <> 'provisional')) WHERE true""",
    "CASE WHEN c.rev = q.rev THEN 1 ELSE -1 END",
)


async def _charged(connection: Any, query: str, months: list[date]) -> Sums:
    if not months:
        return {}
    floors = [bounds(month)[0] for month in months]
    rows = await connection.fetch(query, floors, floors[0], bounds(months[-1])[1])
    return {(months[row[0] - 1], row[1]): tuple(row)[2:] for row in rows}


async def _rolled(connection: Any, table: str) -> Sums:
    time = next(key for key in TABLES[table] if key in ("hour", "day", "month", "year"))
    values = ", ".join(f"sum({each})::bigint" if each in measures(table) else "NULL" for each in _COMPARED)
    day = "(hour AT TIME ZONE 'UTC')" if time == "hour" else time
    query = f"SELECT date_trunc('month', {day})::date, currency, {values} FROM {table} GROUP BY 1, 2"
    rows = await connection.fetch(query)
    return {(row[0], row[1]): tuple(row)[2:] for row in rows}


def _by_year(sums: Sums) -> Sums:
    return _plus(*({(month.replace(month=1), currency): values} for (month, currency), values in sums.items()))


def _plus(*several: Sums) -> Sums:
    found: Sums = {}
    for sums in several:
        for key, values in sums.items():
            known = found.get(key)
            found[key] = values if known is None else tuple(a + b for a, b in zip(known, values, strict=True))
    return found


def _differences(table: str, expected: Sums, found: Sums) -> Iterator[str]:
    nothing = (0,) * len(_COMPARED)
    for key in sorted(expected.keys() | found.keys()):
        pairs = zip(_COMPARED, expected.get(key, nothing), found.get(key, nothing), strict=True)
        for name, want, have in pairs:
            if have is not None and have != want:
                yield f"{table} of {key[0]:%Y-%m} in {key[1]}: {name} {have}, charges say {want}"
