"""Worst figures beside their bounds, as a table; and what broke a promise."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

# Each: what it says, its unit, its bound in words.
FIGURES: dict[str, tuple[str, str, str]] = {
    "double": ("charged twice", "words too many", "0"),
    "overspend": ("spent beyond what a wallet holds", "nano-USD", "0"),
    "overrun_input": ("the same, where the input was underestimated", "tokens of input", "a fifth of the input + 1"),
    "overrun_tokens": ("the same, the bank away while a hold had to grow", "tokens", "512 + one read of the socket"),
    "wallet": ("wallets whose balance is not credited - spent", "wallets", "0"),
    "reported": ("charged otherwise than the backend reported", "tokens", "0"),
    "counted": ("nothing reported: charged otherwise than was sent", "tokens", "0"),
    "over": ("charged and not sent, by the process's own word", "tokens", "0"),
    "over_kill": ("the same, by a checkpoint", "tokens", "0"),
    "over_input": ("input charged beyond the prompt", "tokens", "0"),
    "under": ("delivered and not charged, no process killed", "tokens", "0"),
    "under_kill_s": ("delivered and not charged after a kill", "s of its stream", "beat + 1 + late"),
    "late_s": ("the longest a replica or the bank took for nothing", "s", "-"),
    "under_kill_tokens": ("the same", "tokens", "-"),
    "under_dark_s": ("the same, the bank away, too", "s of its stream", "since the bank was away"),
    "foreign": ("bytes of another call", "calls", "0"),
    "made_up": ("received and not sent", "tokens", "0"),
    "short": ("missing from an answer said to be whole", "tokens", "0"),
    "cost_told": ("cost told - cost charged", "nano-USD", "0"),
    "unheld": ("backend calls without a hold", "calls", "0"),
    "unpaid": ("answers without a charge", "calls", "0"),
    "unsent": ("charges without a backend call", "calls", "0"),
    "given_up": ("calls of a living process taken for dead", "calls", "0"),
    "status": ("answers with 500, or cut without a word", "calls", "0"),
    "hangs": ("calls that never ended", "calls", "0"),
    "lost_streams": ("streams that did not reach their end", "calls", "0"),
    "stop_s": ("until a replica that was hurried is gone", "s", "-"),
    "unposted": ("open holds of a process that has exited", "holds", "0"),
    "unplaced": ("rows in a default partition", "rows", "0"),
    "allowance": ("drawn on one month's allowance", "of it", "1"),
    "month": ("the old month's calls on the next one's money", "nano-USD", "no more than the other way"),
    "window": ("calls admitted in a window", "of the limit", "1"),
    "window_dark": ("the same, Redis not to be asked", "of the limit", "2"),
    "bites_s": ("until a change bites on every replica", "s", "2"),
    "probe_s": ("until a good call after the last fault", "s", "10"),
    "holds_s": ("until nothing is held, after the last call", "s", "horizon + 60"),
    "slots_s": ("until every slot is free, after the last call", "s", "15 + 1 between looks"),
    "spool": ("files with settlements left on disk", "files", "0"),
    "errors": ("errors logged", "lines", "0"),
    "exit": ("replicas told to stop exit with", "", "0"),
    "verify": ("`farebox verify` exits", "", "0"),
}
_SHOWN_MAX = 20


@dataclass
class Report:
    """Of one case. It is good as long as nothing broke."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        return not self.broken

    def counted(self, what: str, more: int = 1) -> None:
        """Something that is neither good nor bad."""
        self.counts[what] += more

    def worst(self, name: str, value: float) -> None:
        """A figure without a bound of its own."""
        assert name in FIGURES, name
        self.figures[name] = max(self.figures.get(name, 0.0), value)

    def bound(self, name: str, value: float, most: float, about: str = "") -> None:
        """A figure that may not be above ``most``."""
        self.worst(name, value)
        if value > most:
            self.broken.append(f"{name}: {value:g} above {most:g}: {about}")

    def broke(self, name: str, about: str) -> None:
        """One more of what may not be at all."""
        self.figures[name] = self.figures.get(name, 0.0) + 1
        self.broken.append(f"{name}: {about}")

    def table(self) -> str:
        """To print: figures in the order above, then counts, then what broke."""
        rows = [(FIGURES[name][0], value, *FIGURES[name][1:]) for name, value in self._sorted()]
        lines = [f"{says:<58} {_number(value):>12} {unit:<16} {bound}" for says, value, unit, bound in rows]
        lines += [f"  {what}: {number}" for what, number in sorted(self.counts.items())]
        lines += [f"  BROKEN {line}" for line in self.broken[:_SHOWN_MAX]]
        if len(self.broken) > _SHOWN_MAX:
            lines.append(f"  … and {len(self.broken) - _SHOWN_MAX} more")
        return "\n".join([f"{self.name}: {'good' if self.good else 'BROKEN'}", *lines])

    def _sorted(self) -> list[tuple[str, float]]:
        return [(name, self.figures[name]) for name in FIGURES if name in self.figures]


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
