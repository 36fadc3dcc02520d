"""Where a user stands at an instant: the tier in force, the wallet that pays, the allowance. Pure.

A tier an admin set (pinned) comes before a group's, a group's before the one the account began with. A change planned
for an instant counts from that instant on, whether or not anybody has written it down yet.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from accounts.users import User
from config.catalog import Catalog
from ledger.period import Plan, bounds
from policies.allowance import money_plan, token_plan
from policies.group import Group, in_order
from policies.tier import Tier

Why = Literal["pinned", "group", "default", "missing"]
"""Why a tier is in force: an admin set it, a group gives it, the account began with it, or the tier that was meant is
not in the catalogue and the default one stands in for it."""


class NoTier(Exception):
    """Neither the user's tier nor the default one is in the catalogue."""


class Standing(Struct, frozen=True):
    """``group`` is the one that counts for money: the first that shares a wallet, else the first that gives credits,
    else the first. ``since`` is when the user's own tier began, the day of an anniversary."""

    tier: Tier
    group: Group | None
    wallet_id: UUID
    since: datetime
    why: Why = "default"

    @property
    def money_plan(self) -> Plan | None:
        """The money of each period that ``wallet_id`` is given."""
        return money_plan(self.tier, self.since, self.group)

    @property
    def token_plan(self) -> Plan | None:
        """The tokens of each period."""
        return token_plan(self.tier, self.since, self.group)

    def period_end(self, now: datetime) -> datetime:
        """When the running period of the allowance ends; without one, the month or year by which the tier is paid."""
        return bounds(self.token_plan or self.money_plan or Plan(0, self.tier.price_every), now)[1]


def stand(user: User, catalog: Catalog, default_tier: str, now: datetime) -> Standing:
    """Raises NoTier."""
    found = (catalog.groups.get(each) for each in user.groups)
    groups = in_order(group for group in found if group is not None) if user.groups else []
    name, since, why = _tier(user, groups, now)
    tier = catalog.tier(name)
    if tier is None:
        tier, why = catalog.tier(default_tier), "missing"
    if tier is None:
        raise NoTier(f"there is neither a tier {name} nor the default tier {default_tier}")
    group = _counting(groups) if groups else None
    wallet_id = group.wallet_id if group is not None and group.shared else user.wallet_id
    return Standing(tier, group, wallet_id, since, why)


def _tier(user: User, groups: list[Group], now: datetime) -> tuple[str, datetime, Why]:
    """The name of the tier that is meant, since when the user has the tier of its own, and why it is meant."""
    if user.next_tier is not None and user.next_tier_at is not None and user.next_tier_at <= now:
        return user.next_tier, user.tier_since if user.next_tier == user.tier else user.next_tier_at, "pinned"
    if user.tier_pinned:
        return user.tier, user.tier_since, "pinned"
    for group in groups:
        if group.tier:
            return group.tier, user.tier_since, "group"
    return user.tier, user.tier_since, "default"


def _counting(groups: list[Group]) -> Group | None:
    shared = next((group for group in groups if group.shared), None)
    giving = next((group for group in groups if group.allowance is not None), None)
    return shared or giving or next(iter(groups), None)
