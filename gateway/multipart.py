"""The parts of a `multipart/form-data` body (RFC 7578, RFC 2046 5.1). Pure; files stay where the body lies.

The body goes on to the backend as it came, but for the fields that are replaced, so the backend must read in it what
was read here. Hence the grammar is narrow: CRLF alone ends lines, nothing stands before the first or after the last
boundary, and what two readers could take for two things (a doubled parameter, a boundary with a tail, a `name*`) is
refused. Every common sender (httpx, requests, aiohttp, curl, browsers) writes this form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from gateway.fields import BadRequest
from gateway.stored import Body, Rope, Run, find

PARTS_MAX = 128
HEADER_BYTES_MAX = 4096  # of one part; a long file name fits
FIELD_BYTES_MAX = 64 * 1024  # of a text field that is read here; a prompt fits

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[^"\\\r\n]|\\[^\r\n])*"'
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb")=(" + _TOKEN + rb"|" + _QUOTED + rb")")
_TYPE = re.compile(rb"multipart/form-data(?=[ \t]*(?:;|$))", re.IGNORECASE)
_DISPOSITION = re.compile(rb"form-data(?=[ \t]*(?:;|$))", re.IGNORECASE)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\r\n\0]*)")
_PLAIN_ENCODINGS = (b"7bit", b"8bit", b"binary")
_TRUE, _FALSE = ("true", "1", "yes", "on", "t", "y"), ("false", "0", "no", "off", "f", "n")


class Part(msgspec.Struct, frozen=True):
    """One part: its field's name, the file name if it is a file, and where its content stands in the body."""

    name: str
    filename: str | None
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self.end - self.start


class Form(msgspec.Struct, frozen=True):
    """A body and its parts, in the order sent. `boundary` is without the leading dashes."""

    body: Body
    boundary: bytes
    parts: tuple[Part, ...]

    def text(self, name: str) -> str | None:
        """The value of a text field, None when absent. Raises BadRequest: sent twice, a file, too long, not UTF-8."""
        found = [part for part in self.parts if part.name == name]
        if not found:
            return None
        part = found[0]
        if len(found) > 1:
            raise BadRequest(f"The field {name} was sent more than once.", name)
        if part.filename is not None or part.size > FIELD_BYTES_MAX:
            raise BadRequest(f"The field {name} must be a text of at most {FIELD_BYTES_MAX} bytes.", name)
        try:
            return self.body[part.start : part.end].decode()
        except UnicodeDecodeError:
            raise BadRequest(f"The field {name} is not valid UTF-8.", name) from None

    def model(self) -> str:
        """The model's name. Raises BadRequest where there is none."""
        model = self.text("model")
        if not model:
            raise BadRequest("The field model is missing: name the model to use.", "model")
        return model

    def number(self, name: str, most: int) -> int | None:
        """A whole number from 1 to `most`, None when absent. Raises BadRequest."""
        text = self.text(name)
        if text is None:
            return None
        # isdecimal alone would let through other scripts' digits; the length bounds the work of int().
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
            raise BadRequest(f"The field {name} must be a whole number from 1 to {most}.", name)
        return int(text)

    def flag(self, name: str) -> bool:
        """True or false, false when absent; in any spelling a backend may know. Raises BadRequest."""
        text = (self.text(name) or "false").lower()
        if text not in _TRUE + _FALSE:
            raise BadRequest(f"The field {name} must be true or false.", name)
        return text in _TRUE

    @property
    def files(self) -> tuple[Part, ...]:
        """The parts that are files."""
        return tuple(part for part in self.parts if part.filename is not None)

    def content(self, part: Part) -> Rope:
        """A part's content, not copied."""
        return Rope([(self.body, part.start, part.end)])

    def replaced(self, values: Mapping[str, str]) -> Body:
        """The body with the content of these text fields replaced, every other byte as it came; on disk it stays there.

        Raises KeyError for a field that was not sent, ValueError for a value that would end its part.
        """
        sent = {part.name: part for part in self.parts}
        runs: list[Run] = []
        at = 0
        for part, value in sorted(((sent[name], value.encode()) for name, value in values.items()), key=_start):
            if b"\r\n--" + self.boundary in value:
                raise ValueError("a field's value holds the boundary")
            runs += [(self.body, at, part.start), (value, 0, len(value))]
            at = part.end
        rope = Rope([*runs, (self.body, at, len(self.body))])
        return rope[:] if isinstance(self.body, bytes) else rope


def parse(body: Body, content_type: str) -> Form:
    """Find the parts. Raises BadRequest: another content type, cut off, malformed, too many parts, long headers."""
    boundary = boundary_of(content_type)
    opening, delimiter = b"--" + boundary, b"\r\n--" + boundary
    if body[: len(opening)] != opening:
        raise BadRequest("The form does not begin with its boundary.")
    parts: list[Part] = []
    at = len(opening)
    while not _closed(body, at):
        part = _part(body, at, delimiter)
        parts.append(part)
        if len(parts) > PARTS_MAX:
            raise BadRequest(f"The form has more than {PARTS_MAX} parts.")
        at = part.end + len(delimiter)
    return Form(body, boundary, tuple(parts))


def _start(replacement: tuple[Part, bytes]) -> int:
    return replacement[0].start


def boundary_of(content_type: str) -> bytes:
    """What stands between the parts, without the leading dashes. Raises BadRequest for what is no form."""
    sent = content_type.encode("latin-1", "replace").strip()
    kind = _TYPE.match(sent)
    parameters = _parameters(sent[kind.end() :]) if kind else None
    if parameters is None:
        raise BadRequest("The request body must be multipart/form-data.")
    boundary = parameters.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("The content type names no usable boundary.")
    return boundary


def _parameters(text: bytes) -> dict[bytes, bytes] | None:
    """Header parameters by lower-case name, quotes removed, escapes kept; None when malformed or one stands twice."""
    found: dict[bytes, bytes] = {}
    at = 0
    while parameter := _PARAMETER.match(text, at):
        name, value = parameter[1].lower(), parameter[2]
        if name in found:
            return None
        found[name] = value[1:-1] if value.startswith(b'"') else value
        at = parameter.end()
    return None if text[at:].strip(b" \t;") else found


def _closed(body: Body, at: int) -> bool:
    """Whether the boundary that ends at `at` is the last. Raises BadRequest when something odd follows it."""
    tail = body[at : at + 2]
    if tail == b"\r\n":
        return False
    if tail != b"--" or body[at + 2 : at + 4] not in (b"", b"\r\n") or len(body) > at + 4:
        raise BadRequest("The form is malformed after a boundary.")
    return True


def _part(body: Body, at: int, delimiter: bytes) -> Part:
    """The part whose first header line follows the line end at `at`."""
    head, ended, _ = body[at : at + HEADER_BYTES_MAX + 4].partition(b"\r\n\r\n")
    if not ended:
        raise BadRequest("A part of the form has no end of its headers, or too long ones.")
    start = at + len(head) + 4
    # The line end before a boundary belongs to it; that of an empty content is the one that ends the headers.
    end = find(body, delimiter, start - 2)
    if end < 0:
        raise BadRequest("The form is cut off: its last boundary is missing.")
    if end < start:
        raise BadRequest("A part of the form has no content.")
    name, filename = _disposition(head[2:])
    return Part(name, filename, start, end)


def _disposition(head: bytes) -> tuple[str, str | None]:
    """Name and file name, from the headers of a part."""
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in headers:
            raise BadRequest("A part of the form has malformed headers.")
        headers[header[1].lower()] = header[2].strip(b" \t")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_ENCODINGS:
        raise BadRequest("A part of the form has a transfer encoding.")
    return _names(headers.get(b"content-disposition", b""))


def _names(disposition: bytes) -> tuple[str, str | None]:
    kind = _DISPOSITION.match(disposition)
    parameters = _parameters(disposition[kind.end() :]) if kind else None
    name = (parameters or {}).get(b"name", b"")
    if parameters is None or not name or b"\\" in name or any(each.startswith(b"name*") for each in parameters):
        raise BadRequest("A part of the form does not say plainly which field it is.")
    file = parameters.get(b"filename", parameters.get(b"filename*"))
    return name.decode("utf-8", "replace"), None if file is None else file.decode("utf-8", "replace")
