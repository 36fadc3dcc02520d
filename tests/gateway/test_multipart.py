"""The parts of a form: found where they stand, replaced alone, and refused where two readers could differ."""

from __future__ import annotations

import httpx
import pytest
from aiohttp import FormData
from hypothesis import given
from hypothesis import strategies as st

from gateway.fields import BadRequest
from gateway.multipart import FIELD_BYTES_MAX, HEADER_BYTES_MAX, PARTS_MAX, Form, parse
from gateway.stored import WINDOW_BYTES, Body
from tests.gateway.forms import BOUNDARY, CONTENT_TYPE, Afar, file, form, part

SOUND = bytes(range(256)) * 4 + b"\r\n--0123\r\n--\r\n\r\n"
BODY = form(part("model", b"whisper-1"), file("file", SOUND), part("prompt", "Zürich".encode()))


def read(body: Body, content_type: str = CONTENT_TYPE) -> Form:
    return parse(body, content_type)


@pytest.mark.parametrize("body", [BODY, Afar(BODY)], ids=["in memory", "on disk"])
def test_texts_and_files_are_found_where_they_stand(body: Body) -> None:
    found = read(body)
    assert (found.text("model"), found.text("prompt"), found.text("n")) == ("whisper-1", "Zürich", None)
    (sound,) = found.files
    assert (sound.name, sound.filename, sound.size) == ("file", "a.wav", len(SOUND))
    assert found.content(sound)[:] == SOUND


@pytest.mark.parametrize("body", [BODY, Afar(BODY)], ids=["in memory", "on disk"])
async def test_only_the_named_fields_are_replaced_and_every_other_byte_stays(body: Body) -> None:
    changed = read(body).replaced({"prompt": "", "model": "large-v3/ü"})
    assert changed[:] == form(part("model", "large-v3/ü".encode()), file("file", SOUND), part("prompt", b""))
    assert read(changed).text("model") == "large-v3/ü"
    assert isinstance(changed, bytes) == isinstance(body, bytes)
    assert isinstance(changed, bytes) or await changed.read(0, len(changed)) == changed[:]


def test_a_large_form_is_read_in_windows_whichever_field_comes_first() -> None:
    large = file("file", SOUND * 1000)
    for parts in ((part("model", b"m"), large), (large, part("model", b"m"))):
        body = Afar(form(*parts))
        found = read(body)
        renamed = found.replaced({"model": "n"})
        assert (found.text("model"), found.files[0].size) == ("m", len(SOUND) * 1000)
        assert body.most <= WINDOW_BYTES + 100 and body.taken < 2 * len(body)
        assert len(renamed) == len(body) and read(renamed).text("model") == "n"


@pytest.mark.parametrize("shift", range(-40, 3))
def test_a_boundary_across_two_windows_is_found(shift: int) -> None:
    body = form(file("file", bytes(WINDOW_BYTES + shift)), part("model", b"m"))
    found = read(Afar(body))
    assert (found.files[0].size, found.text("model")) == (WINDOW_BYTES + shift, "m")


def test_a_value_that_would_end_its_part_is_never_written() -> None:
    with pytest.raises(ValueError, match="boundary"):
        read(BODY).replaced({"model": f"a\r\n--{BOUNDARY}"})
    with pytest.raises(KeyError):
        read(BODY).replaced({"size": "1"})


def test_an_empty_content_is_a_content() -> None:
    found = read(form(part("model", b""), file("file", b"")))
    assert (found.text("model"), found.files[0].size) == ("", 0)


def test_what_httpx_and_requests_write_is_read() -> None:
    sent = httpx.Request(
        "POST",
        "http://a/",
        data={"model": "m", "list[]": ["a", "b"]},
        files={"file": ('q"\\ü.mp3', b"x", "audio/mpeg")},
    )
    found = read(sent.read(), sent.headers["content-type"])
    assert (found.text("model"), found.files[0].size) == ("m", 1)


async def test_what_aiohttp_writes_is_read() -> None:
    data = FormData({"model": "mö"}, quote_fields=True)
    data.add_field("file", b"x", filename="ü.mp3", content_type="audio/mpeg")
    payload = data()
    found = read(await payload.as_bytes(), payload.headers["content-type"])
    assert (found.text("model"), found.files[0].size) == ("mö", 1)


@pytest.mark.parametrize("end", range(0, len(BODY) - 2, 7))
def test_a_form_that_is_cut_off_is_refused(end: int) -> None:
    for body in (BODY[:end], Afar(BODY[:end])):
        with pytest.raises(BadRequest):
            read(body)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=0123456789abcdef",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=another",
        "multipart/form-data; boundary=0123456789abcdef; boundary=x",
        "multipart/form-data; boundary=" + "a" * 71,
        'multipart/form-data; boundary="0123',
        "multipart/form-data-x; boundary=0123456789abcdef",
    ],
)
def test_a_content_type_without_the_one_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(BadRequest):
        read(BODY, content_type)


def test_a_quoted_boundary_and_other_parameters_are_read() -> None:
    assert read(BODY, f'Multipart/Form-Data ;charset=utf-8; Boundary="{BOUNDARY}"').text("model") == "whisper-1"


ODD = {
    "a preamble": b"hello\r\n" + BODY,
    "an epilogue": BODY + b"hello",
    "bare line feeds": BODY.replace(b"\r\n", b"\n"),
    "a boundary with a tail": form(part("model", b"a\r\n--" + BOUNDARY.encode() + b"x")),
    "no disposition": form(f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\na\r\n".encode()),
    "no header at all": form(f"--{BOUNDARY}\r\n\r\na\r\n".encode()),
    "no content": form(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n'.encode()),
    "a disposition twice": form(part("model", b"a", '\r\nContent-Disposition: form-data; name="b"')),
    "a name twice": form(part("model", b"a", '; name="b"')),
    "an extended name": form(part("model", b"a", "; name*=utf-8''b")),
    "a continued name": form(part("model", b"a", '; name*0="b"')),
    "a folded header": form(part("model", b"a", ';\r\n name="b"')),
    "an escaped name": form(part('mo\\"del', b"a")),
    "no name": form(part("", b"a")),
    "a transfer encoding": form(part("model", b"YQ==", "\r\nContent-Transfer-Encoding: base64")),
    "a zero byte in a header": form(part("model", b"a", "\0")),
    "too many parts": form(*[part("a", b"")] * (PARTS_MAX + 1)),
    "too long headers": form(part("model", b"a", f'; filename="{"x" * HEADER_BYTES_MAX}"')),
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_what_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body)


TEXTS = {
    "sent twice": form(part("model", b"a"), part("model", b"b")),
    "as a file": form(file("model", b"a")),
    "too long": form(part("model", b"a" * (FIELD_BYTES_MAX + 1))),
    "not UTF-8": form(part("model", b"\xff")),
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
def test_a_text_field_that_is_no_one_text_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        read(body).text("model")
    assert refused.value.param == "model"


def test_a_list_field_may_come_more_than_once() -> None:
    assert len(read(form(part("include[]", b"a"), part("include[]", b"b"))).parts) == 2


def test_a_model_must_be_named() -> None:
    assert read(BODY).model() == "whisper-1"
    for body in (form(), form(part("model", b""))):
        with pytest.raises(BadRequest):
            read(body).model()


def test_numbers_and_flags_are_read_or_refused() -> None:
    found = read(form(part("n", b"10"), part("stream", b"True"), part("odd", b"maybe"), part("arabic", "٣".encode())))
    assert (found.number("n", 10), found.number("m", 10)) == (10, None)
    assert (found.flag("stream"), found.flag("other")) == (True, False)
    with pytest.raises(BadRequest):
        found.number("n", 9)
    with pytest.raises(BadRequest):
        found.number("arabic", 9)
    with pytest.raises(BadRequest):
        found.flag("odd")


@given(st.binary(max_size=200), st.integers(0, len(BODY)), st.integers(0, len(BODY)))
def test_no_body_makes_anything_but_a_form_or_a_refusal(noise: bytes, start: int, end: int) -> None:
    body = BODY[:start] + noise + BODY[end:]
    try:
        found = read(body)
    except BadRequest:
        return
    for each in found.parts:
        assert 0 <= each.start <= each.end <= len(body)
    assert found.replaced({}) == body
    assert read(Afar(body)).parts == found.parts
