"""What was measured as one picture: for each measure a bar for everybody, on a scale of powers of ten. SVG as
text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, floor, log10

from bench.figures import medians, spread
from bench.report import heading, text
from bench.rounds import Measured

_WIDTH, _LEFT, _RIGHT = 760, 150, 90
_BAR, _GAP, _TITLE = 14, 6, 40
_OURS, _THEIRS, _INK, _LINE, _PALE = "#0b6e4f", "#9aa5b1", "#1f2933", "#d9dee3", "#616e7c"


def plot(measured: Sequence[Measured]) -> str:
    """The picture; of each measure the median of its leading figure, and from the least to the greatest a thin line."""
    shown = [each for each in measured if not each.skipped and each.names]
    pieces, y = [], 10
    for each in shown:
        pieces.append(f'<g transform="translate(0 {y})">{"".join(_panel(each))}</g>')
        y += _height(each)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="{_INK}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(pieces)}</svg>\n'
    )


def _height(each: Measured) -> int:
    return _TITLE + len(each.names) * (_BAR + _GAP) + 16


def _panel(each: Measured) -> Iterator[str]:
    lead = each.measure.lead
    values = {name: [run[lead] for run in each.runs(name) if lead in run] for name in each.names}
    known = [value for runs in values.values() for value in runs if value > 0]
    low, high = (floor(log10(min(known))), ceil(log10(max(known)) + 1e-9)) if known else (0, 1)
    scale = _Scale(low, max(high, low + 1))
    better = "more is better" if each.measure.more_is_better else "less is better"
    yield f'<text x="10" y="14" font-size="13" font-weight="600">{escape(each.measure.name)}</text>'
    yield f'<text x="10" y="29" fill="{_PALE}">{escape(f"{each.measure.says}: {heading(lead)}, {better}")}</text>'
    for power in range(scale.low, scale.high + 1):
        x, bottom = scale.x(10.0**power), _height(each) - 16
        yield f'<path d="M{x:.1f} {_TITLE - 4}V{bottom}" stroke="{_LINE}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 9}" font-size="8" text-anchor="middle">{10.0**power:g}</text>'
    for place, (name, runs) in enumerate(values.items()):
        if runs:
            middle = medians([{lead: value} for value in runs])[lead]
            yield from _bar(_TITLE + place * (_BAR + _GAP), name, middle, spread(runs), lead, scale, each.measure.mark)


class _Scale:
    """From powers of ten to places from left to right."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        part = (log10(value) - self.low) / (self.high - self.low) if value > 0 else 0.0
        return _LEFT + min(max(part, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _bar(
    y: int, name: str, middle: float, ends: tuple[float, float], lead: str, scale: _Scale, mark: str
) -> Iterator[str]:
    right, low, high = scale.x(middle), scale.x(ends[0]), scale.x(ends[1])
    colour, half = _OURS if name == mark else _THEIRS, y + _BAR / 2
    yield f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>'
    yield f'<rect x="{_LEFT}" y="{y}" width="{max(right - _LEFT, 1):.1f}" height="{_BAR}" fill="{colour}"/>'
    yield f'<path d="M{low:.1f} {half}H{high:.1f}" stroke="{_INK}" stroke-width="1.5"/>'
    yield f'<text x="{max(right, high) + 6:.1f}" y="{y + 11}">{escape(text(lead, middle))}</text>'
