"""The ledger's tables as SQLAlchemy sees them, for reading and for the other rooms' foreign keys.

The one ``metadata`` of the database is here; every room declares its tables on it. The tables themselves are made by
``migrations/``, which says more (checks, triggers, partitions) than these declarations need to.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

wallets = Table(
    "wallets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("currency", Text),
    Column("spendable", BigInteger),
    Column("held", BigInteger),
    Column("state", Text),
    Column("due_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
    Column("merged_into", Uuid),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("wallet_id", Uuid),
    Column("kind", Text),
    Column("amount", BigInteger),
    Column("remaining", BigInteger),
    Column("priority", SmallInteger),
    Column("starts_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("source", Text),
    Column("funding", Text),
    Column("created_at", DateTime(timezone=True)),
    Column("live", Boolean),
)

holds = Table(
    "holds",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("wallet_id", Uuid),
    Column("amount", BigInteger),
    Column("spent", BigInteger),
    Column("state", Text),
    Column("checkpoint", BigInteger),
    Column("usage", JSONB),
    Column("price_version", BigInteger),
    Column("factor_ppm", Integer),
    Column("facts", JSONB),
    Column("owner", Text),
    Column("opened_at", DateTime(timezone=True)),
    Column("beat_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("release_at", DateTime(timezone=True)),
    Column("budget_ids", ARRAY(Uuid)),
    Column("budget_limits", ARRAY(BigInteger)),
)

charges = Table(
    "charges",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("rev", Text, primary_key=True),
    Column("wallet_id", Uuid),
    Column("user_id", Uuid),
    Column("key_id", Uuid),
    Column("tier", Text),
    Column("model", Text),
    Column("route", Text),
    Column("upstream", Text),
    Column("task", Text),
    Column("chat_id", Text),
    Column("message_id", Text),
    Column("streamed", Boolean),
    Column("house", Boolean),
    Column("usage", JSONB),
    Column("usage_source", Text),
    Column("problems", ARRAY(Text)),
    Column("price_version", BigInteger),
    Column("factor_ppm", Integer),
    Column("amount", BigInteger),
    Column("overrun", BigInteger),
    Column("outcome", Text),
    Column("entry_id", Uuid),
    Column("at", DateTime(timezone=True)),
    Column("ttft_ms", Integer),
    Column("duration_ms", Integer),
    Column("variant", Text),
    Column("currency", Text),
)

journal_entries = Table(
    "journal_entries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text),
    Column("ref", Text),
    Column("booked_at", DateTime(timezone=True)),
)

postings = Table(
    "postings",
    metadata,
    Column("entry_id", Uuid, primary_key=True),
    Column("line", SmallInteger, primary_key=True),
    Column("account", Text),
    Column("amount", BigInteger),
    Column("wallet_id", Uuid),
    Column("grant_id", Uuid),
    Column("currency", Text),
)

budgets = Table(
    "budgets",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("spent", BigInteger),
    Column("held", BigInteger),
    Column("created_at", DateTime(timezone=True)),
)

credits = Table(
    "credits",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("wallet_id", Uuid),
    Column("kind", Text),
    Column("amount", BigInteger),
    Column("reason", Text),
    Column("source", Text),
    Column("entry_id", Uuid),
    Column("expires_at", DateTime(timezone=True)),
    Column("actor", Text),
    Column("at", DateTime(timezone=True)),
)

refunds = Table(
    "refunds",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("request_id", Uuid),
    Column("wallet_id", Uuid),
    Column("amount", BigInteger),
    Column("forgiven", BigInteger),
    Column("reason", Text),
    Column("source", Text),
    Column("entry_id", Uuid),
    Column("actor", Text),
    Column("at", DateTime(timezone=True)),
)

outside_charges = Table(
    "outside_charges",
    metadata,
    Column("ref", Text, primary_key=True),
    Column("request_id", Uuid),
    Column("wallet_id", Uuid),
    Column("amount", BigInteger),
    Column("at", DateTime(timezone=True)),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("at", DateTime(timezone=True)),
    Column("actor", Text),
    Column("role", Text),
    Column("address", Text),
    Column("request_id", Uuid),
    Column("action", Text),
    Column("target_type", Text),
    Column("target_id", Text),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("previous", LargeBinary),
    Column("hash", LargeBinary),
)

system_events = Table(
    "system_events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", DateTime(timezone=True)),
    Column("level", Text),
    Column("event", Text),
    Column("detail", JSONB),
)
