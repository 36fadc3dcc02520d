"""Engines: the pools of connections to the database, every statement of which is bounded in time."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

REPORTS = {"plan_cache_mode": "force_custom_plan", "work_mem": "32MB"}
"""Of sessions for long lists and sums: planned for the very values asked for, and with more memory."""


def make_engine(
    url: str,
    *,
    size: int = 8,
    command_timeout_s: float = 10.0,
    lock_timeout_ms: int = 3000,
    name: str = "farebox",
    ask_first: bool = False,
    for_reports: bool = False,
) -> AsyncEngine:
    """An engine whose every statement is bounded in time. ``url`` is ``postgresql+asyncpg://…``.

    ``ask_first``: a connection is tried before it is used, one trip more, so that a database that was away refuses
    nobody once it is back (the bank sees to that itself). ``for_reports``: for long lists and sums, which are planned
    for the very values asked for and may use more memory. Durability stays the server's: nothing here turns
    ``synchronous_commit`` off.
    """
    return create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=command_timeout_s,
        pool_pre_ping=ask_first,
        pool_use_lifo=True,  # the one that was used last has its statements planned
        connect_args={
            "timeout": 5,
            "command_timeout": command_timeout_s,
            "server_settings": {
                "application_name": name,
                "timezone": "UTC",
                "lock_timeout": str(lock_timeout_ms),
                "idle_in_transaction_session_timeout": str(int(command_timeout_s * 1500)),
                **(REPORTS if for_reports else {}),
            },
        },
    )
