"""A key of ours is known again by its secret, not by its looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from accounts.keys import FORWARD_USERS, mint
from accounts.store_sql import Accounts
from openwebui.service_key import proven_keys, serves


async def test_a_key_is_proven_by_its_secret(accounts: Accounts) -> None:
    full, key = await accounts.create_key(name="k", scopes=[FORWARD_USERS], realm="open-webui")
    minted = mint()
    stolen = full[: len("sk-fb-") + 12] + minted.full[len("sk-fb-") + 12 :]
    found = await proven_keys(accounts, [full, stolen, minted.full, "", "sk-of-openai"])
    assert found == {full: key}


async def test_which_keys_go_on(accounts: Accounts) -> None:
    soon, late = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(days=30)
    signed = (await accounts.create_key(name="k", scopes=[FORWARD_USERS], realm="a", expires_at=late))[1]
    plain = (await accounts.create_key(name="k", scopes=[FORWARD_USERS], realm="a", plain_headers=True))[1]
    ending = (await accounts.create_key(name="k", scopes=[FORWARD_USERS], realm="a", expires_at=soon))[1]
    charging = (await accounts.create_key(name="k", scopes=["charges"], realm="a"))[1]
    assert serves(signed, "a", plain_headers=False) and not serves(signed, "a", plain_headers=True)
    assert serves(plain, "a", plain_headers=True) and serves(plain, "a", plain_headers=False)
    assert not serves(signed, "b", plain_headers=False)
    assert not serves(ending, "a", plain_headers=False) and not serves(charging, "a", plain_headers=False)
    await accounts.revoke_key(plain.id)
    [revoked] = [each for each in await accounts.list_keys() if each.id == plain.id]
    assert not serves(revoked, "a", plain_headers=False)
