"""The circuit that a model is registered with, made again here from files: nobody who warrants it, or challenges by it,
takes it from anybody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.options import needs
from rexis.protocol.errors import ConflictError, MalformedError, UnavailableError

if TYPE_CHECKING:
    from circuits.build import ProvingCircuit
    from circuits.process import Ezkl
    from contracts.accountable import AccountableChain
    from contracts.challenging import Prospect
    from contracts.warranties import ProvenRecord
    from rexis.protocol.anchored import AnchoredStatement
    from rexis.protocol.digests import Digest
    from rexis.protocol.records import InputOpening

ModelFile = Annotated[
    Path | None,
    typer.Option("--model", metavar="FILE", help="Tier commit: the encrypted model, if not in --artifacts."),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help="Tier commit: the registered circuit's settings.")
]
SrsFile = Annotated[
    Path | None, typer.Option("--srs", metavar="FILE", help="Tier commit: the circuit's SRS, if not in --artifacts.")
]
ArtifactsFolder = Annotated[
    Path | None, typer.Option("--artifacts", metavar="DIR", help="Folder with files named sha256-<hex>.")
]

_MAX_SETTINGS_BYTES = 8 << 20


@dataclass(frozen=True)
class RefereeFiles:
    """Where a circuit's files are, as a person gave them."""

    model: Path | None
    settings: Path | None
    srs: Path | None
    artifacts: Path | None = None

    def rebuild(
        self, chain: AccountableChain, model_digest: Digest, key_epoch: int, keys: Path, ezkl: Ezkl
    ) -> tuple[bytes, ProvingCircuit]:
        """The model, and the circuit that it is registered with; keys are made in `keys`, unless they are there.

        Raises
        ------
        UnavailableError, DigestMismatchError
            A file is not there, or another one.
        ConflictError
            The model is registered with another circuit, or with one that settles no dispute.
        CircuitError, TensorError, ResourceError, NotFoundError
            See :func:`circuits.build.rebuilt`; the model is not registered.
        """
        from rexis.files import read_file

        with needs("verifier"):
            from circuits.artefacts import CircuitCache
            from circuits.build import rebuilt
            from circuits.srs import read_srs
            from verifier.artifacts import Artifacts

        registered = chain.registration(model_digest, key_epoch)
        if self.settings is None:
            raise UnavailableError("no settings of the circuit", field="settings", hint="give --settings FILE")
        settings = read_file(self.settings, "settings", max_bytes=_MAX_SETTINGS_BYTES)
        files = Artifacts(self.artifacts)
        model = files.read("encrypted model", model_digest, self.model, "--model")
        srs = read_srs(files.find("SRS", registered.srs_digest, self.srs, "--srs"))
        made = rebuilt(model, settings, srs, CircuitCache(keys), ezkl)
        if not registered.has_circuit(made.artefacts.description):
            raise ConflictError(
                "the model is registered with another circuit than it gives with these settings",
                field="settings",
                hint="the owner's word is not the model's: warrant nothing, and challenge nothing, by it",
            )
        if len(made.segments) != 1:
            raise ConflictError(
                "the circuit has several segments, and the contract takes one proof: it settles nothing"
            )
        return model, made


def prove_record(
    chain: AccountableChain,
    found: AnchoredStatement,
    opening: InputOpening,
    output: bytes | None,
    files: RefereeFiles,
    keys: Path,
    ezkl: Ezkl,
) -> tuple[Prospect, ProvenRecord]:
    """What a challenge of tier ``commit`` needs: the cheap questions first, then the circuit, then the proof.

    Parameters
    ----------
    output
        What the worker committed to, where that is known: a challenge that it would win is not made.

    Raises
    ------
    ConflictError
        The worker's output is known to be within its tolerance; or the contract would refuse the challenge.
    RexisError
        See :func:`contracts.challenging.check_challenge` and :meth:`RefereeFiles.rebuild`.
    """
    import numpy as np

    from circuits.proving import Prover
    from contracts.challenging import check_challenge, place_of, require_warranted
    from contracts.warranties import ProvenRecord
    from rexis.protocol.circuit import NO_CIRCUIT
    from rexis.protocol.policy import Tier
    from rexis.protocol.records import distance, input_format, output_format, quantise

    statement = found.statement
    if statement.circuit != NO_CIRCUIT:
        raise MalformedError("tier commit names no circuit", field="statement.circuit")
    require_warranted(chain, statement, chain.check_inclusion(found.check(), place_of(found)).block)
    _, made = files.rebuild(chain, statement.model_digest, statement.key_epoch, keys, ezkl)
    circuit = made.artefacts.description
    prospect = check_challenge(chain, found, opening, circuit)
    given = quantise(np.asarray(input_format(Tier.COMMIT, NO_CIRCUIT).values(opening.input)), circuit.input_scale)
    proof = Prover(made, ezkl).prove(given)
    outputs = np.array(proof.outputs, dtype=np.int64)
    if output is not None and prospect.tolerance is not None:
        apart = distance(output_format(Tier.COMMIT, NO_CIRCUIT).values(output), outputs, circuit.output_scale)
        if apart <= prospect.tolerance:
            raise ConflictError(
                f"the worker's output lies {apart} units of 2^-{circuit.output_scale} from what the circuit gives, and "
                f"{prospect.tolerance} are warranted: it would win"
            )
    return prospect, ProvenRecord(
        opening=opening,
        circuit=circuit,
        inputs=input_format(Tier.SAMPLED, circuit).payload(given),
        outputs=output_format(Tier.SAMPLED, circuit).payload(outputs),
        proof=proof.proofs[0],
        vka=made.artefacts.vka,
    )
