"""The user a path names, and where that user stands; the same 404 for whoever is not there.

A deleted user is not there either: only a restoration finds it, by its id. A merged identity is deleted, and only the
merge itself, repeated, finds it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from accounts.standing import NoTier, Standing, stand
from accounts.users import User
from admin_api.house import AdminHouse, House
from admin_api.problems import not_found, wrong_field
from config.catalog_shelf import TIERS, find_entry

ID = "0198f2a1-7c1e-7d50-9a51-3f6de0a5a9b1"
"""An id for examples."""

UserId = Annotated[UUID, Path(description="The user's id.", examples=[ID])]


async def living(house: AdminHouse, user_id: UUID) -> User:
    """The user with this id. Raises Problem 404."""
    user = await house.accounts.user(user_id)
    if user is None or user.status == "deleted":
        raise not_found()
    return user


async def _named(house: House, user_id: UserId) -> User:
    return await living(house, user_id)


TheUser = Annotated[User, Depends(_named)]
"""The user in the path. It stands behind the caller in a route's parameters: who may not look is told nothing."""


def standing_of(house: AdminHouse, user: User, now: datetime) -> Standing | None:
    """Where the user stands; None where neither its tier nor the default one is in the catalogue."""
    try:
        return stand(user, house.catalog(), house.settings.default_tier, now)
    except NoTier:
        return None


async def offered_tier(house: AdminHouse, name: str) -> str:
    """The name of a tier that may be given to somebody. Raises Problem 422.

    Asked of the database: the running catalogue knows a tier some moments after it was made, and has the retired ones,
    which go on for those who have them.
    """
    entry = await find_entry(house.engine, TIERS, name)
    if entry is None or entry.retired_at is not None:
        raise wrong_field("tier", f"there is no tier {name}")
    return name
