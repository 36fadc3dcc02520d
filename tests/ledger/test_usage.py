"""Usage is a vector of disjoint parts; frames of it are cumulative."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ledger.usage import INPUT_KINDS, KINDS, OUTPUT_KINDS, TOKEN_KINDS, Usage

usages = st.builds(lambda parts: Usage(**parts), st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**12)))


def test_every_kind_is_a_part_and_every_part_a_kind() -> None:
    assert Usage.__struct_fields__ == KINDS


@given(usages)
def test_tokens_are_the_sum_of_the_token_parts_and_of_nothing_else(usage: Usage) -> None:
    assert usage.input_tokens == sum(getattr(usage, kind) for kind in INPUT_KINDS)
    assert usage.output_tokens == sum(getattr(usage, kind) for kind in OUTPUT_KINDS)
    assert usage.tokens == sum(getattr(usage, kind) for kind in TOKEN_KINDS)


def test_counts_of_other_units_are_no_tokens() -> None:
    assert Usage(web_searches=1, images=2, seconds=3, characters=4).tokens == 0


@given(usages, usages)
def test_the_maximum_takes_the_larger_of_each_part(one: Usage, other: Usage) -> None:
    both = one.maximum(other)
    assert both == other.maximum(one)
    assert all(getattr(both, kind) == max(getattr(one, kind), getattr(other, kind)) for kind in KINDS)


def test_a_repeated_frame_changes_nothing() -> None:
    frame = Usage(input=10, output=5)
    assert frame.maximum(frame) == frame


@given(usages)
def test_the_parts_leave_out_zeros_and_build_the_same_usage(usage: Usage) -> None:
    assert 0 not in usage.parts().values()
    assert Usage(**usage.parts()) == usage
    assert msgspec.json.decode(msgspec.json.encode(usage), type=Usage) == usage
