"""The SQL that seeds one month: its calls are drawn into the temporary table ``seed_calls``, and everything they leave
behind is filled from that. What a call is like (whose, of which model, how long) follows from its number alone.

Names in braces are numbers the caller puts in, beside those of ``seed_sql``: ``begins`` and ``lasts`` (the month, in
milliseconds), ``first`` and ``last`` (the numbers of some calls); and the tables the rows of the month go to.
"""

from __future__ import annotations

from farebox.seed_sql import MODELS, chance, uuid7
from ledger.rollup import TABLES, measures

_GRANT = uuid7("{begins}", "'bench grant ' || k || ' {begins} {salt}'")

TEMPORARY = """
    CREATE TEMP TABLE seed_people (k bigint PRIMARY KEY, user_id uuid, wallet_id uuid, tier text, currency text,
        factor_ppm integer, house boolean, key_id uuid);
    CREATE TEMP TABLE seed_models (m bigint PRIMARY KEY, model text, version bigint, p_input bigint, p_cached bigint,
        p_output bigint);
    CREATE TEMP TABLE seed_calls (n bigint, millis bigint, id uuid, entry_id uuid, at timestamptz, k bigint,
        user_id uuid, wallet_id uuid, grant_id uuid, tier text, currency text, factor_ppm integer, house boolean,
        key_id uuid, model text, version bigint, route text, task text, chat_id text, usage jsonb, input bigint,
        cached bigint, output bigint, amount bigint, list_amount bigint, overrun bigint, refunded bigint, outcome text,
        source text);
    CREATE INDEX ON seed_calls USING brin (n);
    CREATE TEMP TABLE seed_funds (wallet_id uuid, currency text, drawn bigint, refunded bigint, leftover bigint,
        grant_id uuid, entry_id uuid, credit_id uuid)
"""

TIDY = "DROP TABLE seed_people, seed_models, seed_calls, seed_funds; RESET ALL"

# {{before}}: the number before the month's first call; {{calls}}: how many it has.
CALLS = f"""
    INSERT INTO seed_calls
    WITH told AS (
        SELECT n, n + {{salt}} AS x,
               {{begins}} + floor({{lasts}} * ((n - {{before}} - 1 + {chance("n + {salt}", 11)}) / {{calls}}))::bigint
                   AS millis
        FROM generate_series({{first}}::bigint, {{last}}::bigint) AS n
    ),
    drawn AS (
        SELECT *, greatest(1, floor({{users}} * (0.3 + 0.7 * (millis - {{since}})::float8 / {{span}}))) AS people,
               {chance("x", 12)} AS whose, {chance("x", 13)} AS which, {chance("x", 14)} AS size,
               {chance("x", 15)} AS answer, {chance("x", 16)} AS warm, {chance("x", 17)} AS way,
               {chance("x", 18)} AS ending
        FROM told
    ),
    used AS (
        SELECT *, floor(exp(4 + 5 * size) * CASE WHEN x % 2000 = 5 THEN 40 ELSE 1 END)::bigint AS input,
               floor(exp(3 + 4.5 * answer))::bigint AS output
        FROM drawn
    ),
    priced AS (
        SELECT *, (input - cached) * p_input + cached * p_cached + output * p_output AS pico
        FROM (SELECT *, CASE WHEN warm < 0.3 THEN input * 3 / 5 ELSE 0 END AS cached FROM used) AS used
        JOIN seed_people p ON p.k = least(people, floor(exp(whose * ln(people + 1))))::bigint
        JOIN seed_models m ON m.m = 1 + floor({MODELS} * which ^ 2.5)::bigint
    ),
    charged AS (
        SELECT *, CASE currency WHEN 'TOK' THEN input + output ELSE (pico * factor_ppm + 999999999) / 1000000000 END
                   AS amount
        FROM priced
    )
    SELECT n, millis, {uuid7("millis", "'bench call ' || x")}, {uuid7("millis", "'bench entry ' || x")},
           to_timestamp(millis / 1000.0), k, user_id, wallet_id, {_GRANT}, tier, currency, factor_ppm, house, key_id,
           model, CASE currency WHEN 'TOK' THEN -1 ELSE version END,
           CASE WHEN way < 0.93 THEN 'chat.completions' WHEN way < 0.97 THEN 'embeddings'
                WHEN way < 0.99 THEN 'responses' ELSE 'messages' END,
           CASE WHEN way < 0.06 THEN 'title_generation' WHEN way < 0.12 THEN 'tags_generation'
                WHEN way < 0.18 THEN 'follow_up_generation' WHEN way < 0.20 THEN 'query_generation' ELSE '' END,
           CASE WHEN way < 0.8 THEN md5('chat ' || k || ' ' || x / 40000)::uuid::text ELSE '' END,
           jsonb_strip_nulls(jsonb_build_object('input', nullif(input - cached, 0), 'cache_read', nullif(cached, 0),
                                                'output', nullif(output, 0))),
           input, cached, output, amount,
           CASE currency WHEN 'TOK' THEN amount ELSE (pico + 999) / 1000 END,
           CASE WHEN x % 1000 = 7 AND NOT house THEN amount / 10 ELSE 0 END,
           CASE WHEN x % 5000 = 13 AND NOT house AND currency = 'USD' THEN amount / 2 ELSE 0 END,
           CASE WHEN x % 2000 = 11 THEN 'recovered' WHEN ending < 0.94 THEN 'completed'
                WHEN ending < 0.99 THEN 'caller_left' WHEN ending < 0.997 THEN 'upstream_error'
                ELSE 'cut_by_balance' END,
           CASE WHEN warm < 0.92 THEN 'reported' WHEN warm < 0.99 THEN 'counted' ELSE 'estimated' END
    FROM charged
"""

# {{holds}} and the like: which month's tables, where they are filled before they are attached.
HOLDS = f"""
    INSERT INTO {{holds}} (id, wallet_id, amount, spent, state, checkpoint, price_version, factor_ppm, facts, owner,
                           opened_at, beat_at, expires_at, release_at)
    SELECT h.id, wallet_id, CASE WHEN house THEN 0 ELSE amount + amount / 4 END,
           CASE WHEN h.state = 'settled' AND NOT house THEN amount - overrun ELSE 0 END, h.state, 0, version,
           factor_ppm, jsonb_build_object('user_id', user_id, 'tier', tier, 'model', model, 'route', route,
                                          'upstream', 'bench', 'key_id', key_id, 'task', task, 'chat_id', chat_id),
           'bench', at, at, at + interval '15 s', at + interval '615 s'
    FROM seed_calls CROSS JOIN LATERAL (
        SELECT seed_calls.id, 'settled' AS state
        UNION ALL SELECT {uuid7("millis", "'bench void ' || n || ' {salt}'")}, 'voided' WHERE n % 100 = 3
    ) AS h
    WHERE n BETWEEN {{first}} AND {{last}}
"""

CHARGES = """
    INSERT INTO {charges} (request_id, rev, wallet_id, user_id, key_id, tier, model, route, upstream, task, chat_id,
        streamed, house, usage, usage_source, price_version, factor_ppm, amount, overrun, outcome, entry_id, at,
        ttft_ms, duration_ms, currency)
    SELECT id, c.rev, wallet_id, user_id, key_id, tier, model, route, 'bench', task, chat_id, task = '', house, usage,
           source, version, factor_ppm, amount, overrun, c.outcome, c.entry_id, at + interval '3 s', 300, 3000, currency
    FROM seed_calls CROSS JOIN LATERAL (
        SELECT 'final' AS rev, CASE outcome WHEN 'recovered' THEN NULL ELSE entry_id END AS entry_id,
               CASE outcome WHEN 'recovered' THEN 'completed' ELSE outcome END AS outcome
        WHERE outcome <> 'recovered' OR n % 2 = 0
        UNION ALL SELECT 'provisional', entry_id, outcome WHERE outcome = 'recovered'
    ) AS c
    WHERE n BETWEEN {first} AND {last}
"""

ENTRIES = """
    INSERT INTO {journal_entries} (id, kind, ref, booked_at)
    SELECT entry_id, 'charge',
           'charge:' || id || CASE outcome WHEN 'recovered' THEN ':provisional' ELSE ':final' END, at + interval '3 s'
    FROM seed_calls WHERE amount > 0 AND n BETWEEN {first} AND {last}
"""

POSTINGS = """
    INSERT INTO {postings} (entry_id, line, account, amount, wallet_id, grant_id, currency)
    SELECT entry_id, leg.line, leg.account, leg.amount, leg.wallet_id, leg.grant_id, currency
    FROM seed_calls c CROSS JOIN LATERAL (
        SELECT 0, 'wallet:' || c.wallet_id || CASE currency WHEN 'TOK' THEN ':plan' ELSE ':paid' END,
               c.amount - overrun, c.wallet_id, c.grant_id WHERE NOT house
        UNION ALL SELECT 0, 'exp:goodwill', c.amount, NULL, NULL WHERE house
        UNION ALL SELECT 1, 'rev:usage', -c.amount, NULL, NULL
        UNION ALL SELECT 2, 'exp:bad_debt', overrun, NULL, NULL WHERE overrun > 0
    ) AS leg (line, account, amount, wallet_id, grant_id)
    WHERE n BETWEEN {first} AND {last}
"""

# What the month's calls drew was paid in at its beginning; in the last month ({{ending}}) most people paid more.
FUNDS = f"""
    INSERT INTO seed_funds
    SELECT wallet_id, currency, drawn, refunded, leftover, {_GRANT},
           {uuid7("{begins}", "'bench funds ' || k || ' {begins} {salt}'")},
           {uuid7("{begins}", "'bench credit ' || k || ' {begins} {salt}'")}
    FROM (
        SELECT k, p.wallet_id, p.currency, coalesce(c.drawn, 0) AS drawn, coalesce(c.refunded, 0) AS refunded,
               CASE WHEN {{ending}} AND p.currency = 'USD' AND {chance("k", 21)} < 0.7
                    THEN (1 + floor({chance("k", 22)} * 4000))::bigint * 10000000 ELSE 0 END AS leftover
        FROM seed_people p LEFT JOIN (
            SELECT k, sum(amount - overrun)::bigint AS drawn, sum(refunded)::bigint AS refunded
            FROM seed_calls WHERE NOT house GROUP BY k
        ) AS c USING (k)
    ) AS told
    WHERE drawn + leftover > 0
"""

GRANTS = """
    INSERT INTO grants (id, wallet_id, kind, amount, remaining, priority, starts_at, expires_at, source, funding,
                        created_at)
    SELECT grant_id, wallet_id, CASE currency WHEN 'TOK' THEN 'plan' ELSE 'paid' END, drawn + leftover,
           refunded + leftover, CASE currency WHEN 'TOK' THEN 0 ELSE 20 END, at,
           CASE currency WHEN 'TOK' THEN at + interval '1 month' END,
           CASE currency WHEN 'TOK' THEN 'plan:' ELSE 'payment:' END || 'bench:{begins}:{salt}',
           CASE currency WHEN 'TOK' THEN 'exp:promo' ELSE 'cash:manual' END, at
    FROM seed_funds, to_timestamp({begins} / 1000.0) AS at
"""

GRANT_ENTRIES = """
    INSERT INTO {journal_entries} (id, kind, ref, booked_at)
    SELECT entry_id, 'grant', 'grant:' || grant_id, to_timestamp({begins} / 1000.0) FROM seed_funds
"""

GRANT_POSTINGS = """
    INSERT INTO {postings} (entry_id, line, account, amount, wallet_id, grant_id, currency)
    SELECT entry_id, leg.line, leg.account, leg.amount, leg.wallet_id, leg.grant_id, currency
    FROM seed_funds f CROSS JOIN LATERAL (
        SELECT 0, CASE currency WHEN 'TOK' THEN 'exp:promo' ELSE 'cash:manual' END, drawn + leftover, NULL::uuid,
               NULL::uuid
        UNION ALL SELECT 1, 'wallet:' || f.wallet_id || CASE currency WHEN 'TOK' THEN ':plan' ELSE ':paid' END,
               -drawn - leftover, f.wallet_id, f.grant_id
    ) AS leg (line, account, amount, wallet_id, grant_id)
"""

CREDITS = """
    INSERT INTO credits (id, wallet_id, kind, amount, reason, source, entry_id, actor, at)
    SELECT credit_id, wallet_id, 'payment', drawn + leftover, 'seeded', 'bench:{begins}:{salt}', entry_id, 'bench',
           to_timestamp({begins} / 1000.0)
    FROM seed_funds WHERE currency = 'USD'
"""

WALLETS = """
    UPDATE wallets SET spendable = spendable + refunded + leftover FROM seed_funds
    WHERE wallets.id = seed_funds.wallet_id AND refunded + leftover > 0
"""

_REFUND = uuid7("millis", "'bench refund ' || n || ' {salt}'")
_REFUND_ENTRY = uuid7("millis", "'bench refund entry ' || n || ' {salt}'")

REFUNDS = f"""
    INSERT INTO refunds (id, request_id, wallet_id, amount, reason, source, entry_id, actor, at)
    SELECT {_REFUND}, id, wallet_id, refunded, 'seeded', 'bench', {_REFUND_ENTRY}, 'bench', at
    FROM seed_calls WHERE refunded > 0
"""

REFUND_ENTRIES = f"""
    INSERT INTO {{journal_entries}} (id, kind, ref, booked_at)
    SELECT {_REFUND_ENTRY}, 'refund', 'refund:' || {_REFUND}, at FROM seed_calls WHERE refunded > 0
"""

REFUND_POSTINGS = f"""
    INSERT INTO {{postings}} (entry_id, line, account, amount, wallet_id, grant_id, currency)
    SELECT {_REFUND_ENTRY}, leg.line, leg.account, leg.amount, leg.wallet_id, leg.grant_id, currency
    FROM seed_calls c CROSS JOIN LATERAL (
        SELECT 0, 'wallet:' || c.wallet_id || ':paid', -refunded, c.wallet_id, c.grant_id
        UNION ALL SELECT 1, 'rev:usage', refunded, NULL, NULL
    ) AS leg (line, account, amount, wallet_id, grant_id)
    WHERE refunded > 0
"""

ACTIVE = """
    WITH days AS (SELECT DISTINCT (at AT TIME ZONE 'UTC')::date AS day, user_id FROM seed_calls),
    added AS (
        INSERT INTO active_users (period, starts, user_id)
        SELECT DISTINCT period, date_trunc(period, day)::date, user_id
        FROM days, unnest(ARRAY['day', 'week', 'month']) AS period ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING RETURNING period, starts
    )
    INSERT INTO active_user_counts AS known (period, starts, users)
    SELECT period, starts, count(*) FROM added GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (period, starts) DO UPDATE SET users = known.users + excluded.users
"""

REFUSALS = """
    INSERT INTO refusals_by_hour AS known (hour, code, tier, refusals)
    SELECT hour, code, tier, 1 + (hashtextextended(hour || code || tier, 31) & 15)
    FROM generate_series(to_timestamp({begins} / 1000.0), to_timestamp(({begins} + {lasts} - 1) / 1000.0),
                         '1 hour') AS hour,
         unnest(ARRAY['insufficient_balance', 'allowance_exhausted', 'rate_limit_requests', 'rate_limit_tokens',
                      'model_not_allowed', 'too_many_concurrent']) AS code,
         unnest(ARRAY['free', 'basic', 'pro', 'premium', 'vip']) AS tier
    WHERE hashtextextended(hour || code || tier, 32) & 3 = 0
    ON CONFLICT (hour, code, tier) DO UPDATE SET refusals = known.refusals + excluded.refusals
"""

_TIME = {
    "hour": "date_trunc('hour', at)",
    "day": "(at AT TIME ZONE 'UTC')::date",
    "month": "date_trunc('month', at AT TIME ZONE 'UTC')::date",
    "year": "date_trunc('year', at AT TIME ZONE 'UTC')::date",
}
_SUMS = {
    "calls": "count(*)",
    "input_tokens": "sum(input)",
    "cached_tokens": "sum(cached)",
    "output_tokens": "sum(output)",
    "amount": "sum(amount)",
    "list_amount": "sum(list_amount)",
    "overrun": "sum(overrun)",
    "house_amount": "coalesce(sum(amount) FILTER (WHERE house), 0)",
}


def rollup(table: str) -> str:
    """SQL that adds the month's calls to a table of sums."""
    keys, sums = TABLES[table], measures(table)
    chosen = ", ".join([*(_TIME.get(key, key) for key in keys), *(_SUMS[column] for column in sums)])
    places = ", ".join(str(place) for place, _ in enumerate(keys, 1))
    more = ", ".join(f"{column} = known.{column} + excluded.{column}" for column in sums)
    return (
        f"INSERT INTO {table} AS known ({', '.join((*keys, *sums))}) SELECT {chosen} FROM seed_calls "
        f"GROUP BY {places} ORDER BY {places} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {more}"
    )
