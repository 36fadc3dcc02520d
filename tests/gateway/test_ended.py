"""A call that is over, as it stands in the log."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.meter import Reading
from ledger.usage import Usage, UsageSource
from tests.gateway.test_metrics import ended


def test_what_was_waited_for_the_backend_is_not_ours() -> None:
    call = ended(whole_s=2.5, upstream_s=2.25)
    assert call.overhead_s == 0.25
    assert (call.line()["gateway_ms"], call.line()["upstream_ms"]) == (250, 2250)
    unsent = ended(whole_s=0.5, upstream_s=None)
    assert (unsent.line()["gateway_ms"], unsent.line()["upstream_ms"]) == (500, 0)
    assert ended(whole_s=1.0, upstream_s=1.5).overhead_s == 0


def test_the_line_tells_what_there_is_to_tell() -> None:
    line = ended(at=0.25).line()
    assert line["at"] == datetime(1970, 1, 1, 0, 0, 0, 250_000, UTC)
    assert "usage" not in line and "cost_tokens" not in line and "acted_by" not in line
    read = Reading(Usage(input=2), UsageSource.COUNTED, ("no_usage",))
    line = ended(reading=read, tokens=2, amount=0).line()
    assert (line["usage"], line["usage_source"], line["problems"]) == ({"input": 2}, "counted", ("no_usage",))
    assert (line["cost_usd"], line["cost_tokens"]) == ("0.0000", 2)


def test_a_call_that_was_not_admitted_names_the_model_its_caller_named() -> None:
    line = ended(model="", asked_model="nobody", known_model="unknown").line()
    assert line["model"] == "nobody"
