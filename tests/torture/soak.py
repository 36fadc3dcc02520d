"""`make soak`: two replicas under a steady crowd for as long as is said, and whether anything grows.

`python -m tests.torture.soak --minutes 120 --out DIR`. Three callers of ten leave, five calls of a hundred fail in the
backend. DIR gets `samples.csv` (written at every sample), `verdict.json`, `verdict.md` and `soak.svg`. Exit status 1 if
a figure is not flat, or if `farebox verify` or the comparison finds anything.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import msgspec
import uvloop

from farebox.engines import Engines
from farebox.migrate import upgrade
from tests.torture.crowd import Crowd, Habits, steady
from tests.torture.judge import judged as compared
from tests.torture.plot import plot
from tests.torture.report import Report
from tests.torture.samples import Judged, Sample, Sampler, judged, write_samples
from tests.torture.town import Town, town

PEOPLE = 200
EVERY_S = 10.0
HABITS = Habits(length=(20, 60), rate=(15, 25), leaves=0.30, fails=0.05, keyed=0.02, slow=0.02)
CATALOG = """
[[tiers]]
name = "soaked"
concurrency = 100
windows = [
    { limit = 10000, of = "requests", per = "minute" },
    { limit = 100000000, of = "tokens", per = "hour" },
    { limit = "1000.00", of = "cost", per = "day" },
]
"""


async def soak(minutes: float, rate: float, out: Path, seed: int) -> bool:
    """Run it; whether all was well."""
    with Engines.start(out / "engines", postgres=True, redis=True) as engines:
        await upgrade(engines.database_url)
        opened = town(out / "town", engines.database_url, engines.redis_url, replicas=2, catalog=CATALOG, grain_s=0.5)
        async with opened as place:
            people = await place.settle_in(PEOPLE, tier="soaked", usd="1000.00")
            samples = await _run(place, Crowd(people, HABITS, seed), minutes * 60, rate, out, seed)
            report = await compared(place, f"soak of {minutes:g} minutes, seed {seed}")
    return _conclude(out, samples, report)


async def _run(place: Town, crowd: Crowd, seconds: float, rate: float, out: Path, seed: int) -> list[Sample]:
    begun = time.monotonic()
    end = begun + seconds
    calling = asyncio.create_task(
        steady(place.swarm, crowd, rate, lambda: time.monotonic() < end, random.Random(f"{seed} pace"))
    )
    sampler, samples = Sampler(place, begun), list[Sample]()
    while (now := time.monotonic()) < end:
        samples.append(await sampler.sample(now))
        write_samples(out / "samples.csv", samples)
        await asyncio.sleep(max(0.0, begun + len(samples) * EVERY_S - time.monotonic()))
    await calling
    return samples


def _conclude(out: Path, samples: list[Sample], report: Report) -> bool:
    found = judged(samples)
    good = report.good and all(each.flat for each in found)
    facts = {
        "good": good,
        "calls": samples[-1].calls_made,
        "flat": [asdict(each) for each in found],
        "figures": report.figures,
        "counts": report.counts,
        "broken": report.broken,
    }
    (out / "verdict.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)))
    (out / "verdict.md").write_text(markdown(found))
    (out / "soak.svg").write_text(plot(samples))
    print(f"{markdown(found)}\n{'Good' if good else 'NOT GOOD'}: everything is in {out}", flush=True)
    return good


def markdown(found: list[Judged]) -> str:
    """The verdict as a table."""
    lines = ["| figure | 2nd quarter | last quarter | at most | |", "|---|---|---|---|---|"]
    lines += [
        f"| {each.says} | {each.second:g} | {each.last:g} | {each.most:g} | {'flat' if each.flat else '**grows**'} |"
        for each in found
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Exit status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=float, default=20, help="calls a second")
    parser.add_argument("--out", type=Path, help="an empty or missing folder; else one is made")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    out = (given.out or Path(tempfile.mkdtemp(prefix="farebox-soak-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "town").mkdir()
    print(f"{given.minutes:g} minutes; samples go to {out}/samples.csv", flush=True)
    return 0 if uvloop.run(soak(given.minutes, given.rate, out, given.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
