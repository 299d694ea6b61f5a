"""Steps 9, 10 and 12: openings, proofs, and outputs that are simply wrong."""

from __future__ import annotations

import numpy as np

from contracts.onchain import FIELD
from rexis.protocol.parsing import parse_hex, to_hex
from rexis.protocol.policy import Tier
from tests.vectors.certificates.attacks.forging import first, flipped, opening, proof, shifted
from tests.vectors.certificates.case import ACCEPTED, forged
from tests.vectors.certificates.issuer import Document, Issuer, Plan, records, seal


def _openings(document: Document) -> list[Document]:
    found: list[Document] = document["tasks"][0]["evidence"]["openings"]
    return found


def _proof(document: Document, position: int = 0) -> str:
    return str(document["tasks"][0]["evidence"]["proofs"][position]["proofs"][0])


# --- 9. Openings ------------------------------------------------------------------------------------------------------


@forged(9, "output of record 1: the path leads to", "coordinator", solidity="OutputNotInTree")
def output_changed(issuer: Issuer) -> Document:
    """The coordinator wrote another output into the opening; path and proof are those of the true one."""
    document = issuer.zk()
    return seal(opening(document, output=flipped(_openings(document)[0]["output"])))


@forged(9, "input of record 1: the path leads to", "coordinator", solidity="InputNotInTree")
def input_changed(issuer: Issuer) -> Document:
    """The coordinator wrote another input into the opening."""
    document = issuer.zk()
    return seal(opening(document, input=flipped(_openings(document)[0]["input"])))


@forged(9, "input of record 1: the path leads to", "coordinator", solidity="InputNotInTree")
def salt_changed(issuer: Issuer) -> Document:
    """The opening's salt is another."""
    document = issuer.zk()
    return seal(opening(document, salt=flipped(_openings(document)[0]["salt"])))


@forged(9, "input of record 1: the path leads to", "coordinator", solidity="InputNotInTree")
def input_path_wrong(issuer: Issuer) -> Document:
    """The input's path has another sibling."""
    document = issuer.zk()
    path = _openings(document)[0]["inputPath"]
    return seal(opening(document, inputPath=[flipped(path[0]), *path[1:]]))


@forged(9, "output of record 1: the path is too short", "coordinator", solidity="OutputNotInTree")
def output_path_short(issuer: Issuer) -> Document:
    """The output's path ends below the root: an inner node taken for the root."""
    return seal(opening(issuer.zk(), outputPath=[]))


@forged(9, "output of record 1: the path is too long", "coordinator", solidity="OutputNotInTree")
def output_path_long(issuer: Issuer) -> Document:
    """The output's path goes on above the root."""
    document = issuer.zk()
    path = _openings(document)[0]["outputPath"]
    return seal(opening(document, outputPath=[*path, path[0]]))


@forged(9, "input of record 1", "coordinator", "worker", solidity="InputNotInTree")
def records_swapped_under_indices(issuer: Issuer) -> Document:
    """The openings of two records carry each other's index: right values, for the wrong patients."""
    document = issuer.zk()
    one, two = _openings(document)
    one["index"], two["index"] = two["index"], one["index"]
    document["tasks"][0]["evidence"]["openings"] = [two, one]
    return seal(document)


@forged(9, "output of record 1: the path leads to", "coordinator", "worker", solidity="OutputNotInTree")
def input_served_as_output(issuer: Issuer) -> Document:
    """The worker's output tree holds leaves of the input tree's kind: a leaf names the side that it is on."""
    document = issuer.zk()
    one = _openings(document)[0]
    return seal(opening(document, output=one["input"][: len(one["output"])]))


@forged(9, "NaN or infinity", "coordinator", "worker")
def not_a_number_committed(issuer: Issuer) -> Document:
    """The worker committed NaN outputs, with which every comparison within a tolerance could come out either way."""

    def nan(index: int, honest: bytes) -> bytes:
        return np.full(2, np.nan, dtype="<f4").tobytes()

    return issuer.issue(issuer.job(Tier.COMMIT, sample=2), Plan(payload=nan))


@forged(9, "NaN or infinity", "coordinator", "worker")
def infinity_committed(issuer: Issuer) -> Document:
    """The worker committed infinite outputs: infinity minus infinity is not beyond any tolerance."""

    def infinite(index: int, honest: bytes) -> bytes:
        return np.full(2, np.inf, dtype="<f4").tobytes()

    return issuer.issue(issuer.job(Tier.COMMIT, sample=2), Plan(payload=infinite))


@forged(9, "has 1 values, the circuit has 2", "coordinator", "worker", solidity="WrongInstanceCount")
def output_too_short(issuer: Issuer) -> Document:
    """The worker committed only the first output value of each record."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(payload=lambda index, honest: honest[:8]))


@forged(9, "has 3 values, the circuit has 2", "coordinator", "worker", solidity="WrongInstanceCount")
def output_too_long(issuer: Issuer) -> Document:
    """The worker committed one value more than the circuit has, which no proof would cover."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(payload=lambda index, honest: honest + bytes(8)))


@forged(9, "does not hold 8-byte values", "coordinator", "worker")
def output_partial_value(issuer: Issuer) -> Document:
    """The worker committed 15 bytes: the leaf's count of values is rounded down."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(payload=lambda index, honest: honest[:15]))


@forged(9, "does not hold 8-byte values", "coordinator", "worker")
def output_empty(issuer: Issuer) -> Document:
    """The worker committed records without any output."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(payload=lambda index, honest: b""))


@forged(9, "has 8 values, the circuit has 2", "coordinator", "worker", solidity="WrongInstanceCount")
def field_wraparound(issuer: Issuer) -> Document:
    """The worker committed x + r as 32 bytes instead of x: another number, the same element of the field."""

    def wrapped(index: int, honest: bytes) -> bytes:
        values = np.frombuffer(honest, dtype=">i8")
        return b"".join((int(value) + FIELD).to_bytes(32, "big") for value in values)

    return issuer.issue(issuer.job(Tier.ZK), Plan(payload=wrapped))


# --- 10. Proofs -------------------------------------------------------------------------------------------------------


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def wrong_outputs_committed(issuer: Issuer) -> Document:
    """The worker committed wrong outputs in its tree, and added honest proofs of the true ones."""
    return issuer.issue(issuer.job(Tier.ZK), Plan(payload=shifted))


@forged(10, "the proof of record 2", "coordinator", "worker", solidity="ProofRejected")
def one_wrong_output_committed(issuer: Issuer) -> Document:
    """One output of two is wrong, by the smallest amount that fixed point has."""
    job = issuer.job(Tier.ZK)
    return issuer.issue(job, Plan(payload=lambda index, honest: shifted(index, honest) if index == 2 else honest))


@forged(10, "the proof of record", "coordinator", "worker")
def wrong_outputs_sampled(issuer: Issuer) -> Document:
    """Tier sampled: the worker committed wrong outputs and hoped that others would be drawn."""
    return issuer.issue(issuer.job(Tier.SAMPLED, count=3, shard=3, sample=1), Plan(payload=shifted))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def values_in_little_endian(issuer: Issuer) -> Document:
    """The worker committed its outputs with the bytes turned round: other numbers."""
    return issuer.issue(
        issuer.job(Tier.ZK), Plan(payload=lambda index, honest: np.frombuffer(honest, ">i8").astype("<i8").tobytes())
    )


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def extreme_value(issuer: Issuer) -> Document:
    """The worker committed the smallest int64, which has no positive counterpart."""
    lowest = np.full(2, -(2**63), dtype=">i8").tobytes()
    return issuer.issue(issuer.job(Tier.ZK), Plan(payload=lambda index, honest: lowest))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def proofs_of_each_other(issuer: Issuer) -> Document:
    """The proofs of two records changed places."""
    document = issuer.zk()
    one, two = _proof(document, 0), _proof(document, 1)
    return seal(proof(proof(document, two, 0), one, 1))


@forged(10, "the proof of record 2", "coordinator", "worker", solidity="ProofRejected")
def proof_replayed(issuer: Issuer) -> Document:
    """The proof of the first record stands for the second one too: one proof made, two shown."""
    document = issuer.zk()
    return seal(proof(document, _proof(document, 0), 1))


@forged(10, "the proof of record 2", "coordinator", "worker")
def answer_copied(issuer: Issuer) -> Document:
    """The worker computed and proved the first record only, and committed its output as that of every other one."""
    answers: list[bytes] = []

    def copied(index: int, honest: bytes) -> bytes:
        answers.append(honest)
        return answers[0]

    document = issuer.issue(issuer.job(Tier.ZK), Plan(payload=copied))
    return seal(proof(document, _proof(document, 0), 1))


@forged(10, "the proof of record 1", "coordinator", "worker")
def leaves_of_each_other(issuer: Issuer) -> Document:
    """The output tree holds the outputs of two records in each other's place, and the proofs changed places with them:
    each proof is of the very output that stands in the leaf, but of another record's input."""
    job = issuer.job(Tier.ZK)
    outputs: dict[int, bytes] = {}

    def seen(index: int, honest: bytes) -> bytes:
        outputs[index] = honest
        return honest

    issuer.issue(job, Plan(payload=seen))
    document = issuer.issue(job, Plan(payload=lambda index, honest: outputs[3 - index]))
    one, two = _proof(document, 0), _proof(document, 1)
    return seal(proof(proof(document, two, 0), one, 1))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def proof_of_another_record(issuer: Issuer) -> Document:
    """An honest proof of a record that is not in the job, as a worker might keep one for all its jobs."""
    job = issuer.job(Tier.ZK)
    other = issuer.issue(issuer.job(Tier.ZK), Plan(data=records(9, 3)))
    return seal(proof(issuer.issue(job), _proof(other)))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def proof_for_another_circuit(issuer: Issuer) -> Document:
    """An honest proof of the same input under the circuit of another model, which is cheaper or kinder."""
    job = issuer.job(Tier.ZK, model=issuer.other_model)
    return seal(proof(issuer.zk(), _proof(issuer.issue(job))))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def other_model_run(issuer: Issuer) -> Document:
    """The worker ran and proved a smaller, registered model, and committed its outputs as those of the one asked for."""
    asked, other = issuer.model, issuer.other_model
    epoch = issuer.register(other.digest, asked.circuit)
    job = issuer.job(Tier.ZK, model=other, circuit=asked.circuit, material=asked.material, epoch=epoch)
    return issuer.issue(job)


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def proof_bit_flipped(issuer: Issuer) -> Document:
    """One bit of a proof is turned."""
    document = issuer.zk()
    return seal(proof(document, flipped(_proof(document), 700)))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def proof_truncated(issuer: Issuer) -> Document:
    """The last 32 bytes of a proof are missing."""
    document = issuer.zk()
    return seal(proof(document, _proof(document)[:-64]))


@forged(10, "bytes after its end", "coordinator", "worker", solidity=ACCEPTED)
def proof_with_trailing_bytes(issuer: Issuer) -> Document:
    """A proof with a word more, which ezkl and the contract ignore: one proof, many files."""
    document = issuer.zk()
    return seal(proof(document, _proof(document) + "00" * 32))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def proof_of_zeros(issuer: Issuer) -> Document:
    """A proof of zeros: points at infinity and zero evaluations, which a careless verifier accepts."""
    document = issuer.zk()
    return seal(proof(document, to_hex(bytes(len(parse_hex(_proof(document)))))))


@forged(10, "the proof of record 1", "coordinator", "worker", solidity="ProofRejected")
def proof_with_unreduced_scalar(issuer: Issuer) -> Document:
    """The last scalar of the proof, plus the field's order: the same number in other bytes, if it were reduced."""
    document = issuer.zk()
    raw = parse_hex(_proof(document))
    position = _last_scalar(raw)
    scalar = int.from_bytes(raw[position : position + 32], "big") + FIELD
    return seal(proof(document, to_hex(raw[:position] + scalar.to_bytes(32, "big") + raw[position + 32 :])))


def _last_scalar(raw: bytes) -> int:
    """Position of the last evaluation: before the two points of the opening proof, 64 bytes each."""
    return len(raw) - 2 * 64 - 32


# --- 12. Re-execution -------------------------------------------------------------------------------------------------


@forged(12, "differs by 0.5", "coordinator", "worker", reexecute=2)
def tampered_output_reexecuted(issuer: Issuer) -> Document:
    """Tier commit: the worker committed wrong outputs. Nothing is proved, but the auditor runs records again."""
    return issuer.issue(issuer.job(Tier.COMMIT, sample=2), Plan(payload=shifted))


@forged(12, "differs by", "coordinator", "worker", reexecute=2)
def tolerance_exceeded(issuer: Issuer) -> Document:
    """Tier commit: the worker computed in half precision, beyond the tolerance of the policy."""

    def halved(index: int, honest: bytes) -> bytes:
        return np.frombuffer(honest, dtype="<f4").astype(np.float16).astype("<f4").tobytes()

    return issuer.issue(issuer.job(Tier.COMMIT, sample=2), Plan(payload=halved))


@forged(12, "no record is opened", reexecute=1)
def nothing_to_reexecute(issuer: Issuer) -> Document:
    """Tier commit with sampleSize 0, and an auditor who wants to run a record again."""
    return issuer.issue(issuer.job(Tier.COMMIT))


@forged(8, "asked for but not there", "coordinator")
def evidence_of_no_record(issuer: Issuer) -> Document:
    """Tier zk without openings and proofs: a claim, and nothing else."""
    return seal(first(issuer.zk(), "evidence", openings=[], proofs=[]))
