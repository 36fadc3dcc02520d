"""Pages as routes: languages a reader asks for, what is made once, a house that cannot read. (The rest tell the
stories.)"""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from accounts.store_sql import AccountsUnavailable
from accounts.users import User
from gateway.links import Links
from gateway.pages import AccountPage, Pricing, asked_languages, page_routes
from gateway.voice import Voice
from tests.gateway.offers import CATALOG
from tests.gateway.parts import asked, standing_of

LINKS = Links(b"pepper" * 8, "https://fare.example", 900)
ADA = UUID(int=1)


class Directory:
    """Knows one user, or nobody can be asked."""

    def __init__(self, user: User | None = None, failure: Exception | None = None) -> None:
        self.found = user
        self.failure = failure

    async def user(self, user_id: UUID) -> User | None:
        if self.failure is not None:
            raise self.failure
        return self.found


class Unreadable:
    """An account that cannot be read."""

    async def state(self, principal: Any) -> Any:
        raise RuntimeError("secret detail")


def user(**more: Any) -> User:
    fields = (ADA, UUID(int=2), "local", "s", "a@example.org", "Ada", "user", "free", "active", "de")
    return User(*fields, **more)


def house(directory: Directory, account: Unreadable | None = None) -> tuple[Starlette, Pricing]:
    catalog, voice = (lambda: CATALOG), Voice()
    pricing = Pricing(catalog, voice)
    page = AccountPage(
        links=LINKS,
        directory=cast(Any, directory),
        standing_of=standing_of(CATALOG),
        account=cast(Any, account or Unreadable()),
        catalog=catalog,
        engine=cast(Any, None),
        voice=voice,
    )
    return Starlette(routes=page_routes(pricing, page)), pricing


def asking(query: str = "", accepted: str = "") -> Request:
    headers = [(b"accept-language", accepted.encode())] if accepted else []
    return Request({"type": "http", "query_string": query.encode(), "headers": headers})


@pytest.mark.parametrize(
    ("query", "accepted", "languages"),
    [
        ("", "", []),
        ("lang=fa", "de", ["fa", "de"]),
        ("", "de-AT, fa;q=0.9, en;q=0.95", ["de-AT", "en", "fa"]),
        ("", "zh;q=x, , en", ["zh", "en"]),
        ("lang=" + "x" * 1000, "", ["x" * 16]),
    ],
)
def test_the_languages_a_reader_asks_for_the_best_first(query: str, accepted: str, languages: list[str]) -> None:
    assert asked_languages(asking(query, accepted)) == languages


def test_an_endless_wish_is_read_to_a_bound() -> None:
    assert len(asked_languages(asking("", "en," * 100_000))) < 100


async def test_a_list_is_made_once_for_each_catalogue_and_language() -> None:
    app, pricing = house(Directory())
    first = await asked(app, "/pricing")
    assert (await asked(app, "/pricing"))[2] == first[2]
    await asked(app, "/pricing", headers={"accept-language": "fa"})
    await asked(app, "/api/public/pricing")
    made = dict(pricing._made)
    assert set(made) == {("page", "en"), ("page", "fa"), ("document", "en")}
    await asked(app, "/pricing")
    assert all(pricing._made[key] is value for key, value in made.items())
    pricing._catalog = lambda: dataclasses.replace(CATALOG, revision="r2")
    await asked(app, "/pricing")
    assert set(pricing._made) == {("page", "en")}


async def account(directory: Directory, token: str) -> tuple[int, dict[str, str], str]:
    app, _ = house(directory)
    status, headers, body = await asked_with(app, token)
    return status, headers, body.decode()


async def asked_with(app: Starlette, token: str) -> Any:
    async def with_query(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "query_string": f"token={token}".encode()}, receive, send)

    return await asked(with_query, "/account")


@pytest.mark.parametrize("failure", [AccountsUnavailable("away"), TimeoutError()], ids=["accounts", "time"])
async def test_who_cannot_be_looked_up_is_told_to_come_again(failure: Exception) -> None:
    status, headers, body = await account(Directory(failure=failure), LINKS.token(ADA))
    assert status == 503 and "Try again in 5 s." in body and headers["cache-control"] == "no-store"


async def test_a_defect_tells_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    token = LINKS.token(ADA)
    status, _, body = await account(Directory(user()), token)
    assert status == 503 and "secret" not in body
    assert token not in caplog.text and [record.message for record in caplog.records] == ["account page not shown"]


@pytest.mark.parametrize(
    "found",
    [
        None,
        user(sessions_from=datetime.now(UTC) + timedelta(hours=1)),
        msgspec.structs.replace(user(), id=UUID(int=9)),
        msgspec.structs.replace(user(), status="suspended"),
    ],
    ids=["nobody", "sessions ended", "merged into another", "suspended"],
)
async def test_a_link_that_is_nobodys_any_more_opens_nothing(found: User | None) -> None:
    status, _, body = await account(Directory(found), LINKS.token(ADA))
    assert status == 403 and "not valid or has expired" in body


class Slow(Unreadable):
    """Counts how many are read at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def state(self, principal: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        return await super().state(principal)


async def test_few_pages_are_made_at_once_however_many_are_asked_for() -> None:
    app, _ = house(Directory(user()), slow := Slow())
    token = LINKS.token(ADA)
    await asyncio.gather(*(asked_with(app, token) for _ in range(10)))
    assert slow.most == 2
