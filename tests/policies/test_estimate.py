"""Estimates lean upwards, know the sizes of images from their headers, and follow what models really do."""

from __future__ import annotations

import struct
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimate import (
    IMAGE_UNKNOWN_TOKENS,
    MODELS_MAX,
    RATIO_DECAY,
    RunningP90,
    RunningRatio,
    image_size,
    image_tokens,
    input_tokens,
    output_reserve,
    scaled,
)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06"


def jpeg(width: int, height: int) -> bytes:
    table = b"\xff\xc4" + struct.pack(">H", 20) + b"\xff\xc0" * 9
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width)
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF" + b"\x00" * 10 + table + frame


def webp(form: bytes, rest: bytes) -> bytes:
    return b"RIFF\x00\x00\x00\x00WEBP" + form + b"\x00\x00\x00\x00" + rest


IMAGES = {
    "png": png(640, 480),
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480),
    "jpeg": jpeg(640, 480),
    "webp-lossy": webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 480)),
    "webp-lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14)),
    "webp-extended": webp(b"VP8X", b"\x00" * 4 + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")),
}


def url(data: bytes) -> bytes:
    return b'{"url":"data:image/x;base64,' + b64encode(data + b"\x00" * 60) + b'"}'


def test_input_is_a_third_of_the_bytes_rounded_up_and_the_media_beside() -> None:
    assert input_tokens(10) == 4
    assert input_tokens(9, image_tokens=85, audio_bytes=1_500, file_bytes=80) == 3 + 85 + 2 + 2
    assert input_tokens(0) == 0


def test_another_tokenizer_scales_the_count_and_rounds_up() -> None:
    assert scaled(10, 1_000_000) == 10
    assert scaled(10, 1_250_000) == 13


def test_output_to_hold_is_the_least_bound_for_each_choice() -> None:
    assert output_reserve(1, 1000) == 1000
    assert output_reserve(1, 1000, None, None, None) == 1000
    assert output_reserve(1, 1000, 500, None, 800) == 500
    assert output_reserve(3, 1000, None, 200) == 600
    assert output_reserve(1, 1000, 100_000) == 1000


@pytest.mark.parametrize("data", IMAGES.values(), ids=IMAGES)
def test_the_size_of_an_image_is_read_from_its_header(data: bytes) -> None:
    assert image_size(data) == (640, 480)


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [(512, 512, 1), (513, 512, 2), (1024, 1024, 4), (2048, 4096, 6), (4096, 8192, 6), (768, 2048, 8), (100_000, 1, 4)],
)
def test_an_image_costs_its_tiles(width: int, height: int, tiles: int) -> None:
    assert image_tokens(url(png(width, height))) == 85 + 170 * tiles


def test_low_detail_is_one_flat_price() -> None:
    assert image_tokens(url(png(4096, 4096)), "low") == 85
    assert image_tokens(b"", "low") == 85


@pytest.mark.parametrize(
    "head",
    [b"", b'"https://example.com/a.png"', b'"data:image/png;base64,!!!"', url(b"BM"), url(png(0, 9)), url(b"\xff\xd8")],
)
def test_an_image_of_unknown_size_costs_the_most_an_image_can(head: bytes) -> None:
    assert image_tokens(head) == IMAGE_UNKNOWN_TOKENS


def test_escaped_slashes_in_base64_are_read_as_slashes() -> None:
    data = png(0x3FFFFF00, 600)
    assert b"/" in b64encode(data)
    assert image_tokens(url(data).replace(b"/", b"\\/")) == image_tokens(url(data)) != IMAGE_UNKNOWN_TOKENS


@given(data=st.binary(max_size=80), kind=st.sampled_from([b"", *(image[:12] for image in IMAGES.values())]))
def test_no_header_raises_or_costs_more_than_an_unknown_image(data: bytes, kind: bytes) -> None:
    image_size(kind + data)
    assert 85 <= image_tokens(url(kind + data)) <= IMAGE_UNKNOWN_TOKENS
    assert 85 <= image_tokens(data) <= IMAGE_UNKNOWN_TOKENS


@given(width=st.integers(1, 2**32 - 1), height=st.integers(1, 2**32 - 1))
def test_no_size_costs_more_than_an_unknown_image(width: int, height: int) -> None:
    assert 255 <= image_tokens(url(png(width, height))) <= IMAGE_UNKNOWN_TOKENS


def test_an_unknown_model_is_expected_to_say_the_default() -> None:
    running = RunningP90(default=700)
    assert running.expected("m") == 700
    for _ in range(19):
        running.observe("m", 10)
    assert running.expected("m") == 700
    running.observe("m", 10)
    assert running.expected("m") < 20


@given(outputs=st.lists(st.integers(0, 200_000), min_size=20, max_size=400))
def test_nine_of_ten_answers_stay_within_the_estimate_and_it_is_near_them(
    outputs: list[int],
) -> None:
    running = RunningP90()
    for output in outputs:
        running.observe("m", output)
    exact = sorted(outputs)[-(-len(outputs) * 9 // 10) - 1]
    assert exact <= running.expected("m") <= max(4, exact * 5 // 4)


def test_the_estimate_follows_a_model_that_changes() -> None:
    running = RunningP90()
    for output in [8000] * 2000 + [100] * 3000:
        running.observe("m", output)
    assert running.expected("m") < 200


def test_the_model_not_seen_for_longest_is_forgotten_when_there_are_too_many() -> None:
    running = RunningP90(default=7)
    for model in ["old", "kept", *map(str, range(MODELS_MAX - 1)), "kept"]:
        for _ in range(20):
            running.observe(model, 100)
    assert (running.expected("old"), running.expected("kept") > 7) == (7, True)


def test_an_estimate_is_left_alone_until_five_calls_have_been_seen() -> None:
    running = RunningRatio()
    for _ in range(4):
        running.observe("m", 100, 150)
    assert (running.ratio_ppm("m"), running.correct("m", 100)) == (1_000_000, 100)
    running.observe("m", 100, 150)
    assert (running.ratio_ppm("m"), running.correct("m", 100), running.correct("other", 7)) == (1_500_000, 150, 7)


def test_a_correction_is_rounded_up() -> None:
    running = RunningRatio()
    for _ in range(5):
        running.observe("m", 1000, 1001)
    assert running.correct("m", 10) == 11


@pytest.mark.parametrize(("reported", "ratio"), [(10**18, 8_000_000), (1, 250_000)])
def test_the_ratio_stays_within_its_bounds(reported: int, ratio: int) -> None:
    running = RunningRatio()
    for _ in range(50):
        running.observe("m", 1000, reported)
    assert running.ratio_ppm("m") == ratio


def test_one_absurd_report_among_many_shifts_the_ratio_little() -> None:
    running = RunningRatio()
    for reported in [1000] * 40 + [10**15]:
        running.observe("m", 1000, reported)
    assert running.ratio_ppm("m") < 1_000_000 + 8_000_000 // RATIO_DECAY


def test_the_ratio_follows_a_model_that_changes() -> None:
    running = RunningRatio()
    for reported in [3000] * 500 + [1000] * 200:
        running.observe("m", 1000, reported)
    assert abs(running.ratio_ppm("m") - 1_000_000) < 1000


@pytest.mark.parametrize(("estimated", "reported"), [(0, 5), (5, 0), (-1, 5), (5, -1)])
def test_a_call_without_both_numbers_is_no_observation(estimated: int, reported: int) -> None:
    running = RunningRatio()
    for _ in range(10):
        running.observe("m", estimated, reported)
    assert running.ratio_ppm("m") == 1_000_000


def test_the_ratio_of_the_model_not_seen_for_longest_is_forgotten() -> None:
    running = RunningRatio()
    for model in ["old", "kept", *map(str, range(MODELS_MAX - 1)), "kept"]:
        for _ in range(5):
            running.observe(model, 100, 200)
    assert (running.ratio_ppm("old"), running.ratio_ppm("kept")) == (1_000_000, 2_000_000)
