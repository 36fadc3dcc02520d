"""`farebox prices import`: a price list beside the catalogue in force, for review, and as new prices when told so.

A price is never edited: what is applied begins at an instant, and the charges made before keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from config.catalog import Catalog, Model, Rates
from config.catalog_sql import add_prices, load
from config.price_list import PriceList, PriceListError, merged, names_of, read_price_list
from config.settings import Settings
from farebox.desk import DeskError, open_desk
from ledger.money import format_price, format_unit_price, format_usd
from ledger.usage import UNIT_KINDS

_BYTES_MAX = 64 * 1024 * 1024
_REFUSED_SHOWN = 50


class Change(NamedTuple):
    """A model's price before (None: it has none) and after, the name the list has for it, and what is to be known."""

    model: str
    listed_as: str
    before: Rates | None
    after: Rates
    notes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        said = "new" if self.before is None else "changed"
        yield f"{said:9} {self.model}" + (f" (listed as {self.listed_as})" if self.listed_as != self.model else "")
        before, after = _flat(self.before or Rates()), _flat(self.after)
        for name in dict.fromkeys((*before, *after)):
            if before.get(name) != after.get(name):
                yield f"    {name:28} {before.get(name, '–'):>12} → {after.get(name, '–')}"
        yield from (f"    note: {note}" for note in self.notes)


@dataclass(frozen=True, slots=True)
class Review:
    """The list against the catalogue: by catalogue id what changes, is refused (and why), or is not in the list."""

    changes: tuple[Change, ...] = ()
    unchanged: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Models of the list that the catalogue does not have; and, of such, those of which something wrong is said."""
    others_refused: dict[str, str] = field(default_factory=dict)

    def lines(self, *, everything: bool = False) -> Iterator[str]:
        """The review as an operator reads it: USD per 1M units, per ONE where it says "each"."""
        for change in self.changes:
            yield from change.lines()
        yield from (f"refused   {model}: {why}" for model, why in self.refused.items())
        yield from (f"not listed {model}" for model in self.unlisted)
        elsewhere = self.others_refused.items()
        yield from _shortened([f"refused   {name} (not in the catalogue): {why}" for name, why in elsewhere])
        if everything:
            yield from (f"could add {name}" for name in self.others)
        yield self._summary()

    def _summary(self) -> str:
        new = sum(change.before is None for change in self.changes)
        counts = {
            "new": new,
            "changed": len(self.changes) - new,
            "unchanged": len(self.unchanged),
            "refused": len(self.refused),
            "not in the list": len(self.unlisted),
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items())
        return f"{said}; the list has {len(self.others)} more models"


def read_file(path: Path) -> PriceList:
    """The price list in a file. Raises PriceListError, naming the file."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise PriceListError(f"{path} is larger than {_BYTES_MAX} bytes")
        return read_price_list(path.read_bytes())
    except OSError as error:
        raise PriceListError(f"{path} cannot be read: {error.strerror}") from None
    except PriceListError as error:
        raise PriceListError(f"{path} {error}" if str(path) not in str(error) else str(error)) from None


def instant_of(text: str, now: datetime) -> datetime:
    """An ISO date or instant, UTC where it names no zone. Raises ValueError: not one, or in the past."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is not a date or instant like 2027-01-31 or 2027-01-31T12:00+01:00") from None
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    if instant < now:
        raise ValueError(f"{text} has passed: what was charged since stays charged, so a price cannot begin before now")
    return instant


async def import_prices(
    settings: Settings, listed: PriceList, *, upstream: str = "", apply: bool = False, effective: datetime | None = None
) -> Review:
    """Compare with the prices in force; ``apply`` enters the new ones. Raises DeskError for an unknown upstream."""
    async with open_desk(settings) as desk:
        catalog = await load(desk.engine)
        if upstream and catalog.upstream(upstream) is None:
            known = ", ".join(sorted(catalog.upstreams)) or "none"
            raise DeskError(f"there is no upstream {upstream}; known are {known}")
        found = review(catalog, listed, upstream)
        if apply:
            await add_prices(desk.engine, {change.model: change.after for change in found.changes}, effective)
        return found


def review(catalog: Catalog, listed: PriceList, upstream: str = "") -> Review:
    """The list against the catalogue, or against the models of one upstream alone."""
    changes, unchanged, refused, unlisted = [], [], {}, []
    matched: set[str] = set()
    for model in sorted(catalog.models.values(), key=lambda model: model.id):
        name = _name_in(listed, model)
        if name is not None:
            matched.add(name)
        if upstream and model.upstream != upstream:
            continue
        if name is None:
            unlisted.append(model.id)
        elif name not in listed.models:
            refused[model.id] = listed.refused.get(name) or listed.unpriced[name]
        elif (change := _change(catalog, listed, model, name)) is not None:
            changes.append(change)
        else:
            unchanged.append(model.id)
    return Review(
        changes=tuple(changes),
        unchanged=tuple(unchanged),
        refused=refused,
        unlisted=tuple(unlisted),
        others=tuple(name for name in listed.models if name not in matched),
        others_refused={name: why for name, why in listed.refused.items() if name not in matched},
    )


def _name_in(listed: PriceList, model: Model) -> str | None:
    return next((name for name in names_of(model) if any(name in names for names in listed)), None)


def _change(catalog: Catalog, listed: PriceList, model: Model, name: str) -> Change | None:
    price, (rates, notes) = catalog.price(model.id), listed.models[name]
    before = price.rates if price else None
    after = merged(before, rates)
    return None if after == before else Change(model.id, name, before, after, notes)


def _flat(rates: Rates) -> dict[str, str]:
    """Every price under a name of its own, as text."""
    shown = {kind: _shown(kind, pico) for kind, pico in rates.pico.items()}
    if rates.per_request:
        shown["per_request"] = f"{format_usd(rates.per_request)} each"
    if (step := rates.long_context) is not None:
        shown |= {f"above {step.above}: {kind}": _shown(kind, pico) for kind, pico in step.pico.items()}
    for name, table in rates.variants.items():
        shown |= {f"{name}: {kind}": _shown(kind, pico) for kind, pico in table.items()}
    return shown


def _shown(kind: str, pico: int) -> str:
    return f"{format_unit_price(pico)} each" if kind in UNIT_KINDS else format_price(pico)


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _REFUSED_SHOWN
    return [*lines[:_REFUSED_SHOWN], f"refused   {more} more"] if more > 0 else lines
