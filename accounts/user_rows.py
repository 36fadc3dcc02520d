"""How a user is read from the database: one row with the groups in it, found by what an admin or a caller knows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Uuid,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    type_coerce,
)

from accounts.store import LIST_MAX
from accounts.tables import group_members, users
from accounts.users import User

# The outer row's id as text: in what an INSERT returns, SQLAlchemy correlates nothing, and a column of `users` would
# bring the whole table in, with the groups of everybody.
_GROUPS = (
    select(group_members.c.group_id)
    .where(group_members.c.user_id == literal_column("users.id", Uuid))
    .order_by(group_members.c.group_id)
    .correlate(None)
    .scalar_subquery()
)
USER_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(
    type_coerce(func.array(_GROUPS), ARRAY(Uuid)).label("groups") if name == "groups" else users.c[name]
    for name in User.__struct_fields__
)
# As the index of the table's texts has it.
_TEXT = func.lower(users.c.email.op("||")(" ").op("||")(users.c.name).op("||")(" ").op("||")(users.c.subject))


def user_of(row: Any) -> User:
    """A user of a row that has the ``USER_COLUMNS``."""
    fields = {name: row._mapping[name] for name in User.__struct_fields__}
    return User(**(fields | {"groups": tuple(row.groups)}))


def users_where(*conditions: ColumnElement[bool]) -> Select[Any]:
    """Users with their groups, in one query."""
    return select(*USER_COLUMNS).where(*conditions)


def answering_to(who: str) -> ColumnElement[bool]:
    """The users with this id, subject or e-mail address; in place of a merged one, the account that goes on for it."""
    named = users.alias("named")
    matches: list[ColumnElement[bool]] = [named.c.subject == who, func.lower(named.c.email) == who.lower()]
    with suppress(ValueError):
        matches.append(named.c.id == UUID(who))
    return users.c.id.in_(select(func.coalesce(named.c.merged_into, named.c.id)).where(or_(*matches)))


def listed(
    search: str,
    group: UUID | None,
    equal: Mapping[str, str | None],
    *,
    newest_first: bool,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Select[Any]:
    """One page of users by age, from behind ``after`` (created_at, id) on; ``equal`` names columns and their values,
    None: any."""
    conditions = [users.c[name] == value for name, value in equal.items() if value is not None]
    if search:
        conditions.append(_found_by(search))
    if group is not None:
        conditions.append(exists().where(group_members.c.group_id == group, group_members.c.user_id == users.c.id))
    place = (users.c.created_at, users.c.id)
    if after is not None:
        conditions.append(tuple_(*place) < tuple_(*after) if newest_first else tuple_(*place) > tuple_(*after))
    order = [each.desc() if newest_first else each.asc() for each in place]
    return users_where(*conditions).order_by(*order).limit(min(limit, LIST_MAX))


def _found_by(search: str) -> ColumnElement[bool]:
    """Whose e-mail, name or subject contains this text, or whose id it is."""
    contained = _TEXT.contains(search.lower(), autoescape=True, escape="\\")
    with suppress(ValueError):
        # Services use such ids as their users' subjects, too.
        return or_(users.c.id == UUID(search), contained)
    return contained
