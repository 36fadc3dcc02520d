"""Admins' accounts, sessions and logins as SQLAlchemy sees them; ``migrations/`` says more (checks, indexes)."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, LargeBinary, Table, Text, Uuid

from ledger.tables import metadata

admins = Table(
    "admins",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("email", Text),
    Column("name", Text),
    Column("role", Text),
    Column("password_hash", Text),
    Column("status", Text),
    Column("sessions_from", DateTime(timezone=True)),
    Column("version", Integer),
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("last_login_at", DateTime(timezone=True)),
)

admin_sessions = Table(
    "admin_sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("admin_id", Uuid),
    Column("generation", Integer),
    Column("refresh_digest", LargeBinary),
    Column("address", Text),
    Column("user_agent", Text),
    Column("created_at", DateTime(timezone=True)),
    Column("refreshed_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("ended_why", Text),
)

admin_logins = Table(
    "admin_logins",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("admin_id", Uuid),
    Column("email", Text),
    Column("address", Text),
    Column("place", Text),
    Column("user_agent", Text),
    Column("outcome", Text),
    Column("at", DateTime(timezone=True)),
)
