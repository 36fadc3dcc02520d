"""What a soak looks at every few seconds, and whether it stays flat."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

import msgspec

from tests.torture.town import Town

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """At one instant; what is of the replicas is the sum or the worst of all of them, as the name says."""

    at_s: float
    memory_mib: float
    worst_memory_mib: float
    sockets: int
    files: int
    threads: int
    calls_open: int
    holds_open: int
    holds_quarantined: int
    slots: int
    redis_keys: int
    idempotency_marks: int
    redis_mib: float
    spool_files: int
    posting_lag_s: float
    cpu_percent: float
    backends: int
    calls_made: int


@dataclass(frozen=True, slots=True)
class Flat:
    """How a figure may move between the second quarter and the last: by a part of it, or by so much, what is more."""

    says: str
    part: float
    least: float


FLAT: dict[str, Flat] = {
    "memory_mib": Flat("memory of the replicas, MiB", 0.05, 16.0),
    "worst_memory_mib": Flat("memory of the larger replica, MiB", 0.05, 8.0),
    "sockets": Flat("sockets of the replicas", 0.25, 20.0),
    "files": Flat("other open files", 0.10, 4.0),
    "threads": Flat("threads", 0.0, 4.0),
    "calls_open": Flat("calls running", 0.35, 15.0),
    "holds_open": Flat("open holds", 0.35, 15.0),
    "holds_quarantined": Flat("holds in quarantine", 0.0, 0.0),
    "slots": Flat("slots in Redis", 0.35, 15.0),
    "redis_keys": Flat("keys in Redis, without idempotency marks", 0.10, 20.0),
    "redis_mib": Flat("memory of Redis, MiB", 0.25, 8.0),
    "spool_files": Flat("files with settlements", 0.0, 0.0),
    "posting_lag_s": Flat("age of the oldest settlement, s", 0.0, 1.0),
    "backends": Flat("connections of the database", 0.10, 4.0),
}


class Sampler:
    """Looks at a town again and again."""

    def __init__(self, town: Town, begun: float) -> None:
        self._town = town
        self._begun = begun
        self._cpu: tuple[float, float] | None = None

    async def sample(self, now: float) -> Sample:
        """Everything at this instant (the loop's monotonic clock)."""
        town = self._town
        processes = [_Process(each.pid) for each in town.replicas]
        gauges = [await town.metrics(each.number) for each in town.replicas]
        holds = {row["state"]: int(row["n"]) for row in await town.within.rows(_HOLDS)}
        keys, marks = await self._keys()
        return Sample(
            at_s=round(now - self._begun, 1),
            memory_mib=round(sum(each.memory for each in processes) / _MIB, 2),
            worst_memory_mib=round(max(each.memory for each in processes) / _MIB, 2),
            sockets=sum(each.sockets for each in processes),
            files=sum(each.files for each in processes),
            threads=sum(each.threads for each in processes),
            calls_open=round(sum(each["farebox_streams_open"] for each in gauges)),
            holds_open=holds.get("open", 0),
            holds_quarantined=holds.get("quarantine", 0),
            slots=await town.slots(),
            redis_keys=keys,
            idempotency_marks=marks,
            redis_mib=round((await town.redis.info("memory"))["used_memory"] / _MIB, 2),
            spool_files=len(town.spooled()),
            posting_lag_s=round(max(each["farebox_posting_lag_seconds"] for each in gauges), 3),
            cpu_percent=self._spent(now, sum(each.cpu_s for each in processes)),
            backends=int((await town.within.rows(_BACKENDS))[0]["n"]),
            calls_made=len(town.swarm.heard),
        )

    async def _keys(self) -> tuple[int, int]:
        keys = [key async for key in self._town.redis.scan_iter("fb:*", count=1000)]
        marks = sum(1 for key in keys if b":i:" in key)
        return len(keys) - marks, marks

    def _spent(self, now: float, cpu_s: float) -> float:
        before, self._cpu = self._cpu, (now, cpu_s)
        return round(100 * (cpu_s - before[1]) / (now - before[0]), 1) if before else 0.0


_HOLDS = "SELECT state, count(*) AS n FROM holds WHERE state IN ('open', 'quarantine') GROUP BY state"
_BACKENDS = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
_TICKS = 100


class _Process:
    """A process as /proc shows it."""

    def __init__(self, pid: int) -> None:
        proc = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        # What it made itself; pages of its files come and go as the kernel likes.
        self.memory = int(status["RssAnon"].split()[0]) * 1024
        self.threads = int(status["Threads"])
        links = [_link(each) for each in (proc / "fd").iterdir()]
        self.sockets = sum(1 for link in links if link.startswith("socket:"))
        self.files = len(links) - self.sockets
        words = (proc / "stat").read_text().rpartition(") ")[2].split()
        self.cpu_s = (int(words[11]) + int(words[12])) / _TICKS


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""


@dataclass(frozen=True, slots=True)
class Judged:
    """One figure: its medians in the second quarter and the last, and how far it may have moved."""

    name: str
    says: str
    second: float
    last: float
    most: float
    flat: bool


def judged(samples: Sequence[Sample]) -> list[Judged]:
    """Each figure's last quarter against its second; the first is for warming up."""
    quarter = len(samples) // 4
    if not quarter:
        raise ValueError("a verdict needs at least four samples")
    found = []
    for name, flat in FLAT.items():
        values = [float(getattr(sample, name)) for sample in samples]
        second, last = median(values[quarter : 2 * quarter]), median(values[-quarter:])
        most = second + max(flat.part * second, flat.least)
        found.append(Judged(name, flat.says, second, last, round(most, 2), last <= most))
    return found


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """As CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [each.name for each in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)


def read_samples(path: Path) -> list[Sample]:
    """What `write_samples` wrote."""
    with path.open(newline="") as file:
        return [msgspec.convert(row, Sample, strict=False) for row in csv.DictReader(file)]
