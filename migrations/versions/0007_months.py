"""Closed months: their seals, and what the ledger goes on reckoning with once a month's tables are detached.

A seal keeps the month from being changed (the triggers of ``close_partition``) and carries its sums: by account, wallet
and grant, by budget, and of the statistics. Only the oldest month that is attached may be detached, so whatever is
older than ``attached_from()`` is detached, too.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = [
    """
    CREATE TABLE month_seals (
        month date PRIMARY KEY CHECK (extract(day FROM month) = 1),
        state text NOT NULL CHECK (state IN ('sealed', 'detached')),
        hash bytea NOT NULL CHECK (octet_length(hash) = 32),
        sums_hash bytea NOT NULL CHECK (octet_length(sums_hash) = 32),
        facts jsonb NOT NULL,
        charged jsonb NOT NULL,
        ordered jsonb,
        actor text NOT NULL,
        sealed_at timestamptz NOT NULL,
        detached_at timestamptz,
        CONSTRAINT month_seals_carry_orders CHECK (state = 'sealed' OR ordered IS NOT NULL)
    )
    """,
    "COMMENT ON COLUMN month_seals.hash IS 'over the rows of the month in the order of their keys'",
    "COMMENT ON COLUMN month_seals.facts IS 'of each table: how many rows, and which columns the hash is over'",
    "COMMENT ON COLUMN month_seals.ordered IS 'credits, refunds and charges from outside that refer to its rows'",
    """
    CREATE TABLE month_postings (
        month date NOT NULL REFERENCES month_seals (month),
        account text NOT NULL,
        wallet_id uuid,
        grant_id uuid,
        currency text NOT NULL,
        amount bigint NOT NULL,
        postings bigint NOT NULL
    )
    """,
    "CREATE INDEX month_postings_by_month ON month_postings (month)",
    """
    CREATE TABLE month_budgets (
        month date NOT NULL REFERENCES month_seals (month),
        budget_id uuid NOT NULL,
        charged bigint NOT NULL,
        PRIMARY KEY (month, budget_id)
    )
    """,
    """
    CREATE VIEW carried_postings AS
        SELECT p.* FROM month_postings p JOIN month_seals s ON s.month = p.month WHERE s.state = 'detached'
    """,
    """
    CREATE VIEW carried_budgets AS
        SELECT b.* FROM month_budgets b JOIN month_seals s ON s.month = b.month WHERE s.state = 'detached'
    """,
]

_ATTACHED_FROM = """
    CREATE FUNCTION attached_from() RETURNS uuid LANGUAGE sql STABLE AS $$
        SELECT coalesce(uuid7_floor((max(month) + interval '1 month') AT TIME ZONE 'UTC'),
                        '00000000-0000-0000-0000-000000000000')
        FROM month_seals WHERE state = 'detached'
    $$
"""

_MONTH_IS_CLOSED = """
    CREATE FUNCTION month_is_closed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is sealed: % refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'integrity_constraint_violation';
    END $$
"""

_CLOSE_PARTITION = """
    CREATE FUNCTION close_partition(child text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TRIGGER month_is_closed BEFORE INSERT OR UPDATE OR DELETE ON %I '
                       'FOR EACH ROW EXECUTE FUNCTION month_is_closed()', child);
        EXECUTE format('CREATE TRIGGER month_is_closed_whole BEFORE TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION month_is_closed()', child);
    END $$
"""

_OPEN_PARTITION = """
    CREATE FUNCTION open_partition(child text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('DROP TRIGGER month_is_closed ON %I', child);
        EXECUTE format('DROP TRIGGER month_is_closed_whole ON %I', child);
    END $$
"""

_NONE_IS_DETACHED = """
    DO $$
    DECLARE
        months text;
    BEGIN
        SELECT string_agg(to_char(month, 'YYYY-MM'), ', ' ORDER BY month DESC) INTO months
        FROM month_seals WHERE state = 'detached';
        IF months IS NOT NULL THEN
            RAISE EXCEPTION 'Months are detached (%): attach them first. Their money is in their seals.',
                months;
        END IF;
        PERFORM open_partition(parent || to_char(month, '_YYYYMM')) FROM month_seals,
            unnest(ARRAY['holds', 'charges', 'journal_entries', 'postings']) AS parent;
    END $$
"""


def upgrade() -> None:
    for statement in (*_TABLES, _ATTACHED_FROM, _MONTH_IS_CLOSED, _CLOSE_PARTITION, _OPEN_PARTITION):
        op.execute(statement)


def downgrade() -> None:
    op.execute(_NONE_IS_DETACHED)
    for function in ("open_partition", "close_partition", "month_is_closed", "attached_from"):
        op.execute(f"DROP FUNCTION {function}")
    for view in ("carried_budgets", "carried_postings"):
        op.execute(f"DROP VIEW {view}")
    for table in ("month_budgets", "month_postings", "month_seals"):
        op.execute(f"DROP TABLE {table}")
