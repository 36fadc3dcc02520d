"""How a wallet is shown: money as money, tokens as tokens, never one as the other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from admin_api.balances import AllowanceReply, AmountsReply, BalanceReply, GrantReply, TokenBalanceReply
from ledger.money import NANO
from ledger.period import Plan
from ledger.store import Balance, GrantState
from tests.house import Admin, Farebox, until

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NEXT = "2026-12-01T00:00:00Z"


def shown(reply: Any) -> dict[str, Any]:
    return dict(reply.model_dump(mode="json"))


def test_what_is_free_is_what_is_there_without_what_is_held() -> None:
    assert shown(AmountsReply.of(3 * NANO, NANO)) == {"spendable": "3.0000", "held": "1.0000", "available": "2.0000"}
    assert shown(TokenBalanceReply.of(3, 1)) == {"spendable": 3, "held": 1, "available": 2}


def test_kinds_that_hold_nothing_are_left_out() -> None:
    balance = Balance(2 * NANO, 0, {"promo": 2 * NANO, "plan": 0})
    told = shown(BalanceReply.of_wallet(UUID(int=1), balance))
    assert (told["by_kind"], told["state"], told["available"]) == ({"promo": "2.0000"}, "active", "2.0000")


@pytest.mark.parametrize(
    ("currency", "told"), [("USD", ("2.0000", "1.0000", 0, 0)), ("TOK", ("0.0000", "0.0000", 2 * NANO, NANO))]
)
def test_a_grant_is_in_its_own_currency(currency: Any, told: tuple[Any, ...]) -> None:
    grant = GrantState(UUID(int=1), "promo", 2 * NANO, NANO, 10, NOW, None, "s", "exp:promo")
    reply = shown(GrantReply.of(grant, currency))
    assert (reply["amount"], reply["remaining"], reply["amount_tokens"], reply["remaining_tokens"]) == told


def test_an_allowance_tells_when_the_next_one_comes() -> None:
    usd = shown(AllowanceReply.in_usd(Plan(5 * NANO), 4 * NANO, NOW))
    assert (usd["unit"], usd["amount"], usd["left"], usd["resets_at"]) == ("usd", "5.0000", "4.0000", NEXT)
    tokens = shown(AllowanceReply.in_tokens(Plan(1000), 7, NOW))
    assert (tokens["amount_tokens"], tokens["left_tokens"], tokens["amount"]) == (1000, 7, "0.0000")


async def test_an_allowance_in_tokens_is_whole_until_the_first_call_and_less_after_it(
    module_farebox: Farebox,
) -> None:
    admin: Admin = module_farebox.admin
    await admin.made("/tiers", {"name": "tester", "allowance": {"tokens": 1000}})

    async def there() -> bool:
        return module_farebox.run.gateway.parts.catalog().tier("tester") is not None

    await until(there)
    caller = await module_farebox.caller(tier="tester", usd="0")
    path = f"/users/{caller.user.id}"
    (allowance,) = (await admin.read(path))["allowances"]
    assert (allowance["unit"], allowance["left_tokens"]) == ("tokens", 1000)
    assert (await module_farebox.chat(caller)).status == 200
    (charge,) = await module_farebox.charges(caller.user.id)
    (allowance,) = (await admin.read(path))["allowances"]
    assert charge["currency"] == "TOK" and allowance["left_tokens"] == 1000 - charge["amount"]
    (grant,) = (await admin.read(f"{path}/grants"))["data"]
    assert (grant["currency"], grant["kind"], grant["remaining_tokens"]) == ("TOK", "plan", allowance["left_tokens"])
