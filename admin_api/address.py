"""Where a request comes from: the socket's peer, or what a proxy that the operator named says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address

from config.places import Address, Network


def client_address(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """The caller's address. ``forwarded`` are the values of X-Forwarded-For, believed from the right as far as each
    hop was written by a trusted proxy; what stands to the left of the first other hop anybody may have written."""
    address = _parsed(peer)
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and address is not None and _within(address, trusted):
        named = _parsed(hops.pop())
        if named is None:
            break
        address = named
    return str(address) if address is not None else ""


def counted_as(address: str) -> str:
    """Under which name tries from here are counted: an IPv6 caller has a whole /64 to choose addresses from."""
    parsed = _parsed(address)
    return str(IPv6Network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
