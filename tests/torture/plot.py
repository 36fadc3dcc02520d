"""The soak as a picture: small charts, one line each, over the same hours. SVG written by hand."""

from __future__ import annotations

from collections.abc import Sequence

from tests.torture.samples import Sample

SHOWN = {
    "memory_mib": "memory of both replicas, MiB",
    "sockets": "sockets of both",
    "calls_open": "calls running",
    "holds_open": "open holds",
    "slots": "slots in Redis",
    "redis_keys": "keys in Redis, without marks",
    "idempotency_marks": "idempotency marks (kept 24 h)",
    "redis_mib": "memory of Redis, MiB",
    "posting_lag_s": "posting lag, s",
    "cpu_percent": "CPU of both replicas, % of a core",
}
_COLUMNS = 2
_WIDTH, _HEIGHT = 420, 130
_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 26, 12, 22
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#444}.t{font-weight:600;fill:#111}"
    ".g{stroke:#ddd;stroke-width:1}.l{fill:none;stroke:#1f5fa8;stroke-width:1.2}"
)


def plot(samples: Sequence[Sample]) -> str:
    """An SVG document."""
    rows = -(-len(SHOWN) // _COLUMNS)
    width, height = _COLUMNS * _WIDTH, rows * _HEIGHT
    charts = [
        f'<g transform="translate({at % _COLUMNS * _WIDTH},{at // _COLUMNS * _HEIGHT})">'
        f"{_chart(samples, name, title)}</g>"
        for at, (name, title) in enumerate(SHOWN.items())
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    back = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", back, *charts, "</svg>", ""])


def _chart(samples: Sequence[Sample], name: str, title: str) -> str:
    values = [float(getattr(sample, name)) for sample in samples]
    top = _ceiling(max(values))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    last = samples[-1].at_s or 1.0
    points = " ".join(
        f"{_LEFT + wide * sample.at_s / last:.1f},{_TOP + high * (1 - value / top):.1f}"
        for sample, value in zip(samples, values, strict=True)
    )
    parts = [f'<text class="t" x="{_LEFT}" y="16">{title}</text>']
    parts += [_grid(_TOP + high * (1 - share), f"{top * share:g}") for share in (0, 0.5, 1)]
    parts += [_hour(_LEFT + wide * share, f"{last * share / 60:.0f} min", share) for share in (0, 0.5, 1)]
    return "".join([*parts, f'<polyline class="l" points="{points}"/>'])


def _grid(y: float, label: str) -> str:
    line = f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _hour(x: float, label: str, share: float) -> str:
    anchor = {0: "start", 0.5: "middle", 1: "end"}[share]
    return f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{label}</text>'


def _ceiling(value: float) -> float:
    """A round number above the value."""
    if value <= 0:
        return 1.0
    size = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.1
    return next(step * size for step in (1, 2, 3, 4, 5, 6, 8, 10, 20) if step * size >= value)
