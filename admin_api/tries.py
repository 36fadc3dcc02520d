"""Wrong tries by address, in this process's memory: whoever tries too often waits, even with the right key. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable


class Tries:
    """At most ``most`` wrong tries of one address in ``window_s`` seconds, for the last ``addresses_max`` addresses
    that tried. ``clock`` counts seconds."""

    def __init__(
        self, clock: Callable[[], float], *, most: int = 20, window_s: float = 60.0, addresses_max: int = 10_000
    ) -> None:
        self._clock = clock
        self._most = most
        self._window_s = window_s
        self._addresses_max = addresses_max
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try again; 0: at once."""
        times = self._seen.get(address)
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[0] + self._window_s - self._clock())

    def wrong(self, address: str) -> None:
        """Count a wrong try."""
        times = self._seen.setdefault(address, deque(maxlen=self._most))
        times.append(self._clock())
        self._seen.move_to_end(address)
        if len(self._seen) > self._addresses_max:
            self._seen.popitem(last=False)
