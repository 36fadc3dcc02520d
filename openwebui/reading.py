"""Reads who and what is in an Open WebUI, wholly or not at all: nobody is taken for gone because a page was missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from openwebui.census import Census
from openwebui.client import OpenWebUI, OpenWebUIError
from openwebui.shapes import Circle, Person

PEOPLE_MAX = 200_000
_CIRCLES_MAX = 10_000
_READINGS = 3
_LONGEST_S = 900.0


async def take_census(openwebui: OpenWebUI) -> Census:
    """Everybody there and every group. Raises OpenWebUIError where it cannot be had whole: a page does not come, or
    people come and go for as long as we read, or it takes a quarter of an hour."""
    try:
        async with asyncio.timeout(_LONGEST_S):
            return await _read(openwebui)
    except TimeoutError as error:
        raise OpenWebUIError(f"Open WebUI's users could not be read within {_LONGEST_S:.0f} s") from error


async def _read(openwebui: OpenWebUI) -> Census:
    for _ in range(_READINGS):
        circles = await openwebui.circles()
        people = await _everybody(openwebui)
        if people is not None:
            return _whole(people, circles)
    raise OpenWebUIError("Open WebUI's list of users changed while it was read, three times: nothing is done with it")


async def _everybody(openwebui: OpenWebUI) -> dict[str, Person] | None:
    """All pages; None where they do not make one list."""
    people: dict[str, Person] = {}
    page = await openwebui.people(1)
    total, number = page.total, 1
    if total > PEOPLE_MAX:
        raise OpenWebUIError(f"Open WebUI has {total} users; more than {PEOPLE_MAX} are not taken over")
    while page.users and page.total == total:
        before = len(people)
        people |= {person.id: person for person in page.users}
        if len(people) == before:
            return None
        if len(people) >= total:
            break
        number += 1
        page = await openwebui.people(number)
    return people if len(people) == total == page.total else None


def _whole(people: Mapping[str, Person], circles: Iterable[Circle]) -> Census:
    """Raises OpenWebUIError for a list nobody can be the reader of: we were let in, so somebody is there."""
    named = {circle.id: circle for circle in circles}
    if not people:
        raise OpenWebUIError("Open WebUI says that it has no users at all, not even the one whose key this is")
    if len(named) > _CIRCLES_MAX:
        raise OpenWebUIError(f"Open WebUI has {len(named)} groups; more than {_CIRCLES_MAX} are not taken over")
    return Census(dict(people), named)
