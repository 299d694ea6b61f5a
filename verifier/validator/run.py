"""The validator's loop: ask what waits, check it, write down what was found, sign it, hand it in.

Nothing that the coordinator says is believed: not which node to ask, nor what a certificate came to, nor whose
statement it is. It is asked which jobs wait, and may leave some out.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from eth_account.signers.local import LocalAccount

from contracts.accountability import Accountability
from contracts.accountable import AccountableChain
from rexis.api import SignedVerdict, Validation, VerdictSubmission
from rexis.client import RexisClient
from rexis.protocol.bls import BlsKey
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, NotFoundError, ResourceError, RexisError
from rexis.protocol.signing import address_of
from rexis.protocol.typed_data import Domain
from rexis.protocol.validation import Finding, ValidatorVerdict
from rexis.telemetry import logs
from rexis.transport import Retry
from verifier.artifacts import artifact_name
from verifier.confined import Bounds, run_confined
from verifier.validator.documents import Check, Judgement, State, Tally, ValidatorStatus
from verifier.validator.journal import Journal
from verifier.validator.seat import Seat, require_seat
from verifier.validator.status import only_one, show

_JOURNAL, _ARTIFACTS = "journal.sqlite", "artifacts"
# A check that came to nothing is made again: a node or a file may have been missing. It doubles up to the second.
_AGAIN_S, _LONGEST_S = 15.0, 900.0
_RETRY = Retry(attempts=2)
_log = logging.getLogger("validator")


@dataclass(frozen=True)
class ValidatorOptions:
    """What an operator of a validator decides.

    Attributes
    ----------
    account, key
        The account that holds the slot, and signs in at the coordinator; the BLS key that signs verdicts.
    quorum
        The manifest of the deployment that it joined.
    rpc
        Its own chain node.
    state
        Folder of the journal, and of what it shows of itself.
    artifacts
        Folder with files named ``sha256-…`` that need not be fetched; what is fetched goes there, too.
    bounds, max_bytes, max_file_bytes
        Of one check, of a certificate, and of a model or SRS.
    every_s
        How often the coordinator is asked.
    """

    coordinator: str
    account: LocalAccount
    key: BlsKey
    quorum: Accountability
    rpc: str
    state: Path
    artifacts: Path | None = None
    bounds: Bounds = field(default_factory=lambda: Bounds(4 << 30, 600))
    max_bytes: int = 64 << 20
    max_file_bytes: int = 2 << 30
    every_s: float = 5.0
    allow_development_chain: bool = False
    allow_development_srs: bool = False


def run_validator(options: ValidatorOptions) -> None:
    """Validate until SIGTERM or SIGINT, which let the check under way come to its end; a second one does not wait.

    Raises
    ------
    RexisError
        It cannot start: not joined, another key, another deployment, or another validator in its folder.
        Once started, nothing but a signal ends it.
    """
    logs.install(sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each time that it asks
    stop = threading.Event()
    with only_one(options.state), _signals(stop):
        chain = AccountableChain.connect(options.rpc)
        chain.discover()
        chain.attach_accountability(options.quorum)
        seat = require_seat(chain, address_of(options.account), options.key)
        domain = chain.deployment.domain
        with (
            Journal(options.state / _JOURNAL, options.key.public_key) as journal,
            RexisClient(options.coordinator, options.account, domain=domain, retry=_RETRY) as client,
        ):
            Validator(options, client, journal, domain, seat, stop).run()


class Validator:
    """One validator on one coordinator.

    Parameters
    ----------
    client
        Signed in as ``options.account``.
    domain
        Of the deployment, as the validator's own node knows it.
    stop
        Set when it is to end.
    """

    def __init__(
        self,
        options: ValidatorOptions,
        client: RexisClient,
        journal: Journal,
        domain: Domain,
        seat: Seat,
        stop: threading.Event,
    ) -> None:
        self._options, self._client, self._journal = options, client, journal
        self._domain, self._seat, self._stop = domain, seat, stop
        self._artifacts = options.artifacts or options.state / _ARTIFACTS
        self._started_at = _now()
        self._tally = Tally()
        self._trouble: str | None = None
        self._failures: dict[Digest, tuple[int, float]] = {}  # by job: how often, and when to try again

    def run(self) -> None:
        """Work until it is told to stop."""
        self._artifacts.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = self._journal.counts()
        _log.info("validating", extra={"slot": self._seat.slot, "account": address_of(self._options.account), **kept})
        while not self._stop.is_set():
            self._show("idle")
            self._guarded("asking the coordinator", self.turn)
            self._stop.wait(self._options.every_s)
        self._show("stopped")
        _log.info("stopped", extra=self._tally.to_object())

    def turn(self) -> None:
        """Take up everything that waits now."""
        waiting = self._client.validations()
        jobs = {one.job_id for one in waiting}
        self._failures = {job: known for job, known in self._failures.items() if job in jobs}
        for one in waiting:
            if self._stop.is_set():
                return
            if time.monotonic() >= self._failures.get(one.job_id, (0, 0.0))[1]:
                with logs.bound(job_id=str(one.job_id)):
                    self._show("judging", one.job_id)
                    if not self._guarded("the job", partial(self._take_up, one)):
                        self._put_off(one.job_id)

    def _guarded(self, what: str, work: Callable[[], object]) -> bool:
        """Do something that may fail without ending the validator; whether it did not."""
        try:
            work()
        except Exception as error:
            expected = isinstance(error, RexisError)
            self._trouble = f"{what}: {error}" if expected else f"{what}: an error of ours, see the log"
            _log.warning("%s: %s", what, error, exc_info=not expected)
            return False
        self._trouble = None
        return True

    def _take_up(self, asked: Validation) -> None:
        decided = self._journal.of(asked.statements)
        if len(decided) < len(set(asked.statements)):
            judgement = self._check(asked)
            self._count(**{judgement.kind: 1})
            _log.info("checked", extra={"outcome": judgement.kind, "reason": judgement.reason or ""})
            if not judgement.findings:
                self._abstain(asked.job_id, judgement)
                return
            self._journal.decide(asked.job_id, {one.statement: one.verdict for one in judgement.findings})
            decided = self._journal.of(asked.statements)
        self._hand_in(asked.job_id, decided)
        if len(decided) < len(set(asked.statements)):  # others of the job were refuted, or it is not all in there
            self._put_off(asked.job_id)

    def _check(self, asked: Validation) -> Judgement:
        try:
            certificate = self._fetch(asked)
        except ResourceError as error:
            return Judgement(kind="undecided", findings=[], reason=error.message)
        check = Check(
            rpc=self._options.rpc,
            artifacts=str(self._artifacts.resolve()),
            allow_development_chain=self._options.allow_development_chain,
            allow_development_srs=self._options.allow_development_srs,
            job_id=asked.job_id,
            domain=self._domain,
        )
        ended = run_confined("verifier.validator.judge", self._options.bounds, check.to_json(), certificate)
        if not ended.frames:
            return Judgement(kind="undecided", findings=[], reason=ended.early)
        return Judgement.from_json(ended.frames[-1], max_bytes=len(ended.frames[-1]))

    def _fetch(self, asked: Validation) -> bytes:
        """A job's draft certificate; what it is checked with goes to the artefacts."""
        certificate = self._client.draft_certificate(asked.job_id, self._options.max_bytes)
        for digest in asked.files:
            path = self._artifacts / artifact_name(digest)
            with suppress(NotFoundError):  # the check says what is missing, if it needs it
                self._client.download_blob(digest, path, max_bytes=self._options.max_file_bytes)
        return certificate

    def _abstain(self, job: Digest, judgement: Judgement) -> None:
        self._put_off(job)
        self._client.abstain(job, judgement.kind, judgement.reason or "")

    def _hand_in(self, job: Digest, decided: Mapping[Digest, Finding]) -> None:
        if not decided:
            return
        verdicts = [
            SignedVerdict(statement=statement, verdict=finding, signature=self._sign(statement, finding))
            for statement, finding in decided.items()
        ]
        try:
            self._client.hand_verdicts_in(job, VerdictSubmission(slot=self._seat.slot, verdicts=verdicts))
        except ConflictError as error:  # it was decided without this validator
            _log.info("not wanted any more: %s", error.message)
            return
        self._journal.note_handed_in(job)
        self._count(handed_in=len(verdicts))
        _log.info("handed in", extra={"statements": len(verdicts)})

    def _sign(self, statement: Digest, finding: Finding) -> bytes:
        """Sign what the journal has: nothing else is ever given to the key."""
        if self._journal.of([statement]).get(statement) != finding:
            raise ConflictError(f"statement {statement} has no such verdict in the journal")
        message = self._domain.digest(ValidatorVerdict(statement_digest=statement, verdict=finding))
        return self._options.key.sign(message)

    def _put_off(self, job: Digest) -> None:
        count = self._failures.get(job, (0, 0.0))[0]
        self._failures[job] = count + 1, time.monotonic() + min(_LONGEST_S, _AGAIN_S * 2**count)

    def _count(self, **more: int) -> None:
        self._tally = self._tally.model_copy(update={name: getattr(self._tally, name) + n for name, n in more.items()})

    def _show(self, state: State, job: Digest | None = None) -> None:
        options = self._options
        status = ValidatorStatus(
            pid=os.getpid(),
            state="draining" if self._stop.is_set() and state != "stopped" else state,
            account=address_of(options.account),
            slot=self._seat.slot,
            public_key=options.key.public_key,
            quorum=options.quorum.validator_quorum,
            coordinator=self._client.url,
            started_at=self._started_at,
            updated_at=_now(),
            job_id=job,
            trouble=self._trouble,
            tally=self._tally,
        )
        with suppress(RexisError):  # a full disk keeps nobody from judging
            show(options.state, status)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    def told(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
