"""Which addresses of the network a backend may have: public ones, private ones where the operator says so, some never.
Pure.

Resolving names is ``places_dns.py``'s; asking again at the moment of connecting is the gateway's.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["public", "private", "never"]
Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_Named = tuple[tuple[Network, str], ...]


def _named(*pairs: tuple[str, str]) -> _Named:
    return tuple((ip_network(network), name) for network, name in pairs)


# Clouds hand out credentials to whoever asks there, and no backend lives there: no word of an operator opens these.
_NEVER = _named(
    ("169.254.0.0/16", "link-local, where clouds keep credentials"),
    ("fe80::/10", "link-local"),
    ("fd00:ec2::/32", "a cloud's metadata"),
    ("fd20:ce::/32", "a cloud's metadata"),
    ("100.100.100.200/32", "a cloud's metadata"),
    ("168.63.129.16/32", "a cloud's metadata"),
    ("192.0.0.192/32", "a cloud's metadata"),
    ("0.0.0.0/8", "unspecified, and means this machine"),
    ("::/128", "unspecified, and means this machine"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("255.255.255.255/32", "broadcast"),
)
_PRIVATE = _named(
    ("127.0.0.0/8", "this machine"),
    ("::1/128", "this machine"),
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("fc00::/7", "private"),
    ("fec0::/10", "private"),
    ("100.64.0.0/10", "a carrier's or an overlay's"),
    ("64:ff9b:1::/48", "a local translator's"),
    ("2001::/32", "a tunnel's"),
)
# IPv6 addresses that stand for an IPv4 one: the network, and how many bits stand behind it.
_WRAPPED = tuple(
    (IPv6Network(network), behind)
    for network, behind in (("::ffff:0:0/96", 0), ("64:ff9b::/96", 0), ("::/96", 0), ("2002::/16", 80))
)
_LOCAL_NAMES = ("localhost", "localhost.localdomain")


def refusal(address: str, *, private: bool) -> str | None:
    """Why nothing is asked at this address, for the operator; None where it may be. ``private``: allowed to be so.
    An IPv6 address that stands for an IPv4 one is judged as that one.

    Raises ValueError for what is no address.
    """
    kind, name = _judged(address)
    if kind == "never":
        return f"{address} is {name}: nothing is ever asked there"
    if kind == "private" and not private:
        return f"{address} is {name}: say allow_private = true if it is meant"
    return None


def literal_refusal(url: str, *, private: bool) -> str | None:
    """The same for a URL whose host is an address, or a name of this machine; None for every other name."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host in _LOCAL_NAMES or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        return refusal(host, private=private)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _judged(address: str) -> tuple[Kind, str]:
    given = ip_address(address.partition("%")[0])
    inner = _unwrapped(given)
    if name := _among(_NEVER, given) or _among(_NEVER, inner):
        return "never", name
    if name := _among(_PRIVATE, given) or _among(_PRIVATE, inner):
        return "private", name
    return ("public", "") if inner.is_global else ("private", "not of the public network")


def _among(networks: _Named, address: Address) -> str | None:
    return next((name for network, name in networks if address in network), None)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, IPv6Address) and address not in IPv6Network("::/127"):
        for network, behind in _WRAPPED:
            if address in network:
                return IPv4Address(int(address) >> behind & 0xFFFFFFFF)
    return address
