"""`farebox serve` processes that are killed, frozen, told to stop and started again; their data folders stay."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.house import Farebox
from tests.process import Served, environment, served

# The product's own, and a hold that lapses soon: what stories wait for longer is tried here.
_PATIENCE = {
    "BANK__HOLD_TTL_S": "3",
    "BANK__STATEMENT_TIMEOUT_S": "5",
    "REDIS__CONNECT_TIMEOUT_S": "0.5",
    "REDIS__TIMEOUT_S": "1",
}


class Replica:
    """One of them. ``deaths``: when which process was killed; ``url`` is empty while none runs."""

    def __init__(self, number: int, env: Mapping[str, str], within: Farebox) -> None:
        self.number = number
        self.env = dict(env)
        self.deaths: dict[int, float] = {}
        self.frozen: dict[int, tuple[float, float]] = {}
        self._within = within
        self._stack: AsyncExitStack | None = None
        self._served: Served | None = None

    @property
    def url(self) -> str:
        return self._served.url if self._served is not None else ""

    @property
    def pid(self) -> int:
        assert self._served is not None
        return self._served.process.pid

    @property
    def logs(self) -> list[Path]:
        """What its processes said on standard error."""
        return sorted(Path(self.env["FAREBOX_DATA_DIR"]).parent.glob("log-*.err"))

    async def start(self) -> None:
        """Return when it serves."""
        stack = AsyncExitStack()
        self._served = await stack.enter_async_context(served(self.env, self._within))
        self._stack = stack

    async def kill(self) -> None:
        """SIGKILL."""
        pid = self.pid
        process = self._gone()
        self.deaths[pid] = time.monotonic()
        process.process.kill()
        await self._collect()

    def freeze(self) -> None:
        """SIGSTOP: it stands still, its sockets stay open."""
        self._signal(signal.SIGSTOP)
        self.frozen[self.pid] = (time.monotonic(), float("inf"))

    def wake(self) -> None:
        """SIGCONT."""
        self.frozen[self.pid] = (self.frozen[self.pid][0], time.monotonic())
        self._signal(signal.SIGCONT)

    def term(self) -> None:
        """SIGTERM: it takes no more calls, and goes on for a while."""
        self._signal(signal.SIGTERM)

    async def ended(self, within_s: float = 90.0) -> int:
        """Wait until it is gone by itself; its exit code."""
        assert self._served is not None
        code = await self._served.ended(within_s)
        self._gone()
        await self._collect()
        return code

    async def close(self) -> int:
        """Told to stop, if it runs; its exit code."""
        if self._served is None:
            return 0
        self._signal(signal.SIGCONT)
        self.term()
        return await self.ended()

    def _signal(self, number: signal.Signals) -> None:
        assert self._served is not None
        self._served.process.send_signal(number)

    def _gone(self) -> Served:
        assert self._served is not None
        process, self._served = self._served, None
        return process

    async def _collect(self) -> None:
        assert self._stack is not None
        stack, self._stack = self._stack, None
        await stack.aclose()


def replica(
    number: int,
    folder: Path,
    within: Farebox,
    *,
    database_url: str,
    redis_url: str,
    backend_url: str,
    catalog: str,
    settings: Mapping[str, str],
) -> Replica:
    """A replica that does not run yet. ``catalog`` is TOML added to the usual one."""
    data = folder / f"replica-{number}" / "data"
    data.mkdir(parents=True, mode=0o700)
    env = environment(data, database_url, redis_url, backend_url, **(_PATIENCE | dict(settings)))
    with Path(env["FAREBOX_CONFIG"]).open("a") as file:
        file.write(catalog)
    return Replica(number, env, within)


async def start_all(replicas: Sequence[Replica]) -> None:
    """All at once. Raises what kept one of them from starting, when all have tried."""
    for outcome in await asyncio.gather(*(each.start() for each in replicas), return_exceptions=True):
        if outcome is not None:
            raise outcome


async def close_all(replicas: Sequence[Replica]) -> list[int]:
    """All at once; their exit codes."""
    return await asyncio.gather(*(each.close() for each in replicas))
