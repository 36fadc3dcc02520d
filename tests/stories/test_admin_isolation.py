"""Nobody reads or pays for another: users' and services' keys open their own account and nothing of the admin API."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from admin_api.app import application
from admin_api.document import operations
from tests.house import Caller, Farebox

OPEN = {"login", "refresh"}
FOR_CHARGES = "charge_outside"


@pytest.fixture(scope="module")
def every_route() -> list[tuple[str, str, str]]:
    """Method, path with made-up names in it, and operation of everything the admin API has."""
    found = []
    for path, method, operation in operations(application().openapi()):
        named = "/".join(str(uuid4()) if part.startswith("{") else part for part in path.split("/"))
        found.append((method.upper(), named.removeprefix("/v1"), operation["operationId"]))
    return found


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def key_of(farebox: Farebox, **fields: Any) -> str:
    full, _ = await farebox.accounts.create_key(name="k", **fields)
    return full


async def test_a_users_or_services_key_opens_nothing_of_the_admin_api(
    farebox: Farebox, every_route: list[tuple[str, str, str]]
) -> None:
    caller = await farebox.caller()
    service = await farebox.service()
    acting = await farebox.admin.made(f"/users/{caller.user.id}/impersonate", {"reason": "x"})
    assert len(every_route) > 60
    for key in (caller.key, service, acting["key"]):
        stranger = farebox.admin.bearing(key)
        for method, path, operation in every_route:
            body: Any = None if method in ("GET", "DELETE") else {}
            answer = await stranger.ask(method, path, body)
            # What a stranger may ask are the two ways to log in, and they want a body.
            assert answer.status == (422 if operation in OPEN else 401), (method, path, answer.body)


async def test_a_key_for_charges_reports_work_and_reads_nothing(
    farebox: Farebox, every_route: list[tuple[str, str, str]]
) -> None:
    caller = await farebox.caller()
    reporter = farebox.admin.bearing(await key_of(farebox, user_id=caller.user.id, scopes=["charges"]))
    for method, path, operation in every_route:
        if operation in OPEN or operation == FOR_CHARGES:
            continue
        body: Any = None if method in ("GET", "DELETE") else {}
        answer = await reporter.ask(method, path, body)
        assert answer.status == 403, (method, path, answer.body)
    for path in (f"/users/{caller.user.id}", f"/users/{caller.user.id}/ledger", "/users"):
        assert (await reporter.get(path)).status == 403


async def test_a_key_for_charges_charges_its_own_user_and_cannot_tell_others_from_nobody(farebox: Farebox) -> None:
    ada, bob = [await farebox.caller(name=name) for name in ("Ada", "Bob")]
    reporter = farebox.admin.bearing(await key_of(farebox, user_id=ada.user.id, scopes=["charges"]))

    def work(user: str) -> dict[str, Any]:
        return {"ref": str(uuid4()), "user": user, "model": "small", "amount": "0.01"}

    assert (await reporter.post("/charges", work(str(ada.user.id)))).status == 201
    told = [
        (await reporter.post("/charges", work(who))).json() | {"instance": ""}
        for who in (str(bob.user.id), bob.user.subject, bob.user.email, str(uuid4()), "nobody@example.org")
    ]
    assert all(each == told[0] for each in told) and told[0]["status"] == 422
    assert len(await farebox.charges(ada.user.id)) == 1 and await farebox.charges(bob.user.id) == []


async def test_a_service_charges_the_users_of_its_own_realm(farebox: Farebox) -> None:
    (here, there) = [
        await farebox.admin.made("/users", {"realm": realm, "subject": "u-1"}) for realm in ("here", "there")
    ]
    key = await farebox.admin.made("/keys", {"name": "batch", "realm": "here", "scopes": ["charges"]})
    reporter = farebox.admin.bearing(key["key"])
    statuses = {}
    for user in (here, there):
        work = {"ref": str(uuid4()), "user": user["id"], "model": "small", "amount": "0.01"}
        statuses[user["realm"]] = (await reporter.post("/charges", work)).status
    assert statuses == {"here": 201, "there": 422}


async def test_whoever_a_user_says_it_is_it_reads_its_own_account_and_pays_itself(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(name="Ada", usd="1.00"), await farebox.caller(name="Bob", usd="2.00")
    claims = {
        "x-openwebui-user-id": bob.user.subject,
        "x-openwebui-user-email": bob.user.email,
        "x-openwebui-user-role": "admin",
        "x-user-id": str(bob.user.id),
    }
    headers = ada.headers | claims
    for path in ("/v1/account", f"/v1/account?user={bob.user.id}", f"/v1/account?id={bob.user.id}"):
        account = (await farebox.get(path, headers)).json()
        assert (account["id"], account["balance"]) == (str(ada.user.id), "1.0000")
    assert (await farebox.post("/v1/chat/completions", chat(user=str(bob.user.id)), headers)).status == 200
    assert len(await farebox.charges(ada.user.id)) == 1 and await farebox.charges(bob.user.id) == []
    assert await farebox.spendable(bob) == 2 * 10**9


async def test_an_idempotency_key_of_another_gives_neither_the_reply_nor_a_refusal(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(name="Ada"), await farebox.caller(name="Bob")
    key = {"idempotency-key": str(uuid4())}
    for caller in (ada, bob):
        assert (await farebox.post("/v1/chat/completions", chat(), caller.headers | key)).status == 200
    assert [len(await farebox.charges(caller.user.id)) for caller in (ada, bob)] == [1, 1]


async def test_what_one_admin_was_told_is_not_told_to_another_under_the_same_idempotency_key(
    farebox: Farebox,
) -> None:
    caller: Caller = await farebox.caller()
    body = {"email": "bea@example.org", "role": "admin", "password": "correct horse battery"}
    await farebox.admin.made("/admins", body)
    tokens = await farebox.admin.bearing(None).made(
        "/auth/login", {"email": body["email"], "password": body["password"]}
    )
    bea, key = farebox.admin.bearing(tokens["access_token"]), str(uuid4())
    path = f"/users/{caller.user.id}/keys"
    mine, hers = [await each.made(path, {"name": "k"}, key=key) for each in (farebox.admin, bea)]
    assert mine["key"] != hers["key"]
    assert (await bea.made(path, {"name": "k"}, key=key))["key"] == hers["key"]


async def test_a_users_key_that_acts_is_worth_no_more_than_the_user(farebox: Farebox) -> None:
    ada, bob = await farebox.caller(name="Ada", tier="free"), await farebox.caller(name="Bob")
    acting = await farebox.admin.made(f"/users/{ada.user.id}/impersonate", {"reason": "x"})
    assert (await farebox.chat(bearing(acting["key"]), model="large")).error["code"] == "model_not_allowed"
    account = (await farebox.get("/v1/account", bearing(acting["key"]))).json()
    assert account["id"] == str(ada.user.id) != str(bob.user.id)


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "hello"}], **more}
