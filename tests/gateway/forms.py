"""Forms for the tests, as the common senders write them."""

from __future__ import annotations

BOUNDARY = "0123456789abcdef"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def file(name: str, content: bytes, filename: str = "a.wav") -> bytes:
    return part(name, content, f'; filename="{filename}"\r\nContent-Type: audio/wav')


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
