"""URLs that somebody else names for us to ask: which of them this machine may be sent to."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from rexis.protocol.errors import ForbiddenError, UnavailableError


def require_suggestable(url: str, by: str) -> None:
    """Refuse a URL that would have us ask a service that only this machine, or its network, can reach.

    Looks up the host's addresses now. Whoever answers for the name may answer otherwise a moment later: who must rule
    that out as well names the URL itself.

    Parameters
    ----------
    url
        What was suggested.
    by
        The URL of who suggested it. If that one is on this machine, or in a private network, so may be the other.

    Raises
    ------
    ForbiddenError
        No http(s) URL, one with a password, or of an address that is link-local (such as a cloud's metadata service),
        or private or loopback where `by` is not.
    UnavailableError
        The host has no address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ForbiddenError("the suggested address is not an http(s) URL", hint="name the node yourself: --rpc URL")
    near = {_reach(address) for address in _addresses(urlsplit(by).hostname or "")}
    for address in _addresses(parts.hostname):
        reach = _reach(address)
        if reach != "everybody" and (reach == "nobody" or reach not in near):
            raise ForbiddenError(
                f"the suggested address {parts.hostname} is one that only machines near this one reach",
                hint="if it is right, name it yourself: --rpc URL",
            )


def _reach(address: IPv4Address | IPv6Address) -> str:
    """Who reaches an address."""
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_loopback:
        return "this machine"
    if mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified:
        return "nobody"
    return "this network" if mapped.is_private or not mapped.is_global else "everybody"


def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UnavailableError(f"{host[:100]!r} has no address", hint="is the name right?") from None
    return [ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]
