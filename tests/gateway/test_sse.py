"""Lines come out as they came in, wherever the stream was cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import EventTooLarge, LineReader, payload

PIECES = st.lists(st.sampled_from([b"data: x", b"\n", b"\r", b"\r\n", b"", b"\xef\xbb\xbf", "ü🦊".encode(), b": c"]))


def read(*parts: bytes) -> list[bytes]:
    reader = LineReader()
    lines = [line for part in parts for line in reader.feed(part)[1]]
    rest = reader.close()
    return [*lines, rest] if rest else lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_line_end_of_the_format_ends_a_line(end: bytes) -> None:
    assert read(b"data: a" + end + end + b"data: b" + end) == [b"data: a" + end, end, b"data: b" + end]


def test_a_carriage_return_at_the_end_waits_for_its_line_feed() -> None:
    reader = LineReader()
    assert reader.feed(b"data: a\r") == (b"", [])
    assert reader.feed(b"\nb") == (b"data: a\r\n", [b"data: a\r\n"])
    assert reader.close() == b"b"


def test_a_block_of_whole_lines_is_passed_without_a_copy() -> None:
    block = b"data: a\n\ndata: b\n\n"
    assert LineReader().feed(block)[0] is block


@given(pieces=PIECES, cuts=st.sets(st.integers(0, 60)))
def test_any_cut_gives_the_same_lines_and_all_the_bytes(pieces: list[bytes], cuts: set[int]) -> None:
    whole = b"".join(pieces)
    edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*parts) == read(whole) == whole.splitlines(True)
    assert b"".join(read(*parts)) == whole


def test_the_block_is_always_the_lines_joined() -> None:
    reader = LineReader()
    for part in (b"a", b"\r", b"\nb\rc", b"\n\r", b"d\n"):
        block, lines = reader.feed(part)
        assert block == b"".join(lines)


def test_a_line_without_end_is_refused_at_its_bound() -> None:
    reader = LineReader(line_bytes_max=100)
    for _ in range(10):
        reader.feed(b"0123456789")
    with pytest.raises(EventTooLarge):
        reader.feed(b"x")


def test_a_finished_line_over_the_bound_is_refused_too() -> None:
    with pytest.raises(EventTooLarge):
        LineReader(line_bytes_max=10).feed(b"0123456789a\n")
    assert LineReader(line_bytes_max=10).feed(b"01234\n" * 9)[1] == [b"01234\n"] * 9


def test_the_payload_of_a_data_line_is_what_stands_after_colon_and_one_space() -> None:
    assert payload(b"data: x\r\n") == b"x"
    assert payload(b"data:x\n") == b"x"
    assert payload(b"data:  x") == b" x"
    assert payload(b"\xef\xbb\xbfdata: x\n") == b"x"
    assert payload(b"data\n") == b""


def test_other_lines_have_no_payload() -> None:
    assert [payload(line) for line in (b": data: x\n", b"event: x\n", b"\n", b" data: x\n", b"database: 1\n")] == [
        None
    ] * 5
