"""A coordinator's audit log as a chain: each entry's digest is taken over the one before.

So that whoever knows the digest of one entry notices when it, an entry before it, or their order is changed. The last
entries can be cut off without a trace in what is left: that is noticed by who has kept the digest of a later one
(``GET /v1/audit/head``). An operator who writes the whole chain again from some entry on has other digests from there.
"""

from __future__ import annotations

from collections.abc import Iterable

from rexis.api import AuditEntry, AuditHead
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import RexisError
from rexis.protocol.parsing import canonical_json

START = AuditHead(position=0, digest=sha256(b"rexis audit log, version 1"))


class AuditError(RexisError):
    """An audit log that is not the chain that it was."""

    code = "audit-broken"


def next_entry(head: AuditHead, *, at: int, actor: str, action: str, object: str, outcome: str) -> AuditEntry:
    """The entry that follows `head`."""
    content = {
        "position": head.position + 1,
        "at": at,
        "actor": actor,
        "action": action,
        "object": object,
        "outcome": outcome,
        "previous": str(head.digest),
    }
    return AuditEntry.from_object({**content, "digest": str(sha256(canonical_json(content)))})


def head_of(entry: AuditEntry) -> AuditHead:
    """An entry as the head of what comes before."""
    return AuditHead(position=entry.position, digest=entry.digest)


def verify_log(entries: Iterable[AuditEntry], *, known: Iterable[AuditHead] = ()) -> AuditHead:
    """Check a whole log, from its first entry; returns its head.

    Parameters
    ----------
    known
        Heads that were noted before: the log must still hold them.

    Raises
    ------
    AuditError
        An entry was changed, removed, put elsewhere or added in between; or a known head is not in the log.
    """
    wanted: dict[int, set[Digest]] = {}
    for noted in known:
        wanted.setdefault(noted.position, set()).add(noted.digest)
    head = START
    for entry in entries:
        field = f"entry {head.position + 1}"
        if entry.position != head.position + 1:
            raise AuditError(f"the log goes on with entry {entry.position}", field=field)
        if entry.previous != head.digest:
            raise AuditError("does not follow the entry before it", field=field)
        fields = entry.model_dump(exclude={"position", "previous", "digest"})
        if next_entry(head, **fields).digest != entry.digest:
            raise AuditError("its digest is not that of its content", field=field)
        head = head_of(entry)
        if wanted.pop(head.position, {head.digest}) != {head.digest}:
            raise AuditError("is not the entry that was noted under this number", field=field)
    if wanted.pop(0, {START.digest}) != {START.digest}:
        raise AuditError("no log begins so", field="entry 0")
    if wanted:
        raise AuditError(f"the log ends with entry {head.position}, entry {max(wanted)} was noted")
    return head
