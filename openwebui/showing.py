"""Which models an Open WebUI shows, looked at; and, where the operator wants it, to whom, set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.standing import NoTier, stand
from accounts.store_sql import Accounts
from accounts.users import User
from config.catalog import Catalog
from config.catalog_sql import load
from openwebui.census import Census
from openwebui.client import OpenWebUI, OpenWebUIError
from openwebui.connection import Connection, connections_of, ours
from openwebui.deeds import counted
from openwebui.kept import Kept
from openwebui.models import Seat, grants_differ, grants_for, row_wanted, shown_of, words_differ
from openwebui.service_key import proven_keys
from openwebui.shapes import ADMIN, PENDING, Row, Shown
from policies.tier import Tier

_USERS_AT_ONCE = 5000


class Looked(NamedTuple):
    """The models shown (None: it is not known), what was done or would be, and what an admin should know."""

    models: frozenset[str] | None = None
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Showing:
    """Looks, and sets. ``service_url`` is the address by which Open WebUI reaches Farebox."""

    def __init__(self, engine: AsyncEngine, accounts: Accounts, default_tier: str, service_url: str) -> None:
        self._engine = engine
        self._accounts = accounts
        self._default_tier = default_tier
        self._service_url = service_url

    async def look(
        self, openwebui: OpenWebUI, census: Census, kept: Kept, *, grants: bool, dry_run: bool = False
    ) -> Looked:
        """What is shown now, and, with ``grants``, what is changed. What Open WebUI does not tell is a note: people and
        groups are done by then."""
        try:
            connection = await self._connection(openwebui)
            if connection is None:
                return Looked(notes=("no connection there leads to Farebox: farebox connect openwebui makes one",))
            listed = (await openwebui.shown_models()).data
            lines = []
            if grants:
                lines = [each async for each in self._grant(openwebui, listed, connection, census, kept, dry_run)]
            return Looked(shown_of(listed, connection), tuple(lines))
        except OpenWebUIError as error:
            return Looked(notes=(f"models: {error}",))

    async def _connection(self, openwebui: OpenWebUI) -> Connection | None:
        document = await openwebui.connections()
        keys = await proven_keys(self._accounts, [each.key for each in connections_of(document)])
        return ours(document, self._service_url, keys.__contains__)

    async def _grant(
        self,
        openwebui: OpenWebUI,
        listed: tuple[Shown, ...],
        connection: Connection,
        census: Census,
        kept: Kept,
        dry_run: bool,
    ) -> AsyncIterator[str]:
        """Set what differs; a sentence for each model."""
        catalog = await load(self._engine)
        seats = await self._seats(census, kept, catalog)
        tiers = _circle_tiers(census, kept, catalog)
        rows = {row.id: row for row in await openwebui.model_rows()}
        for entry in listed:
            model_id = connection.own_id(entry.id)
            if entry.preset or entry.url_index != connection.index or model_id not in catalog.models:
                continue
            row = rows.get(entry.id)
            grants = grants_for(model_id, seats, tiers, catalog.tier(self._default_tier))
            wanted = row_wanted(entry, row, grants)
            if row is None or grants_differ(row, wanted):
                yield f"the model {entry.id} is shown to {_audience(wanted['access_grants'])}"
            if not dry_run:
                await _write(openwebui, row, wanted)

    async def _seats(self, census: Census, kept: Kept, catalog: Catalog) -> list[Seat]:
        subjects = kept.by_subject()
        ids = {
            person.id: kept.going_on(subjects[person.id]).id
            for person in census.people.values()
            if person.role not in (ADMIN, PENDING) and person.id in subjects
        }
        users = await self._users(list(dict.fromkeys(ids.values())))
        seats = []
        for subject, user_id in ids.items():
            tier = self._tier(users.get(user_id), catalog)
            if tier is not None:
                seats.append(Seat(subject, census.circles_of(census.people[subject]), tier))
        return seats

    def _tier(self, user: User | None, catalog: Catalog) -> Tier | None:
        if user is None or user.status != "active":
            return None
        try:
            return stand(user, catalog, self._default_tier, datetime.now(UTC)).tier
        except NoTier:
            return None

    async def _users(self, ids: list[UUID]) -> dict[UUID, User]:
        found: dict[UUID, User] = {}
        for start in range(0, len(ids), _USERS_AT_ONCE):
            found |= await self._accounts.find_users(ids[start : start + _USERS_AT_ONCE])
        return found


async def _write(openwebui: OpenWebUI, row: Row | None, wanted: Mapping[str, object]) -> None:
    if row is None:
        return await openwebui.make_model_row(wanted)
    if words_differ(row, wanted):
        await openwebui.change_model_row({name: value for name, value in wanted.items() if name != "access_grants"})
    if grants_differ(row, wanted):
        await openwebui.set_access({name: wanted[name] for name in ("id", "name", "access_grants")})


def _circle_tiers(census: Census, kept: Kept, catalog: Catalog) -> dict[str, Tier | None]:
    """The groups there, each with the tier it gives here."""
    tiers: dict[str, Tier | None] = {}
    for circle_id in census.circles:
        there = kept.circles.get(circle_id)
        group = None if there is None else catalog.groups.get(there.group_id)
        tiers[circle_id] = catalog.tier(group.tier) if group is not None and group.tier else None
    return tiers


def _audience(grants: list[dict[str, str]]) -> str:
    read = [each for each in grants if each["permission"] == "read"]
    if any(each["principal_id"] == "*" for each in read):
        return "everybody"
    groups = sum(each["principal_type"] == "group" for each in read)
    people = f"{counted(groups, 'group')} and {counted(len(read) - groups, 'user')}"
    return people if read else "nobody but administrators"
