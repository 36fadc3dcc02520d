"""`make fuzz`: a million spoilt replies through every reader, in a process per core.

`-n` says how many, `--seed` where to begin.
An input is known by its number alone, so that what failed can be tried again: `python -m tests.fuzz.run --only NUMBER`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from tests.fuzz.properties import check

BATCH = 5_000
GROWTH_KB_MAX = 64 * 1024
"""By so much may a process grow once it has seen its first batch: readers keep nothing of a call that is over."""

_first_kb = 0


def tried(number: int) -> str:
    """One input; what was wrong, or nothing."""
    try:
        check(random.Random(number))
    except BaseException:  # also what is no Exception must not escape a reader
        return f"input {number}:\n{traceback.format_exc(limit=-6)}"
    return ""


def batch(numbers: range) -> tuple[int, list[str]]:
    """Some inputs in this process: how many, and what was wrong."""
    global _first_kb
    wrong = [said for number in numbers if (said := tried(number))]
    now_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _first_kb = _first_kb or now_kb
    if now_kb - _first_kb > GROWTH_KB_MAX:
        wrong.append(f"inputs {numbers}: the process grew from {_first_kb} to {now_kb} kB")
    return len(numbers), wrong


def main() -> int:
    """Exit status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("-n", type=int, default=1_000_000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="number of the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="try one input again")
    given = parser.parse_args()
    if given.only is not None:
        check(random.Random(given.only))
        return 0
    end = given.seed + given.n
    batches = [range(at, min(at + BATCH, end)) for at in range(given.seed, end, BATCH)]
    # A process that dies breaks this pool, and does not hang it.
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        return _report([pool.submit(batch, numbers) for numbers in batches], given.n)


def _report(results: list[Future[tuple[int, list[str]]]], due: int) -> int:
    begun, done, wrong = time.monotonic(), 0, 0
    for result in as_completed(results):
        count, said = result.result()
        done += count
        wrong += len(said)
        print("\n".join(said[:3]), end="\n" if said else "")
        print(f"{done:,} of {due:,} inputs, {wrong} wrong, {time.monotonic() - begun:.0f} s", flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
