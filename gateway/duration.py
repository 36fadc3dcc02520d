"""How long an audio file plays, from its bytes, of which only those that tell it are read. Pure.

Only where a backend does not say it: WAV, FLAC, Ogg and MP3 are read from their own headers, an MP4 is believed within
bounds, anything else is judged by its size. Headers are the sender's word, so none may claim less time than the bytes
beside it need at the format's densest; what is not exact leans upwards and says so.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from gateway.stored import Body

UNKNOWN_BYTES_PER_S = 4_000  # 32 kbit/s: speech in WebM, AMR and the like; lower than most, so that the time leans up
DENSE_BYTES_PER_S = 64_000  # 512 kbit/s: no speech codec with losses is denser
SECONDS_MAX = 7 * 86_400
MP3_FRAMES_MAX = 4_096  # read one by one, 107 s of music; the rest of a longer file is taken to be like them

_STREAMED = (0, 0xFFFFFFFF)  # a WAV written to a pipe does not know its size
_PCM = (1, 3, 0xFFFE)
_TAIL_BYTES_MAX = 64 * 1024  # tags after the sound
_CHUNKS_MAX = 64
_BOXES_MAX = 256


class Length(NamedTuple):
    """Playing time in seconds; `exact` if the file itself says it and nothing speaks against it."""

    seconds: float
    exact: bool


def length(data: Body) -> Length:
    """The playing time of a whole audio file. Raises nothing but what reading it may raise (OSError)."""
    try:
        found = _by_header(data)
    except (struct.error, ValueError, ZeroDivisionError):
        found = None
    if found is None or not 0 <= found.seconds <= SECONDS_MAX:
        return _by_size(len(data))
    return found


def _by_header(data: Body) -> Length | None:
    head = data[:12]
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav(data)
    if head[:4] == b"fLaC":
        return _flac(data)
    if head[:4] == b"OggS":
        return _ogg(data)
    if head[4:8] == b"ftyp":
        return _mp4(data)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        return _mp3(data)
    return None


def _by_size(size: int, bytes_per_s: float = UNKNOWN_BYTES_PER_S) -> Length:
    return Length(min(SECONDS_MAX, size / bytes_per_s), False)


def _not_below(seconds: float, size: int, densest: float) -> Length:
    """What a header claims, unless its bytes cannot be played in so short a time."""
    least = size / densest
    return Length(seconds, True) if seconds >= least else Length(least, False)


def _unpack(form: str, data: Body, at: int) -> tuple[Any, ...]:
    """Raises struct.error where the data ends before."""
    return struct.unpack(form, data[at : at + struct.calcsize(form)])


def _wav(data: Body) -> Length | None:
    """The chunks of RIFF WAVE: `fmt ` tells the rate, `data` the size (Microsoft, "Multimedia Data Standards")."""
    at, rate, pcm = 12, 0, False
    for _ in range(_CHUNKS_MAX):
        name, size = _unpack("<4sI", data, at)
        if name == b"fmt ":
            form, channels, samples_per_s, bytes_per_s, _, bits = _unpack("<HHIIHH", data, at + 8)
            pcm = form in _PCM
            rate = channels * samples_per_s * (bits // 8) if pcm else bytes_per_s
        if name == b"data":
            return _wav_sound(len(data) - at - 8, size, rate, pcm)
        at += 8 + size + size % 2
    return None


def _wav_sound(there: int, claimed: int, rate: int, pcm: bool) -> Length:
    if claimed in _STREAMED or claimed > there:
        return Length(there / rate, pcm)
    # A decoder that does not believe the size would play what stands behind it too.
    if there - claimed > _TAIL_BYTES_MAX:
        return Length(there / rate, False)
    return Length(claimed / rate, pcm)


def _flac(data: Body) -> Length | None:
    """STREAMINFO (RFC 9639, 8.2): 20 bits rate, 3 bits channels, 5 bits depth, 36 bits number of samples."""
    bits = int.from_bytes(data[18:26], "big")
    rate, channels, depth = bits >> 44, (bits >> 41 & 7) + 1, (bits >> 36 & 31) + 1
    samples = bits & 0xFFFFFFFFF
    # Without losses it is never denser than the samples themselves.
    return _not_below(samples / rate, len(data), rate * channels * depth / 8) if samples else None


def _ogg(data: Body) -> Length | None:
    """One logical stream (RFC 3533): the last page's granule position is its length in samples."""
    tail = max(0, len(data) - _TAIL_BYTES_MAX - 282)  # a page is at most 64 kB and its header of 282 bytes
    last = tail + data[tail : len(data)].rfind(b"OggS")
    serial, (granule, its_serial) = data[14:18], _unpack("<q4s", data, last + 6)
    first = 27 + int.from_bytes(data[26:27], "big")
    kind = data[first : first + 16]
    if its_serial != serial or granule < 0:
        return None  # chained or multiplexed
    if kind.startswith(b"OpusHead"):
        granule -= int.from_bytes(kind[10:12], "little")
        return _not_below(max(0, granule) / 48_000, len(data), DENSE_BYTES_PER_S)
    if kind.startswith(b"\x01vorbis"):
        return _not_below(granule / int.from_bytes(kind[12:16], "little"), len(data), DENSE_BYTES_PER_S)
    return None


def _mp4(data: Body) -> Length | None:
    """`moov` begins with `mvhd` (ISO/IEC 14496-12, 8.2.2). The sample tables are not read, so it is never exact."""
    at, inside = 0, False
    for _ in range(_BOXES_MAX):
        size, name = _unpack(">I4s", data, at)
        header = 8
        if size == 1:
            (size,), header = _unpack(">Q", data, at + 8), 16
        if name == b"mvhd" and inside:
            return _not_below(_mvhd(data, at + header), len(data), DENSE_BYTES_PER_S)._replace(exact=False)
        inside = inside or name == b"moov"
        at += header if name == b"moov" else max(header, size)
    return None


def _mvhd(data: Body, at: int) -> float:
    scale, units = _unpack(">IQ", data, at + 20) if data[at : at + 1] == b"\1" else _unpack(">II", data, at + 12)
    return float(units / scale)


# Kilobits a second by index, for layer III of MPEG 1 and of MPEG 2 and 2.5 (ISO/IEC 11172-3 and 13818-3, 2.4.2.3).
_MPEG1_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_RATES = (44_100, 48_000, 32_000)


class _Frame(NamedTuple):
    bytes: int
    seconds: float


def _mp3(data: Body) -> Length | None:
    """Frame after frame; in a long file, what the first ones need for a second is taken to be what all need."""
    begin = at = _after_tag(data)
    seconds, frame = 0.0, _frame(data, at)
    for _ in range(MP3_FRAMES_MAX):
        if frame is None:
            break
        at, seconds = at + frame.bytes, seconds + frame.seconds
        frame = _frame(data, at)
    if frame is not None:
        return _by_size(len(data) - begin, (at - begin) / seconds)
    # Sound that was not found may stand behind what is no frame.
    return Length(seconds, True) if seconds and len(data) - at <= _TAIL_BYTES_MAX else None


def _after_tag(data: Body) -> int:
    """Where the sound begins: an ID3v2 tag tells its size in four bytes of seven bits (id3.org, ID3v2.4.0, 3.1)."""
    if data[:3] != b"ID3":
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def _frame(data: Body, at: int) -> _Frame | None:
    """The layer III frame whose header stands at `at`."""
    head = int.from_bytes(data[at : at + 4], "big")
    version, layer, kbits, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = _MPEG1_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if first else 576
    size = samples // 8 * (_MPEG1_KBITS if first else _MPEG2_KBITS)[kbits] * 1000 // hertz + (head >> 9 & 1)
    return _Frame(size, samples / hertz)
