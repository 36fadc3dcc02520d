"""Work done elsewhere is charged once for each ref, at the price and markup of its user, by whoever may."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from accounts.keys import CHARGES, FORWARD_USERS
from admin_api import outside
from admin_api.outside import UsageBody
from ledger.roller import Roller
from ledger.usage import KINDS
from policies.tier import Window
from tests import house
from tests.admin_api.conftest import Login
from tests.backend import Backend
from tests.house import Admin, Farebox

_USAGE = {"input": 1000, "output": 100}
_TIERS = """
[[tiers]]
name = "marked"
markup = "2"

[[tiers]]
name = "tokens"
allowance = { tokens = 2000, every = "month" }
"""


def _work(who: Any, **more: Any) -> dict[str, Any]:
    return {"ref": f"job-{uuid4()}", "user": str(who), "model": "small", "usage": _USAGE, **more}


async def test_work_is_charged_by_its_usage_at_the_models_price(farebox: Farebox, admin: Admin) -> None:
    ada = await farebox.caller(usd="1.00")
    work = _work(ada.user.id, task="nightly")
    done = await admin.made("/charges", work)
    assert (done["created"], done["ref"], done["amount"], done["route"]) == (True, work["ref"], "0.00021", "outside")
    assert (done["input_tokens"], done["output_tokens"], done["task"]) == (1000, 100, "nightly")
    assert await farebox.spendable(ada) == 1_000_000_000 - 210_000
    [shown] = (await admin.read("/charges", route="outside"))["data"]
    assert shown["id"] == done["id"]
    assert await farebox.broken() == []


async def test_work_is_charged_by_its_amount(farebox: Farebox, admin: Admin) -> None:
    ada = await farebox.caller(usd="1.00")
    done = await admin.made("/charges", _work(ada.user.email, usage=None, amount="0.25", model="a film"))
    assert (done["amount"], done["model"], done["input_tokens"]) == ("0.2500", "a film", 0)
    assert await farebox.spendable(ada) == 750_000_000 and await farebox.broken() == []


async def test_a_ref_is_charged_once_and_other_work_under_it_is_refused(farebox: Farebox, admin: Admin) -> None:
    ada, bob = await farebox.caller(usd="1.00"), await farebox.caller(name="Bob")
    at = datetime.now(UTC)
    work = _work(ada.user.id, at=at.isoformat())
    first, again = await admin.post("/charges", work), await admin.post("/charges", work)
    assert (first.status, again.status) == (201, 200)
    assert again.json() == {**first.json(), "created": False}
    for other in (
        {"user": str(bob.user.id)}, {"model": "large"}, {"usage": {"input": 1}}, {"task": "x"},
        {"usage": None, "amount": "0.00021"}, {"at": (at + timedelta(seconds=1)).isoformat()},
    ):  # fmt: skip
        answer = await admin.post("/charges", {**work, **other})
        assert (answer.status, answer.json()["type"].rpartition(":")[2]) == (409, "ref-taken"), other
    assert len(await farebox.charges()) == 1 and await farebox.broken() == []


async def test_a_ref_reported_many_times_at_once_is_charged_once(farebox: Farebox, admin: Admin) -> None:
    ada = await farebox.caller(usd="1.00")
    work = _work(ada.user.id)
    answers = await asyncio.gather(*(admin.post("/charges", work) for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [200] * 11 + [201]
    assert len(await farebox.charges()) == 1


async def test_what_the_wallet_does_not_cover_is_overrun_unless_it_must(farebox: Farebox, admin: Admin) -> None:
    ada = await farebox.caller(usd="0.10")
    work = _work(ada.user.id) | {"usage": None, "amount": "0.25"}
    refused = await admin.post("/charges", {**work, "must_cover": True})
    assert (refused.status, refused.json()["available"]) == (409, "0.1000")
    assert await farebox.charges() == []
    done = await admin.made("/charges", work)
    assert (done["amount"], done["overrun"]) == ("0.2500", "0.1500")
    assert await farebox.spendable(ada) == 0 and await farebox.broken() == []


async def test_the_tiers_markup_counts_and_the_house_bears_an_unlimited_tiers_work(
    data_dir: Any, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_TIERS) as farebox:
        marked, free = await farebox.caller(tier="marked"), await farebox.caller(tier="admin", usd="0", name="Root")
        assert (await farebox.admin.made("/charges", _work(marked.user.id)))["amount"] == "0.00042"
        done = await farebox.admin.made("/charges", _work(free.user.id))
        assert (done["house"], done["amount"], done["overrun"]) == (True, "0.00021", "0.0000")
        assert await farebox.broken() == []


async def test_an_allowance_in_tokens_pays_for_tokens_while_it_lasts(
    data_dir: Any, database_url: str, redis_url: str, backend: Backend
) -> None:
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=_TIERS) as farebox:
        ada = await farebox.caller(tier="tokens", usd="1.00")
        first = await farebox.admin.made("/charges", _work(ada.user.id))
        assert (first["currency"], first["amount_tokens"], first["amount"]) == ("TOK", 1100, "0.0000")
        second = await farebox.admin.made("/charges", _work(ada.user.id))
        assert (second["currency"], second["amount"]) == ("USD", "0.00021"), "900 tokens are left, 1100 are needed"
        film = await farebox.admin.made("/charges", _work(ada.user.id) | {"usage": {"input": 1, "images": 1}})
        assert film["currency"] == "USD"
        refund = await farebox.admin.made(f"/charges/{first['id']}/refund", {"tokens": 100, "reason": "x"})
        assert refund["amount"] == "100"
        assert await farebox.broken() == []


async def test_work_of_the_past_is_charged_at_its_price_and_counted_where_it_was_done(
    farebox: Farebox, admin: Admin
) -> None:
    ada = await farebox.caller()
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=40)
    done = await admin.post("/charges", _work(ada.user.id, at=at.isoformat()))
    assert done.status == 422 and done.json()["errors"][0]["pointer"] == "#/model", "the model has a price since today"
    async with farebox.engine.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO prices (model_id, doc, effective_at) VALUES "
            "('small', '{\"pico\": {\"input\": 1000}}', now() - interval '41 days')"
        )
    made = await admin.made("/charges", _work(ada.user.id, at=at.isoformat()))
    assert (made["amount"], made["at"]) == ("0.000001", at.isoformat().replace("+00:00", "Z"))
    await Roller(farebox.engine).roll()
    [row] = await farebox.rows("SELECT hour FROM usage_by_hour")
    assert row["hour"] == at.replace(minute=0, second=0)


async def test_work_of_a_sealed_month_is_refused_with_a_sentence(farebox: Farebox, admin: Admin) -> None:
    ada, at = await farebox.caller(), datetime.now(UTC) - timedelta(days=100)
    async with farebox.engine.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO month_seals (month, state, hash, sums_hash, facts, charged, actor, sealed_at) VALUES "
            f"('{at:%Y-%m}-01', 'sealed', sha256(''), sha256(''), '{{}}', '{{}}', 'ann', now())"
        )
    answer = await admin.post("/charges", _work(ada.user.id, usage=None, amount="1.00", at=at.isoformat()))
    assert (answer.status, answer.json()["type"].rpartition(":")[2]) == (409, "month-closed")
    assert answer.json()["detail"] == f"Nothing can be charged into it: the month of {at:%Y-%m} is sealed."


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"amount": "1.00"}, "#"),
        ({"usage": None}, "#"),
        ({"usage": {}}, "#"),
        ({"usage": {"input": -1}}, "#/usage/input"),
        ({"usage": {"tokens": 1}}, "#/usage/tokens"),
        ({"model": "large", "usage": {"output": 10**12}}, "#/usage"),
        ({"usage": None, "amount": "0"}, "#/amount"),
        ({"usage": None, "amount": "1", "variant": "batch"}, "#"),
        ({"user": "nobody@example.org"}, "#/user"),
        ({"model": "unpriced"}, "#/model"),
        ({"variant": "batch"}, "#/variant"),
        ({"at": "2020-01-01T00:00:00Z"}, "#/at"),
        ({"at": "2199-01-01T00:00:00Z"}, "#/at"),
        ({"ref": ""}, "#/ref"),
        ({"colour": "red"}, "#/colour"),
    ],
    ids=lambda each: str(each)[:40],
)
async def test_what_is_wrong_is_named(farebox: Farebox, admin: Admin, wrong: dict[str, Any], pointer: str) -> None:
    ada = await farebox.caller()
    answer = await admin.post("/charges", {**_work(ada.user.id), **wrong})
    assert answer.status == 422, answer.body
    assert pointer in [each.get("pointer", "#") for each in answer.json()["errors"]]
    assert await farebox.charges() == []


async def test_a_key_charges_those_it_speaks_for_and_nobody_else(farebox: Farebox, admin: Admin) -> None:
    ada, bob = await farebox.caller(), await farebox.caller(name="Bob")
    own, _ = await farebox.accounts.create_key(name="job", user_id=ada.user.id, scopes=[CHARGES])
    as_ada = admin.bearing(own)
    done = await as_ada.made("/charges", _work(ada.user.id))
    assert done["amount"] == "0.00021" and done["key_id"] is not None
    strange, unknown = await as_ada.post("/charges", _work(bob.user.id)), await as_ada.post("/charges", _work(uuid4()))
    assert strange.status == unknown.status == 422
    assert strange.json()["errors"] == unknown.json()["errors"]
    assert (await as_ada.get("/charges")).status == 403
    assert (await as_ada.post(f"/charges/{done['id']}/refund", {"reason": "x"})).status == 403
    realm, _ = await farebox.accounts.create_key(name="s", scopes=[CHARGES, FORWARD_USERS], realm="open-webui")
    assert (await admin.bearing(realm).post("/charges", _work(ada.user.id))).status == 422
    assert (await admin.bearing(ada.key).post("/charges", _work(ada.user.id))).status == 401


async def test_a_keys_charges_are_bounded_in_time(
    farebox: Farebox, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "KEY_LIMIT", Window(2, "requests", 60, scope="charges"))
    ada = await farebox.caller()
    own, _ = await farebox.accounts.create_key(name="job", user_id=ada.user.id, scopes=[CHARGES])
    answers = [await admin.bearing(own).post("/charges", _work(ada.user.id)) for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 201, 429]
    assert 0 < int(answers[2].headers["retry-after"]) <= 61
    assert (await admin.post("/charges", _work(ada.user.id))).status == 201, "an admin is not bounded by it"


async def test_a_merged_users_work_is_charged_to_who_goes_on_for_it(farebox: Farebox, admin: Admin) -> None:
    ada, bob = await farebox.caller(usd="1.00"), await farebox.caller(name="Bob", usd="0")
    work = _work(bob.user.id)
    await admin.made("/charges", work)
    await farebox.bank.merge(bob.user.wallet_id, ada.user.wallet_id)
    await farebox.accounts.merge_users(bob.user.id, ada.user.id)
    assert (await admin.made("/charges", _work(bob.user.id)))["user_id"] == str(ada.user.id)
    assert (await admin.post("/charges", work)).status == 200, "the ref was charged before they were one"
    assert await farebox.broken() == []


async def test_support_may_not_charge(farebox: Farebox, login: Login) -> None:
    ada = await farebox.caller()
    assert (await (await login("support")).post("/charges", _work(ada.user.id))).status == 403


def test_a_usage_may_name_every_kind_the_ledger_knows() -> None:
    assert tuple(UsageBody.model_fields) == KINDS
