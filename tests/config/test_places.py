"""Addresses a backend may have: whatever they are written as, inside networks are inside."""

from __future__ import annotations

import pytest

from config.places import literal_refusal, refusal

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.254",
    "fd12:3456:789a::1",
    "fec0::1",
    "192.0.2.1",
    "198.18.0.1",
    "240.0.0.1",
    "2001:db8::1",
    "2001:0:4136:e378::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
]
NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "255.255.255.255",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::a9fe:a9fe",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::",
]
PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::101:101",
    "2002:101:101::",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_inside_address_is_asked_only_where_the_operator_says_so(address: str) -> None:
    assert "allow_private = true" in str(refusal(address, private=False))
    assert refusal(address, private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_asked_whatever_the_operator_says_never(address: str) -> None:
    for private in (False, True):
        assert "nothing is ever asked there" in str(refusal(address, private=private))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_asked(address: str) -> None:
    assert refusal(address, private=False) is None


@pytest.mark.parametrize("text", ["", "example.org", "1.2.3", "1.2.3.4.5", "[::1]"])
def test_what_is_no_address_is_told_so(text: str) -> None:
    with pytest.raises(ValueError):
        refusal(text, private=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://[::1]/v1",
        "http://[::ffff:10.0.0.1]/v1",
        "http://localhost:11434/v1",
        "http://LOCALHOST./v1",
        "http://ollama.localhost/v1",
    ],
)
def test_an_address_that_is_written_out_is_judged_without_asking_anybody(url: str) -> None:
    assert "allow_private" in str(literal_refusal(url, private=False))
    assert literal_refusal(url, private=True) is None


def test_of_other_names_nothing_is_known_without_asking() -> None:
    assert literal_refusal("https://api.example.org/v1", private=False) is None
    assert literal_refusal("", private=False) is None
