"""The tables of users, keys and memberships as SQLAlchemy sees them.

``migrations/`` makes them and says more (triggers, checks).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, Boolean, Column, ColumnElement, DateTime, LargeBinary, Table, Text, Uuid, literal_column
from sqlalchemy.dialects.postgresql import JSONB

from ledger.tables import metadata

SINCE_EVER: ColumnElement[Any] = literal_column("'-infinity'::timestamptz")

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
    Column("tier_pinned", Boolean),
    Column("tier_since", DateTime(timezone=True)),
    Column("next_tier", Text),
    Column("next_tier_at", DateTime(timezone=True)),
    Column("sessions_from", DateTime(timezone=True)),
    Column("merged_into", Uuid),
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
    Column("limits", JSONB),
    Column("rotated_from", Uuid),
    Column("acted_by", Text),
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("added_at", DateTime(timezone=True)),
)

secret_fingerprints = Table(
    "secret_fingerprints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("fingerprint", LargeBinary),
)
