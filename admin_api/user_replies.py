"""How users are asked for and shown: as a line of a list, and whole."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast
from uuid import UUID

from pydantic import Field, StringConstraints

from accounts.standing import Standing, Why
from accounts.users import LOCAL_REALM, SUBJECT_MAX, Role, Status, User
from admin_api.balances import AllowanceReply, BalanceReply, GrantReply
from admin_api.limit_replies import LimitsReply
from admin_api.people import ID
from admin_api.wire import Body, Instant, Reply, Text, UsdOut
from ledger.member_read import Used

EmailOrNone = Annotated[
    str, StringConstraints(max_length=254, pattern=r"^([^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+)?$")
]
"""An address, or empty: none is known."""

Language = Annotated[str, StringConstraints(max_length=16, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
TierName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Realm = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Subject = Annotated[str, StringConstraints(max_length=SUBJECT_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]

_EMAIL = Field(description="E-mail address; empty: not known.", examples=["ada@example.org"])
_NAME = Field(description="Name to show.", examples=["Ada Lovelace"])
_LANGUAGE = Field(description="Language (BCP 47).", examples=["en"])
_ROLE = Field(description="What the user is.", examples=["user"])


class NewUser(Body):
    """A user to make."""

    realm: Realm = Field(
        LOCAL_REALM, description="Who knows the user: an issuer, or a service that forwards.", examples=["open-webui"]
    )
    subject: Subject = Field("", description="Id of the user there; empty: a new one.", examples=["user-4711"])
    email: EmailOrNone = Field("", description="E-mail address; empty: not known.", examples=["ada@example.org"])
    name: Text = Field("", description="Name to show.", examples=["Ada Lovelace"])
    role: Role = Field("user", description="What the user is.", examples=["user"])
    tier: TierName | None = Field(None, description="Tier, pinned; null: the default one.", examples=["pro"])
    language: Language | None = Field(None, description="Language (BCP 47); null: the default one.", examples=["en"])


class UserChange(Body):
    """What to change; what is left out stays."""

    email: EmailOrNone | None = Field(None, description="E-mail address; empty: none.", examples=["ada@example.org"])
    name: Text | None = Field(None, description="Name to show.", examples=["Ada Lovelace"])
    language: Language | None = Field(None, description="Language (BCP 47).", examples=["de"])
    role: Role | None = Field(None, description="What the user is.", examples=["vip"])
    status: Literal["active", "suspended"] | None = Field(
        None, description="Suspended: may not call.", examples=["suspended"]
    )
    tier: TierName | None = Field(
        None, description="Tier, pinned: before any group's; null: unpinned, the groups decide.", examples=["pro"]
    )
    tier_from: Literal["now", "period_end"] = Field(
        "now", description="From when on: at once, or when the running period ends.", examples=["now"]
    )


class _UserFields(Reply):
    id: UUID = Field(description="Unchanging id.", examples=[ID])
    realm: str = Field(description="Who knows the user.", examples=["open-webui"])
    subject: str = Field(description="The user's id there.", examples=["user-4711"])
    email: str = _EMAIL
    name: str = _NAME
    role: Role = _ROLE
    language: str = _LANGUAGE
    tier: str = Field(description="The user's own tier; a group's may be in force.", examples=["pro"])
    tier_pinned: bool = Field(description="Whether an admin set it: then it comes before any group's.")
    tier_since: Instant = Field(description="Since when the user has it.")
    next_tier: str | None = Field(description="The tier planned for an instant.", examples=["basic"])
    next_tier_at: Instant | None = Field(description="From when on.")
    wallet_id: UUID = Field(description="The user's own wallet.", examples=[ID])
    created_at: Instant = Field(description="When it was first seen or made.")
    updated_at: Instant = Field(description="When it last changed; the ETag.")


class UserReply(_UserFields):
    """A user, as lists and changes show it."""

    status: Status = Field(description="Only an active one may call.", examples=["active"])
    groups: list[UUID] = Field(description="The groups it belongs to.", examples=[[ID]])

    @classmethod
    def of(cls, user: User) -> UserReply:
        """A user as it is shown."""
        return cls(**fields_of(user), status=cast(Status, user.status), groups=list(user.groups))


class InForce(Reply):
    """The tier in force, and why it is."""

    name: str = Field(description="Its name.", examples=["pro"])
    title: str = Field(description="What people read.", examples=["Pro"])
    why: Why = Field(
        description="pinned: set by an admin; group: a group gives it; default: the account began with it; missing: "
        "the tier that was meant is not there, the default one stands in.",
        examples=["pinned"],
    )
    since: Instant = Field(description="When the user's own tier began, the day of an anniversary.")
    unlimited: bool = Field(description="Whether the house pays.", examples=[False])
    paid_by: UUID | None = Field(description="The group whose wallet pays; null: the user's own.", examples=[None])

    @classmethod
    def of(cls, standing: Standing) -> InForce:
        """Where a user stands."""
        tier, group = standing.tier, standing.group
        return cls(
            name=tier.name,
            title=tier.title,
            why=standing.why,
            since=standing.since,
            unlimited=tier.unlimited,
            paid_by=group.id if group is not None and group.shared else None,
        )


class StatusReply(Reply):
    """Whether the user's next call would pass, and why not."""

    state: Status = Field(description="Only an active user may call.", examples=["active"])
    can_make_request: bool = Field(description="Whether a small call to some model would pass.", examples=[False])
    code: str = Field(description="The refusal's code; empty: none.", examples=["insufficient_balance"])
    message: str = Field(description="What the caller would be told.", examples=["Your balance is used up."])


class GroupOfUser(Reply):
    """A group the user belongs to."""

    id: UUID = Field(description="Its id.", examples=[ID])
    name: str = Field(description="Its name.", examples=["research"])


class UsedReply(Reply):
    """What was used and charged."""

    calls: int = Field(description="Calls charged.", examples=[120])
    amount: UsdOut = Field(description="Charged in USD.", examples=["4.5000"])
    amount_tokens: int = Field(description="Charged in tokens of the allowance.", examples=[0])

    @classmethod
    def of(cls, used: Used) -> UsedReply:
        return cls(calls=used.calls, amount=used.amount, amount_tokens=used.amount_tokens)


class UserDetail(_UserFields):
    """Everything about one user."""

    status: StatusReply = Field(description="Whether the next call would pass, and why not.")
    in_force: InForce | None = Field(description="The tier in force; null: nor is the default one there.")
    balance: BalanceReply | None = Field(description="The wallet that pays, after what is due was booked.")
    allowances: list[AllowanceReply] = Field(description="What each period gives; tokens are used first.")
    grants: list[GrantReply] = Field(description="What the paying wallet holds, in the order in which it is used.")
    limits: LimitsReply | None = Field(description="How fast the user may go, and what is left.")
    groups: list[GroupOfUser] = Field(description="The groups it belongs to that are in force.")
    keys: int = Field(description="Live keys; at most 1000 are counted.", examples=[2])
    this_month: UsedReply = Field(description="Used in this month (UTC).")


def fields_of(user: User) -> dict[str, Any]:
    """What every form of a user shows."""
    return {name: getattr(user, name) for name in _UserFields.model_fields}
