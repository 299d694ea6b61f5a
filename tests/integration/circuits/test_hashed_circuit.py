"""A real circuit with hashed inputs: what its hash covers, and whether its proofs tell records apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit, rebuilt
from circuits.hashing import poseidon
from circuits.process import EzklProcess
from circuits.proving import Prover
from circuits.salting import behind_salts
from circuits.srs import Srs
from circuits.verifying import Claim, check_proofs, require_vka
from contracts.evm import LocalVerifier
from rexis.protocol.circuit import Visibility
from rexis.protocol.errors import DigestMismatchError, TensorError
from rexis.protocol.onsite import SALT_LIMIT, SALT_VALUES, PrivateDataset, salted
from rexis.protocol.records import Integers, quantise
from tests.integration.circuits.tiny_circuit import TINY, mlp

HASHED = TINY.model_copy(update={"input_visibility": "hashed"})
# The model adds the first two values and the last two, so that these two records have the same outputs.
ONE, OTHER = np.array([900, -300, 77, 1000]), np.array([-4000, 4600, 1000, 77])
_PROOFS = 16
_RELABELLINGS = 4999
_UNLIKELY = 0.001


def adder(shape: tuple[int, ...] = (4,)) -> bytes:
    """Four values a record in, two sums out."""
    weights = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=np.float32)
    nodes = [helper.make_node("Flatten", ["records"], ["flat"], axis=1)]
    nodes.append(helper.make_node("Gemm", ["flat", "w"], ["sums"], transB=1))
    graph = helper.make_graph(
        nodes,
        "adder",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


@pytest.fixture(scope="module")
def private(work: Path, srs: Srs, ezkl: EzklProcess) -> ProvingCircuit:
    return build_circuit(adder(), HASHED, srs, CircuitCache(work / "private"), ezkl)


@pytest.fixture(scope="module")
def public(work: Path, srs: Srs, ezkl: EzklProcess) -> ProvingCircuit:
    return build_circuit(adder(), TINY, srs, CircuitCache(work / "public"), ezkl)


def salts(count: int) -> Integers:
    """Fresh salt values."""
    return np.random.default_rng().integers(0, SALT_LIMIT, (count, SALT_VALUES), dtype=np.int64)


def test_a_proof_shows_the_hash_of_record_and_salt(private: ProvingCircuit, srs: Srs, ezkl: EzklProcess) -> None:
    circuit = private.artefacts.description
    assert circuit.visibility == Visibility.HASHED
    assert (circuit.input_length, circuit.output_length) == (4, 2)
    assert private.artefacts.parsed.witness_length == 4 + SALT_VALUES
    require_vka(private.artefacts, srs)

    data = PrivateDataset.of((ONE[None] / 2**7).astype(np.float32), 7, lambda rows: poseidon(rows, ezkl))
    row = salted(quantise(data.records, 7), data.secrets)[0]
    (proof,) = Prover(private, ezkl).prove(row).segments
    hashed = int.from_bytes(data.public.hashes[0].tobytes(), "big")
    assert proof.outputs == (600, 1077)
    assert proof.instances == (hashed, 600, 1077)

    others = []
    for position in range(len(row)):  # no value, and no salt value, is left out
        changed = row.copy()
        changed[position] += 1 if changed[position] < SALT_LIMIT - 1 else -1
        others.append(int.from_bytes(poseidon(changed[None], ezkl)[0].tobytes(), "big"))
    assert len({hashed, *others}) == len(row) + 1
    good = Claim([proof.data], [], [hashed], proof.outputs)
    bad = [replace(good, inputs=[other]) for other in others]
    bad += [replace(good, outputs=[600, 1078]), replace(good, inputs=row[:4].tolist())]
    reasons = check_proofs(private.artefacts, [good, *bad], srs)
    assert reasons[0] is None
    assert all(reasons[1:])

    evm = LocalVerifier(private.artefacts.vka)
    assert evm.verify(proof.data, list(proof.instances)).accepted
    assert not evm.verify(proof.data, [others[-1], *proof.instances[1:]]).accepted


def test_salts_do_not_change_outputs(private: ProvingCircuit, ezkl: EzklProcess) -> None:
    rows = np.concatenate(
        [np.repeat(ONE[None], 3, axis=0), np.array([salts(1)[0], [0] * 10, [SALT_LIMIT - 1] * 10])], 1
    )
    assert Prover(private, ezkl).outputs(rows).tolist() == [[600, 1077]] * 3


def test_the_owner_of_the_model_gets_the_same_circuit_again(
    private: ProvingCircuit, work: Path, srs: Srs, ezkl: EzklProcess
) -> None:
    made = rebuilt(adder(), private.artefacts.settings, srs, CircuitCache(work / "again"), ezkl)
    assert made.artefacts == private.artefacts


def test_a_hash_without_salt_is_not_the_models_circuit(
    work: Path, srs: Srs, ezkl: EzklProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model owner leaves the salt out: whoever builds the circuit again sees it, the data owner's worker first."""
    wide = mlp(0, (4 + SALT_VALUES, 2))
    monkeypatch.setattr("circuits.build.behind_salts", lambda model: model)
    unsalted = build_circuit(wide, HASHED, srs, CircuitCache(work / "unsalted"), ezkl)
    monkeypatch.undo()
    assert unsalted.artefacts.description.input_length == 4  # the settings look like those of a salted one
    for model in (wide, mlp(0, (4, 2))):
        with pytest.raises(DigestMismatchError, match="the model gives settings"):
            rebuilt(model, unsalted.artefacts.settings, srs, CircuitCache(work / "check"), ezkl)


def test_a_record_of_several_axes_is_put_back_into_shape() -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(behind_salts(adder((2, 2))), providers=["CPUExecutionProvider"])
    rows = np.concatenate([np.stack([ONE, OTHER]), salts(2)], axis=1).astype(np.float32)
    assert session.run(None, {session.get_inputs()[0].name: rows})[0].tolist() == [[600, 1077]] * 2


@pytest.mark.parametrize("change", ["names", "shape", "opset"])
def test_models_that_cannot_be_salted(change: str) -> None:
    proto = onnx.load_from_string(adder())
    if change == "names":
        proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "rexis.salted.record"
    elif change == "shape":
        proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    else:
        proto.opset_import[0].version = 9
    with pytest.raises(TensorError):
        behind_salts(proto.SerializeToString())


# --- Do proofs tell two records with the same outputs apart? ----------------------------------------------------------

Sample = NDArray[np.float64]


def looked_at(proofs: Sequence[tuple[bytes, Sequence[int]]]) -> Sample:
    """All that an auditor sees of proofs, a byte a column: the proofs' bytes and their instances'."""
    rows = [data + b"".join(element.to_bytes(32, "big") for element in instances) for data, instances in proofs]
    return np.array([np.frombuffer(row, dtype=np.uint8) for row in rows], dtype=np.float64)


def chance(first: Sample, second: Sample) -> float:
    """How likely two samples would differ so much in one byte if nothing told them apart: a permutation test.

    The statistic is the largest difference of means over all bytes, in standard errors.
    """
    data = np.concatenate([first, second])
    rng, labels = np.random.default_rng(7), np.arange(len(data)) < len(first)
    relabelled = np.array([labels] + [rng.permutation(labels) for _ in range(_RELABELLINGS)], dtype=np.float64)
    squares = (data**2).sum(axis=0)
    found = []
    for some in np.array_split(relabelled, 50):
        inside, outside = some @ data / len(first), (1 - some) @ data / len(second)
        spread = squares - len(first) * inside**2 - len(second) * outside**2
        error = np.sqrt(np.maximum(spread, 0) * 2 / len(first) / (len(data) - 2))
        found.append((np.abs(inside - outside) / (error + 1e-6)).max(axis=1))
    statistics = np.concatenate(found)
    return float((statistics >= statistics[0] * (1 - 1e-9)).mean())


def proofs_of(prover: Prover, rows: Integers) -> list[tuple[bytes, Sequence[int]]]:
    made = [prover.prove(row).segments[0] for row in rows]
    assert {proof.outputs for proof in made} == {(600, 1077)}
    return [(proof.data, proof.instances) for proof in made]


def test_proofs_do_not_tell_records_apart(private: ProvingCircuit, public: ProvingCircuit, ezkl: EzklProcess) -> None:
    prover = Prover(private, ezkl)
    made = {
        name: proofs_of(prover, np.concatenate([np.repeat(record[None], _PROOFS, axis=0), salts(_PROOFS)], axis=1))
        for name, record in (("one", ONE), ("other", OTHER))
    }
    one, other = looked_at(made["one"]), looked_at(made["other"])
    assert one.shape == other.shape
    assert len(np.unique(np.concatenate([one, other])[:, : len(made["one"][0][0])], axis=0)) == 2 * _PROOFS
    assert chance(one, other) > _UNLIKELY

    # The same test where there is something to tell. Equal salts: the hash is the same each time.
    def with_hash(proofs: list[tuple[bytes, Sequence[int]]]) -> Sample:
        return looked_at([(data, [proofs[0][1][0], *instances[1:]]) for data, instances in proofs])

    assert chance(with_hash(made["one"]), with_hash(made["other"])) < _UNLIKELY
    # Public inputs: they stand beside the proof.
    shown = [looked_at(proofs_of(Prover(public, ezkl), np.repeat(record[None], 10, axis=0))) for record in (ONE, OTHER)]
    assert chance(*shown) < _UNLIKELY
