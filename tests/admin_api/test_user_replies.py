"""How users are asked for and shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from accounts.standing import Standing
from accounts.users import User
from admin_api.user_replies import InForce, NewUser, UserChange, UserReply, fields_of
from policies.group import Group
from policies.tier import Tier

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ADA = User(
    UUID(int=1), UUID(int=2), "r", "s", "a@b", "Ada", "vip", "pro", "active", "en", NOW, True, NOW, updated_at=NOW
)


def test_a_user_is_shown_without_what_concerns_nobody() -> None:
    told = UserReply.of(ADA).model_dump(mode="json")
    assert (told["id"], told["tier"], told["status"], told["updated_at"]) == (
        str(UUID(int=1)),
        "pro",
        "active",
        "2026-11-21T00:00:00Z",
    )
    assert set(told) == {*fields_of(ADA), "status", "groups"}


@pytest.mark.parametrize("language", ["en", "de-AT", "zh-Hans", "gsw"])
def test_languages_have_their_usual_names(language: str) -> None:
    assert NewUser.model_validate({"language": language}).language == language


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "english please"},
        {"language": "e"},
        {"email": "a b@c"},
        {"email": "@"},
        {"subject": "x" * 256},
        {"realm": ""},
        {"name": "two\nlines"},
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewUser.model_validate(fields)


def test_a_change_tells_null_from_nothing_said() -> None:
    assert UserChange.model_validate({"tier": None}).model_fields_set == {"tier"}
    assert UserChange.model_validate({}).model_fields_set == set()


def test_the_group_that_pays_is_named() -> None:
    group = Group(UUID(int=5), "g", UUID(int=6), shared=True)
    paying = InForce.of(Standing(Tier("pro", "Pro"), group, group.wallet_id, NOW, "group"))
    assert (paying.paid_by, paying.why, paying.title) == (UUID(int=5), "group", "Pro")
    apart = Group(UUID(int=5), "g", UUID(int=6))
    assert InForce.of(Standing(Tier("pro"), apart, UUID(int=2), NOW)).paid_by is None
