"""The end of a case: everything comes to rest within its bounds, the books verify, the three words agree."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from ledger.money import NANO
from tests.torture.comparison import Faults, calls, compare
from tests.torture.plan import Plan
from tests.torture.record import read_record
from tests.torture.replicas import close_all
from tests.torture.report import Report
from tests.torture.swarm import Heard, Order
from tests.torture.town import Town, falls_to

_HOLDS = "SELECT id, owner, state, amount, spent FROM holds"
_CHARGES = "SELECT request_id, rev, outcome, usage, usage_source, amount, overrun, house FROM charges"
# A wallet's own words against its calls': what was put in by anything but a charge, less what its last words drew.
_WALLETS = """
WITH credited AS (
    SELECT p.wallet_id, -sum(p.amount) AS nano FROM postings p JOIN journal_entries e ON e.id = p.entry_id
    WHERE p.wallet_id IS NOT NULL AND e.kind NOT IN ('charge', 'correction') GROUP BY 1
), words AS (
    SELECT DISTINCT ON (request_id) wallet_id, CASE WHEN house THEN 0 ELSE amount - overrun END AS nano
    FROM charges ORDER BY request_id, rev = 'provisional'
), spent AS (SELECT wallet_id, sum(nano) AS nano FROM words GROUP BY 1)
SELECT w.id, w.spendable, coalesce(c.nano, 0) AS credited, coalesce(s.nano, 0) AS spent
FROM wallets w LEFT JOIN credited c ON c.wallet_id = w.id LEFT JOIN spent s ON s.wallet_id = w.id
WHERE w.spendable <> coalesce(c.nano, 0) - coalesce(s.nano, 0) OR w.spendable < 0
"""
_SLOTS_S = 16.0
_PROBE_S = 10.0
_EXPECTED = (0, 200, 401, 402, 403, 409, 429, 502, 503, 504)


async def judged(town: Town, case: str | Report, *, forgetful: bool = False) -> Report:
    """Come to rest, stop, then compare. ``case`` is its name, or a report that was begun already; ``forgetful``: Redis
    was away or emptied."""
    report = case if isinstance(case, Report) else Report(case)
    begun = time.monotonic()
    await _probe(town, report)
    await _slots_free(town, report, begun)
    await _holds_free(town, report, begun)
    for code in await close_all(town.replicas):
        report.bound("exit", abs(code), 0, "a replica that was told to stop")
    _heard(town, report)
    await _books(town, report)
    report.worst("late_s", town.late_s)
    faults = Faults(town.beat_s, town.deaths, frozenset(town.frozen), tuple(town.dark), town.late_s, forgetful)
    holds = [dict(row) for row in await town.within.rows(_HOLDS)]
    charges = [dict(row) for row in await town.within.rows(_CHARGES)]
    heard = town.swarm.heard
    compare(calls(read_record(town.record), heard, holds, charges), heard, faults, report)
    _keep(town.folder, report)
    print("\n" + report.table())
    return report


async def _probe(town: Town, report: Report) -> None:
    """A good call, through every replica, soon after the last fault."""
    (prober,) = await town.settle_in(1)
    begun = time.monotonic()
    for number, each in enumerate(town.replicas):
        while each.url:
            nonce = f"probe{number}x{int(time.monotonic() * 1000)}"
            heard = await town.swarm.call(Order(prober, Plan(nonce, rate=200, length=5)), number)
            if heard.done and not heard.error:
                break
            if time.monotonic() - begun > 3 * _PROBE_S:
                break
            await asyncio.sleep(0.2)
    report.bound("probe_s", time.monotonic() - begun, _PROBE_S)


async def _slots_free(town: Town, report: Report, begun: float) -> None:
    try:
        await falls_to(town.slots, 0, 2 * _SLOTS_S)
    except TimeoutError:
        report.broke("slots_s", f"{await town.slots()} slots are not given back")
    report.bound("slots_s", time.monotonic() - begun, _SLOTS_S)


async def _holds_free(town: Town, report: Report, begun: float) -> None:
    try:
        await falls_to(town.open_holds, 0, town.horizon_s + 60)
    except TimeoutError:
        report.broke("holds_s", f"{await town.open_holds()} holds still lock money")
    report.worst("holds_s", time.monotonic() - begun)


def _heard(town: Town, report: Report) -> None:
    for heard in town.swarm.heard:
        _one(heard, report)
    report.bound("hangs", town.swarm.open, 0, "calls are still open")


def _one(heard: Heard, report: Report) -> None:
    report.counted(f"ended {heard.how}")
    report.counted(f"status {heard.status}")
    about = f"call {heard.order.plan.nonce}: {heard.status} {heard.error} {heard.how}"
    if heard.status not in _EXPECTED:
        report.broke("status", about)
    if heard.how == "hangs":
        report.broke("hangs", about)


async def _books(town: Town, report: Report) -> None:
    """Nothing is left on disk, nothing was logged as an error, every balance is what came in less what went out."""
    report.bound("spool", len(town.spooled()), 0, str(town.spooled()))
    complaints = town.complaints()
    report.bound("errors", len(complaints), 0, "; ".join(complaints[:3])[:2000])
    wrong = await town.within.rows(_WALLETS)
    report.bound("wallet", len(wrong), 0, str([dict(row) for row in wrong[:2]]))
    charged = await town.within.rows("SELECT coalesce(sum(amount), 0) AS nano FROM charges WHERE rev <> 'provisional'")
    report.counted("cents charged", round(int(charged[0]["nano"]) * 100 / NANO))
    code, said = await town.verify()
    report.bound("verify", code, 0, said[-3000:])


def _keep(folder: Path, report: Report) -> None:
    """What was found, beside what it was found in."""
    facts = {"name": report.name, "figures": report.figures, "counts": report.counts, "broken": report.broken}
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)))
