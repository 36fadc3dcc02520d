"""Users and keys, the catalogue, and the notices by which every replica learns of a change.

Prices are append-only: a call's charge names the version it was priced by, so a version must mean the same for ever.
Every table whose rows replicas remember sends ``<table>:<id>`` on the channel ``farebox`` with the commit of a change.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = [
    """
    CREATE TABLE users (
        id uuid PRIMARY KEY,
        wallet_id uuid NOT NULL REFERENCES wallets (id),
        realm text NOT NULL CHECK (realm <> ''),
        subject text NOT NULL CHECK (subject <> ''),
        email text NOT NULL DEFAULT '',
        name text NOT NULL DEFAULT '',
        role text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'vip', 'admin')),
        tier text NOT NULL CHECK (tier <> ''),
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
        language text NOT NULL DEFAULT 'en',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT users_once_per_realm UNIQUE (realm, subject)
    )
    """,
    "CREATE INDEX users_by_wallet ON users (wallet_id)",
    "CREATE INDEX users_by_email ON users (lower(email))",
    """
    CREATE TABLE api_keys (
        id uuid PRIMARY KEY,
        prefix text NOT NULL UNIQUE,
        digest bytea NOT NULL CHECK (octet_length(digest) = 32),
        user_id uuid REFERENCES users (id),
        name text NOT NULL DEFAULT '',
        scopes text[] NOT NULL DEFAULT '{}',
        realm text NOT NULL DEFAULT '',
        plain_headers boolean NOT NULL DEFAULT false,
        expires_at timestamptz,
        revoked_at timestamptz,
        last_used_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT api_keys_speak_for_someone CHECK (
            user_id IS NOT NULL OR ('forward_users' = ANY (scopes) AND realm <> ''))
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX api_keys_by_user ON api_keys (user_id)",
    """
    CREATE TABLE secret_fingerprints (
        name text PRIMARY KEY,
        fingerprint bytea NOT NULL
    )
    """,
    "COMMENT ON TABLE secret_fingerprints IS 'by which a replica that was given another secret notices'",
    """
    CREATE TABLE prices (
        version bigserial PRIMARY KEY,
        model_id text NOT NULL,
        doc jsonb NOT NULL,
        effective_at timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX prices_in_force ON prices (model_id, effective_at DESC, version DESC)",
]

_CATALOG = """
    CREATE TABLE {table} (
        name text PRIMARY KEY,
        doc jsonb NOT NULL,
        version integer NOT NULL DEFAULT 1,
        file_digest text,
        retired_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
"""

_NOTICE = """
    CREATE FUNCTION tell_replicas() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        changed jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
    BEGIN
        PERFORM pg_notify('farebox', TG_TABLE_NAME || ':' || (changed ->> TG_ARGV[0]));
        RETURN NULL;
    END $$
"""

# A new row cannot have been remembered yet, so it needs no notice; neither does what nobody remembers (last_used_at).
_REMEMBERED = {
    "users": ("email", "name", "role", "tier", "status", "language", "wallet_id", "realm", "subject"),
    "api_keys": ("digest", "user_id", "name", "scopes", "realm", "plain_headers", "expires_at", "revoked_at"),
}


def upgrade() -> None:
    for statement in (*_TABLES, *(_CATALOG.format(table=table) for table in ("upstreams", "models", "tiers")), _NOTICE):
        op.execute(statement)
    for event, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
        op.execute(
            f"CREATE TRIGGER facts_are_kept_{each.lower()} BEFORE {event} ON prices "
            f"FOR EACH {each} EXECUTE FUNCTION facts_are_kept()"
        )
    for table in ("upstreams", "models", "tiers"):
        _notify(table, "INSERT OR UPDATE OR DELETE", "name")
    _notify("prices", "INSERT", "model_id")
    for table, columns in _REMEMBERED.items():
        changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns)
        _notify(table, "UPDATE", "id", f"WHEN ({changed})")
        _notify(table, "DELETE", "id")


def _notify(table: str, events: str, identity: str, condition: str = "") -> None:
    name = f"tell_replicas_{events.split()[0].lower()}"
    op.execute(
        f"CREATE TRIGGER {name} AFTER {events} ON {table} FOR EACH ROW {condition} "
        f"EXECUTE FUNCTION tell_replicas('{identity}')"
    )


def downgrade() -> None:
    for table in ("tiers", "models", "upstreams", "prices", "secret_fingerprints", "api_keys", "users"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION tell_replicas")
