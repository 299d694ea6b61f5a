"""A warm single-record proof through rexis' child process against bare ``ezkl.prove`` on the same files.

``python -m bench.warm_proof`` prints a table and writes JSON to ``bench/out/warm_proof.json``. The two alternate, in
random order within a pair, and the ratio is taken pair by pair. Ours includes the witness, the child's pipe and the
check of the finished proof; the bare one only ``ezkl.prove`` with a witness that lies ready, in this process. Both have
proved once before the clock starts.

How far the circuit is from the float model depends on the EE key, so that errors and decisions are those of many keys,
over all held-out records; a proof does not cost more or less by the key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ezkl
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit, make_settings
from circuits.process import EzklProcess
from circuits.profile import profile_for, rewrites_for
from circuits.proving import Prover
from circuits.rewrites import rewrite
from circuits.settings import EZKL_VERSION
from circuits.srs import ensure_development_srs
from circuits.tuning import outputs_without_keys
from circuits.verifying import Claim, verify_proofs
from models.zoo import held_out, load_model_bytes
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.protocol.records import dequantise, quantise

MODEL = "breast_cancer"
DEFAULT_OUT = Path(__file__).parent / "out" / "warm_proof.json"


@dataclass(frozen=True)
class Report:
    """Times in seconds (medians unless the name says otherwise), sizes in bytes."""

    machine: str
    cores: int
    ezkl: str
    logrows: int
    pairs: int
    build_s: float
    bare_prove_s: float
    warm_prove_s: float
    ratio_median: float
    ratio_max: float
    witness_per_record_s: float
    verify_first_s: float
    verify_per_further_proof_s: float
    proof_bytes: int
    vk_bytes: int
    pk_bytes: int
    srs_bytes: int
    held_out_records: int
    keys: int
    encrypted_error_median: float
    encrypted_error_max: float
    decrypted_error_median: float
    decrypted_error_max: float
    decision_agreement_median: float
    decision_agreement_min: float


@dataclass(frozen=True)
class KeyErrors:
    """The circuit of one EE key against float32, over all held-out records.

    Attributes
    ----------
    encrypted
        Largest |fixed point − float32| of the encrypted outputs for the committed, rounded inputs: what re-execution
        compares.
    decrypted
        Largest |decrypted − plain model's| output; the rounding of the inputs is in it.
    agreement
        Fraction of records decided as the plain model decides.
    """

    encrypted: float
    decrypted: float
    agreement: float


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def bare_witness(circuit: ProvingCircuit, record: NDArray[np.int64], folder: Path) -> Path:
    """A witness file for the bare prover, made beforehand."""
    data, witness = folder / "input.json", folder / "witness.json"
    data.write_text(json.dumps({"input_data": [(record * 2.0**-circuit.artefacts.parsed.input_scale).tolist()]}))

    async def make() -> None:
        ezkl.gen_witness(str(data), str(circuit.segments[0].folder / "model.compiled"), str(witness), None, None)

    asyncio.run(make())
    return witness


def key_errors(seed: int, process: EzklProcess) -> KeyErrors:
    """Encrypt the zoo model with the key of a seed and compare its circuit with the float models."""
    plain_model, (plain, _) = load_model_bytes(MODEL), held_out(MODEL)
    encrypted = encrypt_model(rewrite(plain_model, rewrites_for(MODEL)), epoch=1, seed=seed.to_bytes(32, "big"))
    records = encrypt_records(encrypted.key, plain)
    settings = make_settings(encrypted.model, profile_for(MODEL), process)
    inputs = quantise(records, settings.input_scale)
    exact = dequantise(outputs_without_keys(process, encrypted.model, settings, inputs), settings.output_scale)
    executed_again = float_outputs(encrypted.model, dequantise(inputs, settings.input_scale))
    decided, expected = decrypt_outputs(encrypted.key, exact), float_outputs(plain_model, plain)
    return KeyErrors(
        encrypted=float(np.abs(exact - executed_again).max()),
        decrypted=float(np.abs(decided - expected).max()),
        agreement=float((decided.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    )


def measure(pairs: int, keys: int, folder: Path, process: EzklProcess) -> Report:
    """Build the zoo model's circuit afresh, time `pairs` pairs of proofs, compare the circuits of `keys` EE keys."""
    encrypted = encrypt_model(rewrite(load_model_bytes(MODEL), rewrites_for(MODEL)), epoch=1, seed=bytes(32))
    profile = profile_for(MODEL)
    srs = ensure_development_srs(profile.logrows, folder)
    build_seconds, circuit = timed(
        lambda: build_circuit(encrypted.model, profile, srs, CircuitCache(folder / "keys"), process)
    )
    settings, prover = circuit.artefacts.parsed, Prover(circuit, process)
    plain, _ = held_out(MODEL)
    records = quantise(encrypt_records(encrypted.key, plain), settings.input_scale)
    witness_seconds, _ = timed(lambda: prover.outputs(records))

    witness = bare_witness(circuit, records[0], folder)

    def bare() -> None:
        ezkl.prove(
            str(witness),
            str(circuit.segments[0].folder / "model.compiled"),
            str(circuit.segments[0].folder / "pk"),
            str(folder / "proof.json"),
            str(srs.path),
        )

    bare()
    proof = prover.prove(records[0])
    bare_seconds: list[float] = []
    warm_seconds: list[float] = []
    for _ in range(pairs):
        both: list[tuple[list[float], Callable[[], Any]]] = [
            (bare_seconds, bare),
            (warm_seconds, lambda: prover.prove(records[0])),
        ]
        random.shuffle(both)
        for seconds, work in both:
            seconds.append(timed(work)[0])
    ratios = [warm / plain for warm, plain in zip(warm_seconds, bare_seconds, strict=True)]
    claim = Claim(proof.proofs, proof.boundaries, proof.inputs, proof.outputs)
    first, _ = timed(lambda: verify_proofs(circuit.artefacts, [claim], srs))
    eleven, _ = timed(lambda: verify_proofs(circuit.artefacts, [claim] * 11, srs))
    errors = [key_errors(seed, process) for seed in range(keys)]
    return Report(
        machine=platform.platform(),
        cores=os.cpu_count() or 0,
        ezkl=EZKL_VERSION,
        logrows=settings.logrows,
        pairs=pairs,
        build_s=build_seconds,
        bare_prove_s=statistics.median(bare_seconds),
        warm_prove_s=statistics.median(warm_seconds),
        ratio_median=statistics.median(ratios),
        ratio_max=max(ratios),
        witness_per_record_s=witness_seconds / len(records),
        verify_first_s=first,
        verify_per_further_proof_s=(eleven - first) / 10,
        proof_bytes=sum(map(len, proof.proofs)),
        vk_bytes=len(circuit.artefacts.vk),
        pk_bytes=(circuit.segments[0].folder / "pk").stat().st_size,
        srs_bytes=srs.path.stat().st_size,
        held_out_records=len(records),
        keys=keys,
        encrypted_error_median=statistics.median(each.encrypted for each in errors),
        encrypted_error_max=max(each.encrypted for each in errors),
        decrypted_error_median=statistics.median(each.decrypted for each in errors),
        decrypted_error_max=max(each.decrypted for each in errors),
        decision_agreement_median=statistics.median(each.agreement for each in errors),
        decision_agreement_min=min(each.agreement for each in errors),
    )


def float_outputs(model: bytes, records: NDArray[np.float32]) -> NDArray[np.float32]:
    """The plain model's outputs, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: records})[0]
    return outputs


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--keys", type=int, default=20, help="EE keys whose circuits are compared with float32")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rexis-bench-") as folder, EzklProcess() as process:
        report = asdict(measure(options.pairs, options.keys, Path(folder), process))
    for name, value in report.items():
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
