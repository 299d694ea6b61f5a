"""A coordinator's anchors as one growing log: what its entries are, what it is called, and whose key signs it.

Each anchor is a tree of its own on chain. The log has one entry for each, in the order in which they were planned, and
is an RFC 6962 tree over those. An entry does not say in which block the anchor is: a chain that is reorganised leaves
the log as it was.
"""

from __future__ import annotations

from typing import Protocol

from rexis.api import LoggedAnchor, LogKey
from rexis.exports.note import NoteKey
from rexis.exports.tlog import LogProof
from rexis.protocol.certificate import SealedDocument
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError, NotFoundError
from rexis.protocol.parsing import Address
from rexis.protocol.signing import require_signer, text_digest
from rexis.protocol.typed_data import Domain

_KEY_TEXT = "rexis anchor log key v1\n"


def log_entry(root: Digest, size: int) -> bytes:
    """An anchor's entry: root, then size as eight bytes, big-endian."""
    return root + size.to_bytes(8, "big")


def origin_of(domain: Domain, coordinator: Address) -> str:
    """The log's name, and its key's: one coordinator on one EvidenceLog has one log."""
    return f"rexis/anchors/{domain.chain_id}/{domain.verifying_contract}/{coordinator}"


def key_text(key: NoteKey) -> str:
    """What the coordinator's wallet signs, so that who knows its address knows its log's key."""
    return f"{_KEY_TEXT}{key}\n"


def key_of(text: str, signature: bytes, domain: Domain, coordinator: Address) -> NoteKey:
    """The key of a coordinator's log.

    Raises
    ------
    MalformedError, SignatureError
        It is another log's key, or the coordinator did not sign it.
    """
    key, origin = NoteKey.parse(text), origin_of(domain, coordinator)
    if key.name != origin:
        raise MalformedError(f"the key is that of log {key.name!r}, not of {origin!r}")
    require_signer(text_digest(key_text(key)), signature, coordinator, "the log's key")
    return key


class Log(Protocol):
    """Where the log is read: :class:`rexis.client.RexisClient`."""

    def log_key(self) -> LogKey: ...
    def log_proof(self, index: int) -> str: ...
    def anchors(self, start: int) -> list[LoggedAnchor]: ...


def proofs_of(certificate: SealedDocument, log: Log) -> tuple[NoteKey, dict[int, str]]:
    """The log's key, and a checked tlog-proof of each anchor in a certificate, by the anchor's id.

    Raises
    ------
    NotFoundError
        The log does not have one of them.
    MalformedError, SignatureError, MerkleError
        What the log says is not signed by the certificate's coordinator, or does not show the anchor.
    """
    said = log.log_key()
    key = key_of(said.key, said.signature, certificate.domain, certificate.request.coordinator)
    wanted = {(place.anchor.root, place.anchor.size): place.anchor.anchor_id for place in certificate.places}
    found: dict[int, str] = {}
    start = 0
    while len(found) < len(wanted):
        page = log.anchors(start)
        if not page:
            raise NotFoundError("the log has not all of the certificate's anchors")
        for each in page:
            if (each.root, each.size) in wanted:
                proof = log.log_proof(each.index)
                LogProof.parse(proof).check(log_entry(each.root, each.size), key)
                found[wanted[each.root, each.size]] = proof
        start += len(page)
    return key, found
