"""A coordinator's log of anchors beside the chain's events: whether both tell the same story, now and later.

The log is read entry by entry, and the tree over all entries kept. A signed checkpoint whose root is not that tree's
shows that the coordinator told somebody another story, whichever entry it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from contracts.logs import Entry, LogReader
from rexis.api import AnchorLeaves, LoggedAnchor, LogKey
from rexis.exports.anchor_log import key_of, log_entry
from rexis.exports.note import NoteKey
from rexis.exports.tlog import TreeHead
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import (
    MalformedError,
    MerkleError,
    NotFoundError,
    RexisError,
    SignatureError,
    UnavailableError,
)
from rexis.protocol.merkle import GrowingTree, merkle_root
from rexis.protocol.parsing import Address
from verifier.monitoring.alerts import Alert, AlertKind
from verifier.monitoring.checkpoint import ChainAnchor, Followed

GRACE = 64
_MATCHED = 1024

Tell = Callable[[Alert], None]


class AnchorSource(Protocol):
    """What a coordinator says of its anchors: :class:`rexis.client.RexisClient`."""

    def log_key(self) -> LogKey: ...
    def log_checkpoint(self) -> str: ...
    def anchors(self, start: int) -> list[LoggedAnchor]: ...
    def anchor_leaves(self, index: int) -> AnchorLeaves: ...


class Comparison:
    """One coordinator's log beside the chain.

    Parameters
    ----------
    state
        Where the last scan ended.
    workers, known
        Whose statements have to be among `known`, where a leaf names them.
    grace
        Blocks within which chain and coordinator must both have an anchor.
    """

    def __init__(
        self,
        source: AnchorSource,
        chain: LogReader,
        state: Followed,
        *,
        workers: Collection[Address] = (),
        known: Collection[Digest] = (),
        grace: int = GRACE,
    ) -> None:
        self._source, self._chain, self._coordinator, self._grace = source, chain, state.coordinator, grace
        self._workers, self._known = workers, known
        self._key, self._note = state.key, state.note
        self._tree = GrowingTree(state.size, state.peaks)
        self._shown, self._unshown, self._matched = list(state.shown), list(state.unshown), list(state.matched)

    def state(self) -> Followed:
        """What to keep for the next scan."""
        return Followed(
            coordinator=self._coordinator,
            key=self._key,
            size=self._tree.size,
            peaks=[Digest(peak) for peak in self._tree.peaks],
            note=self._note,
            shown=self._shown,
            unshown=self._unshown,
            matched=self._matched,
        )

    # --- the chain ----------------------------------------------------------------------------------------------

    def saw(self, entries: Iterable[Entry]) -> None:
        """Events of blocks that stand. Anchors of the coordinator's are remembered."""
        for entry in entries:
            given = entry.arguments
            if entry.name == "Anchored" and given["submitter"] == self._coordinator:
                anchor = ChainAnchor.from_object(
                    {"anchorId": given["anchorId"], "root": str(given["root"]), "size": given["size"]}
                    | {"block": entry.block}
                )
                if not any(_same(anchor, each) for each in self._matched):
                    self._unshown.append(anchor)

    def dropped_after(self, block: int) -> None:
        """The chain has other blocks after this one than those that were scanned."""
        self._unshown = [each for each in self._unshown if each.block <= block]
        self._shown += [each for each in self._matched if each.block_number > block]
        self._matched = [each for each in self._matched if each.block_number <= block]

    # --- the coordinator ----------------------------------------------------------------------------------------

    def read(self, block: int, tell: Tell) -> None:
        """Read what is new in the log, up to its checkpoint.

        Parameters
        ----------
        block
            The last that was scanned; where alerts stand.

        Raises
        ------
        UnavailableError
            The coordinator does not answer.
        """
        try:
            self._read(block, tell)
        except (MalformedError, SignatureError, _ForkError) as error:
            tell(_fork(sha256(error.message.encode()).hex(), block, error.message))

    def _read(self, block: int, tell: Tell) -> None:
        key = self._read_key()
        note = self._source.log_checkpoint()
        head = TreeHead.opened(note, key)
        if head.size < self._tree.size:
            raise _ForkError(
                f"the log has {head.size} entries by its checkpoint, but had {self._tree.size}. Signed now:\n{note}"
                f"signed before:\n{self._note}"
            )
        while self._tree.size < head.size:
            page = self._source.anchors(self._tree.size)[: head.size - self._tree.size]
            if not page:
                raise _ForkError(f"the log shows {self._tree.size} entries, its checkpoint says {head.size}:\n{note}")
            for entry in page:
                if entry.index != self._tree.size:
                    raise _ForkError(f"the log shows entry {entry.index} where {self._tree.size} should stand")
                self._take(entry, block, tell)
        if self._tree.root != head.root:
            raise _ForkError(
                f"the {head.size} entries that the log showed have root {self._tree.root}, but another one is signed:\n"
                f"{note}signed before:\n{self._note}"
            )
        self._note = note

    def _read_key(self) -> NoteKey:
        said = self._source.log_key()
        if self._key and said.key != self._key:
            raise _ForkError(f"the log's key is {said.key}, but was {self._key}")
        key = key_of(said.key, said.signature, self._chain.deployment.domain, self._coordinator)
        self._key = said.key
        return key

    def _take(self, entry: LoggedAnchor, block: int, tell: Tell) -> None:
        """Read one entry's leaves, and add it to the tree."""
        what = f"entry {entry.index} of the log, anchor {entry.anchor_id}"
        try:
            leaves = self._source.anchor_leaves(entry.index)
            if len(leaves.statements) != entry.size or merkle_root(leaves.statements) != entry.root:
                raise MerkleError(
                    f"its {len(leaves.statements)} leaves do not give root {entry.root} over {entry.size}"
                )
            if len(leaves.workers) != entry.size:
                raise MalformedError("not every leaf has a worker")
        except UnavailableError:
            raise
        except RexisError as error:
            tell(_fork(f"leaves:{entry.index}", block, f"{what}: {error.message}"))
        else:
            for statement, worker in zip(leaves.statements, leaves.workers, strict=True):
                if worker in self._workers and statement not in self._known:
                    text = f"{what}: statement {statement} is by worker {worker}, as the coordinator has it, but is "
                    kind = AlertKind.FOREIGN_STATEMENT
                    tell(Alert(f"{kind}:{statement}", kind, block, text + "not among those that it made"))
        self._tree.extend([log_entry(entry.root, entry.size)])
        self._shown.append(entry)

    # --- both ---------------------------------------------------------------------------------------------------

    def settle(self, block: int, tell: Tell) -> None:
        """Match what both have; tell of what only one has, `grace` blocks after it should stand on both sides."""
        waiting = []
        for entry in self._shown:
            if self._on_chain(entry):
                self._matched = [*self._matched, entry][-_MATCHED:]
            elif block < entry.block_number + self._grace and entry.block_number <= block + self._grace:
                waiting.append(entry)
            else:
                text = (
                    f"entry {entry.index} of the log is an anchor with root {entry.root} over {entry.size} statements, "
                    f"final in block {entry.block_number}; {self._coordinator} wrote none on chain up to block {block}"
                )
                tell(_fork(f"not-on-chain:{entry.index}", block, text))
        self._shown = waiting
        for place, anchor in enumerate(self._unshown):
            if not anchor.told and block >= anchor.block + self._grace:
                text = (
                    f"anchor {anchor.anchor_id} on chain, in block {anchor.block}, with root {anchor.root} over "
                    f"{anchor.size} statements, is not in the log that {self._coordinator} shows"
                )
                tell(_fork(f"not-shown:{anchor.anchor_id}", block, text))
                self._unshown[place] = anchor.model_copy(update={"told": True})

    def _on_chain(self, entry: LoggedAnchor) -> bool:
        """Whether the chain has an entry's root: in an event that was scanned, or, if that is older, in its storage."""
        if any(_same(each, entry) for each in self._unshown):
            self._unshown = [each for each in self._unshown if not _same(each, entry)]
            return True
        try:
            found = self._chain.anchor_of(entry.anchor_id)
        except NotFoundError:
            return False
        return found.submitter == self._coordinator and (found.root, found.size) == (entry.root, entry.size)


class _ForkError(RexisError):
    code = "fork"


def _same(one: ChainAnchor | LoggedAnchor, other: ChainAnchor | LoggedAnchor) -> bool:
    return (one.root, one.size) == (other.root, other.size)


def _fork(what: str, block: int, detail: str) -> Alert:
    return Alert(f"{AlertKind.FORK}:{what}", AlertKind.FORK, block, detail)
