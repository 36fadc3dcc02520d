"""One user, whole: where it stands, what it has, what is left of it, and whether its next call would pass."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from accounts.standing import Standing
from accounts.users import Status, User
from admin_api.balances import BalanceReply, allowances, grants_of
from admin_api.house import AdminHouse
from admin_api.limits import limits_of
from admin_api.people import standing_of
from admin_api.user_replies import GroupOfUser, InForce, StatusReply, UsedReply, UserDetail, fields_of
from ledger.member_read import NOTHING, used_in_month
from ledger.spans import first_of


async def profile(house: AdminHouse, user: User) -> UserDetail:
    """Everything about one user."""
    now = house.now()
    standing = standing_of(house, user, now)
    has = await _having(house, user, standing, now) if standing is not None else _HAS_NOTHING
    return UserDetail(
        **fields_of(user),
        status=await _status(house, user, now),
        groups=_groups(house, user),
        keys=len(await house.accounts.list_keys(user.id, alive=True)),
        this_month=await _this_month(house, user, now),
        **has,
    )


_HAS_NOTHING: dict[str, Any] = {"in_force": None, "balance": None, "allowances": [], "grants": [], "limits": None}


async def _having(house: AdminHouse, user: User, standing: Standing, now: datetime) -> dict[str, Any]:
    """What follows from where the user stands. The balance comes first: it books what is due."""
    wallet_id, money, tokens = standing.wallet_id, standing.money_plan, standing.token_plan
    balance = await house.bank.balance(wallet_id, money)
    return {
        "in_force": InForce.of(standing),
        "balance": BalanceReply.of_wallet(wallet_id, balance),
        "allowances": await allowances(house, wallet_id, balance, money, tokens, now),
        "grants": await grants_of(house, wallet_id),
        "limits": await limits_of(house, user, standing),
    }


async def _status(house: AdminHouse, user: User, now: datetime) -> StatusReply:
    explained = await house.explain(user, None, now, "")
    return StatusReply(
        state=cast(Status, user.status),
        can_make_request=explained.can_make_request,
        code=explained.code,
        message=explained.message,
    )


def _groups(house: AdminHouse, user: User) -> list[GroupOfUser]:
    groups = house.catalog().groups
    return [GroupOfUser(id=each, name=groups[each].name) for each in user.groups if each in groups]


async def _this_month(house: AdminHouse, user: User, now: datetime) -> UsedReply:
    used = await used_in_month(house.engine, [user.id], first_of("month", now).date())
    return UsedReply.of(used.get(user.id, NOTHING))
