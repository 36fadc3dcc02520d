"""How keys are asked for and shown, with what a key allows by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self, cast
from uuid import UUID

from pydantic import Field, model_validator

from accounts.keys import Key
from admin_api.limit_replies import BudgetReply
from admin_api.people import ID
from admin_api.wire import Body, Instant, Name, Reply
from config.catalog_fields import Patterns, Usd, Zone
from config.form import Form
from config.tier_form import WindowForm
from ledger.budget import Budget
from ledger.period import Every
from policies.key_limits import KeyLimits

UserScope = Literal["inference", "account", "charges"]
ServiceScope = Literal["forward_users", "charges", "inference", "account"]
Scope = Literal["inference", "account", "forward_users", "charges", "impersonation"]
State = Literal["active", "expired", "revoked"]

OVERLAP_S = 86_400
_WINDOWS_MAX = 32
_SCOPES = (
    "inference: call models; account: read the own account; charges: report work to be charged. Empty: the first two."
)
_EXPIRES = Field(None, description="When it ends; null: never.", examples=["2027-01-01T00:00:00Z"])


class BudgetForm(Form):
    """Money that may be spent in each period, whatever the wallet holds."""

    amount: Usd = Field(description="USD of each period.", examples=["20.00"])
    every: Every | None = Field(None, description="How long a period is; null: once and for all.", examples=["month"])
    zone: Zone = Field("UTC", description="IANA time zone in which periods begin at midnight.", examples=["UTC"])
    anchor: Annotated[int, Field(strict=True, ge=1, le=31)] | None = Field(
        None, description="Day of the month or week (1: Monday) on which a period begins.", examples=[1]
    )

    @classmethod
    def showing(cls, budget: Budget) -> Self:
        return cls.model_construct(None, **{name: getattr(budget, name) for name in cls.model_fields})

    @model_validator(mode="after")
    def _anchor_exists(self) -> Self:
        if self.anchor is not None and self.anchor > {"week": 7, "month": 31}.get(self.every or "", 0):
            raise ValueError(f"a budget by the {self.every or 'lifetime'} has no anchor {self.anchor}")
        return self

    def value(self) -> Budget:
        return Budget(**dict(self))


class KeyLimitsForm(Form):
    """What a key allows by itself; the tier must allow it, too."""

    models: Patterns = Field(("*",), description="Models it may name, with wildcards.", examples=[["gpt-4o*"]])
    windows: Annotated[tuple[WindowForm, ...], Field(max_length=_WINDOWS_MAX)] = Field(
        (), description="Counted for this key alone.", examples=[[{"limit": 10, "of": "requests", "per": "minute"}]]
    )
    budget: BudgetForm | None = Field(
        None, description="What may be spent with it.", examples=[{"amount": "20.00", "every": "month"}]
    )

    @classmethod
    def showing(cls, limits: KeyLimits) -> Self:
        return cls.model_construct(
            None,
            models=limits.models,
            windows=tuple(map(WindowForm.showing, limits.windows)),
            budget=BudgetForm.showing(limits.budget) if limits.budget else None,
        )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        """What only the whole shows, such as two windows that would be counted as one."""
        self.value()
        return self

    def value(self) -> KeyLimits:
        windows = tuple(window.value() for window in self.windows)
        return KeyLimits(self.models, windows, self.budget.value() if self.budget else None)


NO_LIMITS = KeyLimitsForm.model_construct()
_LIMITS = Field(NO_LIMITS, description="What it allows by itself.", examples=[{"models": ["gpt-4o*"]}])


class NewUserKey(Body):
    """A key of a user."""

    name: Name = Field(description="What it is for.", examples=["laptop"])
    scopes: list[UserScope] = Field([], max_length=3, description=_SCOPES, examples=[["inference", "account"]])
    limits: KeyLimitsForm = _LIMITS
    expires_at: Instant | None = _EXPIRES


class NewServiceKey(Body):
    """A key of a service that speaks for the users of a realm."""

    name: Name = Field(description="What it is for.", examples=["open-webui"])
    realm: Name = Field(description="Whose users it speaks for: those known by this realm.", examples=["chat"])
    scopes: list[Literal["forward_users", "charges"]] = Field(
        ["forward_users"],
        min_length=1,
        max_length=2,
        description="forward_users: it names its user in each call; charges: it reports work to be charged.",
        examples=[["forward_users"]],
    )
    plain_headers: bool = Field(
        False, strict=True, description="It may name its user in unsigned headers.", examples=[False]
    )
    limits: KeyLimitsForm = _LIMITS
    expires_at: Instant | None = _EXPIRES


class KeyChange(Body):
    """What to change; what is left out stays."""

    name: Name | None = Field(None, description="What it is for.", examples=["laptop"])
    scopes: list[ServiceScope] | None = Field(None, max_length=4, description=_SCOPES, examples=[["inference"]])
    limits: KeyLimitsForm | None = Field(
        None, description="What it allows by itself, as a whole; null: no limits.", examples=[{"models": ["*"]}]
    )
    expires_at: Instant | None = _EXPIRES


class Rotation(Body):
    """How to put another key in this one's place."""

    overlap_s: int = Field(
        OVERLAP_S,
        strict=True,
        ge=0,
        le=30 * 86_400,
        description="Seconds for which both are good.",
        examples=[OVERLAP_S],
    )


class KeyReply(Reply):
    """What is kept of a key; never the key."""

    id: UUID = Field(description="Its id.", examples=[ID])
    user_id: UUID | None = Field(description="Whose it is; null: a service's.", examples=[ID])
    name: str = Field(description="What it is for.", examples=["laptop"])
    begins: str = Field(description="How it begins, to tell it from others.", examples=["sk-fb-abcdefghijkl"])
    state: State = Field(description="Only an active one is accepted.", examples=["active"])
    scopes: list[Scope] = Field(description="What it is good for, with what that implies.", examples=[["inference"]])
    realm: str = Field(description="The realm whose users a service's key speaks for.", examples=[""])
    plain_headers: bool = Field(description="Whether it may name its user in unsigned headers.")
    limits: KeyLimitsForm = Field(description="What it allows by itself.", examples=[{"models": ["gpt-4o*"]}])
    acted_by: str = Field(description="The admin who acts as the user by it; empty: nobody.", examples=[""])
    rotated_from: UUID | None = Field(description="The first key of the line that it continues.", examples=[None])
    created_at: Instant | None = Field(description="When it was made.")
    expires_at: Instant | None = Field(description="When it ends; null: never.")
    revoked_at: Instant | None = Field(description="When it was revoked.")
    last_used_at: Instant | None = Field(description="When it was last used, within half a minute.")

    @classmethod
    def of(cls, key: Key, now: datetime) -> KeyReply:
        """A key as it is shown."""
        return cls.model_construct(None, **shown(key, now))


class KeyDetail(KeyReply):
    """A key with what is left of its budget."""

    budget: BudgetReply | None = Field(description="The budget in the period that runs; null: it has none.")


class NewKeyReply(KeyReply):
    """A key that was just made: shown this once."""

    key: str = Field(description="The key itself. It is kept nowhere.", examples=["sk-fb-abcdefghijkl-…"])

    @classmethod
    def of_new(cls, full: str, key: Key, now: datetime) -> NewKeyReply:
        """The key and what is kept of it."""
        return cls.model_construct(None, key=full, **shown(key, now))


def shown(key: Key, now: datetime) -> dict[str, Any]:
    """What every form of a key shows."""
    own = ("begins", "state", "scopes", "limits")
    alike = {name: getattr(key, name) for name in KeyReply.model_fields if name not in own}
    scopes = [cast(Scope, scope) for scope in key.effective_scopes]
    limits = KeyLimitsForm.showing(key.limits)
    return {**alike, "begins": f"sk-fb-{key.prefix}", "state": state_of(key, now), "scopes": scopes, "limits": limits}


def state_of(key: Key, now: datetime) -> State:
    """Whether it is accepted, and if not, why."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"
