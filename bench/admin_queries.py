"""How long the admin API takes for lists, searches, statistics and the first byte of exports, on a database of size.

Runs a Farebox on the database of the settings (FAREBOX_DATABASE_URL, FAREBOX_REDIS_URL), asks each question through
HTTP so many times, prints a table of medians, and explains the dearest statement of each question:

    python -m bench.admin_queries --runs 20 --plans plans.txt

Caller and server share one process, so the times are rather too long than too short.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import asyncpg
import uvloop
from pydantic import SecretStr
from sqlalchemy import Engine, event, make_url
from sqlalchemy.pool import Pool

from config.catalog import Declared
from config.settings import Settings, load_settings
from farebox.logs import set_up_logs
from farebox.serve import Running, running
from ledger.engine import REPORTS
from ledger.spans import first_of

BOUND_MS = 300.0
_POOLS = ("farebox admin", "farebox accounts")


@dataclass(slots=True)
class Question:
    """What is asked: a path with its query; ``first_byte`` alone is waited for where it is an export."""

    name: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    first_byte: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """How it went: milliseconds of each run, and what the dearest statement of the last run was."""

    question: Question
    times_ms: list[float]
    statement: tuple[str, tuple[Any, ...]] | None

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)


class Statements:
    """Every question the pools that answer admins put to the database: through SQLAlchemy, or to the driver itself."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str, tuple[Any, ...]]] = []
        event.listen(Pool, "connect", self._connected)
        event.listen(Engine, "before_cursor_execute", self._begun)
        event.listen(Engine, "after_cursor_execute", self._done)

    def dearest(self) -> tuple[str, tuple[Any, ...]] | None:
        """The statement that took longest since the last time, and its arguments."""
        heard, self.heard = self.heard, []
        return max(heard, key=lambda each: each[0])[1:] if heard else None

    def _connected(self, connection: Any, _: Any) -> None:
        if _answers(connection.driver_connection):
            connection.driver_connection.add_query_logger(self._logged)

    def _logged(self, logged: Any) -> None:
        self._hear(logged.elapsed, logged.query, logged.args)

    def _begun(self, connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        connection.info["begun"] = time.perf_counter()

    def _done(self, connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if _answers(connection.connection.driver_connection):
            self._hear(time.perf_counter() - connection.info["begun"], statement, values)

    def _hear(self, elapsed: float, query: str, values: Any) -> None:
        if query.strip().upper().startswith(("SELECT", "WITH")):
            self.heard.append((elapsed, query.strip(), tuple(values or ())))


def _answers(driver: Any) -> bool:
    return driver.get_settings().application_name in _POOLS


@dataclass(frozen=True, slots=True)
class Sample:
    """Who and what the questions are about: a user who calls much, one in the middle, one who calls little."""

    much: str
    middle: str
    little: str
    chat: str
    key: str
    charge: str
    group: str


async def sample(database: Any) -> Sample:
    """Somebody of each kind, of a seeded database."""

    async def user(rank: int) -> str:
        return str(await database.fetchval("SELECT id FROM users WHERE subject = $1", f"bench-{rank}"))

    users = await database.fetchval("SELECT count(*) FROM users WHERE realm = 'bench'")
    much, middle, little = await user(1), await user(max(1, users // 200)), await user(max(1, users * 3 // 5))
    row = await database.fetchrow(
        "SELECT request_id, chat_id, key_id FROM charges WHERE user_id = $1 AND chat_id <> '' LIMIT 1", much
    )
    key = await database.fetchval(
        "SELECT c.key_id FROM charges c JOIN api_keys k ON k.id = c.key_id WHERE k.user_id IS NOT NULL LIMIT 1"
    )
    group = await database.fetchval("SELECT id FROM groups ORDER BY id LIMIT 1")
    return Sample(much, middle, little, row["chat_id"], str(key or row["key_id"]), str(row["request_id"]), str(group))


def questions(some: Sample, now: datetime) -> Iterator[Question]:
    """Everything an admin asks of a large database."""
    hour, month = first_of("hour", now) + timedelta(hours=1), first_of("month", now)
    yield from _of_users(some)
    yield from _of_one_user(some, now)
    yield from _of_charges(some, now)
    yield from _of_statistics(hour, month)
    yield from _of_the_house(some)


def _of_users(some: Sample) -> Iterator[Question]:
    yield Question("users, oldest first", "/users")
    yield Question("users, newest first", "/users", {"sort": "newest"})
    yield Question("users, 1000 of them", "/users", {"limit": "1000"})
    for what, search in (("a name", "vera silva"), ("a part of a name", "anak"), ("an address", "@bench.example")):
        yield Question(f"users, search for {what}", "/users", {"search": search})
    yield Question("users, search for one address", "/users", {"search": "ada.berg"})
    yield Question("users, search for an id", "/users", {"search": some.middle})
    yield Question("users, search for nobody", "/users", {"search": "nobody at all"})
    for name, value in (("tier", "pro"), ("tier", "admin"), ("status", "suspended"), ("role", "vip")):
        yield Question(f"users, {name} {value}", "/users", {name: value})
    yield Question("users, of a group", "/users", {"group": some.group})
    for form in ("csv", "xlsx"):
        yield Question(f"users, export {form}", "/users", {"format": form}, first_byte=True)


def _of_one_user(some: Sample, now: datetime) -> Iterator[Question]:
    for who, user in (("much", some.much), ("middle", some.middle), ("little", some.little)):
        path = f"/users/{user}"
        yield Question(f"user ({who})", path)
        yield Question(f"user ({who}), ledger", f"{path}/ledger")
        for by, days in (("hour", 7), ("day", 31), ("day", 400), ("month", 365)):
            span = {"by": by, "since": _text(now - timedelta(days=days)), "until": _text(now)}
            yield Question(f"user ({who}), usage by {by}, {days} days", f"{path}/usage", span)
        yield Question(f"user ({who}), usage by model", f"{path}/usage/models")
        yield Question(f"user ({who}), charges", "/charges", {"user": user})
    path = f"/users/{some.much}"
    for noun in ("credits", "grants", "keys", "limits", "explain"):
        yield Question(f"user (much), {noun}", f"{path}/{noun}")
    yield Question("user (much), ledger export csv", f"{path}/ledger", {"format": "csv"}, first_byte=True)
    yield Question("user (much), charges export csv", "/charges", {"user": some.much, "format": "csv"}, first_byte=True)


def _of_charges(some: Sample, now: datetime) -> Iterator[Question]:
    yield Question("charges", "/charges")
    yield Question("charges, 1000 of them", "/charges", {"limit": "1000"})
    day = {"since": _text(now - timedelta(days=200)), "until": _text(now - timedelta(days=199))}
    yield Question("charges, a day of 200 days ago", "/charges", day)
    yield Question("charges, a day of 200 days ago, tier admin", "/charges", {**day, "tier": "admin"})
    filters = (
        ("model", "bench-01"), ("model", "bench-20"), ("tier", "free"), ("tier", "admin"), ("task", "title_generation"),
        ("task", ""), ("route", "chat.completions"), ("route", "messages"), ("chat", some.chat), ("key", some.key),
        ("outcome", "completed"), ("outcome", "cut_by_balance"), ("outcome", "recovered"),
        ("usage_source", "estimated"), ("currency", "TOK"), ("min_amount", "0.01"), ("min_amount", "0.10"),
        ("min_amount", "1.00"), ("model", "nobody has it"),
    )  # fmt: skip
    for name, value in filters:
        shown = value if name not in ("chat", "key") else "of one"
        yield Question(f"charges, {name} {shown or 'none'}", "/charges", {name: value})
    yield Question("charges, rare model and tier", "/charges", {"model": "bench-20", "tier": "admin"})
    yield Question("charges, rare model and outcome", "/charges", {"model": "bench-20", "outcome": "cut_by_balance"})
    yield Question("one charge", f"/charges/{some.charge}")
    for form in ("csv", "xlsx"):
        yield Question(f"charges, export {form}", "/charges", {"format": form}, first_byte=True)
        yield Question(
            f"charges, export {form}, tier pro", "/charges", {"format": form, "tier": "pro"}, first_byte=True
        )


def _of_statistics(hour: datetime, month: datetime) -> Iterator[Question]:
    year, path = month.replace(month=1), "/stats/usage"
    yield Question("statistics, overview", "/stats/overview")
    yield Question("statistics, usage by hour, a day", path, {"group_by": "hour"})
    span = {"since": _text(hour - timedelta(days=31)), "until": _text(hour)}
    yield Question("statistics, usage by hour, 31 days", path, {"group_by": "hour", **span})
    yield Question("statistics, usage by day, this month", path, {"group_by": "day"})
    yield Question("statistics, usage by day, this year", path, {"group_by": "day", "since": _text(year)})
    yield Question("statistics, usage by month, this year", path, {"group_by": "month", "since": _text(year)})
    odd = {"since": _text(hour - timedelta(days=200, hours=5)), "until": _text(hour)}
    for label in ("model", "tier", "task"):
        yield Question(f"statistics, usage by {label}, this month", path, {"group_by": label})
        yield Question(f"statistics, usage by {label}, this year", path, {"group_by": label, "since": _text(year)})
        yield Question(f"statistics, usage by {label}, 200 days and 5 hours", path, {"group_by": label, **odd})
    only = {"group_by": "day", "since": _text(year), "model": "bench-02", "tier": "pro"}
    yield Question("statistics, usage by day, this year, one model and tier", path, only)
    yield Question("statistics, users of this month", path, {"group_by": "user"})
    yield Question("statistics, users of this year", path, {"group_by": "user", "since": _text(year)})
    for form in ("csv", "xlsx"):
        query = {"group_by": "user", "format": form}
        yield Question(f"statistics, users of this month, export {form}", path, query, first_byte=True)
    for period in ("day", "week", "month"):
        yield Question(f"statistics, active users by {period}", "/stats/active", {"period": period})
    for label in ("code", "tier", "day"):
        query = {"group_by": label, "since": _text(year)}
        yield Question(f"statistics, refusals by {label}, this year", "/stats/refusals", query)


def _of_the_house(some: Sample) -> Iterator[Question]:
    yield Question("groups", "/groups")
    yield Question("a group", f"/groups/{some.group}")
    yield Question("a group, members", f"/groups/{some.group}/members")
    yield Question("a group, usage by member", f"/groups/{some.group}/usage")
    yield Question("keys of services", "/keys")
    yield Question("keys, search", "/keys", {"search": "bench"})
    for noun in ("tiers", "models", "upstreams", "audit", "logs", "admins"):
        yield Question(noun, f"/{noun}")


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def ask(http: aiohttp.ClientSession, url: str, question: Question) -> float:
    """Milliseconds until the reply, or its first byte, was there. Raises SystemExit for a reply that is no success."""
    begun = time.perf_counter()
    async with http.get(f"{url}/v1{question.path}", params=question.query) as reply:
        body = await (reply.content.readany() if question.first_byte else reply.read())
        took = (time.perf_counter() - begun) * 1000
        if reply.status != 200 or not body:
            raise SystemExit(f"{question.name}: {reply.status} {body[:500]!r}")
        if question.first_byte:
            reply.close()
    return took


async def explain(database: Any, statement: tuple[str, tuple[Any, ...]]) -> list[str]:
    """The plan of a statement, as it was run."""
    query, args = statement
    return [row[0] for row in await database.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {query}", *args)]


def table(asked: list[Asked]) -> Iterator[str]:
    """A table for a page of documentation."""
    yield "| question | median | slowest |"
    yield "|---|---:|---:|"
    for each in asked:
        mark = " **over the bound**" if each.median_ms > BOUND_MS else ""
        yield f"| {each.question.name} | {each.median_ms:.0f} ms{mark} | {max(each.times_ms):.0f} ms |"


async def measure(farebox: Running, key: str, statements: Statements, runs: int, only: str) -> list[Asked]:
    """Ask everything whose name has ``only`` in it."""
    headers = {"authorization": f"Bearer {key}"}
    database = await asyncpg.connect(_plain(farebox.urls.database))
    found = []
    async with aiohttp.ClientSession(headers=headers) as http:
        for question in questions(await sample(database), datetime.now(UTC)):
            if only not in question.name:
                continue
            await ask(http, farebox.admin_url, question)
            times = [await ask(http, farebox.admin_url, question) for _ in range(runs)]
            found.append(Asked(question, times, statements.dearest()))
            print(f"{found[-1].median_ms:8.1f} ms  {question.name}", file=sys.stderr)
    await database.close()
    return found


async def write_plans(url: str, asked: list[Asked], out: TextIO) -> None:
    """The plan of each question's dearest statement."""
    database = await asyncpg.connect(_plain(url), server_settings=REPORTS)
    for each in asked:
        print(f"=== {each.question.name}: median {each.median_ms:.1f} ms", file=out)
        if each.statement is not None:
            print(" ".join(each.statement[0].split()), file=out)
            print("\n".join(await explain(database, each.statement)), file=out)
        print(file=out)
    await database.close()


def _plain(url: str) -> str:
    """The URL as the driver alone reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def main(settings: Settings, runs: int, only: str, plans: Path | None) -> int:
    """Measure and print; how many questions took longer than they may."""
    statements = Statements()  # before the pools are opened
    key = secrets.token_urlsafe(32)
    ours = settings.model_copy(update={"bind": "127.0.0.1:0", "admin_bind": None, "admin_key": SecretStr(key)})
    with open(os.devnull, "wb") as nowhere:  # noqa: ASYNC230
        async with running(ours, Declared(), calls=nowhere) as farebox:
            asked = await measure(farebox, key, statements, runs, only)
            if plans is not None:
                with plans.open("w") as out:
                    await write_plans(farebox.urls.database, asked, out)
    print("\n".join(table(asked)))
    return sum(each.median_ms > BOUND_MS for each in asked)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--runs", type=int, default=20)
    words.add_argument("--only", default="", help="questions whose name has this in it")
    words.add_argument("--plans", type=Path, help="where to write the plans")
    given = words.parse_args()
    set_up_logs("error")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        over = runner.run(main(load_settings(), given.runs, given.only, given.plans))
    sys.exit(1 if over else 0)
