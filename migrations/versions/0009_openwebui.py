"""What a sync saw in an Open WebUI: its people, its groups, the models it shows; and how each sync went."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = [
    """
    CREATE TABLE openwebui_people (
        realm text NOT NULL,
        remote_id text NOT NULL,
        role text NOT NULL,
        here boolean NOT NULL,
        suspended boolean NOT NULL DEFAULT false,
        PRIMARY KEY (realm, remote_id),
        CHECK (NOT (here AND suspended))
    )
    """,
    "COMMENT ON COLUMN openwebui_people.suspended IS 'the account was suspended because its user is not there'",
    """
    CREATE TABLE openwebui_groups (
        realm text NOT NULL,
        remote_id text NOT NULL,
        group_id uuid NOT NULL UNIQUE REFERENCES groups (id),
        PRIMARY KEY (realm, remote_id)
    )
    """,
    """
    CREATE TABLE openwebui_models (
        realm text PRIMARY KEY,
        shown text[] NOT NULL,
        at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE openwebui_syncs (
        id uuid PRIMARY KEY,
        realm text NOT NULL,
        at timestamptz NOT NULL,
        outcome text NOT NULL,
        doc jsonb NOT NULL
    )
    """,
    """
    CREATE TRIGGER tell_replicas AFTER INSERT OR UPDATE OR DELETE ON openwebui_models
    FOR EACH ROW EXECUTE FUNCTION tell_replicas('realm')
    """,
    "CREATE INDEX openwebui_syncs_by_realm ON openwebui_syncs (realm, id)",
    "COMMENT ON TABLE openwebui_syncs IS 'the last two hundred of each realm'",
]

_NEW = ("openwebui_people", "openwebui_groups", "openwebui_models", "openwebui_syncs")


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)


def downgrade() -> None:
    for table in reversed(_NEW):
        op.execute(f"DROP TABLE {table}")
