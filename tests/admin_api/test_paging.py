"""Pages by keyset."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from starlette.responses import StreamingResponse

from admin_api.paging import FIRST, LIMIT_MAX, After, Format, Pager, cursor_of, listed
from admin_api.problems import Problem
from admin_api.wire import Page, Reply
from tests.admin_api.conftest import body_of


class Number(Reply):
    """A row as it is shown."""

    number: int


class List:
    """So many rows; counts how often and how far it was read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[tuple[After, int]] = []

    async def fetch(self, after: After, limit: int) -> Sequence[int]:
        self.asked.append((after, limit))
        start = 0 if after is None else after[0] + 1
        return range(self.size)[start : start + limit]

    async def answer(self, limit: int = 50, cursor: str | None = None, format: Format = "json") -> Any:
        pager = Pager(limit, cursor, format)
        return await pager.answer(
            "numbers",
            self.fetch,
            key=lambda row: (row,),
            types=(int,),
            shape=lambda row: Number(number=row),
            model=Number,
        )


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 14, 15])
async def test_the_pages_of_a_list_are_the_list(size: int) -> None:
    numbers, cursor = [], None
    while True:
        page: Page[Number] = await List(size).answer(7, cursor)
        numbers += [each.number for each in page.data]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.data) == 7
    assert numbers == list(range(size))


async def test_the_longest_page_asks_for_no_more_than_a_store_gives() -> None:
    source = List(LIMIT_MAX)
    page = await source.answer(LIMIT_MAX)
    assert len(page.data) == LIMIT_MAX and source.asked == [(None, LIMIT_MAX)]
    last = await source.answer(LIMIT_MAX, page.next_cursor)
    assert (last.data, last.next_cursor) == ([], None)


async def test_a_file_has_every_row_and_is_read_page_by_page() -> None:
    source = List(2 * LIMIT_MAX + 1)
    reply: StreamingResponse = await source.answer(3, format="csv")
    assert source.asked == [(None, FIRST)]
    text = (await body_of(reply)).decode()
    assert text.splitlines() == ["number", *map(str, range(2 * LIMIT_MAX + 1))]
    assert [after for after, _ in source.asked] == [None, (FIRST - 1,), (FIRST + LIMIT_MAX - 1,)]


async def test_a_file_may_begin_at_a_cursor() -> None:
    reply: StreamingResponse = await List(5).answer(cursor=cursor_of([2]), format="csv")
    assert await body_of(reply) == b"number\r\n3\r\n4\r\n"


def test_a_cursor_brings_its_values_back() -> None:
    key = (datetime(2026, 11, 21, 12, 0, 0, 1, tzinfo=UTC), UUID(int=7), "ü/?", -5)
    pager = Pager(50, cursor_of(key), "json")
    assert pager.after(datetime, UUID, str, int) == key


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("cursor", "types"),
    [
        ("!", (int,)),
        ("", (int,)),
        ("é", (int,)),
        (encoded("[1"), (int,)),
        (encoded("[1,2]"), (int,)),
        (encoded('["1"]'), (int,)),
        (encoded("[1e300]"), (int,)),
        (encoded("[99999999999999999999]"), (int,)),
        (encoded('["a\\u0000"]'), (str,)),
        (encoded('["2026-01-01T00:00:00"]'), (datetime,)),
        (encoded('["0001-01-01T00:00:00+14:00"]'), (datetime,)),
        (encoded('["x"]'), (UUID,)),
    ],
)
def test_a_cursor_that_is_not_ours_is_a_wrong_parameter(cursor: str, types: tuple[type, ...]) -> None:
    with pytest.raises(Problem) as caught:
        Pager(50, cursor, "json").after(*types)
    assert caught.value.status == 422 and caught.value.errors[0].parameter == "cursor"


def test_a_list_declares_its_page_and_its_files() -> None:
    declared = listed(Number)
    assert declared["response_model"] is Page[Number]
    assert set(declared["responses"][200]["content"]) == {
        "text/csv",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    }
