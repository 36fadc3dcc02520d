"""How long a file plays: exact where its headers say it and its bytes agree, else never too short."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.duration import (
    DENSE_BYTES_PER_S,
    MP3_FRAMES_MAX,
    SECONDS_MAX,
    UNKNOWN_BYTES_PER_S,
    Length,
    length,
)
from tests.gateway.forms import Afar


def wav(seconds: float, *, rate: int = 16_000, channels: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(int(seconds * rate) * channels * 2))
    return out.getvalue()


def flac(samples: int, size: int, rate: int = 44_100) -> bytes:
    bits = rate << 44 | 1 << 41 | 15 << 36 | samples
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + bits.to_bytes(8, "big") + bytes(16)
    return (b"fLaC\x80\x00\x00\x22" + info).ljust(size, b"\0")


def page(granule: int, packet: bytes, serial: int = 7) -> bytes:
    return b"OggS\0\0" + struct.pack("<qIII", granule, serial, 0, 0) + bytes([1, len(packet)]) + packet


def opus(granule: int, size: int, serial: int = 7, pre_skip: int = 312) -> bytes:
    head = page(0, b"OpusHead\1\1" + struct.pack("<H", pre_skip) + bytes(7))
    last = page(granule, b"end", serial)
    return head.ljust(max(len(head), size - len(last)), b"\0") + last


def vorbis(granule: int, rate: int) -> bytes:
    return page(0, b"\1vorbis" + bytes(4) + b"\2" + struct.pack("<I", rate)) + page(granule, b"end")


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def mp4(scale: int, units: int, *, version: int = 0, sound: bytes = b"") -> bytes:
    times = bytes(16) if version else bytes(8)
    said = struct.pack(">IQ" if version else ">II", scale, units)
    head = box(b"mvhd", bytes([version, 0, 0, 0]) + times + said)
    return box(b"ftyp", b"M4A \0\0\0\0") + box(b"mdat", sound) + box(b"moov", head)


def mp3(frames: int, *, header: bytes = b"\xff\xfb\x90\x00", size: int = 417) -> bytes:
    return header.ljust(size, b"\0") * frames


def near(found: Length, seconds: float, *, exact: bool) -> bool:
    """Frames are added one by one, so their sum is only as good as a float."""
    return found.exact is exact and abs(found.seconds - seconds) < 1e-6


def test_a_wav_is_as_long_as_its_samples() -> None:
    assert length(wav(2.5)) == Length(2.5, True)
    assert length(wav(0)) == Length(0.0, True)


def test_a_wav_from_a_pipe_does_not_know_its_size_and_ends_with_the_file() -> None:
    body = bytearray(wav(2.0))
    body[40:44] = b"\xff\xff\xff\xff"
    assert length(bytes(body)) == Length(2.0, True)


def test_a_wav_that_claims_more_than_it_holds_is_as_long_as_what_it_holds() -> None:
    assert length(wav(2.0)[:-64_000]) == Length(1.0, True)


def test_a_wav_with_much_sound_behind_its_claimed_end_is_judged_by_all_of_it() -> None:
    body = bytearray(wav(10.0))
    body[40:44] = struct.pack("<I", 4)
    assert length(bytes(body)) == Length(10.0, False)


def test_a_wav_with_other_chunks_is_read_and_a_short_tag_at_the_end_is_not_sound() -> None:
    plain = wav(1.0)
    assert length(plain[:12] + b"LIST\3\0\0\0abc\0" + plain[12:] + b"id3 \4\0\0\0abcd") == Length(1.0, True)


def test_a_compressed_wav_is_judged_by_its_stated_rate() -> None:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 85, 1, 16_000, 2_000, 1, 0)
    body = b"RIFF\0\0\0\0WAVE" + fmt + b"data" + struct.pack("<I", 6_000) + bytes(6_000)
    assert length(body) == Length(3.0, False)


def test_a_flac_says_its_samples() -> None:
    assert length(flac(88_200, 100_000)) == Length(2.0, True)


def test_a_flac_cannot_be_shorter_than_its_bytes_uncompressed() -> None:
    assert length(flac(1, 176_400)) == Length(1.0, False)


def test_a_flac_that_does_not_know_its_samples_is_judged_by_size() -> None:
    assert length(flac(0, 8_000)) == Length(8_000 / UNKNOWN_BYTES_PER_S, False)


def test_an_opus_file_ends_at_its_last_granule_without_the_skipped_beginning() -> None:
    assert length(opus(48_000 * 3 + 312, 9_000)) == Length(3.0, True)


def test_a_vorbis_file_counts_granules_at_its_own_rate() -> None:
    assert length(vorbis(88_200, 44_100)) == Length(2.0, True)


def test_an_ogg_that_claims_too_little_or_holds_two_streams_is_judged_by_size() -> None:
    assert length(opus(400, 640_000)) == Length(640_000 / DENSE_BYTES_PER_S, False)
    assert length(opus(48_000, 8_000, serial=8)) == Length(8_000 / UNKNOWN_BYTES_PER_S, False)


def test_the_last_page_of_a_long_ogg_is_found() -> None:
    assert length(opus(48_000 * 60 + 312, 300_000)) == Length(60.0, True)


@pytest.mark.parametrize("version", [0, 1])
def test_an_mp4_is_believed_but_not_exact(version: int) -> None:
    assert length(mp4(1_000, 2_500, version=version)) == Length(2.5, False)


def test_an_mp4_that_claims_too_little_is_judged_by_size() -> None:
    body = mp4(1_000, 1, sound=bytes(640_000))
    assert length(body) == Length(len(body) / DENSE_BYTES_PER_S, False)


def test_the_frames_of_an_mp3_are_added() -> None:
    assert near(length(mp3(100)), 100 * 1152 / 44_100, exact=True)


def test_tags_of_an_mp3_are_no_sound() -> None:
    tagged = b"ID3\4\0\0\0\0\1\0" + bytes(128) + mp3(100) + b"TAG" + bytes(125)
    assert near(length(tagged), 100 * 1152 / 44_100, exact=True)


def test_an_mpeg_2_frame_holds_half_the_samples() -> None:
    # 64 kbit/s at 22 050 Hz: 208 bytes.
    assert near(length(mp3(10, header=b"\xff\xf3\x80\x00", size=208)), 10 * 576 / 22_050, exact=True)


def test_the_rest_of_a_long_mp3_is_taken_to_be_like_its_beginning() -> None:
    found = length(mp3(2 * MP3_FRAMES_MAX))
    assert near(found, 2 * MP3_FRAMES_MAX * 1152 / 44_100, exact=False)


def test_an_mp3_whose_frames_stop_early_may_hide_sound_and_is_judged_by_size() -> None:
    body = mp3(10) + bytes(100_000)
    assert length(body) == Length(len(body) / UNKNOWN_BYTES_PER_S, False)


def test_what_is_not_known_is_judged_by_size_within_a_bound() -> None:
    assert length(b"\x1aE\xdf\xa3" + bytes(7_996)) == Length(2.0, False)
    assert length(b"") == Length(0.0, False)
    assert length(mp4(1, 2**32 - 1)).seconds < SECONDS_MAX


LONG = {
    "wav": wav(60),
    "flac": flac(44_100 * 60, 3_000_000),
    "ogg": opus(48_000 * 60 + 312, 3_000_000),
    "mp4": mp4(1_000, 60_000, sound=bytes(2_000_000)),
    "unknown": b"\x1aE\xdf\xa3" + bytes(2_000_000),
}


@pytest.mark.parametrize("sound", LONG.values(), ids=LONG)
def test_of_a_long_file_on_disk_only_what_tells_its_time_is_read(sound: bytes) -> None:
    there = Afar(sound)
    assert length(there) == length(sound)
    assert there.taken < 70_000


def test_of_a_long_mp3_only_the_heads_of_its_frames_are_read() -> None:
    there = Afar(mp3(2 * MP3_FRAMES_MAX))
    assert length(there) == length(mp3(2 * MP3_FRAMES_MAX))
    assert (there.most, there.taken // 4 < 2 * MP3_FRAMES_MAX) == (12, True)


HEADS = [wav(0.01), flac(88_200, 60), opus(48_000, 90), vorbis(1, 0), mp4(0, 9), mp3(2)]


@given(st.sampled_from(HEADS), st.integers(0, 100), st.binary(max_size=40))
def test_no_file_raises_or_plays_for_less_than_nothing(head: bytes, at: int, noise: bytes) -> None:
    found = length(head[:at] + noise + head[at + len(noise) :])
    assert 0 <= found.seconds <= SECONDS_MAX
    assert length(head[:at]).seconds >= 0
