"""What a run wrote as JSON, as Markdown for a page of documentation: python -m bench.page bench.json [more.json …]

Of several files each measure is taken from the last that has it, so that a run can be made in parts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import goals
from bench.figures import medians, ratio
from bench.menu import MEASURES
from bench.report import heading, text
from bench.rounds import Measured


def read(documents: Sequence[dict[str, Any]]) -> list[Measured]:
    """The measures of these documents, in the usual order."""
    known = {each["name"]: each for document in documents for each in document["measures"]}
    return [
        Measured(
            measure,
            known[measure.name].get("rounds", []),
            known[measure.name].get("skipped", ""),
            known[measure.name].get("failed", {}),
        )
        for measure in MEASURES
        if measure.name in known
    ]


def page(documents: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The goals, and a table for each measure."""
    measured = read(documents)
    yield from goals.table(measured)
    for each in measured:
        yield f"\n**{each.measure.name}**: {each.skipped or each.measure.says}"
        if not each.skipped:
            yield from _table(each)


def _table(each: Measured) -> Iterator[str]:
    given = {figure for one in each.rounds for figures in one.values() for figure in figures}
    columns = [column for column in each.measure.columns if column in given]
    yield "\n| | " + " | ".join([*map(heading, columns), f"× {each.measure.mark}"]) + " |"
    yield "|---|" + "---:|" * (len(columns) + 1)
    for name in each.names:
        middle, times = medians(each.runs(name)), ratio(each.rounds, each.measure.lead, name, each.measure.mark)
        cells = [text(column, middle[column]) if column in middle else "–" for column in columns]
        yield f"| {name} | " + " | ".join([*cells, "–" if times is None else f"{times:.3g}"]) + " |"
    yield from (f"\n{name} could not be measured: {why}" for name, why in each.failed.items())


if __name__ == "__main__":
    print("\n".join(page([json.loads(Path(name).read_text()) for name in sys.argv[1:]])))
