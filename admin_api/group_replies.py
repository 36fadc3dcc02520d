"""How groups and their members are asked for and shown."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from accounts.groups import KeptGroup, Member
from accounts.users import User
from admin_api.balances import BalanceReply
from admin_api.key_replies import BudgetForm
from admin_api.limit_replies import BudgetReply
from admin_api.people import ID
from admin_api.user_replies import TierName, UsedReply
from admin_api.wire import Body, Instant, Name, Reply
from config.tier_form import AllowanceForm

_PRIORITY_MAX = 1_000_000

_ALLOWANCE = Field(
    None,
    description="Money of each period: each member's own in place of the tier's, or, where the group is shared, the "
    "shared wallet's.",
    examples=[{"usd": "5.00", "every": "month", "zone": "Europe/Berlin"}],
)
_CAP = Field(
    None,
    description="What one member may spend of a shared wallet.",
    examples=[{"amount": "2.00", "every": "month"}],
)


class NewGroup(Body):
    """A group to make."""

    name: Name = Field(description="Its name; no other group in force has it.", examples=["research"])
    tier: TierName | None = Field(
        None, description="What members have whose own tier is not pinned; null: their own.", examples=["pro"]
    )
    priority: int = Field(
        100,
        strict=True,
        ge=0,
        le=_PRIORITY_MAX,
        description="Of several groups the lowest decides, then the name.",
        examples=[100],
    )
    allowance: AllowanceForm | None = _ALLOWANCE
    shared: bool = Field(False, strict=True, description="All members spend from one wallet.", examples=[True])
    member_cap: BudgetForm | None = _CAP


class GroupChange(Body):
    """What to change; what is left out stays."""

    name: Name | None = Field(None, description="Its name.", examples=["research"])
    tier: TierName | None = Field(None, description="The members' tier; null: their own.", examples=["pro"])
    priority: int | None = Field(
        None, strict=True, ge=0, le=_PRIORITY_MAX, description="The lowest decides.", examples=[50]
    )
    allowance: AllowanceForm | None = _ALLOWANCE
    shared: bool | None = Field(None, strict=True, description="All members spend from one wallet.", examples=[True])
    member_cap: BudgetForm | None = _CAP


class GroupReply(Reply):
    """A group."""

    id: UUID = Field(description="Unchanging id.", examples=[ID])
    name: str = Field(description="Its name.", examples=["research"])
    tier: str | None = Field(description="What members have whose own tier is not pinned.", examples=["pro"])
    priority: int = Field(description="Of several groups the lowest decides, then the name.", examples=[100])
    allowance: AllowanceForm | None = Field(description="Money of each period.", examples=[{"usd": "5.00"}])
    shared: bool = Field(description="Whether all members spend from one wallet.", examples=[True])
    member_cap: BudgetForm | None = Field(
        description="What one member may spend of it.", examples=[{"amount": "2.00", "every": "month"}]
    )
    wallet_id: UUID = Field(description="The group's wallet.", examples=[ID])
    members: int = Field(description="How many belong to it.", examples=[12])
    version: int = Field(description="Counts changes; the ETag.", examples=[1])
    created_at: Instant = Field(description="When it was made.")
    updated_at: Instant = Field(description="When it last changed.")
    retired_at: Instant | None = Field(description="Since when it means nothing to its members.")

    @classmethod
    def of(cls, kept: KeptGroup) -> GroupReply:
        """A group as it is shown."""
        return cls.model_construct(None, **shown(kept))


class GroupDetail(GroupReply):
    """A group with what its wallet holds."""

    balance: BalanceReply | None = Field(
        description="What the group's wallet holds, after what is due was booked; null for a retired one."
    )


class NewMembers(Body):
    """Who comes in."""

    users: Annotated[list[UUID], Field(min_length=1, max_length=1000)] = Field(
        description="Their ids, at most 1000: all of them or none.", examples=[[ID]]
    )


class MembersAdded(Reply):
    """What came of it."""

    added: int = Field(description="How many did not belong to it before.", examples=[3])


class MemberReply(Reply):
    """A user who belongs to a group."""

    user_id: UUID = Field(description="The user's id.", examples=[ID])
    email: str = Field(description="The user's e-mail address.", examples=["ada@example.org"])
    name: str = Field(description="The user's name.", examples=["Ada Lovelace"])
    added_at: Instant = Field(description="Since when.")

    @classmethod
    def of(cls, member: Member) -> MemberReply:
        """A member as it is shown."""
        return cls(**_named(member.user), added_at=member.added_at)


class MemberUsageReply(Reply):
    """What a member used, and what is left of its share."""

    user_id: UUID = Field(description="The user's id.", examples=[ID])
    email: str = Field(description="The user's e-mail address.", examples=["ada@example.org"])
    name: str = Field(description="The user's name.", examples=["Ada Lovelace"])
    this_month: UsedReply = Field(description="Used in this month (UTC), whoever paid.")
    cap: BudgetReply | None = Field(description="Its share of the shared wallet; null: it has no bound of its own.")

    @classmethod
    def of_member(cls, user: User, used: UsedReply, cap: BudgetReply | None) -> MemberUsageReply:
        """A member with what it used."""
        return cls(**_named(user), this_month=used, cap=cap)


def shown(kept: KeptGroup) -> dict[str, Any]:
    """What every form of a group shows."""
    group = kept.group
    said = {name: getattr(group, name) for name in ("id", "name", "tier", "priority", "shared", "wallet_id")}
    life = {name: getattr(kept, name) for name in ("members", "version", "created_at", "updated_at", "retired_at")}
    allowance = AllowanceForm.showing(group.allowance) if group.allowance else None
    cap = BudgetForm.showing(group.member_cap) if group.member_cap else None
    return {**said, **life, "allowance": allowance, "member_cap": cap}


def _named(user: User) -> dict[str, Any]:
    return {"user_id": user.id, "email": user.email, "name": user.name}
