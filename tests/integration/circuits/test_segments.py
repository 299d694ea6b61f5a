"""A model cut into segments: what one circuit shows, a chain of them shows too, and no cheat at a boundary passes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from circuits.artefacts import CircuitArtefacts, CircuitCache
from circuits.build import ProvingCircuit, build_circuit, prepare_keys, prepare_segment, rebuilt
from circuits.chain import ChainSettings, join_keys, join_vkas
from circuits.process import EzklProcess
from circuits.proving import Proof, Prover, SegmentProver
from circuits.segments import cut_model
from circuits.srs import Srs
from circuits.verifying import Claim, check_proofs, require_vka
from rexis.protocol.errors import CircuitError, DigestMismatchError, MalformedError, TensorError
from rexis.protocol.records import boundary_payload, boundary_values, dequantise, quantise
from tests.integration.circuits.tiny_circuit import TINY, residual

RECORDS = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
CUTS = (2, 3)  # the second cut leaves a branch and a sum to cross together
PROFILE = TINY.model_copy(update={"cuts": CUTS})
INTEGERS = quantise(RECORDS, TINY.input_scale)


@pytest.fixture(scope="module")
def chain(work: Path, srs: Srs, ezkl: EzklProcess) -> ProvingCircuit:
    return build_circuit(residual(0), PROFILE, srs, CircuitCache(work / "chain"), ezkl)


@pytest.fixture(scope="module")
def proofs(chain: ProvingCircuit, ezkl: EzklProcess) -> list[Proof]:
    return [Prover(chain, ezkl).prove(record) for record in INTEGERS]


def claim_of(proof: Proof) -> Claim:
    return Claim(proof.proofs, proof.boundaries, proof.inputs, proof.outputs)


def test_segments_compute_what_the_model_computes() -> None:
    values = RECORDS[:1]
    segments = cut_model(residual(0), CUTS)
    for segment in segments:
        session = onnxruntime.InferenceSession(segment)
        values = session.run(None, {session.get_inputs()[0].name: values})[0]
    whole = onnxruntime.InferenceSession(residual(0))
    assert np.allclose(values, whole.run(None, {"records": RECORDS[:1]})[0], atol=1e-5)
    assert segments == cut_model(residual(0), CUTS)  # byte for byte


def test_a_chain_proves_and_its_outputs_are_the_models(
    chain: ProvingCircuit, proofs: list[Proof], ezkl: EzklProcess
) -> None:
    settings = chain.artefacts.parsed
    assert len(settings.segments) == 3
    assert settings.boundaries == (4, 8)
    trace = Prover(chain, ezkl).trace(INTEGERS)
    expected = onnxruntime.InferenceSession(residual(0)).run(None, {"records": RECORDS})[0]
    assert np.abs(dequantise(trace[-1], settings.output_scale) - expected).max() < 0.2
    for row, proof in enumerate(proofs):
        assert [list(part) for part in proof.boundaries] == [part[row].tolist() for part in trace[:-1]]
        assert list(proof.outputs) == trace[-1][row].tolist()
    assert check_proofs(chain.artefacts, [claim_of(proof) for proof in proofs], chain.srs) == [None] * 3


def _changed(values: object, place: int = 0) -> list[int]:
    found = list(values)  # type: ignore[call-overload]
    found[place] += 1
    return found


CHEATS: dict[str, Callable[[Proof, Proof], Claim]] = {
    "boundary changed": lambda a, b: dataclasses.replace(
        claim_of(a), boundaries=[_changed(a.boundaries[0]), a.boundaries[1]]
    ),
    "last boundary changed": lambda a, b: dataclasses.replace(
        claim_of(a), boundaries=[a.boundaries[0], _changed(a.boundaries[1], -1)]
    ),
    "second half of another record, with its boundary": lambda a, b: dataclasses.replace(
        claim_of(a), proofs=[a.proofs[0], *b.proofs[1:]], boundaries=b.boundaries, outputs=b.outputs
    ),
    "second half of another record, with the first half's boundary": lambda a, b: dataclasses.replace(
        claim_of(a),
        proofs=[a.proofs[0], *b.proofs[1:]],
        boundaries=[a.boundaries[0], b.boundaries[1]],
        outputs=b.outputs,
    ),
    "outputs of another record": lambda a, b: dataclasses.replace(claim_of(a), outputs=b.outputs),
    "inputs of another record": lambda a, b: dataclasses.replace(claim_of(a), inputs=b.inputs),
    "proofs in another order": lambda a, b: dataclasses.replace(claim_of(a), proofs=a.proofs[::-1]),
    "one proof for all segments": lambda a, b: dataclasses.replace(claim_of(a), proofs=a.proofs[:1] * 3),
    "a segment left out": lambda a, b: dataclasses.replace(
        claim_of(a), proofs=[a.proofs[0], a.proofs[2]], boundaries=[a.boundaries[0]]
    ),
    "a segment twice": lambda a, b: dataclasses.replace(
        claim_of(a), proofs=[a.proofs[0], *a.proofs], boundaries=[a.boundaries[0], *a.boundaries]
    ),
    "no boundaries": lambda a, b: dataclasses.replace(claim_of(a), boundaries=[]),
    "a boundary too many": lambda a, b: dataclasses.replace(claim_of(a), boundaries=[*a.boundaries, a.outputs]),
    "boundary cut short": lambda a, b: dataclasses.replace(
        claim_of(a), boundaries=[a.boundaries[0][:-1], a.boundaries[1]]
    ),
    "value moved over a boundary": lambda a, b: dataclasses.replace(
        claim_of(a), boundaries=[a.boundaries[0], (*a.boundaries[1], a.outputs[0])], outputs=a.outputs[1:]
    ),
    "boundaries in another order": lambda a, b: dataclasses.replace(claim_of(a), boundaries=a.boundaries[::-1]),
}


def test_no_cheat_at_a_boundary_passes(chain: ProvingCircuit, proofs: list[Proof]) -> None:
    one, other = proofs[:2]
    claims = [claim_of(one), *(cheat(one, other) for cheat in CHEATS.values()), claim_of(other)]
    reasons = check_proofs(chain.artefacts, claims, chain.srs)
    assert reasons[0] is reasons[-1] is None
    assert [name for name, reason in zip(CHEATS, reasons[1:-1], strict=True) if reason is None] == []


def test_a_worker_rebuilds_the_chain_and_its_vkas(
    chain: ProvingCircuit, work: Path, srs: Srs, ezkl: EzklProcess
) -> None:
    artefacts = chain.artefacts
    pinned, cache, told = artefacts.description, CircuitCache(work / "again"), []
    again = prepare_keys(
        residual(0), artefacts.settings, pinned, srs, cache, ezkl, progress=lambda *made: told.append(made)
    )
    assert again.artefacts == artefacts
    assert told == [(1, 3), (2, 3), (3, 3)]
    require_vka(artefacts, srs)


def test_one_segment_is_rebuilt_alone(
    chain: ProvingCircuit, proofs: list[Proof], work: Path, srs: Srs, ezkl: EzklProcess
) -> None:
    artefacts, pinned, keys = chain.artefacts, chain.artefacts.description, work / "alone"
    made = prepare_segment(residual(0), artefacts, pinned, 1, srs, CircuitCache(keys), ezkl)
    assert len([folder for folder in keys.iterdir() if folder.is_dir()]) == 1
    prover = SegmentProver(made, srs, ezkl)
    inputs = np.array([proof.boundaries[0] for proof in proofs])
    outputs = np.array([proof.boundaries[1] for proof in proofs])
    assert prover.outputs(inputs).tolist() == outputs.tolist()
    data = [prover.prove(row).data for row in inputs]
    whole = Prover(chain, ezkl)
    assert whole.check_segment(1, data, inputs, outputs) == [None] * 3
    assert None not in whole.check_segment(1, data[1:] + data[:1], inputs, outputs)
    assert None not in whole.check_segment(2, data, outputs, whole.trace(INTEGERS)[2])
    short = whole.check_segment(1, data, inputs[:, :-1], outputs)
    assert all("inputs and 8 outputs, the segment has 4" in str(reason) for reason in short)


def test_a_segment_of_another_circuit_is_not_made(
    chain: ProvingCircuit, work: Path, srs: Srs, ezkl: EzklProcess
) -> None:
    artefacts, cache = chain.artefacts, CircuitCache(work / "none")
    pinned = artefacts.description

    def prepare(model: bytes = residual(0), given: CircuitArtefacts = artefacts, segment: int = 1) -> None:
        prepare_segment(model, given, given.description, segment, srs, cache, ezkl)

    with pytest.raises(DigestMismatchError, match=r"not the pinned|another vk"):
        prepare(residual(1))
    keys = [segment.vk for segment in artefacts.segments]
    with pytest.raises(DigestMismatchError, match="another vk"):
        prepare(given=dataclasses.replace(artefacts, vk=join_keys([keys[0], keys[2], keys[1]])))
    vkas = [segment.vka for segment in artefacts.segments]
    with pytest.raises(DigestMismatchError, match="another VKA"):
        prepare(given=dataclasses.replace(artefacts, vka=join_vkas([vkas[0], vkas[2], vkas[1]])))
    with pytest.raises(DigestMismatchError, match="not the pinned"):
        other = dataclasses.replace(artefacts, vk=keys[0])
        prepare_segment(residual(0), other, pinned, 1, srs, cache, ezkl)
    with pytest.raises(CircuitError, match="3 segments"):
        prepare(segment=3)
    document = json.loads(artefacts.settings)
    document["segments"][1]["num_rows"] += 1
    changed = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(DigestMismatchError, match="not the pinned ones: num_rows"):
        prepare(given=dataclasses.replace(artefacts, settings=changed))


def _parts(artefacts: CircuitArtefacts, order: list[int], cuts: tuple[int, ...]) -> CircuitArtefacts:
    segments = [artefacts.segments[place] for place in order]
    return CircuitArtefacts(
        settings=ChainSettings.of(cuts, [segment.settings for segment in segments]).data,
        vk=join_keys([segment.vk for segment in segments]),
        vka=join_vkas([segment.vka for segment in segments]),
        srs_digest=artefacts.srs_digest,
    )


def test_a_chain_that_repeats_a_segment_is_another_circuit(
    chain: ProvingCircuit, proofs: list[Proof], srs: Srs, work: Path, ezkl: EzklProcess
) -> None:
    """Every proof of it holds; that it is not the model's chain shows in its digests, and in a rebuild."""
    doubled = build_circuit(
        residual(0, (4, 4)), TINY.model_copy(update={"cuts": (2,)}), srs, CircuitCache(work / "square"), ezkl
    )
    repeated = _parts(doubled.artefacts, [0, 0, 1], (2, 3))
    with pytest.raises(DigestMismatchError):
        repeated.require(doubled.artefacts.description)
    with pytest.raises((DigestMismatchError, CircuitError)):
        rebuilt(residual(0, (4, 4)), repeated.settings, srs, CircuitCache(work / "no"), ezkl)


def test_segments_that_do_not_fit_are_refused(chain: ProvingCircuit) -> None:
    with pytest.raises(CircuitError, match="takes 8 values"):
        _parts(chain.artefacts, [0, 2], (2,))
    document = json.loads(chain.artefacts.settings)
    for name, change, match in (
        ("cuts", [3, 2], "ascend"),
        ("cuts", [2], "segments and"),
        ("cuts", [2, 3, 4], "segments and"),
        ("segments", document["segments"][:1], "canonical"),
        ("format", "rexis-chain-v2", "settings"),
    ):
        text = json.dumps({**document, name: change}, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(CircuitError, match=match):
            ChainSettings.parse(text)
    other = json.loads(json.dumps(document))
    other["segments"][1]["model_input_scales"] = [document["segments"][1]["model_input_scales"][0] + 1]
    with pytest.raises(CircuitError, match="scale"):
        ChainSettings.parse(json.dumps(other, sort_keys=True, separators=(",", ":")).encode())
    other = json.loads(json.dumps(document))
    other["segments"][1]["run_args"]["logrows"] += 1
    with pytest.raises(CircuitError, match="differ"):
        ChainSettings.parse(json.dumps(other, sort_keys=True, separators=(",", ":")).encode())


def test_blobs_that_are_not_of_so_many_segments_are_refused(chain: ProvingCircuit) -> None:
    artefacts = chain.artefacts
    keys, words = artefacts.vk, artefacts.vka
    for vk in (keys[:-1], keys + b"\0", keys[1:], artefacts.segments[0].vk, b""):
        with pytest.raises(CircuitError, match="verifying keys"):
            _ = dataclasses.replace(artefacts, vk=vk).segments
    for vka in (words[:-1], (*words, words[0]), words[1:], artefacts.segments[0].vka, ()):
        with pytest.raises(CircuitError, match="VKA"):
            _ = dataclasses.replace(artefacts, vka=vka).segments


@pytest.mark.parametrize("cuts", [(0, 2), (2, 2), (2, 99), (-1,), tuple(range(1, 80))])
def test_cuts_outside_the_model_are_refused(cuts: tuple[int, ...]) -> None:
    with pytest.raises(CircuitError, match="cuts"):
        cut_model(residual(0), cuts)


def test_a_model_with_names_of_the_boundaries_is_refused() -> None:
    """A weight that is called as a segment's input would make a constant of it: the segment would read no boundary."""
    model = onnx.load_from_string(residual(0))
    model.graph.initializer[1].name = model.graph.node[2].input[1] = "rexis.boundary.in"
    with pytest.raises(TensorError, match="names that begin"):
        cut_model(model.SerializeToString(), CUTS)


def test_a_boundary_travels_as_a_payload() -> None:
    values = [0, -1, 2**63 - 1, -(2**63)]
    assert boundary_values(boundary_payload(values)).tolist() == values
    with pytest.raises(MalformedError):
        boundary_values(b"\0" * 7)
