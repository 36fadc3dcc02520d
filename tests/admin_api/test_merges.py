"""Two identities of one person become one over HTTP, in steps that may be repeated until they are done."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from ledger.hold import CallFacts
from ledger.ids import uuid7
from ledger.money import NANO
from ledger.store import HoldAsk
from tests.admin_api.world import audited, grouped, path_of, pointers, rolled, written
from tests.house import Admin, Caller, Farebox, until

NOBODY = str(uuid4())


@pytest.fixture
def admin(module_farebox: Farebox) -> Admin:
    return module_farebox.admin


def into(caller: Caller) -> dict[str, str]:
    return {"into": str(caller.user.id)}


async def hold(farebox: Farebox, caller: Caller) -> UUID:
    """Money set aside for a call that runs somewhere."""
    facts = CallFacts(user_id=caller.user.id, tier="pro", model="small", route="chat.completions")
    await farebox.bank.balance(caller.user.wallet_id, None)
    ask = HoldAsk(uuid7(), caller.user.wallet_id, NANO, NANO, 1, 1_000_000, facts)
    [reply] = await farebox.bank.open_holds([ask])
    assert reply.status == "ok"
    return ask.request_id


async def test_money_keys_and_groups_go_to_the_one_that_goes_on(admin: Admin, module_farebox: Farebox) -> None:
    source, target = [await module_farebox.caller(tier="pro", usd=usd) for usd in ("2.00", "3.00")]
    group = await grouped(module_farebox, source.user.id, name=uuid4().hex)
    merged = await admin.made(f"{path_of(source)}/merge", into(target))
    assert (merged["user"]["id"], merged["moved"]) == (str(target.user.id), "2.0000")
    assert merged["user"]["groups"] == [group["id"]]
    assert (await admin.read(path_of(target)))["balance"]["available"] == "5.0000"

    async def known_as_the_other() -> bool:
        account = await module_farebox.get("/v1/account", source)
        return account.status == 200 and account.json()["id"] == str(target.user.id)

    await until(known_as_the_other)
    (line, *_) = (await admin.read(f"{path_of(target)}/credits"))["data"]
    assert (line["kind"], line["amount"]) == ("merge", "2.0000")
    (row,) = await audited(admin, action="user.merge", target_id=source.user.id)
    assert row["after"]["merged_into"] == str(target.user.id) and row["actor"] == "admin-key"


async def test_a_merge_that_is_sent_again_finishes_what_is_left_and_changes_nothing_else(
    admin: Admin, module_farebox: Farebox
) -> None:
    source, target = [await module_farebox.caller(tier="pro", usd="2.00") for _ in range(2)]
    await admin.made(f"{path_of(source)}/merge", into(target))
    again = await admin.made(f"{path_of(source)}/merge", into(target))
    assert again["moved"] == "0.0000"
    assert await module_farebox.spendable(target) == 4 * NANO


async def test_money_waits_while_calls_of_the_merged_one_run(admin: Admin, module_farebox: Farebox) -> None:
    source, target = [await module_farebox.caller(tier="pro", usd="2.00") for _ in range(2)]
    held = await hold(module_farebox, source)
    waiting = await admin.post(f"{path_of(source)}/merge", into(target))
    assert (waiting.status, waiting.headers["retry-after"]) == (409, "5")
    assert waiting.json()["type"] == "urn:farebox:problem:wallet-busy"
    assert (await admin.get(path_of(source))).status == 404
    await written(
        module_farebox,
        "UPDATE holds SET expires_at = now() - interval '1 s', release_at = now() WHERE id = :id",
        id=held,
    )

    async def freed() -> bool:
        await module_farebox.bank.reap()
        await module_farebox.bank.release()
        return (await admin.post(f"{path_of(source)}/merge", into(target))).status == 200

    await until(freed)
    assert await module_farebox.spendable(target) == 4 * NANO


async def test_what_was_used_under_either_name_is_the_one_users(admin: Admin, module_farebox: Farebox) -> None:
    source, target = [await module_farebox.caller(tier="pro") for _ in range(2)]
    for caller in (source, target):
        assert (await module_farebox.chat(caller)).status == 200
    await rolled(module_farebox)
    await admin.made(f"{path_of(source)}/merge", into(target))
    assert (await admin.read(path_of(target)))["this_month"]["calls"] == 2
    assert sum(step["calls"] for step in (await admin.read(f"{path_of(target)}/usage"))["data"]) == 2


async def test_who_cannot_go_on_is_refused(admin: Admin, module_farebox: Farebox) -> None:
    one, two, three = [await module_farebox.caller(usd="0") for _ in range(3)]
    assert (await admin.post(f"{path_of(one)}/merge", into(one))).status == 409
    assert pointers(await admin.post(f"{path_of(one)}/merge", {"into": NOBODY})) == ["#/into"]
    await admin.delete(path_of(two))
    assert pointers(await admin.post(f"{path_of(one)}/merge", into(two))) == ["#/into"]
    assert (await admin.post(f"{path_of(two)}/merge", into(one))).status == 404
    assert (await admin.post(f"/users/{NOBODY}/merge", into(one))).status == 404
    await admin.made(f"{path_of(one)}/merge", into(three))
    assert (await admin.post(f"{path_of(one)}/restore")).status == 409


async def test_support_merges_nobody(module_support: Admin, module_farebox: Farebox) -> None:
    one, two = [await module_farebox.caller(usd="0") for _ in range(2)]
    assert (await module_support.post(f"{path_of(one)}/merge", into(two))).status == 403


async def test_the_books_hold_after_all_of_this(module_farebox: Farebox) -> None:
    assert [finding.line() for finding in await module_farebox.broken()] == []
