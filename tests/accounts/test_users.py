"""Accounts follow what is seen of their users, and nothing said changes nothing."""

from __future__ import annotations

from uuid import UUID

import pytest

from accounts.users import Sighting, User

USER = User(UUID(int=1), UUID(int=2), "r", "s", "a@b", "Ann", "user", "free", "active", "en")


@pytest.mark.parametrize(
    ("email", "name", "differs"),
    [("a@b", "Ann", False), ("", "", False), ("c@d", "Ann", True), ("", "Anna", True)],
)
def test_a_sighting_differs_only_by_what_it_says(email: str, name: str, differs: bool) -> None:
    assert Sighting("r", "s", email, name).differs_from(USER) is differs


def test_what_is_said_of_an_identity_that_was_merged_is_not_followed() -> None:
    assert not Sighting("elsewhere", "s", "c@d", "Anna").differs_from(USER)
    assert not Sighting("r", "other", "c@d", "Anna").differs_from(USER)
