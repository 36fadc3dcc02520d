"""A user's limits with what is left, clearing them, and what the next call would meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from accounts.standing import Standing
from accounts.users import User
from admin_api.access import Caller, Reader, Writer
from admin_api.house import AdminHouse, House
from admin_api.limit_replies import BudgetReply, ConcurrencyReply, LimitReply, LimitsReply
from admin_api.people import TheUser, standing_of
from admin_api.problems import conflict, unavailable, wrong_field
from admin_api.wire import Body, Name, Reply
from ledger.audit import Change, append, driver
from policies.buckets import BucketsBusy, BucketsUnavailable, Reading
from policies.caps import member_cap, task_cap
from policies.explanation import Explanation, Verdict
from policies.lanes import LANES, beside, concurrency
from policies.tier import Tier, Window

router = APIRouter(prefix="/v1/users/{user_id}", tags=["users"])

_KEYS_MAX = 100


class Counted(NamedTuple):
    """A window that counts a user's calls; ``key_id`` is the key that sets it, None: the tier does."""

    window: Window
    key_id: UUID | None = None


class Reset(Body):
    """Which window to clear."""

    window: Name | None = Field(None, description="Its name; null: all of them.", examples=["requests/60"])


class RuleReply(Reply):
    """One rule and what it says."""

    name: str = Field(description="Which rule.", examples=["balance"])
    verdict: Verdict = Field(description="unknown: whoever decides does not answer.", examples=["pass"])
    says: str = Field(description="The same for a person.", examples=["10.0000 USD are available."])
    detail: dict[str, Any] = Field(description="The same in numbers and names.", examples=[{"available": "10.0000"}])


class ExplanationReply(Reply):
    """What the next call would meet."""

    can_make_request: bool = Field(description="Whether it would pass.", examples=[True])
    code: str = Field(description="The refusal's code; empty: none.", examples=[""])
    message: str = Field(description="What the caller would be told; empty: nothing.", examples=[""])
    tier: str = Field(description="The tier in force; empty: there is none.", examples=["pro"])
    model: str | None = Field(description="The model that was asked about.", examples=["gpt-4o-mini"])
    rules: list[RuleReply] = Field(description="In the order in which a call meets them.")

    @classmethod
    def of(cls, explanation: Explanation) -> ExplanationReply:
        """An explanation as it is shown."""
        rules = [
            RuleReply(name=rule.name, verdict=rule.verdict, says=rule.says, detail=rule.detail)
            for rule in explanation.rules
        ]
        alike = ("can_make_request", "code", "message", "tier", "model")
        return cls(**{name: getattr(explanation, name) for name in alike}, rules=rules)


@router.get("/limits", operation_id="get_user_limits", summary="A user's limits")
async def get_user_limits(house: House, caller: Reader, user: TheUser) -> LimitsReply:
    """Each window of the tier and of the user's live keys, calls at once and budgets, with what is left."""
    standing = _standing(house, user)
    return await limits_of(house, user, standing, await _key_windows(house, user))


@router.post("/limits/reset", operation_id="reset_user_limits", summary="Clear a user's limits")
async def reset_user_limits(house: House, caller: Writer, user: TheUser, body: Reset | None = None) -> LimitsReply:
    """Give back what windows counted, all of them or one, with those that count tasks and embeddings beside it. Calls
    that run go on running."""
    standing = _standing(house, user)
    counted = [*_tier_windows(standing), *await _key_windows(house, user)]
    chosen = _chosen(counted, body.window if body else None)
    # Recorded first: what was cleared cannot be taken back where the record fails, and nothing is changed unrecorded.
    await _record(house, caller, user, [each.window.name for each in chosen])
    try:
        windows = [each.window for each in (*chosen, *_beside(standing.tier, chosen))]
        await house.buckets.clear(str(standing.wallet_id), str(user.id), windows)
    except (BucketsUnavailable, BucketsBusy):
        raise unavailable("The place where limits are counted does not answer. Try again.") from None
    return await limits_of(house, user, standing, [each for each in counted if each.key_id is not None])


@router.get("/explain", operation_id="explain_user", summary="What would the next call meet?")
async def explain_user(
    house: House,
    caller: Reader,
    user: TheUser,
    model: Annotated[Name | None, Query(description="To this model; left out: to any.", examples=["small"])] = None,
    task: Annotated[
        Name | None, Query(description="As a call nobody typed, with this label.", examples=["title_generation"])
    ] = None,
) -> ExplanationReply:
    """Rule by rule, in the order in which a call meets them; without spending or counting anything."""
    return ExplanationReply.of(await house.explain(user, model, house.now(), task or ""))


async def limits_of(
    house: AdminHouse, user: User, standing: Standing, key_windows: Sequence[Counted] = ()
) -> LimitsReply:
    """What is left; where Redis does not tell, the limits stand without it."""
    now, tier = house.now(), standing.tier
    own = [*_tier_windows(standing), *key_windows]
    counted = [*own, *_beside(tier, own)]
    reading = await _reading(house, user, standing, [each.window for each in counted])
    levels: Sequence[Any] = reading.levels if reading else [None] * len(counted)
    rules = [] if tier.unlimited else house.catalog().tasks.values()
    found = [member_cap(standing.group, user.id, now), *(task_cap(rule, user.id, now) for rule in rules)]
    caps = [cap for cap in found if cap is not None]
    shown = [
        LimitReply.of_window(each.window, each.key_id, level, now) for each, level in zip(counted, levels, strict=True)
    ]
    return LimitsReply(
        tier=tier.name,
        user_id=user.id,
        windows=shown[: len(own)],
        windows_beside=shown[len(own) :],
        concurrency=ConcurrencyReply(limit=tier.concurrency or None, used=reading.open_calls if reading else None),
        concurrency_beside={lane: concurrency(tier, lane) or None for lane in LANES[1:]},
        budgets=[BudgetReply.of_cap(cap, await house.bank.budget(cap.id)) for cap in caps],
    )


async def _reading(house: AdminHouse, user: User, standing: Standing, windows: Sequence[Window]) -> Reading | None:
    try:
        return await house.buckets.read(str(standing.wallet_id), str(user.id), windows)
    except (BucketsUnavailable, BucketsBusy):
        return None


def _standing(house: AdminHouse, user: User) -> Standing:
    standing = standing_of(house, user, house.now())
    if standing is None:
        raise conflict("Neither the user's tier nor the default one is in the catalogue.", code="no-tier")
    return standing


def _tier_windows(standing: Standing) -> list[Counted]:
    return [Counted(window) for window in standing.tier.windows]


async def _key_windows(house: AdminHouse, user: User) -> list[Counted]:
    """Keys that took each other's place count in the same windows, which are shown once."""
    keys = await house.accounts.list_keys(user.id, alive=True, limit=_KEYS_MAX)
    found = {window.name: Counted(window, key.id) for key in keys for window in key.limits.windows}
    return list(found.values())


def _beside(tier: Tier, counted: Sequence[Counted]) -> list[Counted]:
    """The windows of tasks and embeddings beside these."""
    found = []
    for key_id in dict.fromkeys(each.key_id for each in counted):
        windows = tuple(each.window for each in counted if each.key_id == key_id)
        found += [Counted(window, key_id) for window in beside(tier, windows)]
    return found


def _chosen(counted: Sequence[Counted], name: str | None) -> list[Counted]:
    chosen = [each for each in counted if name in (None, each.window.name)]
    if name is not None and not chosen:
        raise wrong_field("window", "no window of this user has this name")
    return chosen


async def _record(house: AdminHouse, caller: Caller, user: User, windows: Sequence[str]) -> None:
    change = Change("limits.reset", "user", str(user.id), None, {"windows": list(windows)})
    async with house.engine.begin() as connection:
        await append(await driver(connection), caller.actor, change)
