"""Commands as they travel: whole ones, and forms that are filled in."""

from __future__ import annotations

import pytest

from policies.redis_command import Form, Script, packed, unpacked

SHA = "0" * 40


def test_a_command_is_its_parts_each_behind_its_length() -> None:
    assert packed("SET", "clé", b"\r\n", 12) == b"*4\r\n$3\r\nSET\r\n$4\r\ncl\xc3\xa9\r\n$2\r\n\r\n\r\n$2\r\n12\r\n"
    assert unpacked(packed("SET", "clé", b"\r\n", "", 12)) == [b"SET", "clé".encode(), b"\r\n", b"", b"12"]


@pytest.mark.parametrize("user", ["u", "Zoë", "a\0b", "{$1}\r\n%s"])
@pytest.mark.parametrize("more", [(), ("fb:mark",)])
@pytest.mark.parametrize("suffixes", [[":slots"], [":slots", ":w:requests/60", ":w:tokens/60/*/modèle-\0"]])
@pytest.mark.parametrize("fixed", [(), (15_000, 2**53 - 1)])
def test_a_filled_form_is_the_command_of_all_its_parts(
    user: str, more: tuple[str, ...], suffixes: list[str], fixed: tuple[int, ...]
) -> None:
    name = user.encode()
    keys = [*(user + suffix for suffix in suffixes), *more]
    form = Form(SHA, len(name), suffixes, len(more), fixed, 3)
    whole = packed("EVALSHA", SHA, len(keys), *keys, *fixed, "", "id", -7)
    assert form.filled(name, more, ("", "id", -7)) == whole


def test_a_script_is_asked_for_by_its_digest_or_by_its_text() -> None:
    script = Script("read")
    by_sha = script.asked(["a", "b"], [""])
    by_text = unpacked(script.by_text(by_sha))
    assert unpacked(by_sha) == [b"EVALSHA", script.sha.encode(), b"2", b"a", b"b", b""]
    assert (by_text[0], by_text[2:]) == (b"EVAL", [b"2", b"a", b"b", b""])
    assert by_text[1].startswith(b"#!lua")
