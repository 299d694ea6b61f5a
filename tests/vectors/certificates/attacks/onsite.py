"""Rung zk-onsite: hashes in the place of records, and what somebody might put in the place of hashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.artefacts import vka_digest_of
from circuits.salting import behind_salts
from circuits.settings import canonical
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.digests import sha256
from rexis.protocol.field import SCALAR_FIELD
from rexis.protocol.onsite import SALT_VALUES, HashedDataset, PrivateDataset
from rexis.protocol.parsing import parse_hex, to_hex
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import Encoding, LeafFormat, Side, hash_salts, quantise
from rexis.protocol.signing import sign_digest
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.attacks.forging import first, flipped, opening, proof
from tests.vectors.certificates.attacks.rungs import claimed
from tests.vectors.certificates.case import forged, valid
from tests.vectors.certificates.issuer import Document, Issuer, Job, network, records, seal

_TOGETHER = "rung zk-onsite and a circuit with hashed inputs go together"


def _openings(document: Document) -> list[Document]:
    found: list[Document] = document["tasks"][0]["evidence"]["openings"]
    return found


def _with_policy(issuer: Issuer, job: Job, **changes: Any) -> Document:
    """The certificate of a job whose signed request has a policy that no honest one has."""
    policy: Policy = job.request.policy.model_copy(update=changes)
    request = job.request.model_copy(update={"policy": policy})
    signature = sign_digest(account("requester"), request.job_id(job.domain))
    return issuer.issue(replace(job, request=request, signature=signature))


@valid(reexecute=1, rebuild_circuit=True, second_opinion=True, solidity="UnsupportedVisibility")
def zk_onsite(issuer: Issuer) -> Document:
    """Rung zk-onsite: hashes and outputs, no record. Its circuit built again, and a second opinion; nothing to run again."""
    return issuer.onsite()


@valid(second_opinion=True)
def sampled_onsite(issuer: Issuer) -> Document:
    """Rung zk-onsite at tier sampled: two hashes of four are shown."""
    return issuer.issue(issuer.job(Tier.SAMPLED, count=4, shard=4, sample=2, model=issuer.onsite_model))


# --- 1. Form: what goes with what --------------------------------------------------------------------------------------


@forged(1, _TOGETHER, "coordinator", "requester", "worker")
def outsourced_as_onsite(issuer: Issuer) -> Document:
    """A job with public inputs, done by a stranger, that names rung zk-onsite."""
    return _with_policy(issuer, issuer.job(Tier.ZK), rung=Rung.ZK_ONSITE)


@forged(1, _TOGETHER, "coordinator", "requester")
def onsite_as_outsourced(issuer: Issuer) -> Document:
    """Hashed inputs under rung ee-outsourced, so that nothing that the rung asks for is looked at."""
    return _with_policy(issuer, issuer.job(Tier.ZK, model=issuer.onsite_model), rung=Rung.EE_OUTSOURCED)


@forged(1, "rests on proofs", "coordinator", "requester")
def onsite_without_proofs(issuer: Issuer) -> Document:
    """Rung zk-onsite at tier commit, which proves nothing."""
    return _with_policy(issuer, issuer.job(Tier.COMMIT), rung=Rung.ZK_ONSITE)


@forged(1, "cannot be certified on chain", "coordinator", "requester")
def onsite_certified_on_chain(issuer: Issuer) -> Document:
    """A finished job of the rung whose request was made to ask for certification on chain."""
    document = issuer.onsite()
    document["request"]["policy"]["certifyOnChain"] = True
    return seal(document)


# --- 5 and 13. The circuit ---------------------------------------------------------------------------------------------


def _unsalted(issuer: Issuer) -> Document:
    """The owner registered, for its model of four inputs, a circuit that hashes fourteen values and reads them all."""
    model = network(6, width=14)
    with patch("circuits.build.behind_salts", lambda given: given):
        made = issuer.hashing(model)
    epoch = issuer.register(issuer.onsite_model.digest, made.circuit)
    data = issuer.unsalted(records(7, 3), made.circuit.input_scale)
    return issuer.issue(
        issuer.job(Tier.ZK, model=made, model_digest=issuer.onsite_model.digest, epoch=epoch, data=data)
    )


@valid("model owner", second_opinion=True)
def onsite_unsalted(issuer: Issuer) -> Document:
    """The circuit's hash is over fourteen values as it should be, but ten of them are no salts. No proof shows that."""
    return _unsalted(issuer)


@forged(13, "the model gives settings", "model owner", rebuild_circuit=True)
def onsite_unsalted_rebuilt(issuer: Issuer) -> Document:
    """The same, and the auditor builds the circuit of the registered model again."""
    return _unsalted(issuer)


def _in_rows(model: bytes) -> bytes:
    """The model of two rows behind salts, as if its rows were records: each has ten values that it does not read."""
    proto = onnx.load_from_string(model)
    sizes = [value.type.tensor_type.shape.dim[0] for value in (*proto.graph.input, *proto.graph.output)]
    for size in sizes:
        size.dim_param = "batch"
    wide = onnx.load_from_string(behind_salts(proto.SerializeToString()))
    for value in (*wide.graph.input, *wide.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    data: bytes = wide.SerializeToString(deterministic=True)
    return data


@forged(13, "the input's first axis has size 2", "model owner", "requester", "worker", rebuild_circuit=True)
def onsite_values_that_nothing_reads(issuer: Issuer) -> Document:
    """The model takes two values in two rows. In its circuit each row has ten more, so that a record seems to have twelve
    values, of which the model reads the first and the last."""
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 1]) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["output"])], "rows", rows[:1], rows[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with patch("circuits.build.behind_salts", _in_rows):
        made = issuer.hashing(model)
    issuer.artifacts.append(model)
    data = records(7, 3)
    data = replace(data, records=np.tile(data.records, 3)[:, : made.circuit.input_length])
    epoch = issuer.register(made.digest, made.circuit)
    return issuer.issue(
        issuer.job(Tier.ZK, model=made, epoch=epoch, data=issuer.private(data, made.circuit.input_scale))
    )


def _settings(issuer: Issuer, change: Callable[[dict[str, Any]], None], **pins: Any) -> Document:
    """A certificate under falsified settings that the owner registered."""
    honest = issuer.onsite_model
    document = json.loads(honest.material.settings)
    change(document)
    settings = canonical(document)
    words = [sha256(b"some VKA")]
    material = CircuitMaterial.model_construct(settings=settings.decode(), vk=honest.material.vk, vka=words)
    pins |= {"settings_digest": sha256(settings), "vka_digest": vka_digest_of(words)}
    circuit = honest.circuit.model_copy(update=pins)
    epoch = issuer.register(honest.digest, circuit)
    return issuer.issue(issuer.job(Tier.ZK, model=honest, epoch=epoch, circuit=circuit, material=material))


@forged(5, "input length", "model owner", "requester", "coordinator")
def onsite_hash_over_fewer_values(issuer: Issuer) -> Document:
    """By the settings the hash is over the record's four values only, and no salt."""

    def change(document: dict[str, Any]) -> None:
        document["module_sizes"]["poseidon"][0] -= 41 * SALT_VALUES

    return _settings(issuer, change)


@forged(5, "modules are there for one hash", "model owner", "requester", "coordinator")
def onsite_second_hash(issuer: Issuer) -> Document:
    """Settings with two public hashes, of which only one would be compared."""

    def change(document: dict[str, Any]) -> None:
        document["module_sizes"]["poseidon"][1] = [2]

    return _settings(issuer, change)


@forged(5, "inputs must be Public, or Hashed with a public hash", "model owner", "requester", "coordinator")
def onsite_hidden_hash(issuer: Issuer) -> Document:
    """Settings whose hash is no public instance: then the proof is about any record."""

    def change(document: dict[str, Any]) -> None:
        document["run_args"]["input_visibility"]["Hashed"]["hash_is_public"] = False

    return _settings(issuer, change)


@forged(5, "hashed inputs", "model owner", "requester", "coordinator")
def onsite_less_blinding(issuer: Issuer) -> Document:
    """Settings with a single blinding factor, so that proofs tell of the witness."""

    def change(document: dict[str, Any]) -> None:
        document["num_blinding_factors"] = 1

    return _settings(issuer, change)


@forged(5, "visibility", "model owner", "requester", "coordinator")
def onsite_public_settings(issuer: Issuer) -> Document:
    """A circuit with public inputs, registered and signed as one with hashed inputs."""
    honest = issuer.model
    circuit = honest.circuit.model_copy(update={"visibility": issuer.onsite_model.circuit.visibility})
    data = issuer.private(records(7, 3), circuit.input_scale)
    job = issuer.job(Tier.ZK, model=issuer.onsite_model, data=data)
    epoch = issuer.register(honest.digest, circuit)
    changes = {"circuit": circuit, "model_digest": honest.digest, "key_epoch": epoch}
    request = job.request.model_copy(update=changes)
    signature = sign_digest(account("requester"), request.job_id(job.domain))
    return issuer.issue(replace(job, request=request, signature=signature, material=honest.material))


# --- 8. What is told besides -------------------------------------------------------------------------------------------


@forged(8, "tells errors or times of private inputs", "worker")
def onsite_measured(issuer: Issuer) -> Document:
    """The evidence says how far the fixed-point output is from the float model's, which depends on the record."""
    document = issuer.onsite()
    measured = document["tasks"][0]["evidence"]["measured"]
    return seal(first(document, "evidence", measured={**measured, "maxAbsErrorE9": 1234}))


# --- 9. Openings -------------------------------------------------------------------------------------------------------


@forged(9, "the salt of record 1 is not the one that its hash gives", "coordinator")
def hash_changed(issuer: Issuer) -> Document:
    """The coordinator wrote another hash into the opening."""
    document = issuer.onsite()
    return seal(opening(document, input=flipped(_openings(document)[0]["input"])))


@forged(9, "input of record 1: the path leads to", "coordinator")
def hash_of_another_record(issuer: Issuer) -> Document:
    """The coordinator wrote another record's hash into the opening, with that one's salt."""
    document = issuer.onsite()
    other = _openings(document)[1]
    return seal(opening(document, input=other["input"], salt=other["salt"]))


@forged(9, "input of record 1: the path leads to", "coordinator")
def hashes_swapped(issuer: Issuer) -> Document:
    """Two records' hashes change places; all else stays."""
    document = issuer.onsite()
    one, other = ({name: item[name] for name in ("input", "salt")} for item in _openings(document))
    return seal(opening(opening(document, 0, **other), 1, **one))


@forged(9, "the salt of record 1 is not the one that its hash gives", "coordinator")
def hash_with_a_salt_of_its_own(issuer: Issuer) -> Document:
    """The opening of a hash carries another salt: 32 bytes to write something into."""
    return seal(opening(issuer.onsite(), salt=str(sha256(b"a message"))))


@forged(9, "a payload is not one hash", "coordinator")
def record_beside_its_hash(issuer: Issuer) -> Document:
    """The opening holds the record behind its hash."""
    document = issuer.onsite()
    return seal(opening(document, input=_openings(document)[0]["input"] + "00" * 32))


@forged(9, "a number below the field's order", "coordinator", "requester")
def hash_beyond_the_field(issuer: Issuer) -> Document:
    """The hash plus the field's order: the same field element, written in another way."""
    document = issuer.onsite()
    element = int.from_bytes(parse_hex(_openings(document)[0]["input"]), "big") + SCALAR_FIELD
    written = to_hex(element.to_bytes(32, "big"))
    salt = to_hex(hash_salts(np.frombuffer(parse_hex(written), dtype=np.uint8).reshape(1, 32)).tobytes())
    return seal(opening(document, input=written, salt=salt))


@forged(9, "input of record 1: the path leads to", "coordinator", "requester", "worker")
def leaves_of_fixed_point_values(issuer: Issuer) -> Document:
    """The input tree is over records in fixed point: four values of eight bytes, as many bytes as a hash has."""
    data = records(7, 3)
    data = replace(data, records=np.abs(data.records))  # so that the bytes are a number below the field's order
    values = quantise(data.records, issuer.onsite_model.circuit.input_scale)
    payloads = np.frombuffer(values.astype(">i8").tobytes(), dtype=np.uint8).reshape(3, 32)
    private = issuer.private(data, issuer.onsite_model.circuit.input_scale)
    job = issuer.job(Tier.ZK, model=issuer.onsite_model, data=private)
    form = LeafFormat(side=Side.INPUT, encoding=Encoding.FIXED, scale=issuer.onsite_model.circuit.input_scale)
    tree, salts = form.tree(values, hash_salts(payloads)), hash_salts(payloads)
    request = job.request.model_copy(update={"input_root": tree.root})
    signature = sign_digest(account("requester"), request.job_id(job.domain))
    document = issuer.issue(replace(job, request=request, signature=signature))
    for position, item in enumerate(_openings(document)):
        index = item["index"]
        path = [str(node) for node in tree.path(index)]
        shown = {"input": to_hex(payloads[index].tobytes()), "salt": to_hex(salts[index].tobytes()), "inputPath": path}
        document = opening(document, position, **shown)
    return seal(document)


# --- 10. Proofs --------------------------------------------------------------------------------------------------------


@forged(10, "the proof of record 1 does not hold", "coordinator", "worker")
def onsite_proof_of_another_record(issuer: Issuer) -> Document:
    """One record's proof in the place of another's."""
    document = issuer.onsite()
    return seal(proof(document, document["tasks"][0]["evidence"]["proofs"][1]["proofs"][0]))


@forged(10, "the proof of record 1 does not hold", "coordinator", "requester", "worker")
def other_record_than_the_hashed(issuer: Issuer) -> Document:
    """The requester committed to the hash of one record and proved another one, whose output it liked better."""
    job = issuer.job(Tier.ZK, model=issuer.onsite_model)
    liked = issuer.issue(job)
    data = job.data
    assert isinstance(data, PrivateDataset)
    turned = HashedDataset(np.roll(data.public.hashes, 1, axis=0), data.public.scale)
    document = issuer.issue(issuer.job(Tier.ZK, model=issuer.onsite_model, data=replace(data, public=turned)))
    return seal(first(document, "evidence", proofs=liked["tasks"][0]["evidence"]["proofs"]))


@forged(10, "the proof of record 1 does not hold", "coordinator", "requester", "worker")
def same_record_with_another_salt(issuer: Issuer) -> Document:
    """A proof of the same record under another salt, made for an earlier job: a hash is of one salt only."""
    earlier = issuer.onsite()
    document = issuer.issue(issuer.job(Tier.ZK, model=issuer.onsite_model))
    return seal(first(document, "evidence", proofs=earlier["tasks"][0]["evidence"]["proofs"]))


# --- 19. The rung ------------------------------------------------------------------------------------------------------


@forged(19, "the job asked for rung zk-onsite", "coordinator")
def onsite_with_a_claim(issuer: Issuer) -> Document:
    """A claim of the weights in the certificate of a job of rung zk-onsite, to look like more than it is."""
    claim = claimed(issuer, model_digest=issuer.onsite_model.digest)
    return seal({**issuer.onsite(), "rungClaim": claim})
