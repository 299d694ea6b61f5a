"""A tiny circuit from ONNX to a checked proof, and every way to cheat with it that we know."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import circuits.verifying
from circuits.artefacts import CircuitArtefacts, CircuitCache
from circuits.build import ProvingCircuit, build_circuit, make_settings, prepare_keys
from circuits.evm import reusable_verifier_source
from circuits.process import EzklProcess
from circuits.profile import profile_for
from circuits.proving import Proof, Prover
from circuits.settings import canonical
from circuits.srs import Srs, ensure_development_srs
from circuits.tuning import Bound, Limits, Side, assess, tune
from circuits.verifying import MAX_PROOF_BYTES, Claim, check_proofs, one_process, require_vka, verify_proofs
from models import zoo
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import CircuitError, DigestMismatchError, TensorError
from rexis.protocol.records import dequantise, quantise
from tests.integration.circuits.tiny_circuit import TINY, mlp

RECORDS = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def prover(circuit: ProvingCircuit, ezkl: EzklProcess) -> Prover:
    return Prover(circuit, ezkl)


@pytest.fixture(scope="module")
def proof(prover: Prover) -> Proof:
    return prover.prove(quantise(RECORDS[0], TINY.input_scale))


def test_outputs_are_the_models_within_fixed_point_error(prover: Prover, circuit: ProvingCircuit) -> None:
    settings = circuit.artefacts.parsed
    exact = dequantise(prover.outputs(quantise(RECORDS, settings.input_scale)), settings.output_scale)
    expected = onnxruntime.InferenceSession(mlp(0)).run(None, {"records": RECORDS})[0]
    assert exact.shape == (5, 2)
    assert np.abs(exact - expected).max() < 0.1


def test_proof_shows_the_outputs_of_the_witness(prover: Prover, proof: Proof) -> None:
    assert proof.outputs == tuple(prover.outputs(quantise(RECORDS[:1], TINY.input_scale))[0])
    assert proof.inputs == tuple(quantise(RECORDS[0], TINY.input_scale))


def test_good_proofs_hold_together(circuit: ProvingCircuit, prover: Prover, proof: Proof) -> None:
    second = prover.prove(quantise(RECORDS[1], TINY.input_scale))
    claims = [claim_of(made) for made in (proof, second)]
    verify_proofs(circuit.artefacts, claims, circuit.srs)


def claim_of(proof: Proof) -> Claim:
    """What a prover says it has shown."""
    return Claim(proof.proofs, proof.boundaries, proof.inputs, proof.outputs)


FORGERIES: dict[str, Callable[[Claim], Claim]] = {
    "first byte": lambda c: dataclasses.replace(c, proofs=[bytes([c.proofs[0][0] ^ 1]) + c.proofs[0][1:]]),
    "last byte": lambda c: dataclasses.replace(c, proofs=[c.proofs[0][:-1] + bytes([c.proofs[0][-1] ^ 1])]),
    "truncated": lambda c: dataclasses.replace(c, proofs=[c.proofs[0][:-32]]),
    "trailing byte": lambda c: dataclasses.replace(c, proofs=[c.proofs[0] + b"\0"]),
    "trailing word": lambda c: dataclasses.replace(c, proofs=[c.proofs[0] + bytes(32)]),
    "empty": lambda c: dataclasses.replace(c, proofs=[b""]),
    "zeros": lambda c: dataclasses.replace(c, proofs=[bytes(len(c.proofs[0]))]),
    "random": lambda c: dataclasses.replace(c, proofs=[os.urandom(len(c.proofs[0]))]),
    "a megabyte": lambda c: dataclasses.replace(c, proofs=[os.urandom(MAX_PROOF_BYTES)]),
    "too many bytes": lambda c: dataclasses.replace(c, proofs=[bytes(MAX_PROOF_BYTES + 1)]),
    "input changed": lambda c: dataclasses.replace(c, inputs=[c.inputs[0] + 1, *c.inputs[1:]]),
    "output changed": lambda c: dataclasses.replace(c, outputs=[*c.outputs[:-1], c.outputs[-1] - 1]),
    "output negated": lambda c: dataclasses.replace(c, outputs=[-value for value in c.outputs]),
    "input missing": lambda c: dataclasses.replace(c, inputs=c.inputs[1:]),
    "output added": lambda c: dataclasses.replace(c, outputs=[*c.outputs, 0]),
    "value moved": lambda c: dataclasses.replace(c, inputs=[*c.inputs, c.outputs[0]], outputs=c.outputs[1:]),
}


def test_forged_claims_are_refused_and_good_ones_beside_them_stand(circuit: ProvingCircuit, proof: Proof) -> None:
    good = claim_of(proof)
    reasons = check_proofs(circuit.artefacts, [good, *(forge(good) for forge in FORGERIES.values()), good], circuit.srs)
    assert reasons[0] is reasons[-1] is None
    accepted = [name for name, reason in zip(FORGERIES, reasons[1:-1], strict=True) if reason is None]
    assert accepted == []
    longer = FORGERIES["trailing word"](good)
    reasons = check_proofs(circuit.artefacts, [longer, good, longer], circuit.srs)
    assert [reason is None for reason in reasons] == [False, True, False]


def test_checks_share_a_process_where_they_are_told_to(
    circuit: ProvingCircuit, proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[EzklProcess] = []
    start = circuits.verifying._new_process

    def counted() -> EzklProcess:
        started.append(start())
        return started[-1]

    monkeypatch.setattr(circuits.verifying, "_new_process", counted)
    with one_process():
        require_vka(circuit.artefacts, circuit.srs)
        for _ in range(2):
            verify_proofs(circuit.artefacts, [claim_of(proof)], circuit.srs)
    assert len(started) == 1
    verify_proofs(circuit.artefacts, [claim_of(proof)], circuit.srs)
    assert len(started) == 2


def test_verify_names_the_bad_claim(circuit: ProvingCircuit, proof: Proof) -> None:
    good = claim_of(proof)
    with pytest.raises(CircuitError, match="proof 1 does not hold"):
        verify_proofs(circuit.artefacts, [good, FORGERIES["output changed"](good)], circuit.srs)


@pytest.fixture(scope="module")
def other(work: Path, srs: Srs, ezkl: EzklProcess) -> ProvingCircuit:
    """Another model's circuit, of the same shape."""
    return build_circuit(mlp(7), TINY, srs, CircuitCache(work / "other"), ezkl)


def _with_vk(artefacts: CircuitArtefacts, vk: bytes) -> CircuitArtefacts:
    return dataclasses.replace(artefacts, vk=vk)


def test_other_or_broken_vk_is_refused(circuit: ProvingCircuit, other: ProvingCircuit, proof: Proof) -> None:
    good, vk = claim_of(proof), circuit.artefacts.vk
    for bad in (other.artefacts.vk, vk[:-1], vk[: len(vk) // 2], b"", os.urandom(len(vk)), b"\xff" * len(vk)):
        artefacts = _with_vk(circuit.artefacts, bad)
        assert check_proofs(artefacts, [good], circuit.srs) != [None]
        with pytest.raises(DigestMismatchError):
            artefacts.require(circuit.artefacts.description)


def test_other_srs_is_refused(circuit: ProvingCircuit, proof: Proof, tmp_path: Path) -> None:
    stranger = ensure_development_srs(TINY.logrows, tmp_path)
    good = claim_of(proof)
    with pytest.raises(DigestMismatchError):
        verify_proofs(circuit.artefacts, [good], stranger)
    relabelled = dataclasses.replace(circuit.artefacts, srs_digest=stranger.digest)
    assert check_proofs(relabelled, [good], stranger) != [None]


def test_vka_belongs_to_vk(circuit: ProvingCircuit, other: ProvingCircuit) -> None:
    require_vka(circuit.artefacts, circuit.srs)
    swapped = dataclasses.replace(circuit.artefacts, vka=other.artefacts.vka)
    with pytest.raises(DigestMismatchError):
        require_vka(swapped, circuit.srs)


def test_worker_rebuilds_the_same_keys_from_model_settings_and_srs(
    circuit: ProvingCircuit, srs: Srs, work: Path
) -> None:
    artefacts = circuit.artefacts
    with EzklProcess() as own:
        rebuilt = prepare_keys(
            mlp(0), artefacts.settings, artefacts.description, srs, CircuitCache(work / "worker"), own
        )
    assert rebuilt.artefacts == artefacts
    assert sha256((rebuilt.segments[0].folder / "pk").read_bytes()) == sha256(
        (circuit.segments[0].folder / "pk").read_bytes()
    )


def test_settings_and_keys_are_the_same_in_another_process(circuit: ProvingCircuit, srs: Srs, work: Path) -> None:
    with EzklProcess() as own:
        again = build_circuit(mlp(0), TINY, srs, CircuitCache(work / "again"), own)
    assert again.artefacts == circuit.artefacts


def test_settings_of_a_real_model_never_vary() -> None:
    """The tiny circuit is too small for ezkl's threads to race; this one varied in a fifth of the runs."""
    model = (zoo.ONNX_DIR / "breast_cancer.onnx").read_bytes()
    with EzklProcess() as any_process:
        assert len({make_settings(model, profile_for("breast_cancer"), any_process).digest for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("model_output_scales", [6]), ("model_input_scales", [8]), ("num_rows", 1)]
)
def test_settings_that_are_not_the_models_are_refused_also_where_the_vk_is_the_same(
    circuit: ProvingCircuit, srs: Srs, work: Path, ezkl: EzklProcess, name: str, value: object
) -> None:
    lying = canonical({**json.loads(circuit.artefacts.settings), name: value})
    pinned = dataclasses.replace(circuit.artefacts, settings=lying).description
    with pytest.raises(DigestMismatchError, match=name):
        prepare_keys(mlp(0), lying, pinned, srs, CircuitCache(work / "lying"), ezkl)


def test_model_with_one_other_weight_does_not_give_the_registered_circuit(
    circuit: ProvingCircuit, srs: Srs, work: Path, ezkl: EzklProcess
) -> None:
    with pytest.raises(DigestMismatchError):
        prepare_keys(
            mlp(1),
            circuit.artefacts.settings,
            circuit.artefacts.description,
            srs,
            CircuitCache(work / "cheat"),
            ezkl,
        )


def test_record_out_of_range_has_no_proof(prover: Prover) -> None:
    with pytest.raises(CircuitError, match="too large to be represented"):
        prover.prove(np.full(4, 1 << 30, dtype=np.int64))


@pytest.mark.parametrize("record", [np.zeros(3, np.int64), np.zeros(5, np.int64), np.zeros(4, np.float32)])
def test_record_of_another_shape_or_dtype_is_refused(prover: Prover, record: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(TensorError):
        prover.prove(record)


def test_verifier_contract_does_not_depend_on_the_circuit(
    circuit: ProvingCircuit, work: Path, ezkl: EzklProcess
) -> None:
    profile = TINY.model_copy(update={"logrows": 11, "inner_columns": 2, "decomposition_legs": 4})
    wider = build_circuit(
        mlp(3, (6, 5, 3)), profile, ensure_development_srs(11, work), CircuitCache(work / "wide"), ezkl
    )
    assert reusable_verifier_source(circuit, ezkl) == reusable_verifier_source(wider, ezkl)
    assert wider.artefacts.vka_digest != circuit.artefacts.vka_digest


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="needs a network namespace without interfaces",
)
def test_verifying_needs_no_network(circuit: ProvingCircuit, proof: Proof) -> None:
    claim = {"proof": proof.proofs[0].hex(), "instances": proof.segments[0].instances}
    files = {
        name: str(circuit.segments[0].folder / file) for name, file in (("vk", "vk"), ("settings", "settings.json"))
    }
    script = (
        "import json, sys\n"
        "from circuits.process import EzklProcess\n"
        "with EzklProcess() as ezkl: print(ezkl.call('verify', **json.load(sys.stdin)))\n"
    )
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", script],
        input=json.dumps({**files, "srs": str(circuit.srs.path), "claims": [claim]}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[None]"


def sides(count: int = 2) -> list[Side]:
    """The records under several "keys": here other networks of the same shape."""
    made = []
    for seed in range(count):
        reference = onnxruntime.InferenceSession(mlp(seed)).run(None, {"records": RECORDS})[0]

        def judge(outputs: np.ndarray, reference: np.ndarray = reference) -> tuple[float, float]:
            return float(np.abs(outputs - reference).max()), float(
                (outputs.argmax(axis=1) == reference.argmax(axis=1)).mean()
            )

        made.append(Side(mlp(seed), RECORDS, judge))
    return made


def test_tuning_finds_a_circuit_within_the_bound_and_times_it(work: Path) -> None:
    seen: list[str] = []
    found = tune(
        sides(),
        Bound(agreement=0.9, error=0.2),
        work_dir=work,
        finalists=2,
        repeats=1,
        scales=((3, 3), (6, 7)),
        at=lambda what, done, total: seen.append(what),
    )
    assert found.best.seconds is not None
    assert found.best.error <= 0.2
    assert found.best.agreement >= 0.9
    assert found.best.proof_bytes == pytest.approx(found.best.estimate.proof_bytes, rel=0.3)
    assert found.best in found.frontier
    assert found.tried > len(found.frontier)
    assert {"trying scales", "laying out", "building keys", "proving"} == set(seen)
    with EzklProcess() as ezkl:
        assert assess(ezkl, sides(), found.best.profile) == (found.best.error, found.best.agreement)
        narrow = found.best.profile.model_copy(update={"decomposition_base": 2})
        assert assess(ezkl, sides(), narrow) == (float("inf"), 0.0)


def test_tuning_refuses_the_impossible(work: Path) -> None:
    with pytest.raises(CircuitError, match=r"no scales keep decisions at 90.00% and the error below 1e-09"):
        tune(sides(1), Bound(agreement=0.9, error=1e-9), work_dir=work, scales=((6, 7),))
    with pytest.raises(
        CircuitError, match=r"no layout is within the limits; the one with the least memory takes \d+ MiB"
    ):
        tune(sides(1), Bound(agreement=0.0), work_dir=work, scales=((6, 7),), limits=Limits(memory_bytes=1 << 20))


def test_digests_are_of_the_bytes(circuit: ProvingCircuit) -> None:
    description = circuit.artefacts.description
    assert description.vk_digest == sha256(circuit.artefacts.vk)
    assert description.settings_digest == sha256(circuit.artefacts.settings)
    assert description.srs_digest == circuit.srs.digest
    assert isinstance(description.vka_digest, Digest)
    assert (description.input_length, description.output_length) == (4, 2)
