"""The audit chain: every write of an administrator, each row sealed by a hash over itself and the row before it.

A row is appended in the transaction that makes the change, as its last step: ``append`` takes the head of the chain,
and whoever has it waits for no other lock. A row that was changed or taken out, also the last one, is found by
``check``. Before and after are what the reader of a change needs, never a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

ORIGIN = bytes(32)
"""What stands before the first row."""


class Actor(msgspec.Struct, frozen=True):
    """Who changes something: an administrator, a key or the system; in which role, from where, in which request."""

    name: str
    role: str = ""
    address: str = ""
    request_id: UUID | None = None


SYSTEM = Actor("system")
COMMAND_LINE = Actor("command line", "owner")


class Change(msgspec.Struct, frozen=True):
    """What was done (``user.tier``, ``credit.grant``) to whom, and how it was and is: anything JSON can say."""

    action: str
    target_type: str
    target_id: str
    before: Any = None
    after: Any = None


_LOCK_HEAD = "SELECT seq, hash, clock_timestamp() AS now FROM audit_head FOR NO KEY UPDATE"

_APPEND = """
    WITH added AS (
        INSERT INTO audit (seq, at, actor, role, address, request_id, action, target_type, target_id, before, after,
            previous, hash)
        SELECT seq, at, actor, role, address, request_id, action, target_type, target_id, before::jsonb, after::jsonb,
            previous, hash
        FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::bytea[])
            AS t (seq, at, actor, role, address, request_id, action, target_type, target_id, before, after, previous,
                hash)
    )
    UPDATE audit_head SET seq = $14, hash = $15
"""

_ROWS = """
    SELECT seq, at, actor, role, address, request_id, action, target_type, target_id, before::text AS before,
           after::text AS after, previous, hash
    FROM audit ORDER BY seq
"""

# What a row's hash seals: all but the chain's own two columns.
_ACT = ("actor", "role", "address", "request_id", "action", "target_type", "target_id", "before", "after")
_SEALED = ("seq", "at", *_ACT)
_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


async def driver(connection: AsyncConnection) -> Any:
    """The asyncpg connection of a SQLAlchemy transaction, for ``append``; the transaction has begun."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    if not raw.is_in_transaction():
        # SQLAlchemy begins with the first statement that passes through itself.
        await connection.execute(text("SELECT 1"))
    return raw


async def append(connection: Any, actor: Actor, *changes: Change) -> None:
    """Seal these changes into the chain, on an asyncpg connection inside the caller's transaction, as its last step.
    Raises RuntimeError outside a transaction: a change and its proof are committed together."""
    if not changes:
        return
    if not connection.is_in_transaction():
        raise RuntimeError("a change is audited inside the transaction that makes it")
    head = await connection.fetchrow(_LOCK_HEAD)
    rows, previous = [], head["hash"]
    for seq, change in enumerate(changes, head["seq"] + 1):
        row = _row(seq, head["now"], actor, change)
        rows.append({**row, "previous": previous, "hash": (previous := link(previous, row))})
    columns = [[row[name] for row in rows] for name in (*_SEALED, "previous", "hash")]
    await connection.execute(_APPEND, *columns, rows[-1]["seq"], previous)


def link(previous: bytes, row: Mapping[str, Any]) -> bytes:
    """The hash of a row: SHA-256 over the hash before it and the row's canonical JSON (``before`` and ``after`` as JSON
    texts)."""
    sealed = {name: row[name] for name in _SEALED}
    sealed |= {name: _canonical(msgspec.json.decode(row[name])) for name in ("before", "after") if row[name]}
    return sha256(previous + _encode(sealed)).digest()


async def check(connection: Any) -> tuple[int, list[str]]:
    """How many rows the chain has, and a line for each break in it. On an asyncpg connection, in a transaction."""
    head = await connection.fetchrow("SELECT seq, hash FROM audit_head")
    broken, seq, previous = [], 0, ORIGIN
    async for row in connection.cursor(_ROWS, prefetch=2000):
        if row["seq"] != seq + 1:
            broken.append(f"audit row {seq + 1} is missing")
        elif row["previous"] != previous:
            broken.append(f"audit row {row['seq']} does not follow the one before it")
        if link(row["previous"], row) != row["hash"]:
            broken.append(f"audit row {row['seq']} was changed")
        seq, previous = row["seq"], row["hash"]
    if head is None or (head["seq"], head["hash"]) != (seq, previous):
        broken.append(f"the chain ends at row {seq}, and not where its head says")
    return seq, broken


def _row(seq: int, at: datetime, actor: Actor, change: Change) -> dict[str, Any]:
    return {
        "seq": seq,
        "at": at,
        "actor": _text(actor.name),
        "role": _text(actor.role),
        "address": _text(actor.address),
        "request_id": actor.request_id,
        "action": change.action,
        "target_type": change.target_type,
        "target_id": _text(change.target_id),
        "before": _json(change.before),
        "after": _json(change.after),
    }


def _json(value: Any) -> str | None:
    if value is None:
        return None
    return _encode(_canonical(msgspec.json.decode(msgspec.json.encode(value)))).decode()


def _canonical(value: Any) -> Any:
    """The value as every reader of the stored JSON gets it back: the database keeps numbers as decimals and knows no
    NUL in a text."""
    if isinstance(value, dict):
        return {_text(key): _canonical(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else Decimal(repr(value)).normalize()
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    return value.replace("\0", "\ufffd")
