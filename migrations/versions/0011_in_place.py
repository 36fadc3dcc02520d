"""Less is written for a call: its grant changes in place, the journal has one index less, each row is looked up once.

An update that changes what an index looks at writes an entry into every index of its table. So the index of the grants
that still have something looks at ``live``, which changes once, when a grant is emptied (or given back to).
"""

from importlib import import_module

from alembic import op

from migrations import gently

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_LIVE = ("grants", "grants_by_wallet", "(wallet_id) WHERE live")
_LIVE_BEFORE = ("grants", "grants_live", "(wallet_id) WHERE remaining > 0")
_BY_REF = ("journal_entries", "journal_entries_by_ref", "(ref)")

# Whoever moves ``remaining`` need not know of ``live``. A trigger that comes before would lock each row once more.
_KEEP_LIVE = """
    CREATE OR REPLACE FUNCTION keep_grant_live() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE grants SET live = NEW.remaining > 0 WHERE id = NEW.id;
        RETURN NULL;
    END $$
"""
_KEPT_LIVE = """
    CREATE OR REPLACE TRIGGER keep_grant_live AFTER INSERT OR UPDATE OF remaining ON grants FOR EACH ROW
    WHEN (NEW.live <> (NEW.remaining > 0)) EXECUTE FUNCTION keep_grant_live()
"""

_EMPTIED = """
    UPDATE grants SET live = false
    WHERE id > CAST(:after AS uuid) AND id <= CAST(:upto AS uuid) AND live AND remaining = 0
"""
_LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"

# What is locked is locked by a statement of its own, which tells the rows as they are once it has them: as the last one
# who had them left them. A statement that locks and writes the same rows finds some changed under it, looks at those
# alone once more, and may leave out all of its rows.

# What leads to a row is always the same, so these are planned once for each connection, and never for a table that was
# empty then: a month on its first day, or the queue of the statistics, which would be searched once for each charge.

# ``asked``: see ``ledger.plain``. A call that has a hold already is not ``fresh``; what is left (``free`` is null) is
# for ``open_holds`` to decide, ask by ask.
_OPEN_PLAIN = """
    CREATE OR REPLACE FUNCTION open_plain(p_owner text, p_ttl interval, p_horizon interval, p_asks text)
    RETURNS TABLE (place integer, had bigint, made boolean) LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
    DECLARE
        told jsonb := p_asks::jsonb;
        mine uuid[];
        frees bigint[];
    BEGIN
        SELECT array_agg(w.id), array_agg(w.free) INTO mine, frees
        FROM (SELECT id, spendable - held AS free FROM wallets
              WHERE id = ANY (ARRAY(SELECT (a ->> 'wallet')::uuid FROM jsonb_array_elements(told) AS a))
                AND state = 'active' AND due_at > clock_timestamp()
              ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) AS w;
        RETURN QUERY
        WITH asked AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(told) AS a (n integer, id uuid, wallet uuid, wanted bigint,
                needed bigint, locks bigint, version bigint, factor integer, facts jsonb)
        ),
        plain AS MATERIALIZED (
            SELECT w.id, w.free FROM unnest(mine, frees) AS w (id, free) JOIN asked ON asked.wallet = w.id
            GROUP BY w.id, w.free HAVING sum(asked.needed) <= w.free
        ),
        opened AS (
            INSERT INTO holds (id, wallet_id, amount, price_version, factor_ppm, facts, owner, expires_at, release_at)
            SELECT asked.id, plain.id, wanted, version, factor, facts, p_owner, clock_timestamp() + p_ttl,
                   clock_timestamp() + p_horizon
            FROM asked JOIN plain ON plain.id = asked.wallet
            ON CONFLICT (id) DO NOTHING RETURNING id
        ),
        locked AS (
            UPDATE wallets SET held = wallets.held + more.locks
            FROM (SELECT wallet, sum(locks)::bigint AS locks FROM asked JOIN opened USING (id) GROUP BY wallet) AS more
            WHERE wallets.id = more.wallet AND more.locks > 0
        )
        SELECT asked.n, plain.free, opened.id IS NOT NULL
        FROM asked LEFT JOIN plain ON plain.id = asked.wallet LEFT JOIN opened ON opened.id = asked.id
        ORDER BY asked.n;
    END $$
"""

# Wallets first, those that somebody else has locked left out, then their holds in the order of their ids. A wallet is
# settled for all its events or for none. By the bounds of the ids only the months they are of are opened.
_CLOSE_PLAIN = """
    CREATE OR REPLACE FUNCTION close_plain(p_events text, p_entries text) RETURNS SETOF integer LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
    DECLARE
        told jsonb := p_events::jsonb;
        entry_ids uuid[] := p_entries::uuid[];
        ids uuid[];
        wanted uuid[];
        mine uuid[];
        frees bigint[];
        currencies text[];
        held_ids uuid[];
        held_by uuid[];
        amounts bigint[];
        plains boolean[];
    BEGIN
        SELECT array_agg(t.request_id ORDER BY t.request_id), array_agg(t.wallet_id) INTO ids, wanted
        FROM jsonb_to_recordset(told) AS t (request_id uuid, wallet_id uuid);
        SELECT array_agg(w.id), array_agg(w.free), array_agg(w.currency) INTO mine, frees, currencies
        FROM (SELECT id, spendable - held AS free, currency FROM wallets WHERE id = ANY (wanted)
              ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) AS w;
        SELECT array_agg(h.id), array_agg(h.wallet_id), array_agg(h.amount), array_agg(h.plain)
        INTO held_ids, held_by, amounts, plains
        FROM (SELECT id, wallet_id, amount,
                     state = 'open' AND budget_ids IS NULL AND NOT facts @> '{"house": true}' AS plain
              FROM holds
              WHERE id = ANY (ids) AND id >= ids[1] AND id <= ids[cardinality(ids)] AND wallet_id = ANY (mine)
              ORDER BY id FOR NO KEY UPDATE) AS h;
        RETURN QUERY
        WITH event AS MATERIALIZED (
            SELECT * FROM ROWS FROM (jsonb_to_recordset(told) AS (request_id uuid, wallet_id uuid, usage jsonb,
                source text, amount bigint, price_version bigint, factor_ppm integer, outcome text, at timestamptz,
                facts jsonb, void boolean, ttft_ms integer, duration_ms integer, problems text[], variant text))
            WITH ORDINALITY AS t (request_id, wallet_id, usage, source, amount, price_version, factor_ppm, outcome, at,
                facts, void, ttft_ms, duration_ms, problems, variant, place)
        ),
        hold AS (
            SELECT * FROM unnest(held_ids, held_by, amounts, plains) AS h (id, wallet_id, amount, plain) WHERE h.plain
        ),
        purse AS MATERIALIZED (
            SELECT event.wallet_id, sum(event.amount)::bigint AS spent, sum(hold.amount)::bigint AS freed,
                   sum(greatest(event.amount - hold.amount, 0)) AS beyond
            FROM event LEFT JOIN hold ON hold.id = event.request_id AND hold.wallet_id = event.wallet_id
            WHERE event.wallet_id = ANY (mine) GROUP BY event.wallet_id
            HAVING bool_and(hold.id IS NOT NULL AND event.amount >= 0 AND NOT event.void
                            AND NOT event.facts @> '{"house": true}')
        ),
        next_grant AS MATERIALIZED (
            SELECT DISTINCT ON (wallet_id) wallet_id, id, kind, remaining,
                   min(expires_at) OVER (PARTITION BY wallet_id) AS ends
            FROM grants WHERE wallet_id = ANY (mine) AND live AND remaining > 0
            ORDER BY wallet_id, priority, coalesce(expires_at, 'infinity'), created_at
        ),
        plain AS MATERIALIZED (
            SELECT purse.wallet_id, purse.spent, purse.freed, g.id AS grant_id,
                   'wallet:' || purse.wallet_id || ':' || g.kind AS account, w.currency
            FROM purse JOIN next_grant g USING (wallet_id)
            JOIN unnest(mine, frees, currencies) AS w (id, free, currency) ON w.id = purse.wallet_id
            WHERE g.remaining >= purse.spent AND (g.ends IS NULL OR g.ends > clock_timestamp())
              AND purse.beyond <= w.free
        ),
        done AS MATERIALIZED (
            SELECT event.*, plain.grant_id, plain.account, plain.currency,
                   CASE WHEN event.amount > 0 THEN entry_ids[event.place] END AS entry_id
            FROM event JOIN plain USING (wallet_id)
        ),
        c AS (
            INSERT INTO charges (request_id, rev, wallet_id, user_id, key_id, tier, model, route, upstream, task,
                chat_id, message_id, streamed, house, usage, usage_source, problems, price_version, factor_ppm, variant,
                amount, overrun, outcome, entry_id, at, ttft_ms, duration_ms, currency)
            SELECT request_id, 'final', wallet_id, (facts ->> 'user_id')::uuid, (facts ->> 'key_id')::uuid,
                facts ->> 'tier', facts ->> 'model', facts ->> 'route', coalesce(facts ->> 'upstream', ''),
                coalesce(facts ->> 'task', ''), coalesce(facts ->> 'chat_id', ''), coalesce(facts ->> 'message_id', ''),
                coalesce((facts -> 'streamed')::boolean, false), false, usage, source, problems, price_version,
                factor_ppm, variant, amount, 0, outcome, entry_id, at, ttft_ms, duration_ms, currency
            FROM done
        ),
        q AS (
            INSERT INTO charges_to_roll (request_id, rev) SELECT request_id, 'final' FROM done
        ),
        e AS (
            INSERT INTO journal_entries (id, kind, ref, booked_at)
            SELECT entry_id, 'charge', concat_ws(':', 'charge', request_id, 'final'), at FROM done WHERE amount > 0
        ),
        p AS (
            INSERT INTO postings (entry_id, line, account, amount, wallet_id, grant_id, currency)
            SELECT entry_id, leg.line, leg.account, leg.amount, leg.wallet_id, leg.grant_id, currency
            FROM done, LATERAL (VALUES (0::smallint, done.account, done.amount, done.wallet_id, done.grant_id),
                                       (1::smallint, 'rev:usage', -done.amount, NULL, NULL))
                AS leg (line, account, amount, wallet_id, grant_id)
            WHERE done.amount > 0
        ),
        g AS (
            UPDATE grants SET remaining = grants.remaining - plain.spent
            FROM plain WHERE grants.id = plain.grant_id AND plain.spent > 0
        ),
        w AS (
            UPDATE wallets SET spendable = wallets.spendable - plain.spent, held = wallets.held - plain.freed
            FROM plain WHERE wallets.id = plain.wallet_id
        ),
        h AS (
            UPDATE holds SET state = 'settled', spent = done.amount
            FROM done WHERE holds.id = done.request_id AND holds.id >= ids[1] AND holds.id <= ids[cardinality(ids)]
        )
        SELECT place::integer FROM done;
    END $$
"""


def upgrade() -> None:
    with gently.each_for_itself():
        op.execute("ALTER TABLE grants ADD COLUMN IF NOT EXISTS live boolean NOT NULL DEFAULT true")
        op.execute(_KEEP_LIVE)
        op.execute(_KEPT_LIVE)
        gently.in_batches("grants", "id", _LAST, _EMPTIED)
        gently.index(*_LIVE)
    gently.take("wallets", "grants", "journal_entries")
    op.execute(_OPEN_PLAIN)
    op.execute(_CLOSE_PLAIN)
    op.execute("ALTER FUNCTION roll_charges SET enable_seqscan = off")
    op.execute("DROP INDEX grants_live")
    op.execute("DROP INDEX journal_entries_by_ref")


def downgrade() -> None:
    before = import_module("migrations.versions.0010_together")
    gently.take("wallets", "grants", "journal_entries")  # nothing is built while somebody is in the way
    with gently.each_for_itself():
        gently.index(*_LIVE_BEFORE)
        gently.index(*_BY_REF)
    gently.take("wallets", "grants", "journal_entries")
    gently.adopt(*_BY_REF)
    for body in (before._OPEN_PLAIN, before._CLOSE_PLAIN):
        op.execute(body.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("ALTER FUNCTION roll_charges RESET ALL")
    op.execute("DROP TRIGGER keep_grant_live ON grants")
    op.execute("DROP FUNCTION keep_grant_live")
    op.execute("ALTER TABLE grants DROP COLUMN live")
