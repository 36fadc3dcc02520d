"""The catalogue's tables as SQLAlchemy sees them; ``migrations/`` makes them and says more (triggers, checks)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from ledger.tables import metadata


def _documents(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("name", Text, primary_key=True),
        Column("doc", JSONB),
        Column("version", Integer),
        Column("file_digest", Text),
        Column("retired_at", DateTime(timezone=True)),
        Column("created_at", DateTime(timezone=True)),
        Column("updated_at", DateTime(timezone=True)),
    )


upstreams = _documents("upstreams")
models = _documents("models")
tiers = _documents("tiers")
tasks = _documents("tasks")

prices = Table(
    "prices",
    metadata,
    Column("version", BigInteger, primary_key=True),
    Column("model_id", Text),
    Column("doc", JSONB),
    Column("effective_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text),
    Column("doc", JSONB),
    Column("wallet_id", Uuid),
    Column("version", Integer),
    Column("retired_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
)
