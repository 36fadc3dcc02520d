"""Which models of Farebox people are shown in an Open WebUI, and which of them each person should be. Pure.

What somebody may use is decided by the tier, at every call. Grants there only spare people the sight of what they would
be refused. They add up and never take away, so a model is granted to everybody only where everybody may use it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from openwebui.connection import Connection
from openwebui.shapes import EVERYBODY, Grant, Row, Shown
from policies.tier import Tier

ONE_BY_ONE_MAX = 500
"""People a model is granted to by name; who is beyond needs a group."""

_READ = "read"
_OURS = "farebox"
_CARRIED = ("description", "tags")


class Seat(Struct, frozen=True):
    """A person there with the groups it belongs to and the tier it has here. Administrators see everything anyway."""

    id: str
    circles: frozenset[str]
    tier: Tier


def shown_of(listed: Iterable[Shown], connection: Connection) -> frozenset[str]:
    """The models of this connection that people can choose, also by a preset made of one."""
    found = set()
    for entry in listed:
        if _hidden(entry):
            continue
        if entry.preset:
            base = (entry.info or {}).get("base_model_id")
            found |= {connection.own_id(base)} if isinstance(base, str) else set()
        elif entry.url_index == connection.index:
            found.add(connection.own_id(entry.id))
    return frozenset(found)


def grants_for(
    model_id: str, seats: Sequence[Seat], circle_tiers: Mapping[str, Tier | None], newcomers: Tier | None
) -> tuple[Grant, ...]:
    """To whom the model is shown. ``circle_tiers`` are the groups with the tiers they give, ``newcomers`` is the tier
    of somebody in no group."""
    may = {seat.id for seat in seats if seat.tier.allows_model(model_id)}
    if len(may) == len(seats) and newcomers is not None and newcomers.allows_model(model_id):
        return (Grant("user", EVERYBODY),)
    members: dict[str, set[str]] = defaultdict(set)
    for seat in seats:
        for circle in seat.circles:
            members[circle].add(seat.id)
    circles = [each for each in sorted(circle_tiers) if _all_may(members[each], may, circle_tiers[each], model_id)]
    covered = set[str]().union(*(members[each] for each in circles))
    alone = sorted(may - covered)[:ONE_BY_ONE_MAX]
    return (*(Grant("group", each) for each in circles), *(Grant("user", each) for each in alone))


def row_wanted(entry: Shown, row: Row | None, grants: Sequence[Grant]) -> dict[str, Any]:
    """The row of a model as it should be. A row stands over what the connection says of its model, so name, description
    and tags are carried into it, unless somebody wrote others there."""
    said = _said(entry)
    meta = dict(row.meta) if row else {}
    ours = meta.get(_OURS) or {}
    name = row.name if row and row.name not in ("", entry.id, ours.get("name")) else said["name"]
    for field in _CARRIED:
        if said.get(field) is not None and meta.get(field) in (None, "", [], ours.get(field)):
            meta[field] = said[field]
    kept = [each for each in (row.access_grants or () if row else ()) if each.permission != _READ]
    return {
        "id": entry.id,
        "base_model_id": None,
        "name": name,
        "meta": {**meta, _OURS: said},
        "params": row.params if row else {},
        "access_grants": [_document(each) for each in (*grants, *kept)],
        "is_active": row.is_active if row else True,
    }


def grants_differ(row: Row, wanted: Mapping[str, Any]) -> bool:
    """Whether the model is shown to others than it should be."""
    there = {(each.principal_type, each.principal_id, each.permission) for each in row.access_grants or ()}
    return there != {tuple(each.values()) for each in wanted["access_grants"]}


def words_differ(row: Row, wanted: Mapping[str, Any]) -> bool:
    """Whether the model is called or described otherwise than it should be."""
    return bool((row.name, row.meta) != (wanted["name"], wanted["meta"]))


def _all_may(members: set[str], may: set[str], tier: Tier | None, model_id: str) -> bool:
    """Nobody in the group would see what is refused; an empty one goes by the tier it gives."""
    if members:
        return members <= may
    return tier is not None and tier.allows_model(model_id)


def _said(entry: Shown) -> dict[str, Any]:
    """What the connection itself says of the model."""
    own = entry.openai or {}
    meta = (own.get("info") or {}).get("meta") or {}
    tags = own.get("tags") or meta.get("tags")
    description = meta.get("description") or own.get("description")
    said = {"name": own.get("name") or entry.id, "description": description, "tags": tags}
    return {name: value for name, value in said.items() if value}


def _document(grant: Grant) -> dict[str, str]:
    return {
        "principal_type": grant.principal_type,
        "principal_id": grant.principal_id,
        "permission": grant.permission,
    }


def _hidden(entry: Shown) -> bool:
    return bool(((entry.info or {}).get("meta") or {}).get("hidden"))
