"""What was measured, as tables for a terminal and as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.figures import Figures, medians, ratio, spread
from bench.rounds import Measured

FORM = 1
_FOREIGN_MAX = 0.10
_HEADS = {
    "calls_per_s": "calls/s",
    "chunks_per_s": "chunks/s",
    "streams_per_s": "streams/s",
    "cpu_us_per_call": "CPU/call µs",
    "cpu_us_per_chunk": "CPU/chunk µs",
    "cpu_us_per_stream": "CPU/stream µs",
    "engines_us_per_call": "engines/call µs",
    "foreign_busy": "foreign",
    "others_busy": "others",
}
_UNITS = (("_ms", " ms"), ("_us", " µs"), ("_kib", " KiB"), ("_mib", " MiB"))
_PARTS = ("busy", "foreign_busy", "others_busy")


def tables(measured: Sequence[Measured]) -> Iterator[str]:
    """A table for each measure: a line for everybody in it, medians of the rounds, and the ratio to Farebox."""
    for each in measured:
        yield f"\n{each.measure.name}: {each.measure.says}"
        if each.skipped:
            yield f"  skipped: {each.skipped}"
        else:
            yield from _laid_out([_head(each), *(_line(each, name) for name in each.names)])
            yield from _doubts(each)


def _head(measured: Measured) -> list[str]:
    columns = [heading(column) for column in measured.measure.columns]
    return ["", *columns, "least … most", f"× {measured.measure.mark}"]


def heading(column: str) -> str:
    """What a figure is called above its column."""
    if column in _HEADS:
        return _HEADS[column]
    name = next((column.removesuffix(end) + unit for end, unit in _UNITS if column.endswith(end)), column)
    return name.replace("_", " ")


def _line(measured: Measured, name: str) -> list[str]:
    runs = measured.runs(name)
    middle, lead = medians(runs), measured.measure.lead
    low, high = spread(run[lead] for run in runs)
    times = ratio(measured.rounds, lead, name, measured.measure.mark)
    cells = [text(column, middle[column]) if column in middle else "–" for column in measured.measure.columns]
    return [name, *cells, f"{text(lead, low)} … {text(lead, high)}", "" if times is None else f"{times:.3g}"]


def text(figure: str, value: float) -> str:
    """A figure as a person reads it: parts of a core in percent, and no more digits than were measured."""
    if figure in _PARTS:
        return f"{value:.0%}"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def _laid_out(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *rest = (
            cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join([first, *rest]).rstrip()


def _doubts(measured: Measured) -> Iterator[str]:
    """Why these figures should not be believed as they are."""
    yield from (f"  {name} could not be measured: {why}" for name, why in measured.failed.items())
    for name in measured.names:
        middle = medians(measured.runs(name))
        if middle.get("bad"):
            yield f"  {name}: {middle['bad']:.0f} calls were refused, cut or came short."
        if middle.get("foreign_busy", 0) > _FOREIGN_MAX:
            yield f"  {name}: other programs used {middle['foreign_busy']:.0%} of its core: quote ratios, not figures."


def document(measured: Sequence[Measured], about: dict[str, Any]) -> dict[str, Any]:
    """Everything, for a program: ``about`` (machine, versions, settings), and of each measure every round."""
    return {"form": FORM, **about, "measures": [_measure(each) for each in measured]}


def _measure(each: Measured) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": each.measure.name, "says": each.measure.says, "lead": each.measure.lead}
    if each.skipped:
        return shown | {"skipped": each.skipped}
    middles: dict[str, Figures] = {name: medians(each.runs(name)) for name in each.names}
    return shown | {
        "more_is_better": each.measure.more_is_better,
        "failed": each.failed,
        "rounds": each.rounds,
        "medians": middles,
    }
