"""Settlements of a batch posted by one statement, where there is nothing to weigh.

A plain settlement is the first word on a call whose hold is open, on a wallet that has free what its calls cost beyond
their holds, and whose next grant covers all of the batch: one entry of two legs, one charge, the hold closed. What is
not plain is left as it is, for the rules of ``ledger.hold`` to decide.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Wallets first, those that somebody else has locked left out; then, seeing what the last one who had them wrote, their
# holds in the order of their ids. A wallet is settled for all its events or for none. By the bounds of the ids only the
# months they are of are opened.
_CLOSE_PLAIN = """
    CREATE FUNCTION close_plain(p_events text, p_entries text) RETURNS SETOF integer LANGUAGE plpgsql AS $$
    DECLARE
        told jsonb := p_events::jsonb;
        entry_ids uuid[] := p_entries::uuid[];
        ids uuid[];
        wanted uuid[];
        mine uuid[];
    BEGIN
        SELECT array_agg(t.request_id ORDER BY t.request_id), array_agg(t.wallet_id) INTO ids, wanted
        FROM jsonb_to_recordset(told) AS t (request_id uuid, wallet_id uuid);
        mine := ARRAY(SELECT id FROM wallets WHERE id = ANY (wanted) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
        RETURN QUERY
        WITH event AS MATERIALIZED (
            SELECT * FROM ROWS FROM (jsonb_to_recordset(told) AS (request_id uuid, wallet_id uuid, usage jsonb,
                source text, amount bigint, price_version bigint, factor_ppm integer, outcome text, at timestamptz,
                facts jsonb, void boolean, ttft_ms integer, duration_ms integer, problems text[], variant text))
            WITH ORDINALITY AS t (request_id, wallet_id, usage, source, amount, price_version, factor_ppm, outcome, at,
                facts, void, ttft_ms, duration_ms, problems, variant, place)
        ),
        hold AS MATERIALIZED (
            SELECT id, wallet_id, holds.amount FROM holds
            WHERE id = ANY (ids) AND id >= ids[1] AND id <= ids[cardinality(ids)] AND state = 'open'
              AND budget_ids IS NULL AND NOT holds.facts @> '{"house": true}'
            ORDER BY id FOR NO KEY UPDATE
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
            FROM grants WHERE wallet_id = ANY (mine) AND remaining > 0
            ORDER BY wallet_id, priority, coalesce(expires_at, 'infinity'), created_at
        ),
        plain AS MATERIALIZED (
            SELECT purse.wallet_id, purse.spent, purse.freed, g.id AS grant_id,
                   'wallet:' || purse.wallet_id || ':' || g.kind AS account, wallets.currency
            FROM purse JOIN next_grant g USING (wallet_id) JOIN wallets ON wallets.id = purse.wallet_id
            WHERE g.remaining >= purse.spent AND (g.ends IS NULL OR g.ends > clock_timestamp())
              AND purse.beyond <= wallets.spendable - wallets.held
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
    op.execute(_CLOSE_PLAIN)


def downgrade() -> None:
    op.execute("DROP FUNCTION close_plain")
