"""Budgets, credits and refunds on record, charges made outside, money in tokens, and the roll-ups of statistics.

``charges_to_roll`` is filled in the transaction that posts a charge and emptied in the one that counts it: a charge is
counted exactly once, whatever dies in between. Charges that are there already are queued by batches, before anything
else; those of the last hour, to which others may still be added meanwhile, at the end, with the charges locked.
"""

from alembic import op
from sqlalchemy import text

from migrations import gently

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Three grains of the same sums: a year is read from twelve months, never from 8 760 hours.
_USAGE_BY_TIME = """
    CREATE TABLE usage_by_{unit} (
        {unit} {type} NOT NULL,
        model text NOT NULL,
        tier text NOT NULL,
        task text NOT NULL,
        currency text NOT NULL,
        calls bigint NOT NULL DEFAULT 0,
        input_tokens bigint NOT NULL DEFAULT 0,
        cached_tokens bigint NOT NULL DEFAULT 0,
        output_tokens bigint NOT NULL DEFAULT 0,
        amount bigint NOT NULL DEFAULT 0,
        list_amount bigint NOT NULL DEFAULT 0,
        overrun bigint NOT NULL DEFAULT 0,
        house_amount bigint NOT NULL DEFAULT 0,
        PRIMARY KEY ({unit}, model, tier, task, currency)
    ) WITH (fillfactor = 70)
"""

_USAGE_BY_USER = """
    CREATE TABLE usage_by_user_{unit} (
        {unit} date NOT NULL,
        currency text NOT NULL,
        user_id uuid NOT NULL,
        calls bigint NOT NULL DEFAULT 0,
        input_tokens bigint NOT NULL DEFAULT 0,
        cached_tokens bigint NOT NULL DEFAULT 0,
        output_tokens bigint NOT NULL DEFAULT 0,
        amount bigint NOT NULL DEFAULT 0,
        PRIMARY KEY ({unit}, currency, user_id)
    ) WITH (fillfactor = 70)
"""

_TABLES = [
    """
    CREATE TABLE budgets (
        id uuid PRIMARY KEY,
        spent bigint NOT NULL DEFAULT 0,
        held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
        created_at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 70)
    """,
    "COMMENT ON TABLE budgets IS 'one row for each budget and period; its limit is told by who asks'",
    """
    CREATE TABLE credits (
        id uuid PRIMARY KEY,
        wallet_id uuid NOT NULL REFERENCES wallets (id),
        kind text NOT NULL CHECK (kind IN ('payment', 'grant', 'adjustment', 'refund', 'deduct', 'merge')),
        amount bigint NOT NULL CHECK (amount <> 0),
        reason text NOT NULL DEFAULT '',
        source text NOT NULL,
        entry_id uuid NOT NULL,
        expires_at timestamptz,
        actor text NOT NULL DEFAULT '',
        at timestamptz NOT NULL,
        CONSTRAINT credits_once_per_source UNIQUE (wallet_id, source)
    )
    """,
    "CREATE INDEX credits_by_wallet ON credits (wallet_id, id)",
    """
    CREATE TABLE refunds (
        id uuid PRIMARY KEY,
        request_id uuid NOT NULL,
        wallet_id uuid NOT NULL,
        amount bigint NOT NULL CHECK (amount > 0),
        forgiven bigint NOT NULL DEFAULT 0 CHECK (forgiven >= 0 AND forgiven <= amount),
        reason text NOT NULL DEFAULT '',
        source text NOT NULL,
        entry_id uuid NOT NULL,
        actor text NOT NULL DEFAULT '',
        at timestamptz NOT NULL,
        CONSTRAINT refunds_once_per_source UNIQUE (request_id, source)
    )
    """,
    "COMMENT ON COLUMN refunds.forgiven IS 'the part of it that was overrun: not given back, but forgiven'",
    """
    CREATE TABLE outside_charges (
        ref text PRIMARY KEY,
        request_id uuid NOT NULL UNIQUE,
        wallet_id uuid NOT NULL,
        amount bigint CHECK (amount >= 0),
        at timestamptz NOT NULL
    )
    """,
    "COMMENT ON COLUMN outside_charges.amount IS 'what was asked, where it was asked by amount and not by usage'",
    *(
        _USAGE_BY_TIME.format(unit=unit, type=kind)
        for unit, kind in (("hour", "timestamptz"), ("day", "date"), ("month", "date"))
    ),
    """
    CREATE TABLE usage_by_user_day (
        user_id uuid NOT NULL,
        day date NOT NULL,
        model text NOT NULL,
        task text NOT NULL,
        currency text NOT NULL,
        calls bigint NOT NULL DEFAULT 0,
        input_tokens bigint NOT NULL DEFAULT 0,
        cached_tokens bigint NOT NULL DEFAULT 0,
        output_tokens bigint NOT NULL DEFAULT 0,
        amount bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (user_id, day, model, task, currency)
    ) WITH (fillfactor = 70)
    """,
    *(_USAGE_BY_USER.format(unit=unit) for unit in ("month", "year")),
    *(
        f"CREATE INDEX usage_by_user_{unit}_top ON usage_by_user_{unit} ({unit}, currency, amount DESC, user_id)"
        for unit in ("month", "year")
    ),
    """
    CREATE TABLE active_users (
        period text NOT NULL CHECK (period IN ('day', 'week', 'month')),
        starts date NOT NULL,
        user_id uuid NOT NULL,
        PRIMARY KEY (period, starts, user_id)
    )
    """,
    """
    CREATE TABLE active_user_counts (
        period text NOT NULL,
        starts date NOT NULL,
        users bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (period, starts)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE refusals_by_hour (
        hour timestamptz NOT NULL,
        code text NOT NULL,
        tier text NOT NULL,
        refusals bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (hour, code, tier)
    ) WITH (fillfactor = 70)
    """,
]

_QUEUE = """
    CREATE TABLE IF NOT EXISTS charges_to_roll (
        request_id uuid NOT NULL,
        rev text NOT NULL,
        posted_at timestamptz NOT NULL DEFAULT now()
    )
"""

_QUEUE_SOME = """
    INSERT INTO charges_to_roll (request_id, rev) SELECT request_id, rev FROM charges
    WHERE request_id > CAST(:after AS uuid) AND request_id <= CAST(:upto AS uuid)
"""

_QUEUE_REST = """
    INSERT INTO charges_to_roll (request_id, rev) SELECT request_id, rev FROM charges
    WHERE request_id >= CAST(:since AS uuid)
"""

_NEW = (
    "budgets",
    "credits",
    "refunds",
    "outside_charges",
    "charges_to_roll",
    "usage_by_hour",
    "usage_by_day",
    "usage_by_month",
    "usage_by_user_day",
    "usage_by_user_month",
    "usage_by_user_year",
    "active_users",
    "active_user_counts",
    "refusals_by_hour",
)
_FACTS = ("credits", "refunds", "outside_charges")

# A wallet or a budget somebody else has locked is passed over ('busy'): one slow row must not hold up the others of its
# batch. Budgets are named as array literals, in the order of their ids; one that has no row yet ('new') is made by who
# asks, in a transaction of its own: to insert it here would be to wait for others who do. Whose money is not USD has no
# budgets. A call that the house pays needs nothing of its wallet, but it does not pass a budget that is used up.
_OPEN_HOLDS = """
    CREATE FUNCTION open_holds(
        p_owner text, p_ttl interval, p_horizon interval, p_ids uuid[], p_wallets uuid[], p_wanted bigint[],
        p_minimum bigint[], p_versions bigint[], p_factors integer[], p_facts text[], p_budgets text[],
        p_limits text[])
    RETURNS TABLE (n integer, status text, amount bigint, available bigint, headroom bigint, budget uuid)
    LANGUAGE plpgsql AS $$
    DECLARE
        r record;
        w record;
        budgets_of uuid[];
        limits_of bigint[];
        least_needed bigint;
        used bigint;
        instant timestamptz := clock_timestamp();
    BEGIN
        FOR r IN
            SELECT * FROM unnest(p_ids, p_wallets, p_wanted, p_minimum, p_versions, p_factors, p_facts, p_budgets,
                                 p_limits)
            WITH ORDINALITY
            AS asked (id, wallet, wanted, minimum, version, factor, facts, budgets, limits, place)
            ORDER BY wallet, place
        LOOP
            n := r.place;
            amount := 0;
            budget := NULL;
            SELECT spendable - held AS free, state, due_at, currency INTO w FROM wallets WHERE id = r.wallet
            FOR NO KEY UPDATE SKIP LOCKED;
            available := coalesce(w.free, 0);
            headroom := available;
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
                status := 'ok';
                budgets_of := NULL;
                limits_of := NULL;
                IF r.budgets IS NOT NULL AND w.currency = 'USD' THEN
                    budgets_of := r.budgets::uuid[];
                    limits_of := r.limits::bigint[];
                    least_needed := r.minimum;
                    IF coalesce((r.facts::jsonb ->> 'house')::boolean, false) THEN
                        least_needed := greatest(least_needed, 1);
                    END IF;
                    FOR i IN 1 .. cardinality(budgets_of) LOOP
                        SELECT b.spent + b.held INTO used FROM budgets b WHERE b.id = budgets_of[i]
                        FOR NO KEY UPDATE SKIP LOCKED;
                        IF NOT FOUND THEN
                            PERFORM 1 FROM budgets b WHERE b.id = budgets_of[i];
                            status := CASE WHEN FOUND THEN 'busy' ELSE 'new' END;
                            EXIT;
                        END IF;
                        IF budget IS NULL OR limits_of[i] - used < headroom THEN
                            headroom := limits_of[i] - used;
                            budget := budgets_of[i];
                        END IF;
                    END LOOP;
                    IF status = 'ok' AND headroom < least_needed THEN
                        status := 'capped';
                        available := greatest(headroom, 0);
                    ELSE
                        budget := NULL;
                        headroom := greatest(least(headroom, w.free), 0);
                    END IF;
                END IF;
                IF status = 'ok' THEN
                    amount := least(r.wanted, headroom);
                    INSERT INTO holds
                        (id, wallet_id, amount, price_version, factor_ppm, facts, owner, expires_at, release_at,
                         budget_ids, budget_limits)
                    VALUES (r.id, r.wallet, open_holds.amount, r.version, r.factor, r.facts::jsonb, p_owner,
                            instant + p_ttl, instant + p_horizon, budgets_of, limits_of)
                    ON CONFLICT (id) DO NOTHING;
                    IF FOUND THEN
                        available := w.free - amount;
                        headroom := headroom - amount;
                        IF amount > 0 THEN
                            UPDATE wallets SET held = held + open_holds.amount WHERE id = r.wallet;
                            IF budgets_of IS NOT NULL THEN
                                UPDATE budgets b SET held = b.held + open_holds.amount WHERE b.id = ANY (budgets_of);
                            END IF;
                        END IF;
                    ELSE
                        status := 'duplicate';
                        amount := 0;
                    END IF;
                END IF;
            END IF;
            RETURN NEXT;
        END LOOP;
    END $$
"""

# A beat never waits for a wallet or a budget, so it may lock its holds first, all of them before anything else: the
# sign of life is recorded even where the extension has to be asked for again ('busy'). Everyone else takes wallets,
# then holds, then budgets, and each of them in the order of their ids. A budget's limit is the one that was told when
# the hold was opened.
_BEAT_HOLDS = """
    CREATE FUNCTION beat_holds(
        p_owner text, p_ttl interval, p_ids uuid[], p_wallets uuid[], p_checkpoints bigint[], p_usages text[],
        p_targets bigint[], p_versions bigint[])
    RETURNS TABLE (n integer, status text, amount bigint, available bigint, budget uuid) LANGUAGE plpgsql AS $$
    DECLARE
        r record;
        h record;
        more bigint;
        used bigint;
        instant timestamptz := clock_timestamp();
    BEGIN
        PERFORM 1 FROM holds WHERE id = ANY (p_ids) AND owner = p_owner ORDER BY id FOR NO KEY UPDATE;
        FOR r IN
            SELECT * FROM unnest(p_ids, p_wallets, p_checkpoints, p_usages, p_targets, p_versions)
            WITH ORDINALITY AS told (id, wallet, checkpoint, usage, target, version, place)
            ORDER BY id
        LOOP
            n := r.place;
            amount := 0;
            available := 0;
            budget := NULL;
            SELECT holds.amount, state, budget_ids, budget_limits INTO h FROM holds
            WHERE id = r.id AND owner = p_owner AND wallet_id = r.wallet;
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
                    FOR i IN 1 .. coalesce(cardinality(h.budget_ids), 0) LOOP
                        EXIT WHEN more = 0;
                        SELECT b.spent + b.held INTO used FROM budgets b WHERE b.id = h.budget_ids[i]
                        FOR NO KEY UPDATE SKIP LOCKED;
                        IF NOT FOUND THEN
                            status := 'busy';
                            EXIT;
                        END IF;
                        IF h.budget_limits[i] - used < more THEN
                            more := greatest(h.budget_limits[i] - used, 0);
                            budget := h.budget_ids[i];
                        END IF;
                    END LOOP;
                    IF status = 'busy' THEN
                        more := 0;
                        available := 0;
                        budget := NULL;
                    ELSIF more > 0 THEN
                        UPDATE wallets SET held = held + more WHERE id = r.wallet;
                        IF h.budget_ids IS NOT NULL THEN
                            UPDATE budgets b SET held = b.held + more WHERE b.id = ANY (h.budget_ids);
                        END IF;
                    END IF;
                    available := CASE WHEN budget IS NULL THEN greatest(available - more, 0) ELSE 0 END;
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

# The two as they were made by the first step, for who goes back to it.
_OPEN_HOLDS_BEFORE = """
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

_BEAT_HOLDS_BEFORE = """
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
    since = str(op.get_bind().execute(text("SELECT uuid7_floor(now() - interval '1 hour')")).scalar())
    with gently.each_for_itself():
        op.execute(_QUEUE)
        op.execute("TRUNCATE charges_to_roll")  # a step that broke off here left some
        gently.in_batches("charges", "request_id", since, _QUEUE_SOME)
    gently.take("wallets", "holds", "charges")
    for statement in _TABLES:
        op.execute(statement)
    op.execute("ALTER TABLE holds ADD COLUMN budget_ids uuid[], ADD COLUMN budget_limits bigint[]")
    op.execute("ALTER TABLE wallets ADD COLUMN merged_into uuid REFERENCES wallets (id)")
    # It names nobody yet, so it is made at once.
    op.execute("CREATE INDEX wallets_merged ON wallets (merged_into) WHERE merged_into IS NOT NULL")
    op.execute("ALTER TABLE charges ADD COLUMN currency text NOT NULL DEFAULT 'USD'")
    for table in _FACTS:
        op.execute(
            f"CREATE TRIGGER facts_are_kept BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION facts_are_kept()"
        )
        op.execute(
            f"CREATE TRIGGER facts_are_kept_whole BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION facts_are_kept()"
        )
    op.get_bind().execute(text(_QUEUE_REST), {"since": since})
    _replace_functions(_OPEN_HOLDS, _BEAT_HOLDS)


def _replace_functions(open_holds: str, beat_holds: str) -> None:
    for statement in ("DROP FUNCTION open_holds", "DROP FUNCTION beat_holds", open_holds, beat_holds):
        op.execute(statement)


def downgrade() -> None:
    gently.take("wallets", "holds", "charges")
    _replace_functions(_OPEN_HOLDS_BEFORE, _BEAT_HOLDS_BEFORE)
    op.execute("ALTER TABLE wallets DROP COLUMN merged_into")
    op.execute("ALTER TABLE charges DROP COLUMN currency")
    op.execute("ALTER TABLE holds DROP COLUMN budget_ids, DROP COLUMN budget_limits")
    for table in reversed(_NEW):
        op.execute(f"DROP TABLE {table}")
