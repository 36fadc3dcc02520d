"""Whom the proxies may speak for."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from admin_api.address import client_address, counted_as

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


def test_without_a_trusted_proxy_the_header_means_nothing() -> None:
    assert client_address("192.0.2.1", ["203.0.113.9"], []) == "192.0.2.1"
    assert client_address("192.0.2.1", ["203.0.113.9"], TRUSTED) == "192.0.2.1"


def test_a_trusted_proxy_names_the_caller() -> None:
    assert client_address("10.0.0.1", ["203.0.113.9"], TRUSTED) == "203.0.113.9"


def test_what_stands_left_of_an_untrusted_hop_is_hearsay() -> None:
    assert client_address("10.0.0.1", ["127.0.0.1, 203.0.113.9, 10.0.0.2"], TRUSTED) == "203.0.113.9"


def test_several_headers_are_one_list() -> None:
    assert client_address("10.0.0.1", ["127.0.0.1", "203.0.113.9"], TRUSTED) == "203.0.113.9"


@pytest.mark.parametrize("forwarded", ["", "unknown", "203.0.113.9:443, ", "<script>"])
def test_what_is_no_address_leaves_the_proxy_itself(forwarded: str) -> None:
    assert client_address("10.0.0.1", [forwarded], TRUSTED) == "10.0.0.1"


def test_only_proxies_on_the_way_leave_the_first_of_them() -> None:
    assert client_address("10.0.0.1", ["10.0.0.3, 10.0.0.2"], TRUSTED) == "10.0.0.3"


def test_an_address_is_written_in_one_way() -> None:
    assert client_address("::ffff:192.0.2.1", [], []) == "192.0.2.1"
    assert client_address("2001:DB8:0::1", ["2001:0db8::0002"], TRUSTED) == "2001:db8::2"
    assert client_address("", [], []) == client_address("a socket", [], []) == ""


def test_tries_of_one_household_are_counted_together() -> None:
    assert counted_as("2001:db8::1") == counted_as("2001:db8::ffff:1") == "2001:db8::/64"
    assert counted_as("2001:db8:0:1::1") != counted_as("2001:db8::1")
    assert (counted_as("192.0.2.1"), counted_as("")) == ("192.0.2.1", "")
