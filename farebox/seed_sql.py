"""The SQL that seeds people: users, wallets, keys, groups, prices. All of it is reckoned on the server, by chances that
repeat.

Names in braces are numbers the caller puts in: ``since`` and ``span`` (the whole time seeded, in milliseconds),
``users``, ``known`` (users seeded before), ``salt`` (another one in each seeding).
"""

from __future__ import annotations

MODELS = 20
_UNIT = 1 << 40


def chance(number: str, salt: int) -> str:
    """SQL for a number from 0 on, below 1, that follows from ``number`` and ``salt``."""
    return f"((hashint8extended({number}, {salt}) & {_UNIT - 1})::float8 / {_UNIT})"


def uuid7(millis: str, noise: str) -> str:
    """SQL for a UUID of version 7 of this instant, its chance bits taken from the digest of ``noise``."""
    digest = f"md5({noise})"
    return f"(lpad(to_hex({millis}), 12, '0') || '7' || substr({digest}, 1, 3) || '8' || substr({digest}, 4, 15))::uuid"


SETTINGS = """
    SET work_mem = '128MB'; SET maintenance_work_mem = '512MB'; SET temp_buffers = '256MB'; SET jit = off
"""

# Three in ten are there from the first day on, the others come one after the other. A user's number is their rank: the
# lower, the more they call. {{known}}: how many were seeded before.
PEOPLE = f"""
    WITH told AS (
        SELECT k, k + {{known}} AS no, {chance("k + {known}", 1)} AS kind,
               (CASE WHEN k <= {{users}} * 0.3 THEN {{since}} - {chance("k", 2)} * 7776000000
                     ELSE {{since}} + {{span}} * ((k::float8 - 1) / {{users}} - 0.3) / 0.7 END)::bigint AS born
        FROM generate_series(1, {{users}}::bigint) AS k
    ),
    made AS (
        SELECT *, to_timestamp(born / 1000.0) AS at, {uuid7("born", "'bench wallet ' || no")} AS wallet,
               {uuid7("born", "'bench user ' || no")} AS id,
               (ARRAY['Ada','Bo','Chidi','Dana','Emre','Fatou','Goran','Hana','Ivo','Jun','Kaja','Lena','Milo','Noor',
                      'Oskar','Pia','Quinn','Rosa','Sami','Tove','Umar','Vera','Wim','Xenia','Yusuf','Zoe'])
                   [1 + floor({chance("k + {known}", 3)} * 26)] AS given,
               (ARRAY['Abe','Berg','Costa','Diaz','Engel','Faber','Gruber','Hansen','Ito','Jensen','Kumar','Lang',
                      'Meyer','Novak','Okoye','Popov','Quist','Rossi','Silva','Tanaka','Ueda','Varga','Weber','Xu',
                      'Yilmaz','Zeman'])[1 + floor({chance("k + {known}", 4)} * 26)] AS family
        FROM told
    ),
    w AS (INSERT INTO wallets (id, due_at, created_at) SELECT wallet, '-infinity', at FROM made)
    INSERT INTO users (id, wallet_id, realm, subject, email, name, tier, created_at, updated_at, tier_since)
    SELECT id, wallet, 'bench', 'bench-' || no, lower(given || '.' || family) || no || '@bench.example',
           given || ' ' || family,
           CASE WHEN kind < 0.50 THEN 'free' WHEN kind < 0.55 THEN 'tester' WHEN kind < 0.70 THEN 'basic'
                WHEN kind < 0.80 THEN 'premium' WHEN kind < 0.90 THEN 'pro' WHEN kind < 0.93 THEN 'vip'
                WHEN kind < 0.96 THEN 'creator' WHEN kind < 0.98 THEN 'agency' WHEN kind < 0.995 THEN 'enterprise'
                ELSE 'admin' END,
           at, at, at
    FROM made
"""

# Nobody knows their secrets: they are here to be listed and to be named by charges.
KEYS = f"""
    INSERT INTO api_keys (id, prefix, digest, user_id, name, created_at)
    SELECT {uuid7("(extract(epoch FROM created_at) * 1000)::bigint", "'bench key ' || subject")},
           'seed' || substr(md5(subject), 1, 20), sha256(convert_to(gen_random_uuid()::text, 'UTF8')), id, 'bench',
           created_at
    FROM users WHERE realm = 'bench' AND substr(subject, 7)::bigint > {{known}} AND substr(subject, 7)::bigint % 5 = 2
"""

# Each has one in fifty of the people.
GROUPS = f"""
    WITH told AS (
        SELECT g, {uuid7("{since}", "'bench group ' || g || ' {salt}'")} AS id,
               {uuid7("{since}", "'bench group wallet ' || g || ' {salt}'")} AS wallet
        FROM generate_series(0, 19) AS g
    ),
    w AS (INSERT INTO wallets (id, due_at) SELECT wallet, 'infinity' FROM told),
    made AS (
        INSERT INTO groups (id, name, doc, wallet_id)
        SELECT id, 'bench ' || g || ' of {{salt}}', '{{{{}}}}', wallet FROM told
    )
    INSERT INTO group_members (group_id, user_id, added_at)
    SELECT told.id, users.id, created_at
    FROM users JOIN told ON g = substr(subject, 7)::bigint % 50
    WHERE realm = 'bench' AND substr(subject, 7)::bigint > {{known}}
"""

SERVICE_KEY = f"""
    INSERT INTO api_keys (id, prefix, digest, name, scopes, realm)
    VALUES ({uuid7("{since}", "'bench service {salt}'")}, 'seed' || substr(md5('service {{salt}}'), 1, 20),
            sha256(convert_to(gen_random_uuid()::text, 'UTF8')), 'bench service', ARRAY['forward_users'], 'bench')
    RETURNING id
"""

PRICES = f"""
    INSERT INTO prices (model_id, doc, effective_at)
    SELECT 'bench-' || lpad(k::text, 2, '0'), jsonb_build_object('pico', jsonb_build_object(
               'input', k * k * 12000, 'cache_read', k * k * 3000, 'output', k * k * 48000)),
           to_timestamp({{since}} / 1000.0)
    FROM generate_series(1, {MODELS}) AS k ORDER BY k
    RETURNING version, model_id, (doc #>> '{{{{pico,input}}}}')::bigint AS input,
              (doc #>> '{{{{pico,cache_read}}}}')::bigint AS cached, (doc #>> '{{{{pico,output}}}}')::bigint AS output
"""

PEOPLE_MADE = """
    SELECT u.id, u.wallet_id, u.tier, k.id AS key_id FROM users u LEFT JOIN api_keys k ON k.user_id = u.id
    WHERE u.realm = 'bench' AND substr(u.subject, 7)::bigint > {known} ORDER BY substr(u.subject, 7)::bigint
"""

TOKEN_WALLETS = """
    INSERT INTO wallets (id, currency, due_at, created_at)
    SELECT t.token, 'TOK', '-infinity', w.created_at
    FROM unnest($1::uuid[], $2::uuid[]) AS t (token, money) JOIN wallets w ON w.id = t.money
"""
