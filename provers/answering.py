"""Answers challenges of a worker's own statements, from what it keeps; beside its tasks, and when it has none.

The chain alone says what is open: after a restart everything that can still be answered is found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from contracts.accountability import Accountability
from contracts.accountable import Challenge, Dispute, DisputeState
from contracts.challenging import place_of
from contracts.courier import Courier
from contracts.node import RevertError
from contracts.sending import Call, Sender
from provers import metrics
from provers.cache import ProofCache
from provers.display import log
from provers.keeper import Stop, StopRequested
from provers.kept import Kept, KeptStatement
from provers.pieces import segment_proof
from provers.site import Site
from provers.task import CircuitFiles
from rexis.client import RexisClient
from rexis.protocol.anchored import AnchoredStatement
from rexis.protocol.digests import Digest
from rexis.protocol.errors import (
    ChainError,
    CircuitError,
    ConflictError,
    NotFoundError,
    RexisError,
    UnavailableError,
)
from rexis.protocol.policy import Tier
from rexis.protocol.records import distance

_POLL_S = 3.0
# Statements whose anchor is asked for, and whose time is looked at, once in so many seconds.
_ANCHORS_EVERY_S = 30.0
_AT_ONCE = 64
# Blocks that are looked at again, in case the chain drops some.
_AGAIN = 64


class Answerer:
    """Answers single challenges.

    Parameters
    ----------
    chain
        Connected as the worker, attached to a deployment of disputes.
    letters
        Folder for transactions under way.
    waiting
        Called while something takes long; may raise, which ends the answer for now.
    """

    def __init__(
        self,
        chain: Sender,
        kept: Kept,
        site: Site,
        proofs: ProofCache,
        letters: Path,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._chain, self._kept, self._site, self._proofs = chain, kept, site, proofs
        self._courier, self._waiting = Courier(chain, letters), waiting

    def answer(self, digest: Digest, index: int) -> str:
        """Answer an open challenge: dismiss it if it is out of time, else prove the record; of tier ``commit`` show its
        output. Returns what was done.

        Raises
        ------
        NotFoundError
            The statement, or its records, are not kept here.
        CircuitError
            The committed output is not what the circuit gives: there is no answer.
        ConflictError
            Nothing is open about the record.
        RevertError
            The contract refuses the answer.
        """
        dispute = self._chain.dispute_of(digest, index)
        if dispute.state != DisputeState.OPEN:
            raise ConflictError(f"no open dispute about record {index}: {dispute.state.name.lower()}")
        anchored = self._kept.anchored(digest)
        if anchored is not None and self._is_out_of_time(dispute, anchored):
            call = self._chain.dismissing(digest, index, place_of(anchored))
            return self._send(_name(digest, index), call, "dismissed")
        kept = self._kept.statement(digest)
        commit = kept.statement.tier == Tier.COMMIT
        call = self._answering_commit(kept, index) if commit else self._answering(kept, index)
        return self._send(_name(digest, index), call, "answered")

    def forget(self, digest: Digest, index: int) -> None:
        """The dispute is over: what was under way for it is not needed."""
        self._courier.forget(_name(digest, index))

    def _send(self, name: str, call: Call, done: str) -> str:
        receipt = self._courier.send(name, call, self._waiting)
        return f"{done} in block {receipt.block}, {receipt.gas_used:,} gas"

    def _is_out_of_time(self, dispute: Dispute, anchored: AnchoredStatement) -> bool:
        """Whether the contract dismisses it: challenged too late, or about what the warranty does not cover."""
        terms, block = self._chain.accountability.terms, anchored.anchor.block_number
        return block < dispute.warranted_from or (
            dispute.answer_until - terms.response_window > block + terms.challenge_period
        )

    def _answering(self, kept: KeptStatement, index: int) -> Call:
        record = self._kept.open(kept.digest, index)
        return self._chain.answering(kept.statement, record.opening, self._proof(kept, index), kept.vka)

    def _answering_commit(self, kept: KeptStatement, index: int) -> Call:
        """By the committed output alone: the challenger has proved what it has to be near."""
        record, proven = self._kept.open(kept.digest, index), self._chain.proven_of(kept.digest, index)
        fixed = np.array(proven.outputs, dtype=np.int64)
        apart = distance(np.asarray(record.outputs, dtype=np.float32), fixed, proven.output_scale)
        if apart > proven.tolerance:
            raise CircuitError(
                f"the committed output lies {apart} units of 2^-{proven.output_scale} from what was proved, and "
                f"{proven.tolerance} were warranted"
            )
        return self._chain.answering_commit(kept.statement, record.opening, proven)

    def _proof(self, kept: KeptStatement, index: int) -> bytes:
        statement, record = kept.statement, self._kept.open(kept.digest, index)
        circuit = statement.circuit
        wanted = (statement.model_digest, circuit.settings_digest, circuit.srs_digest)
        files = CircuitFiles(*(self._kept.blob(one) for one in wanted))
        values = [np.asarray(side, dtype=np.int64) for side in (record.inputs, record.outputs)]
        with self._site.desk(self._waiting) as desk:
            prove = lambda inputs: desk.open(circuit, files, lambda done, total: None).prove_segment(0, inputs)  # noqa: E731
            return segment_proof(prove, self._proofs, circuit, 0, *values)


def _name(digest: Digest, index: int) -> str:
    return f"{digest.hex()}-{index}"


class Watch:
    """Looks for challenges, answers them, and lets go of what cannot be challenged any more.

    Parameters
    ----------
    client
        Where statements' anchors are asked for.
    """

    def __init__(self, chain: Sender, kept: Kept, answerer: Answerer, client: RexisClient, stop: Stop) -> None:
        self._chain, self._kept, self._answerer = chain, kept, answerer
        self._client, self._stop = client, stop
        self._open: dict[tuple[Digest, int], Challenge] = {}
        self._given_up: set[tuple[Digest, int]] = set()
        self._next: int | None = None
        self._anchors_at, self._turn = 0.0, 0

    def run(self) -> None:
        """Until the worker is told to stop."""
        while not self._stop.leaving():
            try:
                self.turn()
            except StopRequested:
                return
            except RexisError as error:
                log.warning("watching for challenges: %s; trying again", error)
            except Exception:
                log.exception("watching for challenges failed; it goes on")
            self._stop.wait(_POLL_S)

    def turn(self) -> None:
        """Look once at everything."""
        head = self._chain.block_number()
        self._look(head)
        for key, one in list(self._open.items()):
            if head > one.answer_until:
                del self._open[key]
            elif key not in self._given_up:
                self._answer(one)
        if time.monotonic() >= self._anchors_at:
            self._anchors_at = time.monotonic() + _ANCHORS_EVERY_S
            self._follow(head)

    def _look(self, head: int) -> None:
        window = self._chain.accountability.terms.response_window
        first = max(0, head - window) if self._next is None else max(0, self._next - _AGAIN)
        for one in self._chain.challenges(first, head, self._chain.address):
            self._open.setdefault((one.statement_digest, one.record_index), one)
        self._next = head + 1

    def _answer(self, one: Challenge) -> None:
        """Answer, if it is open; what has no answer is not tried again."""
        digest, index = one.statement_digest, one.record_index
        if self._chain.dispute_of(digest, index).state != DisputeState.OPEN:
            self._answerer.forget(digest, index)
            return
        log.warning("challenged: record %d of statement %s, until block %d", index, digest, one.answer_until)
        try:
            done = self._answerer.answer(digest, index)
        except (NotFoundError, CircuitError) as error:
            log.error("no answer to the challenge of record %d of statement %s: %s", index, digest, error)
        except RevertError as error:
            if self._chain.dispute_of(digest, index).state != DisputeState.OPEN:
                return  # somebody else answered
            log.error("the answer about record %d of statement %s is refused: %s", index, digest, error)
        else:
            metrics.CHALLENGES.labels("answered").inc()
            log.info("record %d of statement %s: %s", index, digest, done)
            return
        metrics.CHALLENGES.labels("not-answered").inc()
        self._given_up.add((digest, index))

    def _follow(self, head: int) -> None:
        """Learn where statements are anchored, and forget the records of those whose time is over."""
        period, disputed = self._chain.accountability.terms.challenge_period, {digest for digest, _ in self._open}
        forgotten, waiting = 0, list(self._kept.not_anchored())
        # In turn: some are never anchored, and must not be in the way of others.
        self._turn = self._turn % len(waiting) if waiting else 0
        for digest in waiting[self._turn : self._turn + _AT_ONCE]:
            self._ask(self._kept.statement(digest))
        self._turn += _AT_ONCE
        for digest in self._kept.with_records():
            anchored = self._kept.anchored(digest)
            if anchored is None:
                continue
            over = head > anchored.anchor.block_number + period + _AGAIN
            if over and digest not in disputed and not self._chain.tally_of(digest).open:
                self._kept.forget_records(digest)
                forgotten += 1
        if forgotten:
            self._kept.forget_unused_blobs()
            log.info("%d statements cannot be challenged any more: their records are not kept longer", forgotten)

    def _ask(self, kept: KeptStatement) -> None:
        """Where a statement stands. The coordinator's word is checked on chain."""
        try:
            found = self._client.anchored_statement(kept.statement.task_id)
        except (NotFoundError, ConflictError, UnavailableError):
            return
        if found.digest != kept.digest:
            return  # the task's accepted statement is another one
        found.check()
        if self._chain.check_inclusion(kept.digest, place_of(found)).block == found.anchor.block_number:
            self._kept.note_anchor(found)


def connect_disputes(rpc_url: str | None, manifest: Accountability, account: LocalAccount) -> Sender:
    """A node as the worker's own account, attached to the deployment.

    Raises
    ------
    ChainError
        There is no node of the worker's own; it is on another chain, or the contracts are not there.
    """
    if rpc_url is None:
        raise ChainError("challenges are answered over a chain node of your own", hint="give one: --rpc")
    chain = Sender.connect(rpc_url, account=account)
    chain.discover()
    chain.attach_accountability(manifest)
    return chain
