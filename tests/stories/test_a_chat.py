"""A chat passes whole: known, admitted, streamed, counted, charged."""

from __future__ import annotations

from tests.house import Farebox


async def test_a_whole_reply_is_charged_what_it_reports_and_says_so(farebox: Farebox) -> None:
    ada = await farebox.caller(usd="1.00")
    answer = await farebox.chat(ada)
    assert answer.status == 200
    usage = answer.json()["usage"]
    expected = usage["prompt_tokens"] * 150 + usage["completion_tokens"] * 600
    charge = await farebox.charge()
    assert (charge["amount"], charge["usage_source"], charge["outcome"]) == (expected, "reported", "completed")
    assert await farebox.spendable(ada) == 10**9 - expected
    assert answer.headers["x-farebox-cost"] == f"{expected / 10**9:.9f}".rstrip("0")
    assert not await farebox.broken()
