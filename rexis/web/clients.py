"""Where a request comes from."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

Networks = tuple[IPv4Network | IPv6Network, ...]
_LONGEST = 64


def read_networks(texts: Collection[str]) -> Networks:
    """Addresses and networks of proxies; :class:`ValueError` for what is neither."""
    return tuple(ip_network(text) for text in texts)


def client_of(scope: Scope, headers: Headers, proxies: Networks) -> str:
    """The last address on a request's way (``X-Forwarded-For``) that no proxy of ours has."""
    found = scope["client"][0] if scope.get("client") else "unknown"
    hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]
    while hops and _is_within(found, proxies):
        found = hops.pop()
    return str(found)[:_LONGEST]


def _is_within(text: str, networks: Networks) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)
