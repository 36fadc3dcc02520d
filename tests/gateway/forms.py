"""Forms for the tests, as the common senders write them; and a body that is not in memory."""

from __future__ import annotations

BOUNDARY = "0123456789abcdef"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def file(name: str, content: bytes, filename: str = "a.wav") -> bytes:
    return part(name, content, f'; filename="{filename}"\r\nContent-Type: audio/wav')


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


class Afar:
    """A body behind slices, like one on disk. ``most`` is the largest piece that was asked for, ``taken`` all of it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.most = self.taken = 0

    def __len__(self) -> int:
        return len(self._body)

    def __getitem__(self, part: slice, /) -> bytes:
        piece = self._body[part]
        self.most, self.taken = max(self.most, len(piece)), self.taken + len(piece)
        return piece

    async def read(self, start: int, end: int) -> bytes:
        return self[start:end]
