"""The SQL of the bank, as texts for asyncpg. No Python decides anything here, no SQL elsewhere decides about money.

``WRITE`` is the one statement that books: everything a transaction decided goes in one trip, as one JSON document.
"""

from __future__ import annotations

OPEN = "SELECT * FROM open_holds($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"

BEAT = "SELECT * FROM beat_holds($1, $2, $3, $4, $5, $6, $7, $8)"

# Those that somebody else has locked are left out: who books for many wallets waits for none of them.
LOCK_WALLETS = """
    SELECT id, spendable, held, due_at <= clock_timestamp() AS due, clock_timestamp() AS now
    FROM wallets WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

WAIT_FOR_WALLET = """
    SELECT id, spendable, held, due_at <= clock_timestamp() AS due, clock_timestamp() AS now
    FROM wallets WHERE id = $1 FOR NO KEY UPDATE
"""

WALLETS_KNOWN = "SELECT id FROM wallets WHERE id = ANY ($1::uuid[])"

GRANTS = """
    SELECT id, wallet_id, kind, remaining, priority, expires_at, created_at, funding, source
    FROM grants WHERE wallet_id = ANY ($1::uuid[]) AND (remaining > 0 OR id = ANY ($2::uuid[]))
"""

HOLDS = """
    SELECT id, wallet_id, amount, spent, state, checkpoint, usage::text AS usage, price_version, factor_ppm,
           facts::text AS facts
    FROM holds WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

PRIOR = """
    SELECT c.request_id, c.rev, c.amount, c.overrun, p.account, p.amount AS posted, p.wallet_id, p.grant_id
    FROM charges c LEFT JOIN postings p ON p.entry_id = c.entry_id
    WHERE c.request_id = ANY ($1::uuid[]) ORDER BY c.request_id, p.line
"""

WRITE = """
    WITH told AS (SELECT $1::text::jsonb AS doc),
    c AS (
        INSERT INTO charges (request_id, rev, wallet_id, user_id, key_id, tier, model, route, upstream, task, chat_id,
            message_id, streamed, house, usage, usage_source, problems, price_version, factor_ppm, variant, amount,
            overrun, outcome, entry_id, at, ttft_ms, duration_ms)
        SELECT t.* FROM told, jsonb_to_recordset(doc -> 'charges') AS t (request_id uuid, rev text, wallet_id uuid,
            user_id uuid, key_id uuid, tier text, model text, route text, upstream text, task text, chat_id text,
            message_id text, streamed boolean, house boolean, usage jsonb, usage_source text, problems text[],
            price_version bigint, factor_ppm integer, variant text, amount bigint, overrun bigint, outcome text,
            entry_id uuid, at timestamptz, ttft_ms integer, duration_ms integer)
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
    SELECT w.spendable, w.held, w.due_at <= clock_timestamp() AS due,
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
