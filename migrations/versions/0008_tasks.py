"""Rules for the calls nobody typed; and a call on the house is held in its budgets, which it then cannot pass.

What such a call sets aside is locked in its budgets alone: its wallet neither needs nor locks anything.
"""

from importlib import import_module

from alembic import op

from migrations import gently

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TASKS = """
    CREATE TABLE tasks (
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
    CREATE TRIGGER tell_replicas_insert AFTER INSERT OR UPDATE OR DELETE ON tasks FOR EACH ROW
    EXECUTE FUNCTION tell_replicas('name')
"""

_BY_MESSAGE = ("charges", "charges_by_message", "(message_id, request_id) WHERE message_id <> ''")

# A number that no budget reaches stands for what the house has: its calls are bounded by their budgets alone.
_OPEN_HOLDS = """
    CREATE OR REPLACE FUNCTION open_holds(
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
        doc jsonb;
        house boolean;
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
            doc := r.facts::jsonb;
            house := coalesce((doc ->> 'house')::boolean, false);
            SELECT spendable - held AS free, state, due_at, currency INTO w FROM wallets WHERE id = r.wallet
            FOR NO KEY UPDATE SKIP LOCKED;
            available := coalesce(w.free, 0);
            headroom := CASE WHEN house THEN 9007199254740992 ELSE available END;
            IF NOT FOUND THEN
                PERFORM 1 FROM wallets WHERE id = r.wallet;
                status := CASE WHEN FOUND THEN 'busy' ELSE 'unknown' END;
            ELSIF w.state <> 'active' THEN
                status := w.state;
            ELSIF w.due_at <= instant THEN
                status := 'due';
            ELSIF NOT house AND w.free < r.minimum THEN
                status := 'poor';
            ELSE
                status := 'ok';
                budgets_of := NULL;
                limits_of := NULL;
                IF r.budgets IS NOT NULL AND w.currency = 'USD' THEN
                    budgets_of := r.budgets::uuid[];
                    limits_of := r.limits::bigint[];
                    least_needed := r.minimum;
                    IF house THEN
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
                        headroom := greatest(CASE WHEN house THEN headroom ELSE least(headroom, w.free) END, 0);
                    END IF;
                END IF;
                IF status = 'ok' THEN
                    amount := least(r.wanted, headroom);
                    INSERT INTO holds
                        (id, wallet_id, amount, price_version, factor_ppm, facts, owner, expires_at, release_at,
                         budget_ids, budget_limits)
                    VALUES (r.id, r.wallet, open_holds.amount, r.version, r.factor, doc, p_owner,
                            instant + p_ttl, instant + p_horizon, budgets_of, limits_of)
                    ON CONFLICT (id) DO NOTHING;
                    IF FOUND THEN
                        available := w.free - CASE WHEN house THEN 0 ELSE amount END;
                        headroom := headroom - amount;
                        IF amount > 0 THEN
                            IF NOT house THEN
                                UPDATE wallets SET held = held + open_holds.amount WHERE id = r.wallet;
                            END IF;
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

_BEAT_HOLDS = """
    CREATE OR REPLACE FUNCTION beat_holds(
        p_owner text, p_ttl interval, p_ids uuid[], p_wallets uuid[], p_checkpoints bigint[], p_usages text[],
        p_targets bigint[], p_versions bigint[])
    RETURNS TABLE (n integer, status text, amount bigint, available bigint, budget uuid) LANGUAGE plpgsql AS $$
    DECLARE
        r record;
        h record;
        more bigint;
        used bigint;
        house boolean;
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
            SELECT holds.amount, state, budget_ids, budget_limits, facts INTO h FROM holds
            WHERE id = r.id AND owner = p_owner AND wallet_id = r.wallet;
            IF NOT FOUND OR h.state <> 'open' THEN
                status := 'lost';
                RETURN NEXT;
                CONTINUE;
            END IF;
            more := 0;
            status := 'ok';
            IF r.target > h.amount THEN
                house := coalesce((h.facts ->> 'house')::boolean, false);
                SELECT CASE WHEN state <> 'active' THEN 0 WHEN house THEN 9007199254740992 ELSE spendable - held END
                INTO available
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
                        IF NOT house THEN
                            UPDATE wallets SET held = held + more WHERE id = r.wallet;
                        END IF;
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

# The step below knows no hold that its wallet does not lock. Running ones are found by their indexes: everybody waits.
_RUNNING = """
    id = ANY (ARRAY(SELECT id FROM holds WHERE state = 'open'
                    UNION ALL SELECT id FROM holds WHERE state = 'quarantine'))
    AND amount > 0 AND (facts ->> 'house')::boolean
"""
_FREED = (
    f"""
    UPDATE budgets SET held = held - s.locked
    FROM (SELECT b AS id, sum(amount) AS locked FROM holds, unnest(budget_ids) AS budget (b) WHERE {_RUNNING}
          GROUP BY 1) s
    WHERE budgets.id = s.id
    """,
    f"UPDATE holds SET amount = 0 WHERE {_RUNNING}",
)


def upgrade() -> None:
    with gently.each_for_itself():
        gently.index(*_BY_MESSAGE)
    gently.take("charges")
    gently.adopt(*_BY_MESSAGE)
    for statement in (_TASKS, _NOTICE, _OPEN_HOLDS, _BEAT_HOLDS):
        op.execute(statement)


def downgrade() -> None:
    before = import_module("migrations.versions.0004_budgets_credits_rollups")
    gently.take("wallets", "holds", "charges", "budgets")
    for statement in _FREED:
        op.execute(statement)
    for name, body in (("open_holds", before._OPEN_HOLDS), ("beat_holds", before._BEAT_HOLDS)):
        op.execute(f"DROP FUNCTION {name}")
        op.execute(body)
    op.execute("DROP INDEX charges_by_message")
    op.execute("DROP TABLE tasks")
