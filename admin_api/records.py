"""Records that only grow, the newest first, a page at a time: the audit and what the system did by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Select, select

from admin_api.house import AdminHouse
from admin_api.paging import After, Fetch


def newest_first(
    house: AdminHouse,
    columns: Sequence[ColumnElement[Any]],
    *,
    place: ColumnElement[Any],
    at: ColumnElement[Any],
    equal: Mapping[Column[Any], Any],
    since: datetime | None,
    until: datetime | None,
) -> Fetch[Row[Any]]:
    """What reads pages of these columns by ``place``, which grows; a None bounds nothing."""
    query = select(*columns).order_by(place.desc())
    query = query.where(*(column == value for column, value in equal.items() if value is not None))
    if since is not None:
        query = query.where(at >= since)
    if until is not None:
        query = query.where(at < until)

    async def fetch(after: After, limit: int) -> list[Row[Any]]:
        return await _rows(house, query if after is None else query.where(place < after[0]), limit)

    return fetch


async def _rows(house: AdminHouse, query: Select[Any], limit: int) -> list[Row[Any]]:
    async with house.engine.connect() as connection:
        return list(await connection.execute(query.limit(limit)))
