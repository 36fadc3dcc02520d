"""Bodies behind slices: what is read of them is what the same bytes would give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import stored
from gateway.stored import Body, Rope, Run, find
from tests.gateway.forms import Afar

BODY = bytes(range(256))
BODIES: tuple[Body, ...] = BODY, Afar(BODY)
BOUNDS = st.integers(-300, 600) | st.none()


@st.composite
def ropes(draw: st.DrawFn) -> tuple[Rope, bytes]:
    """A rope of stretches in memory and elsewhere, and the bytes it stands for."""
    runs: list[Run] = []
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.tuples(st.integers(0, 256), st.integers(0, 256))))
        runs.append((draw(st.sampled_from(BODIES)), start, end))
    return Rope(runs), b"".join([body[start:end] for body, start, end in runs])


@given(ropes(), BOUNDS, BOUNDS)
def test_a_rope_is_cut_as_its_bytes_are(rope: tuple[Rope, bytes], start: int | None, end: int | None) -> None:
    found, whole = rope
    assert len(found) == len(whole)
    assert found[start:end] == whole[start:end]


@given(ropes())
async def test_a_rope_is_read_piece_by_piece_as_its_bytes_are(rope: tuple[Rope, bytes]) -> None:
    found, whole = rope
    pieces = [await found.read(start, min(start + 100, len(found))) for start in range(0, len(found), 100)]
    assert b"".join(pieces) == whole


def test_a_rope_reads_no_more_than_it_is_asked_for() -> None:
    body = Afar(BODY)
    rope = Rope([(body, 0, 100), (b"new", 0, 3), (body, 120, 256)])
    assert body.taken == 0
    assert rope[98:105] == BODY[98:100] + b"new" + BODY[120:122]
    assert body.taken == 4


@pytest.mark.parametrize("body", [BODY * 3, Afar(BODY * 3)], ids=["in memory", "elsewhere"])
def test_what_is_sought_is_found_from_a_place_on(body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    for window in (1, 2, 3, 7, 255, 256, 257, 5000):
        monkeypatch.setattr(stored, "WINDOW_BYTES", window)
        for at in (0, 1, 250, 253, 255):
            needle = (BODY + BODY)[at : at + 5]
            assert find(body, needle, 0) == at
            assert find(body, needle, at + 1) == at + 256
        assert find(body, BODY[:2], 600) == -1
        assert find(body, b"not there", 0) == -1
