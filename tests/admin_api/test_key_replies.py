"""How keys are asked for and shown: limits come back as they were said, and never the key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from pydantic import ValidationError

from accounts.keys import Key
from admin_api.key_replies import BudgetForm, KeyLimitsForm, KeyReply, NewKeyReply, NewUserKey, state_of
from ledger.budget import Budget
from ledger.money import NANO
from policies.key_limits import UNLIMITED, KeyLimits
from policies.tier import Window

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LIMITS = KeyLimits(("small*",), (Window(5, "requests", 60),), Budget(NANO, "week", "Asia/Kolkata", 7))


def key(**fields: object) -> Key:
    return Key(UUID(int=1), "abcdefghijkl", b"d" * 32, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [LIMITS, UNLIMITED, KeyLimits(budget=Budget(0))])
def test_limits_come_back_as_they_were_said(limits: KeyLimits) -> None:
    sent = KeyLimitsForm.showing(limits.owned_by(UUID(int=1))).model_dump(mode="json")
    assert KeyLimitsForm(**sent).value() == limits


def test_a_key_without_limits_has_none() -> None:
    assert NewUserKey.model_validate({"name": "k"}).limits.value() == UNLIMITED


@pytest.mark.parametrize(
    "budget",
    [
        {"amount": "1", "every": "month", "anchor": 32},
        {"amount": "1", "every": "day", "anchor": 1},
        {"amount": "1", "anchor": 1},
        {"amount": "-1"},
        {"amount": "1", "zone": "Mars"},
        {"every": "month"},
    ],
)
def test_a_budget_that_cannot_be_is_refused(budget: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BudgetForm(**budget)  # type: ignore[arg-type]


def test_a_key_is_accepted_revoked_or_expired() -> None:
    assert state_of(key(expires_at=NOW + timedelta(seconds=1)), NOW) == "active"
    assert state_of(key(expires_at=NOW), NOW) == "expired"
    assert state_of(key(expires_at=NOW, revoked_at=NOW), NOW) == "revoked"


def test_a_key_is_shown_without_its_secret_and_with_what_its_scopes_imply() -> None:
    shown = KeyReply.of(key(scopes=("forward_users",)), NOW).model_dump(mode="json")
    assert shown["scopes"] == ["forward_users", "inference", "account"] and shown["begins"] == "sk-fb-abcdefghijkl"
    assert "digest" not in shown and "key" not in shown


def test_a_new_key_is_shown_with_it() -> None:
    assert NewKeyReply.of_new("sk-fb-whole", key(), NOW).key == "sk-fb-whole"
