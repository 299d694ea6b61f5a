"""One circuit: set-up, single warm proofs, their checks and their gas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench._processes import peak_bytes
from bench.costs.agreement import Bound, agreement, max_error, require_agreement
from bench.costs.checks import Checks, WrongResult, require
from bench.costs.clock import repeated, timed
from bench.costs.proof_parts import altered, claim_of, logrows_of, parts_of, proof_cpu_seconds, sizes_of
from bench.costs.result import CircuitCost, Spread
from bench.costs.scene import Scene
from bench.costs.scope import Scope
from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.process import EzklProcess, ProcessGoneError
from circuits.profile import profile_for
from circuits.proving import Proof, Prover
from circuits.srs import ensure_development_srs
from circuits.verifying import Claim, verify_proofs
from contracts.evm import LocalVerifier
from rexis.protocol.errors import CircuitError, ResourceError, UnavailableError
from rexis.protocol.records import quantise

_FURTHER = 8  # proofs that are checked beside the first, for the cost of each further one


@dataclass(frozen=True)
class Opened:
    """A circuit with its keys and a warm child that proves with them."""

    circuit: ProvingCircuit
    prover: Prover
    ezkl: EzklProcess
    setup: Spread
    setup_peak_bytes: int


@contextmanager
def opened(scene: Scene, scope: Scope, srs_folder: Path) -> Iterator[Opened]:
    """Make the keys of a model's tuned circuit.

    Raises
    ------
    NotFoundError
        The model has no tuned profile.
    ResourceError, CircuitError
        There is no room for it here, or it does not prove within the scope's time, by the estimate or in fact.
    """
    profile = profile_for(scene.name)
    with EzklProcess(timeout=scope.call_seconds) as ezkl:
        seconds = proof_cpu_seconds(scene.encrypted, profile, ezkl)
    if seconds > scope.proof_cpu_seconds:
        raise ResourceError(
            f"a proof takes about {seconds:.0f} s of processor time by the estimate, more than the "
            f"{scope.proof_cpu_seconds:g} s of this run"
        )
    srs = ensure_development_srs(profile.logrows, srs_folder)
    cache = CircuitCache(scene.folder / "keys")
    with EzklProcess(timeout=scope.call_seconds) as ezkl:
        seconds, circuit = timed(lambda: build_circuit(scene.encrypted, profile, srs, cache, ezkl))
        setup_peak = peak_bytes(ezkl.pid)
    with EzklProcess(timeout=scope.call_seconds) as ezkl:
        yield Opened(circuit, Prover(circuit, ezkl), ezkl, Spread.of([seconds]), setup_peak)


def measure(scene: Scene, found: Opened, scope: Scope, checks: Checks) -> CircuitCost:
    """Time single proofs, and check what they are worth."""
    circuit, prover, settings = found.circuit, found.prover, found.circuit.artefacts.parsed
    dataset = scene.encrypted_records(scope.tasks[0])
    inputs = quantise(dataset, settings.input_scale).reshape(len(dataset), -1)
    prover.outputs(inputs[:1])  # loads the circuit
    witness_s, outputs = timed(lambda: prover.outputs(inputs))
    proof = prover.prove(inputs[0])  # loads the keys
    prove = repeated(lambda: prover.prove(inputs[0]), scope.proofs, scope.cell_seconds)
    claims = [claim_of(proof)]
    verify = repeated(lambda: verify_proofs(circuit.artefacts, claims, circuit.srs), scope.proofs, scope.cell_seconds)
    many = repeated(
        lambda: verify_proofs(circuit.artefacts, claims * (1 + _FURTHER), circuit.srs),
        scope.repeats,
        scope.cell_seconds,
    )
    bound, expected = Bound.of(scene.name), scene.reference(len(dataset))
    decrypted = scene.decrypted(outputs, circuit.artefacts.description)
    with checks.that("decrypted outputs of the circuit decide as the plain model", scene.name) as seen:
        seen(require_agreement(decrypted, expected, bound))
    gas = check_proof(scene.name, circuit, proof, checks)
    vk_bytes, pk_bytes = sizes_of(circuit)
    parts = parts_of(circuit, proof)
    return CircuitCost(
        segments=len(parts),
        logrows=logrows_of(circuit),
        setup=found.setup,
        witness=Spread.of([witness_s / len(inputs)]),
        prove=prove,
        verify=verify,
        verify_next=Spread.computed(max(0.0, many.median - verify.median) / _FURTHER),
        proof_bytes=sum(len(part.data) for part in parts),
        vk_bytes=vk_bytes,
        pk_bytes=pk_bytes,
        setup_peak_bytes=found.setup_peak_bytes,
        prove_peak_bytes=peak_bytes(found.ezkl.pid),
        evm_gas=gas,
        max_error=max_error(decrypted, expected),
        agreement=agreement(decrypted, expected, bound),
    )


def check_proof(about: str, circuit: ProvingCircuit, proof: Proof, checks: Checks) -> int | None:
    """By ezkl and in an EVM: the proof holds, and a false one does not. Returns the gas of all its parts."""
    with checks.that("a proof holds off chain", about):
        verify_proofs(circuit.artefacts, [claim_of(proof)], circuit.srs)
    with checks.that("a proof of an output that is off by one is refused off chain", about) as seen:
        seen(_refusal(circuit, [altered(proof)]))
    try:
        verifiers = [(LocalVerifier(part.vka), part) for part in parts_of(circuit, proof)]
    except UnavailableError as error:
        checks.skip("a proof holds in the EVM", about, error.message)
        return None
    answers = [verifier.verify(part.data, part.instances) for verifier, part in verifiers]
    with checks.that("a proof holds in the EVM", about) as seen:
        require(all(answer.accepted for answer in answers), "the Solidity verifier rejects it")
        seen(f"{sum(answer.gas for answer in answers)} gas")
    verifier, part = verifiers[0]
    flipped = bytes([part.data[0] ^ 1]) + part.data[1:]
    with checks.that("a flipped bit of a proof is refused in the EVM", about):
        require(not verifier.verify(flipped, part.instances).accepted, "the Solidity verifier accepts it")
    with checks.that("a proof of an altered instance is refused in the EVM", about):
        last = [*part.instances[:-1], part.instances[-1] + 1]
        require(not verifier.verify(part.data, last).accepted, "the Solidity verifier accepts it")
    return sum(answer.gas for answer in answers)


def _refusal(circuit: ProvingCircuit, claims: Sequence[Claim]) -> str:
    try:
        verify_proofs(circuit.artefacts, claims, circuit.srs)
    except ProcessGoneError:
        raise
    except CircuitError as error:
        return error.message
    raise WrongResult("it was accepted")
