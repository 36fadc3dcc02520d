"""Verify names what is wrong with holds, charges and usage."""

from __future__ import annotations

import msgspec
import pytest

from ledger.verify import verify
from tests.ledger.business import A_CALL, ITS_ENTRY, found_after
from tests.ledger.till import Till


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("I4", "UPDATE holds SET spent = spent + 1 WHERE state = 'settled'"),
        ("I4", "UPDATE holds SET release_at = now() - interval '2 minutes' WHERE state = 'open'"),
        ("I4", "UPDATE holds SET release_at = now() - interval '2 minutes' WHERE state = 'quarantine'"),
        ("I5", "UPDATE charges SET rev = 'late' WHERE rev = 'provisional' AND request_id IN (SELECT request_id "
               "FROM charges WHERE rev = 'final')"),
        ("I5", f"DELETE FROM charges WHERE request_id = {A_CALL}"),
        ("I5", f"DELETE FROM holds WHERE id = {A_CALL}"),
        ("I5", "UPDATE holds SET state = 'settled' WHERE state = 'voided'"),
        ("I5", f"UPDATE holds SET state = 'voided' WHERE id = {A_CALL}"),
        ("I6", f"UPDATE charges SET amount = amount + 1 WHERE request_id = {A_CALL}"),
        ("I6", f"UPDATE charges SET usage = '{{\"output\": 1}}' WHERE request_id = {A_CALL}"),
        ("I6", f"UPDATE charges SET factor_ppm = 2000000 WHERE request_id = {A_CALL}"),
        ("I6", f"UPDATE charges SET price_version = 999 WHERE request_id = {A_CALL}"),
        ("I6", f"UPDATE charges SET usage = '{{}}' WHERE request_id = {A_CALL}"),
        ("I6", f"UPDATE charges SET currency = 'TOK' WHERE request_id = {A_CALL}"),
        ("I6", "UPDATE charges SET price_version = -1 WHERE currency = 'USD' AND price_version > 0"),
        ("I6", "UPDATE charges SET factor_ppm = 2000000 WHERE currency = 'TOK'"),
        ("I6", "UPDATE outside_charges SET amount = amount + 1 WHERE amount IS NOT NULL"),
        ("I6", f"UPDATE charges SET price_version = 0 WHERE request_id = {A_CALL}"),
        ("I6b", f"UPDATE postings SET account = 'rev:other' WHERE account = 'rev:usage' AND entry_id = {ITS_ENTRY}"),
        ("I6b", f"UPDATE charges SET entry_id = NULL WHERE request_id = {A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '{{\"output\": -5}}' WHERE request_id = {A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '{{\"outptu\": 5}}' WHERE request_id = {A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '{{\"output\": 5.5}}' WHERE request_id = {A_CALL}"),
        ("I7", f"UPDATE charges SET usage = '[]' WHERE request_id = {A_CALL}"),
    ],
)  # fmt: skip
async def test_each_kind_of_damage_is_found(till: Till, name: str, damage: str) -> None:
    assert name in await found_after(till, damage)


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
