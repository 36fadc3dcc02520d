"""The ledger: wallets, grants, holds, charges, the journal, and the two statements of the hot path.

Charges, holds and the journal are partitioned by month over their version 7 ids; ``ensure_partitions`` makes the months
ahead of time and a default partition catches what falls outside them. Facts are append-only: the database refuses to
change or delete them, and refuses an entry whose postings do not sum to zero.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_PARTITIONED = ("holds", "charges", "journal_entries", "postings")
_FACTS = ("charges", "journal_entries", "postings")

_TABLES = [
    """
    CREATE TABLE wallets (
        id uuid PRIMARY KEY,
        currency text NOT NULL DEFAULT 'USD',
        spendable bigint NOT NULL DEFAULT 0,
        held bigint NOT NULL DEFAULT 0,
        state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'closed')),
        due_at timestamptz NOT NULL DEFAULT 'infinity',
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT wallets_held_not_negative CHECK (held >= 0),
        CONSTRAINT wallets_never_below_zero CHECK (spendable - held >= 0)
    ) WITH (fillfactor = 70)
    """,
    "COMMENT ON COLUMN wallets.due_at IS 'when a grant ends or a period begins; holds wait for that to be booked'",
    """
    CREATE TABLE grants (
        id uuid PRIMARY KEY,
        wallet_id uuid NOT NULL REFERENCES wallets (id),
        kind text NOT NULL CHECK (kind IN ('plan', 'promo', 'paid')),
        amount bigint NOT NULL CHECK (amount > 0),
        remaining bigint NOT NULL CHECK (remaining >= 0 AND remaining <= amount),
        priority smallint NOT NULL,
        starts_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        source text NOT NULL,
        funding text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT grants_once_per_source UNIQUE (wallet_id, source)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX grants_live ON grants (wallet_id) WHERE remaining > 0",
    """
    CREATE TABLE holds (
        id uuid PRIMARY KEY,
        wallet_id uuid NOT NULL,
        amount bigint NOT NULL CHECK (amount >= 0),
        spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
        state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'quarantine', 'settled', 'voided')),
        checkpoint bigint NOT NULL DEFAULT 0 CHECK (checkpoint >= 0),
        usage jsonb NOT NULL DEFAULT '{}',
        price_version bigint NOT NULL,
        factor_ppm integer NOT NULL,
        facts jsonb NOT NULL,
        owner text NOT NULL,
        opened_at timestamptz NOT NULL DEFAULT now(),
        beat_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        release_at timestamptz NOT NULL
    ) PARTITION BY RANGE (id)
    """,
    "CREATE INDEX holds_open ON holds (expires_at) WHERE state = 'open'",
    "CREATE INDEX holds_quarantine ON holds (release_at) WHERE state = 'quarantine'",
    """
    CREATE TABLE charges (
        request_id uuid NOT NULL,
        rev text NOT NULL CHECK (rev IN ('provisional', 'final', 'late')),
        wallet_id uuid NOT NULL,
        user_id uuid NOT NULL,
        key_id uuid,
        tier text NOT NULL,
        model text NOT NULL,
        route text NOT NULL,
        upstream text NOT NULL,
        task text NOT NULL DEFAULT '',
        chat_id text NOT NULL DEFAULT '',
        message_id text NOT NULL DEFAULT '',
        streamed boolean NOT NULL DEFAULT false,
        house boolean NOT NULL DEFAULT false,
        usage jsonb NOT NULL,
        usage_source text NOT NULL CHECK (usage_source IN ('reported', 'counted', 'estimated')),
        problems text[] NOT NULL DEFAULT '{}',
        price_version bigint NOT NULL,
        factor_ppm integer NOT NULL CHECK (factor_ppm >= 0),
        amount bigint NOT NULL CHECK (amount >= 0),
        overrun bigint NOT NULL DEFAULT 0 CHECK (overrun >= 0),
        outcome text NOT NULL,
        entry_id uuid,
        at timestamptz NOT NULL,
        ttft_ms integer,
        duration_ms integer,
        PRIMARY KEY (request_id, rev)
    ) PARTITION BY RANGE (request_id)
    """,
    "CREATE INDEX charges_by_user ON charges (user_id, request_id)",
    """
    CREATE TABLE journal_entries (
        id uuid PRIMARY KEY,
        kind text NOT NULL,
        ref text NOT NULL,
        booked_at timestamptz NOT NULL
    ) PARTITION BY RANGE (id)
    """,
    "CREATE INDEX journal_entries_by_ref ON journal_entries (ref)",
    """
    CREATE TABLE postings (
        entry_id uuid NOT NULL,
        line smallint NOT NULL,
        account text NOT NULL,
        amount bigint NOT NULL CHECK (amount <> 0),
        wallet_id uuid,
        grant_id uuid,
        currency text NOT NULL DEFAULT 'USD',
        PRIMARY KEY (entry_id, line)
    ) PARTITION BY RANGE (entry_id)
    """,
    "CREATE INDEX postings_by_wallet ON postings (wallet_id, entry_id) WHERE wallet_id IS NOT NULL",
    """
    CREATE TABLE replicas (
        id text PRIMARY KEY,
        started_at timestamptz NOT NULL DEFAULT now(),
        beat_at timestamptz NOT NULL DEFAULT now()
    )
    """,
]

_FACTS_ARE_KEPT = """
    CREATE FUNCTION facts_are_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'integrity_constraint_violation';
    END $$
"""

_ENTRIES_BALANCE = """
    CREATE FUNCTION entries_balance() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE bad uuid;
    BEGIN
        SELECT entry_id INTO bad FROM added GROUP BY entry_id, currency HAVING sum(amount) <> 0 LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'journal entry % does not balance', bad USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$
"""

_UUID7_FLOOR = """
    CREATE FUNCTION uuid7_floor(instant timestamptz) RETURNS uuid LANGUAGE sql STABLE AS $$
        SELECT (lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
    $$
"""

# A month is made beside the parent and attached: that takes a weaker lock on the parent than PARTITION OF does. The
# default partition is locked for a moment, too: where that cannot be had soon, others should not wait with us, and it
# is tried again later. Rows of the month which the default partition already took in keep it from being made; the
# others are made, still.
_ENSURE_MONTH = """
    CREATE FUNCTION ensure_month(month timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
    DECLARE
        parent text;
        child text;
        made integer := 0;
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('farebox.partitions'));
        PERFORM set_config('lock_timeout', '500ms', true);
        FOREACH parent IN ARRAY ARRAY['holds', 'charges', 'journal_entries', 'postings'] LOOP
            child := parent || to_char(month AT TIME ZONE 'UTC', '_YYYYMM');
            CONTINUE WHEN to_regclass(child) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, parent);
                PERFORM guard_partition(parent, child);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child,
                               uuid7_floor(month),
                               uuid7_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
                made := made + 1;
            EXCEPTION
                WHEN check_violation THEN RAISE WARNING '% stays in the default partition: %', child, SQLERRM;
                WHEN lock_not_available THEN RAISE WARNING '% is put off: %', child, SQLERRM;
            END;
        END LOOP;
        RETURN made;
    END $$
"""

# From the month before this one on: a call of its last moments may still be told by a clock that is a little behind.
_ENSURE_PARTITIONS = """
    CREATE FUNCTION ensure_partitions(months_ahead integer) RETURNS integer LANGUAGE sql AS $$
        SELECT sum(ensure_month(month AT TIME ZONE 'UTC'))::integer
        FROM generate_series(date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month',
                             date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => months_ahead),
                             interval '1 month') AS month
    $$
"""

# Row triggers come to a partition from its parent; those for whole statements do not, and would be passed by naming it.
_GUARD_PARTITION = """
    CREATE FUNCTION guard_partition(parent text, child text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF parent <> 'holds' THEN
            EXECUTE format('CREATE TRIGGER facts_are_kept_whole BEFORE TRUNCATE ON %I '
                           'FOR EACH STATEMENT EXECUTE FUNCTION facts_are_kept()', child);
        END IF;
        IF parent = 'postings' THEN
            EXECUTE format('CREATE TRIGGER entries_balance AFTER INSERT ON %I REFERENCING NEW TABLE AS added '
                           'FOR EACH STATEMENT EXECUTE FUNCTION entries_balance()', child);
        END IF;
    END $$
"""

# A wallet somebody else has locked is passed over ('busy'): one slow row must not hold up the others of its batch.
_OPEN_HOLDS = """
    CREATE FUNCTION open_holds(
        p_owner text, p_ttl interval, p_horizon interval, p_ids uuid[], p_wallets uuid[], p_wanted bigint[],
        p_minimum bigint[], p_versions bigint[], p_factors integer[], p_facts text[])
    RETURNS TABLE (n integer, status text, amount bigint, available bigint) LANGUAGE plpgsql AS $$
    DECLARE
        r record;
        w record;
        instant timestamptz := clock_timestamp();
    BEGIN
        FOR r IN
            SELECT * FROM unnest(p_ids, p_wallets, p_wanted, p_minimum, p_versions, p_factors, p_facts)
            WITH ORDINALITY AS asked (id, wallet, wanted, minimum, version, factor, facts, place)
            ORDER BY wallet, place
        LOOP
            n := r.place;
            amount := 0;
            SELECT spendable - held AS free, state, due_at INTO w FROM wallets WHERE id = r.wallet
            FOR NO KEY UPDATE SKIP LOCKED;
            available := coalesce(w.free, 0);
            IF NOT FOUND THEN
                PERFORM 1 FROM wallets WHERE id = r.wallet;
                status := CASE WHEN FOUND THEN 'busy' ELSE 'unknown' END;
            ELSIF w.state <> 'active' THEN
                status := w.state;
            ELSIF w.due_at <= instant THEN
                status := 'due';
            ELSIF w.free < r.minimum THEN
                status := 'poor';
            ELSE
                amount := least(r.wanted, w.free);
                INSERT INTO holds
                    (id, wallet_id, amount, price_version, factor_ppm, facts, owner, expires_at, release_at)
                VALUES (r.id, r.wallet, open_holds.amount, r.version, r.factor, r.facts::jsonb, p_owner,
                        instant + p_ttl, instant + p_horizon)
                ON CONFLICT (id) DO NOTHING;
                IF FOUND THEN
                    status := 'ok';
                    available := w.free - amount;
                    IF amount > 0 THEN
                        UPDATE wallets SET held = held + open_holds.amount WHERE id = r.wallet;
                    END IF;
                ELSE
                    status := 'duplicate';
                    amount := 0;
                END IF;
            END IF;
            RETURN NEXT;
        END LOOP;
    END $$
"""

# A beat never waits for a wallet, so it may lock its hold first: the sign of life is recorded even where the extension
# has to be asked for again ('busy'). Everyone else takes wallets before holds, and holds in the order of their ids.
_BEAT_HOLDS = """
    CREATE FUNCTION beat_holds(
        p_owner text, p_ttl interval, p_ids uuid[], p_wallets uuid[], p_checkpoints bigint[], p_usages text[],
        p_targets bigint[], p_versions bigint[])
    RETURNS TABLE (n integer, status text, amount bigint, available bigint) LANGUAGE plpgsql AS $$
    DECLARE
        r record;
        h record;
        more bigint;
        instant timestamptz := clock_timestamp();
    BEGIN
        FOR r IN
            SELECT * FROM unnest(p_ids, p_wallets, p_checkpoints, p_usages, p_targets, p_versions)
            WITH ORDINALITY AS told (id, wallet, checkpoint, usage, target, version, place)
            ORDER BY id
        LOOP
            n := r.place;
            amount := 0;
            available := 0;
            SELECT holds.amount, state INTO h FROM holds
            WHERE id = r.id AND owner = p_owner AND wallet_id = r.wallet FOR NO KEY UPDATE;
            IF NOT FOUND OR h.state <> 'open' THEN
                status := 'lost';
                RETURN NEXT;
                CONTINUE;
            END IF;
            more := 0;
            status := 'ok';
            IF r.target > h.amount THEN
                SELECT CASE WHEN state = 'active' THEN spendable - held ELSE 0 END INTO available
                FROM wallets WHERE id = r.wallet FOR NO KEY UPDATE SKIP LOCKED;
                IF FOUND THEN
                    more := least(r.target - h.amount, available);
                    available := available - more;
                    UPDATE wallets SET held = held + more WHERE id = r.wallet AND more > 0;
                ELSE
                    status := 'busy';
                    available := 0;
                END IF;
            END IF;
            amount := h.amount + more;
            UPDATE holds SET amount = beat_holds.amount, checkpoint = greatest(checkpoint, r.checkpoint),
                usage = CASE WHEN r.checkpoint >= checkpoint THEN r.usage::jsonb ELSE usage END,
                price_version = CASE WHEN r.checkpoint >= checkpoint THEN coalesce(nullif(r.version, 0), price_version)
                                ELSE price_version END,
                beat_at = instant, expires_at = instant + p_ttl
            WHERE id = r.id;
            RETURN NEXT;
        END LOOP;
    END $$
"""


def upgrade() -> None:
    for statement in (*_TABLES, _FACTS_ARE_KEPT, _ENTRIES_BALANCE, _UUID7_FLOOR, _GUARD_PARTITION):
        op.execute(statement)
    for table in _PARTITIONED:
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
        for whole in (table, f"{table}_default"):
            op.execute(f"SELECT guard_partition('{table}', '{whole}')")
    for table in _FACTS:
        op.execute(
            f"CREATE TRIGGER facts_are_kept BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION facts_are_kept()"
        )
    for statement in (_ENSURE_MONTH, _ENSURE_PARTITIONS, _OPEN_HOLDS, _BEAT_HOLDS):
        op.execute(statement)
    op.execute("SELECT ensure_partitions(2)")


def downgrade() -> None:
    for function in ("beat_holds", "open_holds", "ensure_partitions", "ensure_month", "guard_partition"):
        op.execute(f"DROP FUNCTION {function}")
    for table in ("replicas", "postings", "journal_entries", "charges", "holds", "grants", "wallets"):
        op.execute(f"DROP TABLE {table}")
    for function in ("uuid7_floor", "entries_balance", "facts_are_kept"):
        op.execute(f"DROP FUNCTION {function}")
