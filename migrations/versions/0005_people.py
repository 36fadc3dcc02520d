"""Groups and their members, keys with limits of their own, tiers that change at an instant, identities that merge."""

from alembic import op

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

_INDEXES = [
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX api_keys_of_services ON api_keys (id) WHERE user_id IS NULL",
    "CREATE INDEX users_by_text ON users USING gin ((lower(email || ' ' || name || ' ' || subject)) gin_trgm_ops)",
    "CREATE INDEX users_by_age ON users (created_at, id)",
    "CREATE INDEX users_by_tier ON users (tier, id)",
    "CREATE INDEX users_with_next_tier ON users (next_tier_at) WHERE next_tier_at IS NOT NULL",
    "CREATE INDEX users_merged ON users (merged_into) WHERE merged_into IS NOT NULL",
    "CREATE INDEX charges_by_model ON charges (model, request_id)",
    "CREATE INDEX charges_by_tier ON charges (tier, request_id)",
    "CREATE INDEX charges_by_task ON charges (task, request_id) WHERE task <> ''",
    "CREATE INDEX charges_by_chat ON charges (chat_id, request_id) WHERE chat_id <> ''",
    "CREATE INDEX charges_by_key ON charges (key_id, request_id) WHERE key_id IS NOT NULL",
    # What is usual is soon found without an index; what is rare has one of its own size.
    "CREATE INDEX charges_by_route ON charges (route, request_id) WHERE route <> 'chat.completions'",
    "CREATE INDEX charges_by_outcome ON charges (outcome, request_id) WHERE outcome <> 'completed'",
    "CREATE INDEX charges_by_source ON charges (usage_source, request_id) WHERE usage_source <> 'reported'",
    "CREATE INDEX charges_large ON charges (request_id) WHERE amount >= 100000000",
]

_CHARGE_INDEXES = (
    "charges_by_model",
    "charges_by_tier",
    "charges_by_task",
    "charges_by_chat",
    "charges_by_key",
    "charges_by_route",
    "charges_by_outcome",
    "charges_by_source",
    "charges_large",
)
_USER_INDEXES = ("users_by_text", "users_by_age", "users_by_tier", "users_with_next_tier", "users_merged")

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
    for statement in _TABLES:
        op.execute(statement)
    op.execute("ALTER TABLE users " + ", ".join(f"ADD COLUMN {column}" for column in _USER_COLUMNS))
    op.execute("ALTER TABLE api_keys " + ", ".join(f"ADD COLUMN {column}" for column in _KEY_COLUMNS))
    for statement in (*_INDEXES, _MEMBERSHIP_NOTICE):
        op.execute(statement)
    _keys_speak_for(_SPEAKS_FOR_SOMEONE)
    op.execute(
        "CREATE TRIGGER tell_replicas_insert AFTER INSERT OR UPDATE OR DELETE ON groups "
        "FOR EACH ROW EXECUTE FUNCTION tell_replicas('id')"
    )
    op.execute(
        "CREATE TRIGGER tell_replicas AFTER INSERT OR DELETE ON group_members "
        "FOR EACH ROW EXECUTE FUNCTION tell_of_member()"
    )
    _tell_of(_REMEMBERED)


def _keys_speak_for(someone: str) -> None:
    op.execute("ALTER TABLE api_keys DROP CONSTRAINT api_keys_speak_for_someone")
    op.execute(f"ALTER TABLE api_keys ADD CONSTRAINT api_keys_speak_for_someone CHECK ({someone})")


def _tell_of(remembered: dict[str, tuple[str, ...]]) -> None:
    for table, columns in remembered.items():
        changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns)
        op.execute(f"DROP TRIGGER tell_replicas_update ON {table}")
        op.execute(
            f"CREATE TRIGGER tell_replicas_update AFTER UPDATE ON {table} FOR EACH ROW WHEN ({changed}) "
            "EXECUTE FUNCTION tell_replicas('id')"
        )


def downgrade() -> None:
    _tell_of(_REMEMBERED_BEFORE)
    op.execute(f"DELETE FROM api_keys WHERE NOT ({_SPEAKS_FOR_SOMEONE_BEFORE})")
    _keys_speak_for(_SPEAKS_FOR_SOMEONE_BEFORE)
    op.execute("DROP INDEX api_keys_of_services")
    for index in (*_CHARGE_INDEXES, *_USER_INDEXES):
        op.execute(f"DROP INDEX {index}")
    for table, columns in (("api_keys", _KEY_COLUMNS), ("users", _USER_COLUMNS)):
        op.execute(f"ALTER TABLE {table} " + ", ".join(f"DROP COLUMN {column.split()[0]}" for column in columns))
    op.execute("DROP TABLE group_members")
    op.execute("DROP TABLE groups")
    op.execute("DROP FUNCTION tell_of_member")
