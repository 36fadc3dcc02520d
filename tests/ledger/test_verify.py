"""Verify passes on what the bank did, and names each kind of damage that somebody else might do."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.journal import TOKENS
from ledger.period import Plan
from ledger.price import TOKEN_PRICE
from ledger.store import BudgetAsk, CreditOrder, OutsideOrder
from ledger.usage import Usage
from ledger.verify import Finding, drained, verify
from tests.ledger.till import PPM, Till, facts_of

_NAMES = {"I1", "I2", "I3", "I4", "I5", "I6", "I6b", "I7", "I8", "I9", "I11", "I12", "I13", "I14"}
_FACTS = ("charges", "journal_entries", "postings", "credits", "refunds", "outside_charges", "audit")
_A_CALL = "(SELECT request_id FROM charges WHERE rev = 'final' AND NOT house AND amount > 0 ORDER BY 1 LIMIT 1)"
_ITS_ENTRY = f"(SELECT entry_id FROM charges WHERE rev = 'final' AND request_id = {_A_CALL})"
_STRAY = "'01900000-0000-7000-8000-000000000001'"


async def _business(till: Till) -> None:
    """A bit of everything that is healthy: all the ways a call can end or still run."""
    paying, planned, house = await till.wallet(1000), await till.wallet(due=True), await till.wallet()
    await till.bank.open_holds([till.ask(planned, 10, plan=Plan(100))])
    on_the_house = till.ask(house, 0, house=True)
    await till.bank.open_holds([on_the_house])
    settled, dear, voided, silent, recovered = [await till.hold(paying, 50) for _ in range(5)]
    for ask in (silent, recovered):
        await till.bank.beat([till.beat(ask, 20)])
        await till.past(ask, "expires_at")
    await till.bank.reap()
    void = till.event(voided, 0)
    await till.bank.close([till.event(settled, 30), till.event(dear, 2000), till.event(on_the_house, 7)])
    await till.bank.close([msgspec.structs.replace(void, void=True)])
    await till.bank.close([till.event(recovered, 25)])
    await _orders(till)


async def _orders(till: Till) -> None:
    """And all that people may order, healthy, too."""
    wallet, old, tokens = await till.wallet(1000), await till.wallet(70), uuid4()
    budget = BudgetAsk(uuid4(), 500)
    await till.hold(wallet, 40, budgets=(budget,))
    await till.bank.close([till.event(await till.hold(wallet, 50, budgets=(budget,)), 30)])
    for kind, amount in (("payment", 50), ("grant", 40), ("adjustment", -30), ("deduct", 20)):
        await till.bank.adjust(CreditOrder(wallet, kind, amount, "", kind))  # type: ignore[arg-type]
    dear = await till.charge(old, 90, held=70)
    await till.bank.refund(dear.request_id, 50, reason="", source="r")
    await till.bank.merge(old, wallet)
    facts = facts_of()
    by_amount = OutsideOrder("job", wallet, facts, Usage(), None, 0, "", 25, datetime.now(UTC), None, True)
    await till.bank.charge_outside(by_amount)
    await till.bank.open_wallet(tokens, TOKENS)
    by_tokens = OutsideOrder(
        "tok", tokens, facts, Usage(output=7), TOKEN_PRICE, PPM, "", None, datetime.now(UTC), Plan(100), True
    )
    await till.bank.charge_outside(by_tokens)


async def _tamper(till: Till, *statements: str) -> None:
    for table in _FACTS:
        await till.sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    for statement in statements:
        await till.sql(statement)
    for table in _FACTS:
        await till.sql(f"ALTER TABLE {table} ENABLE TRIGGER ALL")


async def test_what_the_bank_did_verifies(till: Till) -> None:
    await _business(till)
    findings = await verify(till.engine)
    assert {finding.name for finding in findings} >= _NAMES
    assert [finding.line() for finding in findings if not finding.holds] == []
    assert all(finding.looked_at for finding in findings)


async def test_an_empty_ledger_verifies(till: Till) -> None:
    assert await till.broken() == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("I1", f"DELETE FROM postings WHERE line = 0 AND entry_id = {_ITS_ENTRY}"),
        ("I1", f"UPDATE postings SET currency = 'EUR' WHERE line = 0 AND entry_id = {_ITS_ENTRY}"),
        ("I1", f"DELETE FROM postings WHERE entry_id = {_ITS_ENTRY}"),
        ("I1", f"DELETE FROM journal_entries WHERE id = {_ITS_ENTRY}"),
        (
            "I1",
            f"WITH e AS (INSERT INTO journal_entries SELECT {_STRAY}, kind, ref, booked_at FROM journal_entries "
            f"WHERE id = {_ITS_ENTRY}) INSERT INTO postings (entry_id, line, account, amount) "
            f"VALUES ({_STRAY}, 0, 'exp:fees', 1), ({_STRAY}, 1, 'rev:fees', -1)",
        ),
        ("I2", "UPDATE wallets SET spendable = spendable + 1"),
        ("I2", "UPDATE grants SET remaining = remaining - 1 WHERE remaining > 1"),
        ("I3", "UPDATE wallets SET held = held + 1 WHERE spendable > held"),
        ("I3", "UPDATE holds SET amount = amount + 1 WHERE state = 'open'"),
        ("I3", "UPDATE holds SET amount = amount + 1 WHERE state = 'quarantine'"),
        ("I4", "UPDATE holds SET spent = spent + 1 WHERE state = 'settled'"),
        ("I4", "UPDATE holds SET release_at = now() - interval '2 minutes' WHERE state = 'open'"),
        ("I4", "UPDATE holds SET release_at = now() - interval '2 minutes' WHERE state = 'quarantine'"),
        ("I5", "UPDATE charges SET rev = 'late' WHERE rev = 'provisional' AND request_id IN (SELECT request_id "
               "FROM charges WHERE rev = 'final')"),
        ("I5", f"DELETE FROM charges WHERE request_id = {_A_CALL}"),
        ("I5", f"DELETE FROM holds WHERE id = {_A_CALL}"),
        ("I5", "UPDATE holds SET state = 'settled' WHERE state = 'voided'"),
        ("I5", f"UPDATE holds SET state = 'voided' WHERE id = {_A_CALL}"),
        ("I6", f"UPDATE charges SET amount = amount + 1 WHERE request_id = {_A_CALL}"),
        ("I6", f"UPDATE charges SET usage = '{{\"output\": 1}}' WHERE request_id = {_A_CALL}"),
        ("I6", f"UPDATE charges SET factor_ppm = 2000000 WHERE request_id = {_A_CALL}"),
        ("I6", f"UPDATE charges SET price_version = 999 WHERE request_id = {_A_CALL}"),
        ("I6", f"UPDATE charges SET usage = '{{}}' WHERE request_id = {_A_CALL}"),
        ("I6b", f"UPDATE postings SET account = 'rev:other' WHERE account = 'rev:usage' AND entry_id = {_ITS_ENTRY}"),
        ("I6b", f"UPDATE charges SET entry_id = NULL WHERE request_id = {_A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '{{\"output\": -5}}' WHERE request_id = {_A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '{{\"outptu\": 5}}' WHERE request_id = {_A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '{{\"output\": 5.5}}' WHERE request_id = {_A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '[]' WHERE request_id = {_A_CALL}"),
        ("I8", "UPDATE postings SET account = 'exp:promo' WHERE account LIKE 'cash:%'"),
        ("I8", "UPDATE grants SET funding = 'exp:promo' WHERE kind = 'paid'"),
        ("I1", "UPDATE postings SET currency = 'TOK' WHERE entry_id = (SELECT entry_id FROM charges LIMIT 1)"),
        ("I6", f"UPDATE charges SET currency = 'TOK' WHERE request_id = {_A_CALL}"),
        ("I6", "UPDATE charges SET price_version = -1 WHERE currency = 'USD' AND price_version > 0"),
        ("I6", "UPDATE charges SET factor_ppm = 2000000 WHERE currency = 'TOK'"),
        ("I6", "UPDATE outside_charges SET amount = amount + 1 WHERE amount IS NOT NULL"),
        ("I6", f"UPDATE charges SET price_version = 0 WHERE request_id = {_A_CALL}"),
        ("I9", "UPDATE audit SET after = '{}' WHERE seq = 2"),
        ("I9", "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"),
        ("I11", "UPDATE budgets SET spent = spent + 1"),
        ("I11", "UPDATE budgets SET held = held - 1"),
        ("I11", "DELETE FROM budgets"),
        ("I11", "UPDATE holds SET budget_ids = NULL WHERE state = 'settled'"),
        ("I12", "UPDATE refunds SET amount = amount + 1"),
        ("I12", "UPDATE refunds SET forgiven = forgiven + 1"),
        ("I12", "UPDATE refunds SET amount = 91"),
        ("I12", "DELETE FROM refunds"),
        ("I12", "UPDATE refunds SET entry_id = gen_random_uuid()"),
        ("I13", "UPDATE credits SET amount = amount + 1 WHERE kind = 'grant'"),
        ("I13", "UPDATE credits SET wallet_id = (SELECT id FROM wallets WHERE currency = 'TOK') WHERE kind = 'deduct'"),
        ("I13", "UPDATE outside_charges SET request_id = gen_random_uuid() WHERE amount IS NULL"),
    ],
)  # fmt: skip
async def test_each_kind_of_damage_is_found(till: Till, name: str, damage: str) -> None:
    await _business(till)
    before = await till.broken()
    await _tamper(till, damage)
    assert before == [] and name in await till.broken()


async def test_a_grant_below_zero_is_found(till: Till) -> None:
    await till.wallet(100)
    await till.sql("ALTER TABLE grants DROP CONSTRAINT grants_check")
    await _tamper(till, "UPDATE grants SET remaining = -1")
    [found] = [finding for finding in await verify(till.engine) if finding.name == "I3"]
    assert "below zero" in found.line()


async def test_money_moved_between_two_grants_of_a_wallet_is_found(till: Till) -> None:
    wallet = await till.wallet(100)
    await till.bank.credit(wallet, 50, "paid", source="second", funding="cash:test")
    ask = await till.hold(wallet, 10)
    await till.bank.close([till.event(ask, 10)])
    await till.sql("UPDATE grants SET remaining = CASE amount WHEN 100 THEN 95 ELSE 45 END")
    assert await till.broken() == ["I2"]


async def test_a_drained_house_holds_nothing(till: Till, engine: AsyncEngine) -> None:
    wallet = await till.wallet(100)
    assert (await drained(engine)).holds
    ask = await till.hold(wallet, 10)
    found = await drained(engine)
    assert not found.holds and str(wallet) in found.line()
    await till.bank.close([till.event(ask, 10)])
    assert (await drained(engine)).holds


def test_a_finding_says_on_one_line_what_breaks_it_and_not_all_of_it() -> None:
    broken = Finding("I1", "each entry sums to zero", 9, tuple(f"entry {n}" for n in range(9)))
    assert broken.line().startswith("I1   each entry sums to zero (9 looked at): BROKEN entry 0; entry 1;")
    assert "entry 5" not in broken.line() and "\n" not in broken.line()
    assert Finding("I1", "each entry sums to zero", 9, ()).line().endswith(": ok")


async def test_a_charge_is_recomputed_by_the_variant_it_was_made_with(till: Till) -> None:
    [row] = await till.sql(
        """INSERT INTO prices (model_id, doc)
           VALUES ('m', '{"pico": {"output": 1000}, "variants": {"flex": {"output": 500}}}') RETURNING version"""
    )
    till.price_version = row["version"]
    wallet = await till.wallet(1000)
    flex, wrong = await till.hold(wallet, 100), await till.hold(wallet, 100)
    half = msgspec.structs.replace(till.event(flex, 100), amount=50, variant="flex")
    await till.bank.close([half])
    assert await till.value("SELECT variant FROM charges WHERE request_id = $1", flex.request_id) == "flex"
    assert await till.broken() == []
    await till.bank.close([msgspec.structs.replace(till.event(wrong, 100), amount=50)])
    assert await till.broken() == ["I6"]


async def test_a_price_that_is_not_understood_is_named(till: Till) -> None:
    await till.sql('INSERT INTO prices (model_id, doc) VALUES (\'odd\', \'{"pico": {"input": "x"}}\')')
    [finding] = [finding for finding in await verify(till.engine) if not finding.holds]
    assert finding.name == "I6" and "of odd is not understood" in finding.line()
