"""Who gets in, and who waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from accounts.keys import CHARGES, FORWARD_USERS, INFERENCE
from accounts.store_sql import Accounts
from admin_api.access import ADMIN_KEY, Caller
from admin_api.admin_accounts import AdminAccounts
from admin_api.gatekeeper import Gatekeeper
from admin_api.logins import Try
from admin_api.problems import Problem
from admin_api.sessions import Sessions
from admin_api.tokens import ACCESS_S, Tokens
from admin_api.tries import Tries
from tests.admin_api.conftest import BY, MakeAccount

KEY = "a-key-of-an-admin"
REQUEST = UUID(int=9)
PEPPER = b"p" * 32


class House:
    """A gatekeeper with what it asks, and a clock that is told."""

    def __init__(self, engine: AsyncEngine, admin_key: str | None = KEY) -> None:
        self.now = datetime.now(UTC)
        self.tokens = Tokens(PEPPER)
        self.sessions = Sessions(engine, self.tokens)
        self.accounts = Accounts(engine, pepper=PEPPER, default_tier="free")
        self.gatekeeper = Gatekeeper(
            admin_key=admin_key,
            tokens=self.tokens,
            sessions=self.sessions,
            accounts=self.accounts,
            tries=Tries(lambda: self.now.timestamp(), most=3),
            logins=Tries(lambda: self.now.timestamp(), most=2),
            now=lambda: self.now,
        )

    async def caller(self, bearer: str | None, address: str = "192.0.2.1") -> Caller:
        header = None if bearer is None else f"Bearer {bearer}"
        return await self.gatekeeper.caller(header, address, REQUEST)

    async def status(self, bearer: str | None, address: str = "192.0.2.1") -> int:
        with pytest.raises(Problem) as caught:
            await self.caller(bearer, address)
        return caught.value.status


@pytest.fixture
def house(engine: AsyncEngine) -> House:
    return House(engine)


async def test_the_admin_key_is_an_owner_without_an_account(house: House) -> None:
    caller = await house.caller(KEY)
    assert (caller.role, caller.admin_id, caller.session_id, caller.scope) == ("owner", None, None, ADMIN_KEY)
    assert (caller.actor.name, caller.actor.address, caller.actor.request_id) == (ADMIN_KEY, "192.0.2.1", REQUEST)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", KEY])
async def test_who_says_nothing_is_asked(house: House, header: str | None) -> None:
    with pytest.raises(Problem) as caught:
        await house.gatekeeper.caller(header, "", REQUEST)
    assert caught.value.status == 401 and "www-authenticate" in caught.value.headers


async def test_the_scheme_is_read_in_any_case(house: House) -> None:
    assert (await house.gatekeeper.caller(f"bearer  {KEY} ", "", REQUEST)).role == "owner"


async def test_without_an_admin_key_nothing_passes_for_one(engine: AsyncEngine) -> None:
    house = House(engine, None)
    for bearer in ("None", KEY, "é"):
        assert await house.status(bearer, bearer) == 401


async def test_an_access_token_is_its_account_as_it_stands(
    engine: AsyncEngine, house: House, account: MakeAccount
) -> None:
    ada = await account("ada", "admin")
    begun = await house.sessions.begin(ada.id, "h", Try(ada.email, ""))
    assert begun is not None
    # What the token says of the role is not asked: the account is.
    token = house.tokens.access(ada.id, "owner", begun.session_id, house.now)
    caller = await house.caller(token)
    assert (caller.role, caller.actor.name, caller.actor.role) == ("admin", ada.email, "admin")
    assert (caller.admin_id, caller.session_id, caller.scope) == (ada.id, begun.session_id, str(ada.id))
    await AdminAccounts(engine).change(ada.id, expected=None, by=BY, role="support")
    assert await house.status(token) == 401


async def test_an_expired_token_is_told_to_renew_and_is_no_wrong_try(house: House, account: MakeAccount) -> None:
    ada = await account("ada")
    begun = await house.sessions.begin(ada.id, "h", Try(ada.email, ""))
    assert begun is not None
    token = house.tokens.access(ada.id, "admin", begun.session_id, house.now)
    house.now += timedelta(seconds=ACCESS_S)
    assert [await house.status(token) for _ in range(6)] == [401] * 6
    assert (await house.caller(KEY)).role == "owner"


async def test_too_many_wrong_tries_make_an_address_wait_even_with_the_right_key(house: House) -> None:
    assert [await house.status(f"wrong {number}") for number in range(4)] == [401, 401, 401, 429]
    assert await house.status(KEY) == 429
    assert (await house.caller(KEY, "192.0.2.2")).role == "owner"
    house.now += timedelta(seconds=61)
    assert (await house.caller(KEY)).role == "owner"


async def test_a_farebox_key_gets_in_with_the_scope_for_charges_alone(house: House) -> None:
    user = await house.accounts.create_user(name="Ada")
    charges, key = await house.accounts.create_key(name="billing", user_id=user.id, scopes=[CHARGES])
    caller = await house.caller(charges)
    assert (caller.role, caller.key_id, caller.scope, caller.actor.name) == (
        "charges",
        key.id,
        str(key.id),
        "key:billing",
    )
    for scopes in ([], [INFERENCE], [FORWARD_USERS]):
        full, _ = await house.accounts.create_key(name="x", user_id=user.id, scopes=scopes, realm="r")
        assert await house.status(full) == 401


async def test_a_key_that_was_good_once_is_refused_and_a_forged_one_counts(house: House) -> None:
    user = await house.accounts.create_user(name="Ada")
    full, key = await house.accounts.create_key(name="billing", user_id=user.id, scopes=[CHARGES])
    await house.accounts.revoke_key(key.id)
    assert [await house.status(full) for _ in range(5)] == [401] * 5
    late, _ = await house.accounts.create_key(name="x", user_id=user.id, scopes=[CHARGES], expires_at=house.now)
    assert await house.status(late) == 401
    assert [await house.status("sk-fb-forged") for _ in range(4)] == [401, 401, 401, 429]


def refused(house: House, status: int) -> int:
    """What a stranger meets whose request ends like this."""
    with pytest.raises(Problem) as caught, house.gatekeeper.stranger("192.0.2.1"):
        raise Problem(status, "x")
    return caught.value.status


async def test_a_flood_of_refused_logins_does_not_reach_the_database(house: House) -> None:
    assert [refused(house, status) for status in (422, 422, 422, 401, 429)] == [422, 422, 422, 401, 429]
    with pytest.raises(Problem) as caught, house.gatekeeper.stranger("192.0.2.1"):
        raise AssertionError("it was let in")
    assert caught.value.status == 429 and int(caught.value.headers["retry-after"]) > 0
    with house.gatekeeper.stranger("192.0.2.2"):
        pass


async def test_refused_logins_keep_nobody_with_a_bearer_out(house: House) -> None:
    for _ in range(2):
        refused(house, 401)
    assert (await house.caller(KEY)).role == "owner"
