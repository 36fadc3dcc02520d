"""The SQL of the bank, as texts for asyncpg. No Python decides anything here, no SQL elsewhere decides about money.

``OPEN_PLAIN`` opens and ``CLOSE_PLAIN`` posts what leaves nothing to weigh. For all else ``WRITE`` is the one statement
that books: everything a transaction decided goes in one trip, as one JSON document.
"""

from __future__ import annotations

OPEN_PLAIN = "SELECT * FROM open_plain($1, $2, $3, $4)"

OPEN = "SELECT * FROM open_holds($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"

BEAT = "SELECT * FROM beat_holds($1, $2, $3, $4, $5, $6, $7, $8)"

CLOSE_PLAIN = "SELECT * FROM close_plain($1, $2)"

# Rows that are not there yet are made by themselves, in the order of their ids, with nothing else locked.
MAKE_BUDGETS = """
    INSERT INTO budgets (id) SELECT DISTINCT id FROM unnest($1::uuid[]) AS id ORDER BY id ON CONFLICT (id) DO NOTHING
"""

# Those that somebody else has locked are left out: who books for many wallets waits for none of them.
LOCK_WALLETS = """
    SELECT id, spendable, held, currency, due_at <= clock_timestamp() AS due, due_at = '-infinity' AS told,
           clock_timestamp() AS now
    FROM wallets WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

WAIT_FOR_WALLETS = """
    SELECT id, spendable, held, currency, due_at <= clock_timestamp() AS due, due_at = '-infinity' AS told,
           clock_timestamp() AS now
    FROM wallets WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

LOCK_BUDGETS = "SELECT 1 FROM budgets WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"

MOVE_BUDGETS = """
    UPDATE budgets SET spent = budgets.spent + t.spent, held = budgets.held + t.held
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS t (id, spent, held) WHERE budgets.id = t.id
"""

BUDGET = "SELECT spent, held FROM budgets WHERE id = $1"

WALLETS_KNOWN = "SELECT id FROM wallets WHERE id = ANY ($1::uuid[])"

GRANTS = """
    SELECT id, wallet_id, kind, remaining, priority, expires_at, created_at, funding, source
    FROM grants WHERE wallet_id = ANY ($1::uuid[]) AND (remaining > 0 OR id = ANY ($2::uuid[]))
"""

HOLDS = """
    SELECT id, wallet_id, amount, spent, state, checkpoint, usage::text AS usage, price_version, factor_ppm,
           facts::text AS facts, budget_ids
    FROM holds WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

PRIOR = """
    SELECT c.request_id, c.rev, c.amount, c.overrun, p.account, p.amount AS posted, p.wallet_id, p.grant_id, p.currency
    FROM charges c LEFT JOIN postings p ON p.entry_id = c.entry_id
    WHERE c.request_id = ANY ($1::uuid[]) ORDER BY c.request_id, c.rev <> 'provisional', p.line
"""

PRIOR_REFUNDS = """
    SELECT r.id, r.request_id, r.amount, p.account, p.amount AS posted, p.wallet_id, p.grant_id, p.currency
    FROM refunds r JOIN postings p ON p.entry_id = r.entry_id
    WHERE r.request_id = ANY ($1::uuid[]) ORDER BY r.request_id, r.id, p.line
"""

WRITE = """
    WITH told AS (SELECT $1::text::jsonb AS doc),
    c AS (
        INSERT INTO charges (request_id, rev, wallet_id, user_id, key_id, tier, model, route, upstream, task, chat_id,
            message_id, streamed, house, usage, usage_source, problems, price_version, factor_ppm, variant, amount,
            overrun, outcome, entry_id, at, ttft_ms, duration_ms, currency)
        SELECT t.* FROM told, jsonb_to_recordset(doc -> 'charges') AS t (request_id uuid, rev text, wallet_id uuid,
            user_id uuid, key_id uuid, tier text, model text, route text, upstream text, task text, chat_id text,
            message_id text, streamed boolean, house boolean, usage jsonb, usage_source text, problems text[],
            price_version bigint, factor_ppm integer, variant text, amount bigint, overrun bigint, outcome text,
            entry_id uuid, at timestamptz, ttft_ms integer, duration_ms integer, currency text)
        RETURNING request_id, rev
    ),
    q AS (
        INSERT INTO charges_to_roll (request_id, rev) SELECT request_id, rev FROM c
    ),
    e AS (
        INSERT INTO journal_entries (id, kind, ref, booked_at)
        SELECT t.* FROM told, jsonb_to_recordset(doc -> 'entries') AS t (id uuid, kind text, ref text,
            booked_at timestamptz)
    ),
    g AS (
        INSERT INTO grants (id, wallet_id, kind, amount, remaining, priority, starts_at, expires_at, source, funding)
        SELECT t.* FROM told, jsonb_to_recordset(doc -> 'new_grants') AS t (id uuid, wallet_id uuid, kind text,
            amount bigint, remaining bigint, priority smallint, starts_at timestamptz, expires_at timestamptz,
            source text, funding text)
    ),
    p AS (
        INSERT INTO postings (entry_id, line, account, amount, wallet_id, grant_id, currency)
        SELECT t.* FROM told, jsonb_to_recordset(doc -> 'postings') AS t (entry_id uuid, line smallint, account text,
            amount bigint, wallet_id uuid, grant_id uuid, currency text)
    ),
    r AS (
        UPDATE grants SET remaining = t.remaining
        FROM told, jsonb_to_recordset(doc -> 'grants') AS t (id uuid, remaining bigint) WHERE grants.id = t.id
    ),
    w AS (
        UPDATE wallets SET spendable = t.spendable, held = t.held, due_at = coalesce(t.due_at, wallets.due_at)
        FROM told, jsonb_to_recordset(doc -> 'wallets') AS t (id uuid, spendable bigint, held bigint,
            due_at timestamptz)
        WHERE wallets.id = t.id
    )
    UPDATE holds SET state = t.state, spent = t.spent
    FROM told, jsonb_to_recordset(doc -> 'holds') AS t (id uuid, state text, spent bigint)
    WHERE holds.id = t.id AND holds.id = ANY ($2::uuid[])
"""

SOURCE_KNOWN = "SELECT 1 FROM grants WHERE wallet_id = $1 AND source = $2"

SILENT = """
    SELECT id, wallet_id FROM holds WHERE state = 'open' AND expires_at < clock_timestamp()
    ORDER BY expires_at LIMIT $1
"""

STILL_SILENT = "SELECT id FROM holds WHERE id = ANY ($1::uuid[]) AND state = 'open' AND expires_at < clock_timestamp()"

PAST_HORIZON = """
    SELECT id, wallet_id FROM holds WHERE state = 'quarantine' AND release_at < clock_timestamp()
    ORDER BY release_at LIMIT $1
"""

STILL_PAST_HORIZON = (
    "SELECT id FROM holds WHERE id = ANY ($1::uuid[]) AND state = 'quarantine' AND release_at < clock_timestamp()"
)

BALANCE = """
    SELECT w.spendable, w.held, w.state, w.due_at <= clock_timestamp() AS due,
           coalesce(jsonb_object_agg(g.kind, g.remaining) FILTER (WHERE g.kind IS NOT NULL), '{}')::text AS by_kind,
           max(g.ends) FILTER (WHERE g.kind = 'plan') AS period_ends_at,
           coalesce(max(g.amount) FILTER (WHERE g.kind = 'plan'), 0)::bigint AS plan_amount
    FROM wallets w
    LEFT JOIN (
        SELECT wallet_id, kind, sum(remaining) AS remaining, max(expires_at) AS ends,
               sum(amount) FILTER (WHERE expires_at > clock_timestamp()) AS amount
        FROM grants
        WHERE wallet_id = $1 AND (remaining > 0 OR (kind = 'plan' AND expires_at > clock_timestamp()))
        GROUP BY wallet_id, kind
    ) g ON g.wallet_id = w.id
    WHERE w.id = $1 GROUP BY w.id
"""

SIGN_IN = """
    INSERT INTO replicas (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp()
"""

LIVE = "SELECT count(*) FROM replicas WHERE beat_at > clock_timestamp() - $1::interval"

SIGN_OUT = "DELETE FROM replicas WHERE id = $1 OR beat_at < clock_timestamp() - interval '1 day'"

DRIFT = """
    SELECT coalesce(sum(abs(w.spendable - coalesce(g.live, 0))), 0)::bigint FROM wallets w
    LEFT JOIN (SELECT wallet_id, sum(remaining) AS live FROM grants WHERE remaining > 0 GROUP BY wallet_id) g
        ON g.wallet_id = w.id
    WHERE w.spendable <> coalesce(g.live, 0)
"""

STRAYS = """
    SELECT (SELECT count(*) FROM (SELECT FROM holds_default LIMIT 10000) AS h)
         + (SELECT count(*) FROM (SELECT FROM charges_default LIMIT 10000) AS c)
         + (SELECT count(*) FROM (SELECT FROM journal_entries_default LIMIT 10000) AS e)
         + (SELECT count(*) FROM (SELECT FROM postings_default LIMIT 10000) AS p)
"""

# Ids are of version 7: the oldest events are the first of the index.
FORGET = """
    WITH events AS (
        DELETE FROM system_events WHERE id = ANY (ARRAY(
            SELECT id FROM system_events WHERE id < uuid7_floor(now() - interval '180 days') ORDER BY id LIMIT 10000))
        RETURNING 1
    ),
    gone AS (DELETE FROM replicas WHERE beat_at < clock_timestamp() - interval '1 day' RETURNING 1)
    SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM gone)
"""

OPEN_WALLET = """
    INSERT INTO wallets (id, currency, due_at) VALUES ($1, $2, '-infinity') ON CONFLICT (id) DO NOTHING
"""

CURRENCY_OF = "SELECT currency FROM wallets WHERE id = $1"

GRANT_STATES = """
    SELECT id, kind, amount, remaining, priority, starts_at, expires_at, source, funding FROM grants
    WHERE wallet_id = $1 AND remaining > 0 ORDER BY priority, expires_at, created_at LIMIT 1000
"""

CREDIT_KNOWN = "SELECT id, entry_id, amount FROM credits WHERE wallet_id = $1 AND source = $2"

INSERT_CREDIT = """
    INSERT INTO credits (id, wallet_id, kind, amount, reason, source, entry_id, expires_at, actor, at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

WALLET_OF_CHARGE = "SELECT wallet_id FROM charges WHERE request_id = $1 LIMIT 1"

REFUND_KNOWN = """
    SELECT id, amount, (SELECT sum(amount) FROM refunds WHERE request_id = $1)::bigint AS in_all
    FROM refunds WHERE request_id = $1 AND source = $2
"""

INSERT_REFUND = """
    INSERT INTO refunds (id, request_id, wallet_id, amount, forgiven, reason, source, entry_id, actor, at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

# Who asks for the same ref at the same time waits here, and then finds it known.
INSERT_OUTSIDE = """
    INSERT INTO outside_charges (ref, request_id, wallet_id, amount, at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (ref) DO NOTHING RETURNING true
"""

OUTSIDE_KNOWN = """
    SELECT request_id, c.amount, c.overrun FROM outside_charges o JOIN charges c USING (request_id) WHERE ref = $1
"""

# Before the oldest month that is attached everything is detached.
MONTH_CLOSED = """
    SELECT EXISTS (SELECT FROM month_seals WHERE month = date_trunc('month', $1::timestamptz AT TIME ZONE 'UTC')::date)
        OR uuid7_floor($1) < attached_from()
"""

MONTH_MISSING = """
    SELECT to_regclass('postings' || to_char($1::timestamptz AT TIME ZONE 'UTC', '_YYYYMM')) IS NULL
        AND uuid7_floor($1) >= attached_from()
"""

MAKE_MONTH = "SELECT ensure_month(date_trunc('month', $1::timestamptz AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')"

INSERT_CLOSED_HOLD = """
    INSERT INTO holds (id, wallet_id, amount, spent, state, price_version, factor_ppm, facts, owner, expires_at,
        release_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, clock_timestamp(), clock_timestamp())
"""

# Where a wallet's money went, through all merges; none for one that was not merged.
MERGED_INTO = """
    WITH RECURSIVE gone (id, steps) AS (
        SELECT merged_into, 1 FROM wallets WHERE id = $1 AND merged_into IS NOT NULL
        UNION ALL
        SELECT w.merged_into, steps + 1 FROM gone JOIN wallets w ON w.id = gone.id
        WHERE w.merged_into IS NOT NULL AND steps < 100
    )
    SELECT id FROM gone ORDER BY steps DESC LIMIT 1
"""

MERGES_OF = "SELECT id, merged_into, currency FROM wallets WHERE id = ANY ($1::uuid[])"

# Nothing more is due on it: no allowance comes into a wallet that nobody spends from.
MARK_MERGED = """
    UPDATE wallets SET merged_into = t.target, due_at = 'infinity'
    FROM unnest($1::uuid[], $2::uuid[]) AS t (source, target) WHERE wallets.id = t.source
"""

LEFT_BEHIND = """
    SELECT id FROM wallets
    WHERE merged_into IS NOT NULL AND spendable > 0 AND held = 0 LIMIT $1
"""
