"""A principal is a value: nobody changes who is calling half-way through a call."""

from __future__ import annotations

from uuid import UUID

import pytest
from msgspec.structs import replace

from policies.principal import Principal


def test_a_principal_cannot_be_changed() -> None:
    principal = Principal(UUID(int=1), UUID(int=2), "r", "s", "a@b", "Ann", "user", "free", "active", "en")
    with pytest.raises(AttributeError):
        principal.tier = "pro"  # type: ignore[misc]
    assert (principal.key_id, principal.forwarded, principal.task) == (None, False, "")
    assert (principal.since, principal.group, principal.limits, principal.scopes) == (None, None, None, ())


def test_the_ids_by_which_counters_are_named_are_those_of_the_user_and_the_wallet() -> None:
    principal = Principal(UUID(int=1), UUID(int=2), "r", "s", "a@b", "Ann", "user", "free", "active", "en")
    assert (principal.user_text, principal.wallet_text) == (str(UUID(int=1)), str(UUID(int=2)))
    assert replace(principal, wallet_id=UUID(int=3)).wallet_text == str(UUID(int=3))
    assert principal.user_text is principal.user_text
