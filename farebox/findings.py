"""What the doctor finds: one value for each thing that was looked at, and how it is printed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "note", "warning", "error"]

_ORDER: tuple[Verdict, ...] = ("ok", "note", "warning", "error")


@dataclass(frozen=True, slots=True)
class Found:
    """One thing: of which area (database, redis …), what was looked at, how it is, and a sentence.

    A ``note`` is worth knowing, a ``warning`` may hurt somebody, an ``error`` does.
    """

    area: str
    subject: str
    verdict: Verdict
    says: str

    def line(self) -> str:
        """As an operator reads it."""
        mark = self.verdict if self.verdict in ("ok", "note") else self.verdict.upper()
        return f"{mark:8} {self.area:14} {self.subject:24} {self.says}"


def worst(found: Iterable[Found]) -> Verdict:
    """The gravest verdict."""
    return max((each.verdict for each in found), key=_ORDER.index, default="ok")


def lines(found: Sequence[Found]) -> Iterator[str]:
    """A line for each, and a last one that counts them."""
    yield from (each.line() for each in found)
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in _ORDER}
    told = [f"{counts[verdict]} {verdict}{'s' if counts[verdict] != 1 else ''}" for verdict in ("error", "warning")]
    yield f"{' and '.join(told)} in {len(found)} things looked at"


def document(found: Sequence[Found]) -> dict[str, Any]:
    """All of it for machines."""
    return {"verdict": worst(found), "found": [asdict(each) for each in found]}
