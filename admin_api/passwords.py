"""Passwords as argon2id hashes, made and checked beside the event loop.

A hash takes 64 MiB and some tens of milliseconds (the low-memory profile of RFC 9106): two at a time, a few waiting,
and whoever comes beyond that is told to come back, so that a flood of logins starves no call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

T = TypeVar("T")

_AT_ONCE = 2
_WAITING_MAX = 16
# The hash of no password, with the parameters of all others: an unknown address takes as long as a known one.
_NOBODY = f"$argon2id$v=19$m=65536,t=3,p=4${'A' * 22}${'A' * 43}"


class PasswordsBusy(Exception):
    """Too many passwords wait to be checked."""


class Passwords:
    """Makes and checks hashes. Every method may raise PasswordsBusy."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="argon2")
        self._inside = 0

    def close(self) -> None:
        """Wait for nobody who has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The hash to store."""
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether this is the password behind the hash; as slow, and False, where there is no hash."""
        return await self._run(lambda: self._verified(stored or _NOBODY, password)) and stored is not None

    def is_dated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than hashes are made with."""
        return self._hasher.check_needs_rehash(stored)

    def _verified(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._inside >= _AT_ONCE + _WAITING_MAX:
            raise PasswordsBusy("too many passwords wait to be checked")
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._inside -= 1
