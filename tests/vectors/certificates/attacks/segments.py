"""Circuits of several segments: what passes at a boundary, and what a chain is of."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np

from circuits.artefacts import CircuitArtefacts, SegmentArtefacts
from circuits.build import ProvingCircuit
from circuits.chain import ChainSettings, join_keys, join_vkas
from circuits.settings import canonical
from rexis.protocol.certificate import CircuitMaterial
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import sha256
from rexis.protocol.parsing import parse_hex, to_hex
from rexis.protocol.policy import Tier
from tests.vectors.certificates.attacks.forging import flipped
from tests.vectors.certificates.case import forged, valid
from tests.vectors.certificates.issuer import Document, Issuer, Model, Plan, material_of, seal


def _zk(issuer: Issuer) -> Document:
    """Tier zk, one task of two records, each with two proofs."""
    return deepcopy(issuer.segmented)


def _proofs(document: Document) -> list[Document]:
    found: list[Document] = document["tasks"][0]["evidence"]["proofs"]
    return found


def _values(payload: str) -> list[int]:
    return np.frombuffer(parse_hex(payload), dtype=">i8").tolist()


def _payload(values: list[int]) -> str:
    return to_hex(np.array(values, dtype=">i8").tobytes())


def _chain(issuer: Issuer, segments: list[SegmentArtefacts], cuts: tuple[int, ...]) -> CircuitArtefacts:
    return CircuitArtefacts(
        settings=ChainSettings.of(cuts, [segment.settings for segment in segments]).data,
        vk=join_keys([segment.vk for segment in segments]),
        vka=join_vkas([segment.vka for segment in segments]),
        srs_digest=issuer.srs.digest,
    )


def _registered(issuer: Issuer, circuit: Circuit, material: CircuitMaterial) -> Document:
    """A certificate of the segmented model under a circuit that its owner registered and the requester believed."""
    model = issuer.segmented_model
    epoch = issuer.register(model.digest, circuit)
    return issuer.issue(issuer.job(Tier.ZK, epoch=epoch, model=model, circuit=circuit, material=material))


def _with_settings(issuer: Issuer, settings: bytes) -> Document:
    """As :func:`_registered`, with the honest keys under settings that may not even be a chain."""
    honest = issuer.segmented_model
    circuit = honest.circuit.model_copy(update={"settings_digest": sha256(settings)})
    material = honest.material.model_copy(update={"settings": settings.decode()})
    return _registered(issuer, circuit, material)


@valid(match="2 × 2 proofs verify")
def segments(issuer: Issuer) -> Document:
    """Tier zk with a circuit of two segments."""
    return _zk(issuer)


@valid(rebuild_circuit=True)
def segments_rebuilt(issuer: Issuer) -> Document:
    """The same; the auditor cuts the encrypted model and makes both segments' keys again."""
    return _zk(issuer)


@valid()
def segments_sampled(issuer: Issuer) -> Document:
    """Tier sampled with a circuit of two segments."""
    return issuer.issue(issuer.job(Tier.SAMPLED, count=4, shard=4, sample=2, model=issuer.segmented_model))


@forged(10, "segment 0", "coordinator", "worker")
def boundary_changed(issuer: Issuer) -> Document:
    """A value on the boundary is another: what the first segment gives is not what the second takes."""
    document = _zk(issuer)
    one = _proofs(document)[0]
    one["boundaries"] = [flipped(one["boundaries"][0])]
    return seal(document)


def _with_outputs_of_the_other(issuer: Issuer) -> Document:
    """Each record is committed with the other one's output, as a worker that wants to keep its two patients apart."""
    job = issuer.job(Tier.ZK, model=issuer.segmented_model)
    outputs: dict[int, bytes] = {}

    def seen(index: int, honest: bytes) -> bytes:
        outputs[index] = honest
        return honest

    issuer.issue(job, Plan(payload=seen))
    return issuer.issue(job, Plan(payload=lambda index, honest: outputs[3 - index]))


@forged(10, "segment 0", "coordinator", "worker")
def boundary_of_another_record(issuer: Issuer) -> Document:
    """The output of another record, with that record's boundary and second proof: the second segment is all true."""
    document = _with_outputs_of_the_other(issuer)
    one, two = _proofs(document)
    one["proofs"], two["proofs"] = [one["proofs"][0], two["proofs"][1]], [two["proofs"][0], one["proofs"][1]]
    one["boundaries"], two["boundaries"] = two["boundaries"], one["boundaries"]
    return seal(document)


@forged(10, "segment 1", "coordinator", "worker")
def boundary_not_continued(issuer: Issuer) -> Document:
    """The same with the record's own boundary: the first segment is all true, and the second is about something else."""
    document = _with_outputs_of_the_other(issuer)
    one, two = _proofs(document)
    one["proofs"], two["proofs"] = [one["proofs"][0], two["proofs"][1]], [two["proofs"][0], one["proofs"][1]]
    return seal(document)


@forged(10, "segment 0", "coordinator", "worker")
def segments_in_another_order(issuer: Issuer) -> Document:
    """The proofs of a record change places."""
    document = _zk(issuer)
    one = _proofs(document)[0]
    one["proofs"] = one["proofs"][::-1]
    return seal(document)


@forged(10, "1 proofs with 0 boundaries", "coordinator", "worker")
def segment_left_out(issuer: Issuer) -> Document:
    """Only the last segment is proved, for inputs of the worker's choice."""
    document = _zk(issuer)
    one = _proofs(document)[0]
    one["proofs"], one["boundaries"] = one["proofs"][1:], []
    return seal(document)


@forged(10, "2 proofs with 0 boundaries", "coordinator", "worker")
def boundary_missing(issuer: Issuer) -> Document:
    """Both segments are proved; that they meet is left to the reader."""
    document = _zk(issuer)
    _proofs(document)[0]["boundaries"] = []
    return seal(document)


@forged(10, "values on boundary 0", "coordinator", "worker")
def boundary_with_another_length(issuer: Issuer) -> Document:
    """A value more on the boundary, which a checker that joins all values would take for the first output."""
    document = _zk(issuer)
    one = _proofs(document)[0]
    one["boundaries"] = [_payload([*_values(one["boundaries"][0]), 0])]
    return seal(document)


@forged(1, "does not hold 8-byte values", "coordinator", "worker")
def boundary_of_part_of_a_value(issuer: Issuer) -> Document:
    """A boundary that ends within a value."""
    document = _zk(issuer)
    one = _proofs(document)[0]
    one["boundaries"] = [one["boundaries"][0][:-2]]
    return seal(document)


@forged(10, "1 proofs with 1 boundaries", "coordinator", "worker")
def boundary_for_show(issuer: Issuer) -> Document:
    """A boundary in the evidence of a circuit that has none: bytes that nothing checks."""
    document = issuer.zk()
    _proofs(document)[0]["boundaries"] = [_payload([1, 2, 3])]
    return seal(document)


@forged(5, "not the pinned", "coordinator", "worker")
def segment_of_another_model(issuer: Issuer) -> Document:
    """The second segment is that of a kinder model; its proofs hold."""
    ours, other = issuer.segmented_model.proving.artefacts, issuer.other_segmented_model.proving.artefacts
    mixed = _chain(issuer, [ours.segments[0], other.segments[1]], ours.parsed.cuts)
    return seal({**_zk(issuer), "circuit": material_of(mixed).to_object()})


@forged(13, "not the pinned", "coordinator", "worker", "model owner", rebuild_circuit=True)
def segment_of_another_model_registered(issuer: Issuer) -> Document:
    """The model owner registered such a chain, so that all digests and proofs are right; the model's segments are not."""
    ours, other = issuer.segmented_model, issuer.other_segmented_model
    mixed = _chain(
        issuer,
        [ours.proving.artefacts.segments[0], other.proving.artefacts.segments[1]],
        ours.proving.artefacts.parsed.cuts,
    )
    parts = (ours.proving.segments[0], other.proving.segments[1])
    both = Model(ours.onnx, ProvingCircuit(mixed, parts, issuer.srs))
    epoch = issuer.register(both.digest, both.circuit)
    return issuer.issue(issuer.job(Tier.ZK, epoch=epoch, model=both))


@forged(13, "the model gives settings", "coordinator", "worker", "model owner", rebuild_circuit=True)
def cut_elsewhere(issuer: Issuer) -> Document:
    """The registered settings name another cut than the one that the segments were made with: for who rebuilds them,
    they are segments of another model."""
    honest = issuer.segmented_model.proving.artefacts.parsed
    return _with_settings(issuer, ChainSettings.of((1,), honest.segments).data)


def _with_second(issuer: Issuer, **changes: object) -> bytes:
    """The chain's settings with fields of the second segment's changed."""
    document = json.loads(issuer.segmented_model.proving.artefacts.settings)
    document["segments"][1].update(changes)
    return canonical_chain(document)


def canonical_chain(document: Document) -> bytes:
    """Bytes of a chain's settings, whatever they say."""
    inner = b",".join(canonical(segment) for segment in document["segments"])
    cuts = json.dumps(document["cuts"], separators=(",", ":")).encode()
    return b'{"cuts":%b,"format":"rexis-chain-v1","segments":[%b]}' % (cuts, inner)


@forged(5, "the segment before writes", "coordinator", "worker", "model owner")
def boundary_read_at_another_scale(issuer: Issuer) -> Document:
    """The second segment says that it reads its inputs with a bit less behind the point than the first one wrote: every
    value on the boundary doubles."""
    honest = issuer.segmented_model.proving.artefacts.parsed.segments[1].input_scale
    return _with_settings(issuer, _with_second(issuer, model_input_scales=[honest - 1]))


@forged(5, "segments differ", "coordinator", "worker", "model owner")
def segments_of_different_sizes(issuer: Issuer) -> Document:
    """The second segment's settings name twice the rows, so that no one SRS is that of both."""
    args = json.loads(issuer.segmented_model.proving.artefacts.settings)["segments"][1]["run_args"]
    return _with_settings(issuer, _with_second(issuer, run_args={**args, "logrows": args["logrows"] + 1}))


@forged(5, "takes 3 values", "coordinator", "worker", "model owner")
def segment_repeated(issuer: Issuer) -> Document:
    """A chain in which the second segment follows itself: the boundary has other sizes on its two sides."""
    document = json.loads(issuer.segmented_model.proving.artefacts.settings)
    document["segments"].append(document["segments"][1])
    document["cuts"].append(document["cuts"][-1] + 1)
    return _with_settings(issuer, canonical_chain(document))


@forged(5, "not canonical", "coordinator", "worker", "model owner")
def chain_of_one_segment(issuer: Issuer) -> Document:
    """The settings of a single circuit, written as a chain: two digests for one circuit."""
    document = json.loads(issuer.segmented_model.proving.artefacts.settings)
    return _with_settings(issuer, canonical_chain({"cuts": [], "segments": document["segments"][:1]}))
