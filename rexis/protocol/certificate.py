"""The certificate: everything an auditor needs about a job, in one canonical JSON document.

Reading one checks its form only. What it claims is checked by ``verifier``.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Base64Bytes,
    FailFast,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError
from rexis.protocol.evidence import Evidence, RecordProof
from rexis.protocol.merkle import MAX_PATH
from rexis.protocol.parsing import (
    AddressField,
    DigestField,
    HexBytes,
    Strict,
    UInt32,
    UInt64,
    canonical_json,
    canonical_parts,
    load_json,
    read_elements,
    share_field_sets,
)
from rexis.protocol.policy import MAX_SHARD
from rexis.protocol.records import Opening
from rexis.protocol.rung import SignedRungClaim
from rexis.protocol.statement import JobRequest, Statement
from rexis.protocol.typed_data import Domain

FORMAT = "rexis-certificate-v1"
# Verifying the largest certificate of each kind takes less than 500 MB (bench.certificate).
MAX_CERTIFICATE_BYTES = 160 << 20
MAX_TASKS = 1 << 15  # one is about 2 kB
MAX_VKA_WORDS = 1 << 14
DEVELOPMENT_CHAINS = frozenset({1337, 31337})  # geth --dev, anvil/hardhat

# How the canonical form of an evaluation's certificate begins, goes on and ends: its tasks are its last member.
_FIRST, _TASKS, _BETWEEN, _END = b'{"circuit":', b',"tasks":[', b'},{"anchor":', b"]}\n"
_SEAL_TEXT = "rexis certificate seal v1\n"


class CircuitMaterial(Strict):
    """The public artefacts whose digests :class:`~rexis.protocol.circuit.Circuit` pins.

    Attributes
    ----------
    settings
        ezkl's settings, canonical JSON text; for a circuit of several segments, those of all.
    vk
        Verifying key bytes, or those of the segments.
    vka
        The reusable verifier's artifact: 32-byte words; or the segments'.
    """

    settings: Annotated[str, Field(max_length=8 << 20)]
    vk: Annotated[Base64Bytes, PlainSerializer(lambda raw: _base64(raw))]
    vka: Annotated[list[DigestField], Field(max_length=MAX_VKA_WORDS), FailFast()]


class Commitment(Strict):
    """Where a ``sampled`` task was committed before its challenge.

    Attributes
    ----------
    attempt
        1 for the coordinator's first commitment of this task.
    block_number
        Block b of the commitment.
    challenge_block_hash
        Hash of block b+1.
    transaction
        Hash of the commitment's transaction.
    """

    attempt: Annotated[UInt32, Field(ge=1)]
    block_number: UInt64
    challenge_block_hash: DigestField
    transaction: DigestField


class Anchor(Strict):
    """Where a statement's digest stands on chain.

    Attributes
    ----------
    anchor_id, root, size
        The EvidenceLog's entry.
    leaf_index, path
        Inclusion of the statement digest.
    block_number, transaction
        Of the anchor.
    """

    anchor_id: UInt64
    root: DigestField
    size: Annotated[UInt64, Field(ge=1)]
    leaf_index: UInt64
    path: Annotated[list[DigestField], Field(max_length=MAX_PATH), FailFast()]
    block_number: UInt64
    transaction: DigestField


class CertifiedTask(Strict):
    """One task's evidence with its places on chain.

    Attributes
    ----------
    commitment
        Tier ``sampled`` only.
    opening_block_hash
        Tier ``commit`` only: hash of the block after the anchor's, which chose the opened records.
    certified
        Transactions in which the Certifier contract accepted a record's proof, by record order (``certifyOnChain``).
    """

    LONG = ("evidence",)

    evidence: Evidence
    commitment: Commitment | None
    opening_block_hash: DigestField | None
    anchor: Anchor
    certified: Annotated[list[DigestField], Field(max_length=MAX_SHARD), FailFast()]

    @classmethod
    def read(cls, data: bytes, start: int, end: int) -> Self:
        """Read a task's canonical form out of a certificate's, record by record.

        Raises
        ------
        MalformedError
            That is not what stands there.
        """
        opened, after_opened = _between(data, start, end, b'"openings":[', b'],"outputsDigest":"')
        proved, after_proved = _between(data, after_opened, end, b'"proofs":[', b'],"signature":"')
        rest = data[start:opened] + data[after_opened:proved] + data[after_proved:end]
        task = cls.from_json(rest, max_bytes=len(data))
        if canonical_json(task.to_object())[:-1] != rest:
            raise MalformedError("not a task in canonical form")
        openings = read_elements(data, opened, after_opened, "index", Opening, MAX_SHARD)
        proofs = read_elements(data, proved, after_proved, "boundaries", RecordProof, MAX_SHARD)
        evidence = task.evidence.model_copy(update={"openings": openings, "proofs": proofs})
        task = task.model_copy(update={"evidence": evidence})
        share_field_sets(task)
        return task


def _between(data: bytes, start: int, end: int, before: bytes, after: bytes) -> tuple[int, int]:
    """Where what stands between two texts begins and ends."""
    first = data.find(before, start, end) + len(before)
    last = data.find(after, first, end)
    if first < start + len(before) or last < 0:
        raise MalformedError("not a task in canonical form")
    return first, last


class Contracts(Strict):
    """The other contracts of the deployment at issue."""

    model_registry: AddressField
    certifier: AddressField


Development = Literal["chain", "srs"]


@dataclass(frozen=True)
class Place:
    """Where one task's statement stands on chain, whatever kind of certificate says so.

    Attributes
    ----------
    where
        JSON path of the task within its certificate, with a dot at its end; empty if the certificate has but one.
    certified
        See :class:`CertifiedTask`.
    """

    where: str
    statement: Statement
    commitment: Commitment | None
    opening_block_hash: Digest | None
    anchor: Anchor
    certified: Sequence[Digest] = ()


class SealedDocument(Strict):
    """What certificates of both kinds have in common: see ``docs/protocol.md`` §5.

    Attributes
    ----------
    rung_claim
        Of a job of rung ``ee-private-weights``. Any other certificate has no such field.
    """

    domain: Domain
    contracts: Contracts
    request: JobRequest
    request_signature: HexBytes
    development: Annotated[list[Development], Field(max_length=2), FailFast()]
    issued_at: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
    rung_claim: SignedRungClaim | None = None
    seal: HexBytes

    @model_serializer(mode="wrap")
    def _without_a_claim_that_is_not_there(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: value
            for name, value in write(self).items()
            if value is not None or name not in ("rungClaim", "rung_claim")
        }

    @field_validator("issued_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)  # a ValueError is what pydantic wants
        return value

    @field_validator("development")
    @classmethod
    def _sorted_set(cls, value: list[Development]) -> list[Development]:
        if value != sorted(set(value)):
            raise ValueError("development markers are sorted and unique")
        return value

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a certificate; refuses any byte string that is not the canonical form of what it says."""
        certificate = cls.from_object(load_json(data, max_bytes=MAX_CERTIFICATE_BYTES))
        certificate.require_canonical(data)
        return certificate

    def require_canonical(self, data: bytes) -> None:
        """Raise :class:`MalformedError` unless `data` is the canonical form of this document."""
        place = 0
        for part in canonical_parts(self):
            if not data.startswith(part, place):
                break
            place += len(part)
        else:
            if place == len(data):
                return
        raise MalformedError(
            "certificate is not in canonical form",
            hint="was the file edited or reformatted? fetch it again",
        )

    @property
    def seal_text(self) -> str:
        """The text that the coordinator signs (EIP-191): a domain line and the document's digest."""
        return seal_text(self.shallow())

    @property
    def job_id(self) -> Digest:
        """EIP-712 digest of the request."""
        return self.request.job_id(self.domain)

    @property
    @abstractmethod
    def places(self) -> list[Place]:
        """Each task's statement with its places on chain, in order."""


class Certificate(SealedDocument):
    """Of an evaluation."""

    LONG = ("tasks",)

    format: Literal["rexis-certificate-v1"]
    circuit: CircuitMaterial | None
    tasks: Annotated[list[CertifiedTask], Field(min_length=1, max_length=MAX_TASKS), FailFast()]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a certificate; refuses any byte string that is not the canonical form of what it says."""
        return cls.read_by_task(data) or super().parse(data)

    @classmethod
    def read_by_task(cls, data: bytes) -> Self | None:
        """Read the canonical form of a certificate task by task, so that only one is there in two forms at a time.

        None for whatever is not such a form: what is wrong with it, reading it as a whole tells.
        """
        try:
            return cls._by_task(data)
        except MalformedError:
            return None

    @classmethod
    def _by_task(cls, data: bytes) -> Self | None:
        place, last = data.find(_TASKS), len(data) - len(_END)
        if place < 0 or not (data.startswith(_FIRST) and data.endswith(_END)) or len(data) > MAX_CERTIFICATE_BYTES:
            return None
        head, tasks = data[:place], list[CertifiedTask]()
        place += len(_TASKS)
        while place < last:
            end = data.find(_BETWEEN, place, last) + 1 or last
            task = CertifiedTask.read(data, place, end)
            if len(tasks) == MAX_TASKS:
                return None
            if tasks and task.evidence.statement.circuit == tasks[0].evidence.statement.circuit:
                task.evidence.statement.__dict__["circuit"] = tasks[0].evidence.statement.circuit
            tasks.append(task)
            place = end + 1
        members = load_json(head + b"}")
        if "tasks" in members or place != last + 1:
            return None
        certificate = cls.from_object({**members, "tasks": tasks})
        written = canonical_json(certificate.model_dump(by_alias=True, exclude={"tasks"}))
        return certificate if written == head + b"}\n" else None

    @property
    def places(self) -> list[Place]:
        """Each task's statement, in order."""
        return [
            Place(
                where=f"tasks.{position}.",
                statement=task.evidence.statement,
                commitment=task.commitment,
                opening_block_hash=task.opening_block_hash,
                anchor=task.anchor,
                certified=task.certified,
            )
            for position, task in enumerate(self.tasks)
        ]


def seal_text(document: dict[str, object]) -> str:
    """The text to sign for a certificate document, whose ``seal`` field is left out."""
    state = hashlib.sha256()
    for part in canonical_parts({key: value for key, value in document.items() if key != "seal"}):
        state.update(part)
    return _SEAL_TEXT + str(Digest(state.digest()))


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
