"""Whose share of requests one counts for: a client's, and an address's once it has signed in."""

from __future__ import annotations

from rexis.protocol.parsing import Address
from rexis.web.limits import Buckets, client_key, too_many


class Limits:
    """The buckets of this process.

    A request is counted for its client until it is known who sends it, and for that address from then on: so strangers
    cannot use up the share of those who sign in from the same place.
    """

    def __init__(self, addresses: Buckets, clients: Buckets) -> None:
        self._addresses, self._clients = addresses, clients

    def arrived(self, client: str) -> float:
        """Count a request of somebody unknown; returns the seconds to wait if there were too many."""
        return self._clients.take(client_key(client))

    def known(self, client: str, address: Address, waits: float) -> None:
        """Count a request for the address that sent it instead; `waits` is what :meth:`arrived` gave.

        Raises
        ------
        RateError
            The address asks too often.
        """
        if not waits:
            self._clients.give_back(client_key(client))
        if wait := self._addresses.take(address):
            raise too_many(f"{address} asks too often", wait)
