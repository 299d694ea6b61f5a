"""One scan of a monitor: what is new on chain, and what of it somebody should look at.

An alert is told before its block is in the checkpoint. A monitor that is killed in between tells it again, under the
same id; it never passes one by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from contracts.logs import Entry, LogReader
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError
from rexis.protocol.parsing import Address
from verifier.monitoring.alerts import Alert, AlertKind
from verifier.monitoring.checkpoint import KEPT, Checkpoint, Followed, ScannedBlock
from verifier.monitoring.comparison import GRACE, AnchorSource, Comparison

# Nodes refuse to search many blocks at once; many refuse more than 1,000.
_SPAN = 1000


@dataclass(frozen=True)
class Watched:
    """What is watched beside registrations, revocations and changes of owner.

    Attributes
    ----------
    models
        Only those of these; empty for all.
    coordinator
        Whose anchors and commitments have to be among `known`: the coordinator's own key, or that of one that should
        have told you of them.
    workers
        Whose statements have to be among `known`.
    known
        Digests that one knows of: roots of anchors, and of statements.
    submitter
        Whose anchors are compared with what `source` says of them.
    """

    models: Collection[Digest] = ()
    coordinator: Address | None = None
    workers: Collection[Address] = ()
    known: Collection[Digest] = ()
    submitter: Address | None = None


class Monitor:
    """Follows one deployment.

    Parameters
    ----------
    confirmations
        Blocks that must follow one before it is scanned.
    start
        The first block to scan, where there is no checkpoint.
    source, grace
        The coordinator to compare the chain with, if any; see :class:`~verifier.monitoring.comparison.Comparison`.
    """

    def __init__(
        self,
        chain: LogReader,
        state: Path,
        watched: Watched,
        *,
        confirmations: int = 0,
        start: int = 0,
        source: AnchorSource | None = None,
        grace: int = GRACE,
    ) -> None:
        self._chain, self._state, self._watched = chain, state, watched
        self._confirmations, self._start = confirmations, start
        self._source, self._grace = source, grace

    def scan(self, tell: Callable[[Alert], None]) -> int:
        """Scan all blocks that are new, tell of each alert, then write the checkpoint; returns the last block.

        Raises
        ------
        ChainError
            The checkpoint is of another deployment, or of a history that this node has nothing of.
        UnavailableError
            The node does not answer. What was scanned stays so.
        """
        checkpoint = self._read()
        comparison = self._comparison(checkpoint)
        head = self._chain.block_number() - self._confirmations
        blocks = list(checkpoint.blocks) if checkpoint else []
        scanned = len(blocks)
        blocks = self._still_standing(blocks, head, tell)
        if comparison is not None and len(blocks) < scanned:
            comparison.dropped_after(blocks[-1].number if blocks else self._start - 1)
        first = blocks[-1].number + 1 if blocks else self._start
        while first <= head:
            last = min(first + _SPAN - 1, head)
            ends = self._chain.block_hash(last)
            entries = self._chain.entries(first, last)
            for alert in (alert for entry in entries for alert in self._alerts(entry)):
                tell(alert)
            if self._chain.block_hash(last) != ends:
                break  # reorganised meanwhile: the next scan sees it
            blocks = [*blocks, ScannedBlock(number=last, hash=ends)][-KEPT:]
            if comparison is not None:
                comparison.saw(entries)
            self._keep(blocks, comparison)
            first = last + 1
        if comparison is not None and blocks:
            self._compare(comparison, blocks, tell)
        return blocks[-1].number if blocks else self._start - 1

    def _compare(self, comparison: Comparison, blocks: list[ScannedBlock], tell: Callable[[Alert], None]) -> None:
        block = blocks[-1].number
        try:
            comparison.read(block, tell)
        finally:  # a coordinator that does not answer has not shown what is on chain, either
            comparison.settle(block, tell)
            self._keep(blocks, comparison)

    def _comparison(self, checkpoint: Checkpoint | None) -> Comparison | None:
        watched = self._watched
        followed = checkpoint.followed if checkpoint else None
        if checkpoint and (followed.coordinator if followed else None) != watched.submitter:
            raise ChainError(
                f"{self._state} follows {followed.coordinator if followed else 'no coordinator'}",
                hint="another coordinator, or none, takes a state of its own",
            )
        if self._source is None or watched.submitter is None:
            return None
        state = followed or Followed(coordinator=watched.submitter)
        return Comparison(
            self._source,
            self._chain,
            state,
            workers=watched.workers,
            known=watched.known,
            grace=self._grace + self._confirmations,
        )

    def _keep(self, blocks: list[ScannedBlock], comparison: Comparison | None) -> None:
        deployment = self._chain.deployment
        Checkpoint(
            chain_id=deployment.chain_id,
            evidence_log=deployment.evidence_log,
            blocks=blocks,
            followed=comparison.state() if comparison is not None else None,
        ).write(self._state)

    def _read(self) -> Checkpoint | None:
        found, deployment = Checkpoint.read(self._state), self._chain.deployment
        if found and (found.chain_id, found.evidence_log) != (deployment.chain_id, deployment.evidence_log):
            raise ChainError(
                f"{self._state} is of chain {found.chain_id} and log {found.evidence_log}, the node of "
                f"chain {deployment.chain_id} and log {deployment.evidence_log}"
            )
        return found

    def _still_standing(
        self, blocks: list[ScannedBlock], head: int, tell: Callable[[Alert], None]
    ) -> list[ScannedBlock]:
        """The scanned blocks that the chain still has; tells if there are others."""
        standing = list(blocks)
        while standing and not self._has(standing[-1], head):
            standing.pop()
        if len(standing) < len(blocks):
            gone = blocks[len(standing)]
            again = f"what came after block {standing[-1].number}" if standing else "everything"
            tell(
                Alert(
                    f"{AlertKind.REORGANISATION}:{gone.hash}",
                    AlertKind.REORGANISATION,
                    gone.number,
                    f"the chain no longer has block {gone.number} with hash {gone.hash}: {again} is scanned again, and "
                    "what was told of it before may be void",
                )
            )
        return standing

    def _has(self, block: ScannedBlock, head: int) -> bool:
        return block.number <= head and self._chain.block_hash(block.number) == block.hash

    def _is_watched(self, model: Digest | Address | int) -> bool:
        return not self._watched.models or model in self._watched.models

    def _alerts(self, entry: Entry) -> Iterator[Alert]:
        given, watched = entry.arguments, self._watched
        match entry.name:
            case "ModelRegistered" | "ModelRevoked" if self._is_watched(given["modelDigest"]):
                new = entry.name == "ModelRegistered"
                kind = AlertKind.NEW_MODEL_VERSION if new else AlertKind.REVOCATION
                what = f"model {given['modelDigest']}, key epoch {given['keyEpoch']}"
                yield _alert(entry, kind, f"{what}, {'registered' if new else 'revoked'} by {given['owner']}")
            case "OwnerProposed" if self._is_watched(given["modelDigest"]):
                text = f"{given['owner']} offers {given['proposed']} model {given['modelDigest']}, not accepted yet"
                yield _alert(entry, AlertKind.PROPOSED_OWNER, text)
            case "OwnershipTransferred" if self._is_watched(given["modelDigest"]):
                text = f"model {given['modelDigest']} is {given['newOwner']}'s, it was {given['previousOwner']}'s"
                yield _alert(entry, AlertKind.NEW_OWNER, text)
            case "Anchored" if given["submitter"] == watched.coordinator and given["root"] not in watched.known:
                text = f"anchor {given['anchorId']} of {given['size']} statements under root {given['root']} is unknown"
                yield _alert(entry, AlertKind.UNKNOWN_ANCHOR, text)
            case "Committed" if given["submitter"] == watched.coordinator:
                if given["statementDigest"] not in watched.known:
                    text = f"attempt {given['attempt']} at task {given['taskId']} commits to unknown statement "
                    yield _alert(entry, AlertKind.UNKNOWN_COMMITMENT, text + str(given["statementDigest"]))
            case "RecordCertified" if watched.workers and given["statementDigest"] not in watched.known:
                found = self._chain.certified_by(entry.transaction)
                if found is not None and found[1] in watched.workers:
                    text = f"statement {found[0]}, signed by worker {found[1]}, is not among those that it made"
                    yield _alert(entry, AlertKind.FOREIGN_STATEMENT, text)


def _alert(entry: Entry, kind: AlertKind, detail: str) -> Alert:
    return Alert(f"{kind}:{entry.block_hash}:{entry.position}", kind, entry.block, detail, entry.transaction)
