"""The tables of what a sync saw, as SQLAlchemy sees them; ``migrations/`` makes them and says more."""

from __future__ import annotations

from sqlalchemy import ARRAY, Boolean, Column, DateTime, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from ledger.tables import metadata

openwebui_people = Table(
    "openwebui_people",
    metadata,
    Column("realm", Text, primary_key=True),
    Column("remote_id", Text, primary_key=True),
    Column("role", Text),
    Column("here", Boolean),
    Column("suspended", Boolean),
)

openwebui_groups = Table(
    "openwebui_groups",
    metadata,
    Column("realm", Text, primary_key=True),
    Column("remote_id", Text, primary_key=True),
    Column("group_id", Uuid),
)

openwebui_models = Table(
    "openwebui_models",
    metadata,
    Column("realm", Text, primary_key=True),
    Column("shown", ARRAY(Text)),
    Column("at", DateTime(timezone=True)),
)

openwebui_syncs = Table(
    "openwebui_syncs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("realm", Text),
    Column("at", DateTime(timezone=True)),
    Column("outcome", Text),
    Column("doc", JSONB),
)
