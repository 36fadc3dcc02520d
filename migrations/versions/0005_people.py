"""Groups and their members, keys with limits of their own, tiers that change at an instant, identities that merge."""

from alembic import op

from migrations import gently

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = [
    """
    CREATE TABLE groups (
        id uuid PRIMARY KEY,
        name text NOT NULL CHECK (name <> ''),
        doc jsonb NOT NULL,
        wallet_id uuid NOT NULL REFERENCES wallets (id),
        version integer NOT NULL DEFAULT 1,
        retired_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE UNIQUE INDEX groups_by_name ON groups (name) WHERE retired_at IS NULL",
    "COMMENT ON COLUMN groups.wallet_id IS 'what its members spend from, where the group shares one'",
    """
    CREATE TABLE group_members (
        group_id uuid NOT NULL REFERENCES groups (id),
        user_id uuid NOT NULL REFERENCES users (id),
        added_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (group_id, user_id)
    )
    """,
    "CREATE INDEX group_members_by_user ON group_members (user_id)",
]

_USER_COLUMNS = (
    "tier_pinned boolean NOT NULL DEFAULT false",
    "tier_since timestamptz NOT NULL DEFAULT now()",
    "next_tier text",
    "next_tier_at timestamptz",
    "sessions_from timestamptz",
    "merged_into uuid REFERENCES users (id)",
)

_KEY_COLUMNS = (
    "limits jsonb NOT NULL DEFAULT '{}'",
    "rotated_from uuid REFERENCES api_keys (id)",
    "acted_by text NOT NULL DEFAULT ''",
)

_INDEXES = (
    ("api_keys", "api_keys_of_services", "(id) WHERE user_id IS NULL"),
    ("users", "users_by_text", "USING gin ((lower(email || ' ' || name || ' ' || subject)) gin_trgm_ops)"),
    ("users", "users_by_age", "(created_at, id)"),
    ("users", "users_by_tier", "(tier, id)"),
    ("users", "users_with_next_tier", "(next_tier_at) WHERE next_tier_at IS NOT NULL"),
    ("users", "users_merged", "(merged_into) WHERE merged_into IS NOT NULL"),
)

_CHARGE_INDEXES = (
    ("charges", "charges_by_model", "(model, request_id)"),
    ("charges", "charges_by_tier", "(tier, request_id)"),
    ("charges", "charges_by_task", "(task, request_id) WHERE task <> ''"),
    ("charges", "charges_by_chat", "(chat_id, request_id) WHERE chat_id <> ''"),
    ("charges", "charges_by_key", "(key_id, request_id) WHERE key_id IS NOT NULL"),
    # What is usual is soon found without an index; what is rare has one of its own size.
    ("charges", "charges_by_route", "(route, request_id) WHERE route <> 'chat.completions'"),
    ("charges", "charges_by_outcome", "(outcome, request_id) WHERE outcome <> 'completed'"),
    ("charges", "charges_by_source", "(usage_source, request_id) WHERE usage_source <> 'reported'"),
    ("charges", "charges_large", "(request_id) WHERE amount >= 100000000"),
)

_SPEAKS = "api_keys_speak_for_someone"
_SPEAKS_FOR_SOMEONE_BEFORE = "user_id IS NOT NULL OR ('forward_users' = ANY (scopes) AND realm <> '')"
_SPEAKS_FOR_SOMEONE = "user_id IS NOT NULL OR (scopes && '{forward_users,charges}' AND realm <> '')"

# What replicas remember of a row: a change of anything else needs no notice.
_REMEMBERED_BEFORE = {
    "users": ("email", "name", "role", "tier", "status", "language", "wallet_id", "realm", "subject"),
    "api_keys": ("digest", "user_id", "name", "scopes", "realm", "plain_headers", "expires_at", "revoked_at"),
}
_REMEMBERED = {
    "users": (
        *_REMEMBERED_BEFORE["users"],
        "tier_pinned",
        "tier_since",
        "next_tier",
        "next_tier_at",
        "sessions_from",
        "merged_into",
    ),
    "api_keys": (*_REMEMBERED_BEFORE["api_keys"], "limits", "acted_by"),
}

_MEMBERSHIP_NOTICE = """
    CREATE FUNCTION tell_of_member() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('farebox', 'users:' || (CASE WHEN TG_OP = 'DELETE' THEN OLD.user_id ELSE NEW.user_id END));
        RETURN NULL;
    END $$
"""


def upgrade() -> None:
    with gently.each_for_itself():
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        _columns("ADD COLUMN IF NOT EXISTS {}")
        gently.check("api_keys", f"{_SPEAKS}_or_charge", _SPEAKS_FOR_SOMEONE)
        for each in (*_INDEXES, *_CHARGE_INDEXES):
            gently.index(*each)
    gently.take("wallets", "charges", "users", "api_keys")
    for each in _CHARGE_INDEXES:
        gently.adopt(*each)
    for statement in (*_TABLES, _MEMBERSHIP_NOTICE):
        op.execute(statement)
    op.execute(f"ALTER TABLE api_keys DROP CONSTRAINT {_SPEAKS}")
    op.execute(f"ALTER TABLE api_keys RENAME CONSTRAINT {_SPEAKS}_or_charge TO {_SPEAKS}")
    op.execute(
        "CREATE TRIGGER tell_replicas_insert AFTER INSERT OR UPDATE OR DELETE ON groups "
        "FOR EACH ROW EXECUTE FUNCTION tell_replicas('id')"
    )
    op.execute(
        "CREATE TRIGGER tell_replicas AFTER INSERT OR DELETE ON group_members "
        "FOR EACH ROW EXECUTE FUNCTION tell_of_member()"
    )
    _tell_of(_REMEMBERED)


def _columns(action: str) -> None:
    for table, columns in (("api_keys", _KEY_COLUMNS), ("users", _USER_COLUMNS)):
        op.execute(f"ALTER TABLE {table} " + ", ".join(action.format(column) for column in columns))


def _tell_of(remembered: dict[str, tuple[str, ...]]) -> None:
    for table, columns in remembered.items():
        changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns)
        op.execute(f"DROP TRIGGER tell_replicas_update ON {table}")
        op.execute(
            f"CREATE TRIGGER tell_replicas_update AFTER UPDATE ON {table} FOR EACH ROW WHEN ({changed}) "
            "EXECUTE FUNCTION tell_replicas('id')"
        )


def downgrade() -> None:
    gently.take("wallets", "charges", "users", "api_keys")
    op.execute(f"DELETE FROM api_keys WHERE NOT ({_SPEAKS_FOR_SOMEONE_BEFORE})")
    op.execute(f"ALTER TABLE api_keys DROP CONSTRAINT {_SPEAKS}")
    op.execute(f"ALTER TABLE api_keys ADD CONSTRAINT {_SPEAKS} CHECK ({_SPEAKS_FOR_SOMEONE_BEFORE})")
    _tell_of(_REMEMBERED_BEFORE)
    for _, index, _ in (*_CHARGE_INDEXES, *_INDEXES):
        op.execute(f"DROP INDEX {index}")
    for table in ("group_members", "groups"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION tell_of_member")
    for table, columns in (("api_keys", _KEY_COLUMNS), ("users", _USER_COLUMNS)):
        op.execute(f"ALTER TABLE {table} " + ", ".join(f"DROP COLUMN {column.split()[0]}" for column in columns))
