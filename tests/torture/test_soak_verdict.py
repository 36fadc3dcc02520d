"""What a soak calls flat, and its picture."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.torture.plot import SHOWN, plot
from tests.torture.samples import FLAT, Sample, judged, read_samples, write_samples
from tests.torture.soak import markdown


def _samples(count: int = 80, **growth: float) -> list[Sample]:
    """A town at rest, with some noise; ``growth`` is what a figure gains with each sample."""
    chance = random.Random(1)
    rows = []
    for at in range(count):
        values = {each.name: 100 + chance.randint(-2, 2) + growth.get(each.name, 0) * at for each in fields(Sample)}
        rest = {"spool_files": 0, "holds_quarantined": 0, "posting_lag_s": 0.0}
        rows.append(Sample(**{**{k: int(v) for k, v in values.items()}, **rest, "at_s": at * 10.0}))  # type: ignore[arg-type]
    return rows


def test_a_town_at_rest_is_flat() -> None:
    assert all(each.flat for each in judged(_samples()))


@pytest.mark.parametrize(
    "name", [name for name in FLAT if name not in ("spool_files", "holds_quarantined", "posting_lag_s")]
)
def test_what_grows_is_seen(name: str) -> None:
    growth: dict[str, Any] = {name: 2.0}
    assert [each.name for each in judged(_samples(**growth)) if not each.flat] == [name]


def test_a_start_that_warms_up_is_not_growth() -> None:
    cold = [replace(sample, memory_mib=50 + at) if at < 20 else sample for at, sample in enumerate(_samples())]
    assert all(each.flat for each in judged(cold))


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(ValueError, match="four samples"):
        judged(_samples(3))


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    samples = _samples(5)
    write_samples(tmp_path / "samples.csv", samples)
    assert read_samples(tmp_path / "samples.csv") == samples


def test_the_picture_has_a_line_for_each_figure_and_is_sound() -> None:
    root = ET.fromstring(plot(_samples(posting_lag_s=0.01)))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(SHOWN) and all(len(line.attrib["points"].split()) == 80 for line in lines)


def test_the_table_names_what_grows() -> None:
    told = markdown(judged(_samples(sockets=3.0)))
    assert [line for line in told.splitlines() if "grows" in line] == [
        line for line in told.splitlines() if "sockets" in line
    ]
