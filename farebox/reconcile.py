"""`farebox reconcile`: a vendor's usage export beside the ledger, figure by figure, and where the two differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from config.catalog_sql import load
from config.settings import Settings
from farebox.desk import DeskError, open_desk
from farebox.vendor_usage import Key, VendorUsage, VendorUsageError, read_vendor_usage
from ledger.reconcile import Used, used

_BYTES_MAX = 512 * 1024 * 1024
# Vendors name the dated release that answered where we asked for the model by its family name.
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


class Line(NamedTuple):
    """One figure on both sides; None where that side has nothing of this model on this day."""

    day: date
    model: str
    measure: str
    vendor: Decimal | None
    ledger: int | None

    @property
    def difference(self) -> Decimal:
        return (self.vendor or Decimal(0)) - (self.ledger or 0)

    def exceeds(self, tolerance: Decimal) -> bool:
        """Whether the sides differ by more than this part of the vendor's figure."""
        return abs(self.difference) > tolerance * (self.vendor or 0)

    def text(self, tolerance: Decimal) -> str:
        part = f"{self.difference / self.vendor:+.2%}" if self.vendor else "" if not self.difference else "–"
        mark = "  DIFFERS" if self.exceeds(tolerance) else ""
        figures = f"{_shown(self.vendor):>16} {_shown(self.ledger):>16} {self.difference:>+16f} {part:>9}"
        return f"{self.day} {self.model:32} {self.measure:24} {figures}{mark}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures, and what the reader should know beside them."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    tolerance: Decimal

    @property
    def agrees(self) -> bool:
        return not any(line.exceeds(self.tolerance) for line in self.lines)

    def text(self) -> Iterator[str]:
        head = f"{'vendor':>16} {'ledger':>16} {'difference':>16} {'':>9}"
        yield f"{'day':10} {'model':32} {'kind':24} {head}".rstrip()
        yield from (line.text(self.tolerance) for line in self.lines)
        yield from (f"note: {note}" for note in self.notes)
        beyond = sum(line.exceeds(self.tolerance) for line in self.lines)
        yield f"{len(self.lines)} figures compared, {beyond} differ by more than {self.tolerance * 100:f} %"


def read_file(path: Path) -> VendorUsage:
    """The export in a file. Raises VendorUsageError, naming the file."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise VendorUsageError(f"is larger than {_BYTES_MAX} bytes")
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return read_vendor_usage(lines)
    except OSError as error:
        raise VendorUsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise VendorUsageError(f"{path} is not UTF-8 text") from None
    except VendorUsageError as error:
        raise VendorUsageError(f"{path}: {error}") from None


def tolerance_of(text: str) -> Decimal:
    """``1%`` or ``0.5`` (percent, too) -> 0.01 or 0.005. Raises ValueError."""
    try:
        part = Decimal(text.strip().removesuffix("%").strip()) / 100
    except InvalidOperation:
        part = Decimal("NaN")
    if not part.is_finite() or not 0 <= part <= 1:
        raise ValueError(f"{text} is not a part from 0% to 100%")
    return part


async def reconcile(settings: Settings, vendor: VendorUsage, *, upstream: str, tolerance: Decimal) -> Comparison:
    """Compare with the ledger over the days of the export. Raises DeskError for an unknown upstream."""
    async with open_desk(settings) as desk:
        catalog = await load(desk.engine)
        if upstream and catalog.upstream(upstream) is None:
            known = ", ".join(sorted(catalog.upstreams)) or "none"
            raise DeskError(f"there is no upstream {upstream}; known are {known}")
        days = [key.day for key in vendor.amounts]
        told = await used(desk.engine, min(days), max(days)) if days else []
    upstream_names = {model.id: model.upstream_model for model in catalog.models.values()}
    return compare(vendor, [row for row in told if upstream in ("", row.upstream)], upstream_names, tolerance)


def compare(
    vendor: VendorUsage, told: Iterable[Used], upstream_names: Mapping[str, str], tolerance: Decimal
) -> Comparison:
    """Every figure either side has. ``upstream_names``: what the backend calls each model of the catalogue."""
    ours = _by_model(told, upstream_names)
    known = {*upstream_names.values(), *(model for _, model in ours)}
    amounts, renamed = _undated(vendor.amounts, known)
    lines = []
    for day, model in sorted({(key.day, key.model) for key in amounts} | set(ours)):
        parts = ours.get((day, model))
        for kinds, name in vendor.names.items():
            theirs = amounts.get(Key(day, model, kinds))
            figure = None if parts is None else sum(parts.get(kind, 0) for kind in kinds)
            if theirs is not None or figure:
                lines.append(Line(day, model, name, theirs, figure))
    notes = (*renamed, *_notes(vendor, ours, {key.model for key in amounts} - known))
    return Comparison(tuple(lines), notes, tolerance)


def _by_model(told: Iterable[Used], upstream_names: Mapping[str, str]) -> dict[tuple[date, str], dict[str, int]]:
    ours: dict[tuple[date, str], dict[str, int]] = {}
    for row in told:
        parts = ours.setdefault((row.day, upstream_names.get(row.model, row.model)), {})
        parts[row.kind] = parts.get(row.kind, 0) + row.amount
    return ours


def _undated(amounts: Mapping[Key, Decimal], known: set[str]) -> tuple[dict[Key, Decimal], list[str]]:
    """The figures under the names that are known here, and a sentence for each name that was shortened for it."""
    found: dict[Key, Decimal] = {}
    renamed: dict[str, str] = {}
    for key, amount in amounts.items():
        family = _DATED.sub("", key.model)
        if key.model not in known and family in known:
            renamed[key.model] = family
            key = key._replace(model=family)
        found[key] = found.get(key, Decimal(0)) + amount
    return found, [f"{dated} of the file is taken for {family}" for dated, family in sorted(renamed.items())]


def _notes(
    vendor: VendorUsage, ours: Mapping[tuple[date, str], Mapping[str, int]], strangers: set[str]
) -> Iterator[str]:
    if vendor.unknown_columns:
        yield f"columns of the file that are not read: {', '.join(sorted(vendor.unknown_columns))}"
    if vendor.unknown_kinds:
        yield f"kinds of the file that are not known and not compared: {', '.join(sorted(vendor.unknown_kinds))}"
    if strangers:
        yield f"models of the file that are neither in the catalogue nor in the ledger: {', '.join(sorted(strangers))}"
    covered = {kind for kinds in vendor.names for kind in kinds}
    silent = sorted({kind for parts in ours.values() for kind in parts} - covered)
    if silent:
        yield f"kinds of the ledger of which the file says nothing: {', '.join(silent)}"


def _shown(amount: Decimal | int | None) -> str:
    return "–" if amount is None else f"{amount:f}" if isinstance(amount, Decimal) else str(amount)
