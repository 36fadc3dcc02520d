"""How much a call may use, before it runs: the size of its hold in tokens. Pure; values in, numbers out.

Estimates lean upwards, because a hold gives back what was not used. Knows neither bodies nor prices: it is given byte
counts and image headers, and returns tokens.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Iterable

PPM = 1_000_000
BYTES_PER_TOKEN = 3
AUDIO_BYTES_PER_TOKEN = 1_000  # base64 of compressed speech: 10 tokens and about 16 kB a second
FILE_BYTES_PER_TOKEN = 40  # base64 of a document page: some 60 kB and 1500 tokens

# OpenAI's tile rule (its guide "Images and vision", costs): shrink to fit 2048 x 2048, then the short side to 768,
# then count tiles of 512. Low detail is one flat price.
IMAGE_BASE_TOKENS = 85
IMAGE_TILE_TOKENS = 170
IMAGE_UNKNOWN_TOKENS = IMAGE_BASE_TOKENS + 8 * IMAGE_TILE_TOKENS  # no rule gives an image more than eight tiles
_FIT, _SHORT, _TILE = 2048, 768, 512
_BASE64 = b";base64,"

DEFAULT_OUTPUT = 1024  # tokens, for a model nothing is known about yet
OBSERVATIONS_MIN = 20
OBSERVATIONS_MAX = 512  # then the past counts half: the estimate follows a model that changes its habits
MODELS_MAX = 1024
RATIO_MIN, RATIO_MAX = PPM // 4, 8 * PPM
RATIO_OBSERVATIONS_MIN = 5
RATIO_DECAY = 16  # calls
_BUCKETS = 80  # four to an octave: up to 2**20 tokens, each known to within a fifth


def input_tokens(text_bytes: int, image_tokens: int = 0, audio_bytes: int = 0, file_bytes: int = 0) -> int:
    """Upper estimate of the input, in tokens, from byte counts. Media are counted as sent, in base64."""
    return (
        _ceil(text_bytes, BYTES_PER_TOKEN)
        + image_tokens
        + _ceil(audio_bytes, AUDIO_BYTES_PER_TOKEN)
        + _ceil(file_bytes, FILE_BYTES_PER_TOKEN)
    )


def scaled(tokens: int, factor_ppm: int) -> int:
    """Tokens of our tokenizer as tokens of a model whose tokenizer makes `factor_ppm` millionths as many."""
    return -(-tokens * factor_ppm // PPM)


def output_reserve(n: int, expected: int, *bounds: int | None) -> int:
    """Output to hold, in tokens: for each of `n` choices what is expected, or the least bound that is below it.

    Bounds are what was asked for, the tier's cap, the model's cap; None is no bound.
    """
    for bound in bounds:
        if bound is not None and bound < expected:
            expected = bound
    return n * expected


def image_tokens(head: bytes, detail: str = "") -> int:
    """Tokens of one image by the tile rule, from the beginning of its data URL; a flat number when the size is unknown.

    `head` may begin before the URL and end anywhere: it is the image's part of a request body, cut off.
    """
    if detail == "low":
        return IMAGE_BASE_TOKENS
    size = image_size(_decoded(head))
    return IMAGE_UNKNOWN_TOKENS if size is None else IMAGE_BASE_TOKENS + IMAGE_TILE_TOKENS * _tiles(*size)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels from the first bytes of a PNG, GIF, WebP or JPEG; None when they do not tell."""
    try:
        size = _size(data)
    except (struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


class RunningP90:
    """For each model, the output tokens that nine of ten recent answers stay within.

    A histogram with four buckets to an octave, halved when full. Bounded in models too: the one seen longest ago goes.
    """

    def __init__(self, default: int = DEFAULT_OUTPUT) -> None:
        self._default = default
        self._seen: OrderedDict[str, _Histogram] = OrderedDict()

    def observe(self, model: str, output_tokens: int) -> None:
        """Take the output of one finished answer, in tokens."""
        seen = self._seen.get(model)
        if seen is None:
            seen = self._seen[model] = _Histogram()
            if len(self._seen) > MODELS_MAX:
                self._seen.popitem(last=False)
        self._seen.move_to_end(model)
        seen.add(output_tokens)

    def expected(self, model: str) -> int:
        """The estimate for the model's next answer, in tokens; the default until enough answers were seen."""
        seen = self._seen.get(model)
        if seen is None or seen.count < OBSERVATIONS_MIN:
            return self._default
        octave, quarter = divmod(seen.at, 4)
        return ((quarter + 5) << octave) - 1


class RunningRatio:
    """For each model, how far our estimate of the input is off: decayed sums of reported over estimated tokens.

    A call's own ratio counts within bounds, so that one absurd report shifts the next estimates little. Bounded in
    models as ``RunningP90`` is.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Sums] = OrderedDict()

    def observe(self, model: str, estimated: int, reported: int) -> None:
        """Take one call's input in tokens: as estimated (before ``correct``), and as its backend reported it."""
        if estimated <= 0 or reported <= 0:
            return
        sums = self._seen.get(model)
        if sums is None:
            sums = self._seen[model] = _Sums()
        self._seen.move_to_end(model)
        sums.add(estimated, max(-(-estimated * RATIO_MIN // PPM), min(reported, estimated * RATIO_MAX // PPM)))
        if len(self._seen) > MODELS_MAX:
            self._seen.popitem(last=False)

    def ratio_ppm(self, model: str) -> int:
        """Reported per estimated token, in millionths; 1 000 000 until enough calls were seen."""
        sums = self._seen.get(model)
        if sums is None or sums.count < RATIO_OBSERVATIONS_MIN:
            return PPM
        return max(RATIO_MIN, min((sums.reported * PPM + sums.estimated // 2) // sums.estimated, RATIO_MAX))

    def correct(self, model: str, estimate: int) -> int:
        """The estimate in tokens, as this model's calls have shown it to be."""
        return scaled(estimate, self.ratio_ppm(model))


class _Histogram:
    """``count`` answers by bucket, and the bucket ``at`` which nine of ten of them are reached: it is moved with every
    answer, and not looked for anew."""

    __slots__ = ("_below", "_buckets", "at", "count")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._below = 0  # answers in the buckets before `at`
        self.at = self.count = 0

    def add(self, tokens: int) -> None:
        """Count one answer, and let nine of ten be in the buckets up to `at`, fewer in those before it. Buckets are
        quarter octaves: the number of bits, and the two bits after the first."""
        value = tokens if tokens > 4 else 4
        bits = value.bit_length()
        bucket = min(_BUCKETS - 1, 4 * (bits - 3) + (value >> (bits - 3)) - 4)
        self._buckets[bucket] += 1
        self._below += bucket < self.at
        self.count += 1
        if self.count >= OBSERVATIONS_MAX:
            self._halve()
        wanted, buckets = -(-self.count * 9 // 10), self._buckets
        while self._below >= wanted:
            self.at -= 1
            self._below -= buckets[self.at]
        while self._below + buckets[self.at] < wanted:
            self._below += buckets[self.at]
            self.at += 1

    def _halve(self) -> None:
        self._buckets = [count // 2 for count in self._buckets]
        self.count, self._below = sum(self._buckets), sum(self._buckets[: self.at])


class _Sums:
    """Tokens of past calls in millionths; each call weighs a sixteenth less with every call after it."""

    __slots__ = ("count", "estimated", "reported")

    def __init__(self) -> None:
        self.count = self.estimated = self.reported = 0

    def add(self, estimated: int, reported: int) -> None:
        self.count = min(self.count + 1, RATIO_OBSERVATIONS_MIN)
        self.estimated += estimated * PPM - self.estimated // RATIO_DECAY
        self.reported += reported * PPM - self.reported // RATIO_DECAY


def _ceil(amount: int, by: int) -> int:
    return -(-amount // by)


def _tiles(width: int, height: int) -> int:
    """Whole numbers throughout: a huge image from a hostile header must not become a float."""
    long, short = max(width, height), min(width, height)
    if long > _FIT:
        long, short = _FIT, max(1, short * _FIT // long)
    if short > _SHORT:
        long, short = _ceil(long * _SHORT, short), _SHORT
    return _ceil(long, _TILE) * _ceil(short, _TILE)


def _decoded(head: bytes) -> bytes:
    at = head.find(_BASE64)
    if at < 0:
        return b""
    encoded = head[at + len(_BASE64) :].split(b'"', 1)[0].replace(b"\\/", b"/")
    try:
        return b64decode(encoded[: len(encoded) // 4 * 4])
    except Base64Error:
        return b""


def _size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _pair(struct.unpack_from(">II", data, 16))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _pair(struct.unpack_from("<HH", data, 6))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return _jpeg(data) if data[:2] == b"\xff\xd8" else None


def _webp(data: bytes) -> tuple[int, int] | None:
    """The three forms of https://developers.google.com/speed/webp/docs/riff_container: lossy, lossless, extended."""
    form = data[12:16]
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if form == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk the segments to the frame header (ITU-T T.81, B.2.2): C0 to CF without C4, C8 and CC, which are tables."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    return None


def _pair(values: Iterable[int]) -> tuple[int, int]:
    first, second = values
    return first, second
