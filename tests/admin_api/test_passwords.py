"""Hashes of passwords."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import RFC_9106_LOW_MEMORY

from admin_api import passwords as module
from admin_api.passwords import Passwords, PasswordsBusy


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


async def test_a_password_matches_its_hash_and_no_other(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert await passwords.matches(stored, "correct horse")
    assert not await passwords.matches(stored, "correct horsf")
    assert "correct" not in stored and await passwords.hash("correct horse") != stored


async def test_hashes_have_the_low_memory_profile_of_the_standard(passwords: Passwords) -> None:
    assert extract_parameters(await passwords.hash("x")) == RFC_9106_LOW_MEMORY
    assert not passwords.is_dated(await passwords.hash("x"))
    assert passwords.is_dated(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x"))


async def test_nobody_costs_as_much_as_somebody() -> None:
    assert extract_parameters(module._NOBODY) == RFC_9106_LOW_MEMORY


async def test_nobody_is_verified_and_matches_nothing(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def verified(stored: str, password: str) -> bool:
        seen.append(stored)
        return True

    monkeypatch.setattr(passwords, "_verified", verified)
    assert not await passwords.matches(None, "anything")
    assert seen == [module._NOBODY]


async def test_a_spoilt_hash_matches_nothing(passwords: Passwords) -> None:
    assert not await passwords.matches("$argon2id$nonsense", "x")


async def test_beyond_a_few_that_wait_nobody_is_let_in(passwords: Passwords) -> None:
    room = module._AT_ONCE + module._WAITING_MAX
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")
    results = await asyncio.gather(*(passwords.matches(cheap, "x") for _ in range(room + 3)), return_exceptions=True)
    assert [result for result in results if result is True] == [True] * room
    assert sum(isinstance(result, PasswordsBusy) for result in results) == 3
    assert await passwords.matches(cheap, "x")
