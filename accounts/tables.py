"""The tables of users and keys as SQLAlchemy sees them; ``migrations/`` makes them and says more (triggers, checks)."""

from __future__ import annotations

from sqlalchemy import ARRAY, Boolean, Column, DateTime, LargeBinary, Table, Text, Uuid

from ledger.tables import metadata

users = Table(
    "users",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("wallet_id", Uuid),
    Column("realm", Text),
    Column("subject", Text),
    Column("email", Text),
    Column("name", Text),
    Column("role", Text),
    Column("tier", Text),
    Column("status", Text),
    Column("language", Text),
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("prefix", Text),
    Column("digest", LargeBinary),
    Column("user_id", Uuid),
    Column("name", Text),
    Column("scopes", ARRAY(Text)),
    Column("realm", Text),
    Column("plain_headers", Boolean),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
)

secret_fingerprints = Table(
    "secret_fingerprints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("fingerprint", LargeBinary),
)
