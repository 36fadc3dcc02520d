"""Who administers: accounts, sessions, logins; what they changed: the audit chain; what the system did by itself."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = [
    """
    CREATE TABLE admins (
        id uuid PRIMARY KEY,
        email text NOT NULL CHECK (email <> ''),
        name text NOT NULL DEFAULT '',
        role text NOT NULL CHECK (role IN ('owner', 'admin', 'support')),
        password_hash text NOT NULL,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
        sessions_from timestamptz NOT NULL DEFAULT now(),
        version integer NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        last_login_at timestamptz
    )
    """,
    "CREATE UNIQUE INDEX admins_by_email ON admins (lower(email)) WHERE status <> 'deleted'",
    """
    CREATE TABLE admin_sessions (
        id uuid PRIMARY KEY,
        admin_id uuid NOT NULL REFERENCES admins (id),
        generation integer NOT NULL DEFAULT 1,
        refresh_digest bytea NOT NULL,
        address text NOT NULL DEFAULT '',
        user_agent text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now(),
        refreshed_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        ended_at timestamptz,
        ended_why text NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX admin_sessions_by_admin ON admin_sessions (admin_id, created_at)",
    """
    CREATE TABLE admin_logins (
        id uuid PRIMARY KEY,
        admin_id uuid,
        email text NOT NULL,
        address text NOT NULL,
        place text NOT NULL,
        user_agent text NOT NULL DEFAULT '',
        outcome text NOT NULL CHECK (outcome IN ('ok', 'wrong', 'locked', 'suspended', 'reused')),
        at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX admin_logins_by_email ON admin_logins (lower(email), at)",
    "CREATE INDEX admin_logins_by_admin ON admin_logins (admin_id, at, id)",
    "CREATE INDEX admin_logins_by_age ON admin_logins (at, id)",
    "CREATE INDEX admin_logins_by_place ON admin_logins (place, at)",
    "COMMENT ON COLUMN admin_logins.place IS 'where tries are counted together: the address, of IPv6 its /64'",
    """
    CREATE TABLE audit (
        seq bigint PRIMARY KEY,
        at timestamptz NOT NULL,
        actor text NOT NULL,
        role text NOT NULL,
        address text NOT NULL,
        request_id uuid,
        action text NOT NULL,
        target_type text NOT NULL,
        target_id text NOT NULL,
        before jsonb,
        after jsonb,
        previous bytea NOT NULL CHECK (octet_length(previous) = 32),
        hash bytea NOT NULL CHECK (octet_length(hash) = 32)
    )
    """,
    """
    CREATE TABLE audit_head (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        seq bigint NOT NULL,
        hash bytea NOT NULL CHECK (octet_length(hash) = 32)
    ) WITH (fillfactor = 50)
    """,
    "COMMENT ON TABLE audit_head IS 'the last row of the chain: who appends locks it, and a chain cut short is found'",
    r"INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'))",
    "CREATE INDEX audit_by_target ON audit (target_type, target_id, seq)",
    "CREATE INDEX audit_by_actor ON audit (actor, seq)",
    "CREATE INDEX audit_by_action ON audit (action, seq)",
    "CREATE INDEX audit_by_age ON audit (at)",
    """
    CREATE TABLE idempotency_keys (
        actor text NOT NULL,
        key text NOT NULL,
        digest bytea NOT NULL,
        status integer,
        headers jsonb,
        body bytea,
        at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (actor, key)
    )
    """,
    "CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at)",
    """
    CREATE TABLE system_events (
        id uuid PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        level text NOT NULL CHECK (level IN ('info', 'warning', 'error')),
        event text NOT NULL,
        detail jsonb NOT NULL DEFAULT '{}'
    )
    """,
    "CREATE INDEX system_events_by_event ON system_events (event, id)",
]

_NEW = ("admins", "admin_sessions", "admin_logins", "audit", "audit_head", "idempotency_keys", "system_events")


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    op.execute(
        "CREATE TRIGGER facts_are_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION facts_are_kept()"
    )
    op.execute(
        "CREATE TRIGGER facts_are_kept_whole BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION facts_are_kept()"
    )


def downgrade() -> None:
    for table in reversed(_NEW):
        op.execute(f"DROP TABLE {table}")
