"""Holds and settlements of a batch at once, where there is nothing to weigh; charges counted on the server.

Plain holds: their wallets have all that is asked of them together, and no budget is in question.

A plain settlement is the first word on a call whose hold is open, on a wallet that has free what its calls cost beyond
their holds, and whose next grant covers all of the batch: one entry of two legs, one charge, the hold closed. What is
not plain is left as it is, for the rules of ``ledger.hold`` to decide.

``roll_charges`` takes charges off the queue and counts them into the statistics; ``ledger.rollup`` says what each adds.
What a charge with a markup would be without it takes the rules of ``ledger.price``: it is taken off and told, not
counted.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What is locked is locked by a statement of its own: the next one then sees what the last one who had it wrote. A
# statement that locks and writes the same rows finds some changed under it, looks at those alone once more, and may
# leave out all of its rows.

# ``asked``: see ``ledger.plain``. A call that has a hold already is not ``fresh``; what is left (``free`` is null) is
# for ``open_holds`` to decide, ask by ask.
_OPEN_PLAIN = """
    CREATE FUNCTION open_plain(p_owner text, p_ttl interval, p_horizon interval, p_asks text)
    RETURNS TABLE (place integer, had bigint, made boolean) LANGUAGE plpgsql AS $$
    DECLARE
        told jsonb := p_asks::jsonb;
        mine uuid[];
    BEGIN
        mine := ARRAY(SELECT id FROM wallets
                      WHERE id = ANY (ARRAY(SELECT (a ->> 'wallet')::uuid FROM jsonb_array_elements(told) AS a))
                        AND state = 'active' AND due_at > clock_timestamp()
                      ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
        RETURN QUERY
        WITH asked AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(told) AS a (n integer, id uuid, wallet uuid, wanted bigint,
                needed bigint, locks bigint, version bigint, factor integer, facts jsonb)
        ),
        plain AS MATERIALIZED (
            SELECT wallets.id, wallets.spendable - wallets.held AS free
            FROM wallets JOIN asked ON asked.wallet = wallets.id
            WHERE wallets.id = ANY (mine) AND wallets.state = 'active' AND wallets.due_at > clock_timestamp()
            GROUP BY wallets.id HAVING sum(asked.needed) <= wallets.spendable - wallets.held
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
        PERFORM 1 FROM holds
        WHERE id = ANY (ids) AND id >= ids[1] AND id <= ids[cardinality(ids)] AND wallet_id = ANY (mine)
        ORDER BY id FOR NO KEY UPDATE;
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
              AND budget_ids IS NULL AND NOT holds.facts @> '{"house": true}' AND wallet_id = ANY (mine)
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


_INPUT = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_in", "image_in")
_OUTPUT = ("output", "reasoning", "audio_out")
_BY_USER = ("calls", "input_tokens", "cached_tokens", "output_tokens", "amount")
_BY_LABEL = (*_BY_USER, "list_amount", "overrun", "house_amount")


def _tokens(*kinds: str) -> str:
    """What is no number counts as nothing."""
    return " + ".join(
        f"CASE jsonb_typeof(c.usage -> '{kind}') WHEN 'number' THEN (c.usage -> '{kind}')::bigint ELSE 0 END"
        for kind in kinds
    )


def _add(table: str, keys: str, sums: tuple[str, ...]) -> str:
    """Adds the sums of ``fine`` to a table of coarser ones."""
    return f"""
            INSERT INTO {table} AS known ({keys}, {", ".join(sums)})
            SELECT {keys}, {", ".join(f"sum({each})::bigint" for each in sums)} FROM fine GROUP BY {keys}
            ON CONFLICT ({keys}) DO UPDATE SET {", ".join(f"{each} = known.{each} + excluded.{each}" for each in sums)}
    """


# Who calls it has the roller's turn, so that no two of them meet on a row. A final word takes back what the provisional
# one of its call said. By the bounds of the ids only the months they are of are opened. The hour is the first 48 bits
# of the id, which are milliseconds since 1970.
_ROLL_CHARGES = f"""
    CREATE FUNCTION roll_charges(
        p_at_once integer, OUT taken integer, OUT since timestamptz, OUT left_ids uuid[], OUT left_revs text[])
    LANGUAGE plpgsql AS $$
    DECLARE
        ids uuid[];
        revs text[];
    BEGIN
        WITH gone AS (
            DELETE FROM charges_to_roll WHERE ctid = ANY (ARRAY(SELECT ctid FROM charges_to_roll LIMIT p_at_once))
            RETURNING request_id, rev, posted_at
        )
        SELECT count(*), min(posted_at), array_agg(request_id ORDER BY request_id), array_agg(rev ORDER BY request_id)
        INTO taken, since, ids, revs FROM gone;
        IF taken = 0 THEN
            RETURN;
        END IF;
        WITH charge AS MATERIALIZED (
            SELECT q.request_id AS queued_id, q.rev AS queued_rev, CASE WHEN c.rev = q.rev THEN 1 ELSE -1 END AS sign,
                   c.user_id, c.tier, c.model, c.task, c.currency, c.amount, c.overrun,
                   c.factor_ppm <> 1000000 AS marked,
                   CASE WHEN c.house THEN c.amount ELSE 0 END AS house_amount,
                   ('x' || left(encode(uuid_send(c.request_id), 'hex'), 12))::bit(48)::bigint / 3600000 AS hour_no,
                   {_tokens(*_INPUT)} AS input_tokens,
                   {_tokens("cache_read")} AS cached_tokens,
                   {_tokens(*_OUTPUT)} AS output_tokens
            FROM unnest(ids, revs) AS q (request_id, rev)
            JOIN charges c ON c.request_id = q.request_id
                          AND (c.rev = q.rev OR (c.rev = 'provisional' AND q.rev <> 'provisional'))
            WHERE c.request_id = ANY (ids) AND c.request_id >= ids[1] AND c.request_id <= ids[taken]
        ),
        left_over AS MATERIALIZED (SELECT DISTINCT queued_id, queued_rev FROM charge WHERE marked),
        summed AS MATERIALIZED (
            SELECT hour_no, user_id, tier, model, task, currency, sum(sign)::bigint AS calls,
                   sum(sign * input_tokens)::bigint AS input_tokens, sum(sign * cached_tokens)::bigint AS cached_tokens,
                   sum(sign * output_tokens)::bigint AS output_tokens, sum(sign * amount)::bigint AS amount,
                   sum(sign * overrun)::bigint AS overrun, sum(sign * house_amount)::bigint AS house_amount
            FROM charge WHERE (queued_id, queued_rev) NOT IN (SELECT queued_id, queued_rev FROM left_over)
            GROUP BY hour_no, user_id, tier, model, task, currency
        ),
        fine AS MATERIALIZED (
            SELECT summed.*, amount AS list_amount, utc AT TIME ZONE 'UTC' AS hour, utc::date AS day,
                   date_trunc('month', utc)::date AS month, date_trunc('year', utc)::date AS year
            FROM summed, LATERAL (SELECT timestamp '1970-01-01' + hour_no * interval '1 hour' AS utc) AS at
            WHERE (calls, input_tokens, cached_tokens, output_tokens, amount, overrun, house_amount)
                  <> (0, 0, 0, 0, 0, 0, 0)
        ),
        by_hour AS ({_add("usage_by_hour", "hour, model, tier, task, currency", _BY_LABEL)}),
        by_day AS ({_add("usage_by_day", "day, model, tier, task, currency", _BY_LABEL)}),
        by_month AS ({_add("usage_by_month", "month, model, tier, task, currency", _BY_LABEL)}),
        by_user_day AS ({_add("usage_by_user_day", "user_id, day, model, task, currency", _BY_USER)}),
        by_user_month AS ({_add("usage_by_user_month", "month, currency, user_id", _BY_USER)}),
        by_user_year AS ({_add("usage_by_user_year", "year, currency, user_id", _BY_USER)}),
        active AS (
            INSERT INTO active_users (period, starts, user_id)
            SELECT DISTINCT period, date_trunc(period, day::timestamp)::date, user_id
            FROM fine, unnest(ARRAY['day', 'week', 'month']) AS period
            ON CONFLICT DO NOTHING RETURNING period, starts
        ),
        active_counts AS (
            INSERT INTO active_user_counts AS known (period, starts, users)
            SELECT period, starts, count(*) FROM active GROUP BY period, starts
            ON CONFLICT (period, starts) DO UPDATE SET users = known.users + excluded.users
        )
        SELECT array_agg(queued_id), array_agg(queued_rev) INTO left_ids, left_revs FROM left_over;
    END $$
"""


def upgrade() -> None:
    op.execute(_OPEN_PLAIN)
    op.execute(_CLOSE_PLAIN)
    op.execute(_ROLL_CHARGES)


def downgrade() -> None:
    op.execute("DROP FUNCTION roll_charges")
    op.execute("DROP FUNCTION close_plain")
    op.execute("DROP FUNCTION open_plain")
