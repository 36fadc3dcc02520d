"""The key by which Open WebUI calls Farebox: found again among what its connections hold, so that none is made twice.

Farebox keeps no key it could put into a connection; Open WebUI has the one it was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from accounts.keys import Key, parse, proves
from accounts.store_sql import Accounts

_ENDS_SOON = timedelta(days=1)


async def proven_keys(accounts: Accounts, presented: Iterable[str]) -> dict[str, Key]:
    """Which of these texts are keys of ours, whole and with the right secret: each with what is kept of it."""
    parsed = {text: known for text in presented if (known := parse(text)) is not None}
    found = await accounts.find_keys([known.prefix for known in parsed.values()])
    proven = {}
    for text, known in parsed.items():
        key = found.get(known.prefix)
        if key is not None and proves(accounts.pepper, known.secret, key.digest):
            proven[text] = key
    return proven


def serves(key: Key, realm: str, *, plain_headers: bool) -> bool:
    """Whether the key goes on as the service's: it forwards users of this realm, unsigned ones where they are to be
    accepted, and does not end within a day."""
    ends = key.expires_at
    lasts = key.revoked_at is None and (ends is None or ends > datetime.now(UTC) + _ENDS_SOON)
    return lasts and key.forwards_users and key.realm == realm and (key.plain_headers or not plain_headers)
