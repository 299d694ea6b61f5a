"""Verifies a certificate: alone, with no key, believing neither worker nor coordinator.

The steps, whose numbers stand beside the code that takes them:

 1. Form: canonical JSON of the schema that its format names; nothing unknown, nothing twice.
 2. Seal: the coordinator named in the request signed this very document (so that no byte of it is idle).
 3. Request: its requester signed it, for this chain and EvidenceLog; it is what the auditor pinned.
 4. Development parameters: a chain or an SRS whose secret its maker could know is refused unless allowed.
 5. Circuit: settings, verifying key and VKA have the pinned digests, say what the request says, and belong together.
 6. Tasks: they cover the job's records exactly, in order.

 For each task:

 7. Statement: follows from the request; signed by its worker.
 8. Selection: exactly the records that the tier asks for are opened and proved.
 9. Openings: each leads to the committed input root and output root.
10. Proofs: each verifies against the pinned circuit with public instances rebuilt from the opening.
11. Anchor: the statement's digest stands in the anchored tree.

 Then, if asked:

12. Re-execution: opened records, run again with the encrypted model, agree within the policy's tolerance. Skipped
    where inputs are private.
13. Circuit rebuilt: compiling the encrypted model again gives the pinned settings and verifying key.

 And against the chain (skipped with ``--offline``):

14. Deployment: log, registry and certifier stand where this version's code puts them (computed, also with
    ``--offline``); the node is on their chain and has them.
15. Model: registered with this circuit before the anchor, not revoked by then; a rung is claimed by who registered it.
16. Commitments: written in the blocks and attempts that the certificate says; block hashes are the chain's.
17. Anchors: written by the request's coordinator, with these roots, after the commitments.
18. On-chain certification: the Certifier accepted every record, where the policy wants it.

 And what no proof is about:

19. Privacy rung: the job's rung stands on the model owner's signed claim where it needs one, for ``zk-onsite`` on the
    circuit's hashed inputs, and on nothing else.

 And, if asked, after each task's step 10:

20. Second opinion: ezkl's Solidity verifier, run in an EVM here, finds the same of every proof; with a node at hand its
    code is also the chain's.

A training's certificate has steps 21 to 26 in the place of 5, 8 to 10, 12, 13, 18 and 20; see :mod:`verifier.training`.

And where the policy wants validators, or the auditor asks what they said:

28. Validators: the quorum that the auditor names found every statement valid, on chain, with as many signers as the
    policy wants (:mod:`verifier.validators`). Step 27 is of several certificates (:mod:`verifier.lineage`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.verifying import one_process
from rexis.protocol.certificate import Certificate, CertifiedTask, Place
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EvidenceError, UnavailableError
from rexis.protocol.parsing import Address, enum_name
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.statement import Kind
from rexis.protocol.training_certificate import TrainingCertificate, parse_certificate
from verifier.artifacts import Artifacts
from verifier.circuit import artefacts_of, check_rebuilt, check_vka, srs_is_development
from verifier.envelope import check_anchor, check_head, check_rung_claim, check_surroundings
from verifier.evidence import TaskContext, walk_evidence
from verifier.opened import OpenedRecord
from verifier.reexecute import RefutedError, check_reexecution
from verifier.report import Status, Step, StepFailed, Verdict
from verifier.second_opinion import SECOND_OPINION
from verifier.tiers import TIERS
from verifier.tiers.sampled import shows_of_job
from verifier.training_certificate import verify_training

if TYPE_CHECKING:
    from contracts.accountability import Accountability

FORM, CIRCUIT, COVER = 1, 5, 6
_REBUILT = "circuit rebuilt from the encrypted model"
REEXECUTION, REBUILD = 12, 13
_ONSITE = (
    "the certificate shows of each proved record a hash and its output; that the hash is salted, only the encrypted "
    "model shows (step 13); nothing shows where the records were, or what an output tells of them"
)

_ONSITE_SAMPLE = "; the requester is the one who proves, and may have asked again until the sample suited it"


@dataclass(frozen=True)
class VerifyOptions:
    """What the auditor brings. Whatever is pinned here must be what the certificate says.

    Attributes
    ----------
    rpc_url
        A chain node that the auditor trusts. Without it, and without `offline`, the chain steps are undecided.
    offline
        Skip the chain steps; no socket is opened.
    srs, model
        Files; by default found by digest in `artifacts`.
    artifacts
        Folder with files named ``sha256-<hex>``.
    reexecute
        How many opened records to run again, over all tasks; of a training, how many segments of this auditor's own
        draw to take again, beside those that the tier asks for.
    rebuild_circuit
        Compile the encrypted model again and compare the verifying key.
    second_opinion
        Have every proof checked by the Solidity verifier too, in an EVM of this process.
    job_id, requester, model_digest
        Pins. The certificate itself cannot tell an auditor which job, requester or model is meant.
    allow_development_srs, allow_development_chain
        Accept parameters that prove nothing to a stranger.
    quorum
        The deployment whose validators' verdicts count. Without it, where the policy wants any, the step is undecided.
    by_validator
        Verify as one of those validators: their verdicts are not asked for.
    """

    rpc_url: str | None = None
    offline: bool = False
    srs: Path | None = None
    model: Path | None = None
    artifacts: Path | None = None
    reexecute: int = 0
    rebuild_circuit: bool = False
    second_opinion: bool = False
    job_id: Digest | None = None
    requester: Address | None = None
    model_digest: Digest | None = None
    allow_development_srs: bool = False
    allow_development_chain: bool = False
    quorum: Accountability | None = None
    by_validator: bool = False


@dataclass
class VerifiedCertificate(Verdict):
    """A verdict with what was read, as far as verification got.

    Attributes
    ----------
    certificate
        None if the document could not be read.
    shows
        What passing shows, one sentence a task; for several sampled tasks one more about all.
    refuted
        Records whose committed output is not the model's (step 12).
    """

    certificate: Certificate | TrainingCertificate | None = None
    shows: list[str] = field(default_factory=list)
    refuted: Sequence[int] = ()


def verify_certificate(
    data: bytes, options: VerifyOptions, on_step: Callable[[Step], None] | None = None
) -> VerifiedCertificate:
    """Take all the steps; stops at the first that fails.

    Parameters
    ----------
    data
        The certificate file's bytes.
    on_step
        Called with each step as it is taken.
    """
    verdict = VerifiedCertificate(on_step=on_step)
    verification = _Verification(data, options, verdict)
    del data  # once it is read, whoever gave it away needs no memory for it any more
    try:
        with one_process():  # for the proofs of all tasks
            verification.run()
    except StepFailed:
        return verdict
    return verdict


class _Verification:
    def __init__(self, data: bytes, options: VerifyOptions, verdict: VerifiedCertificate) -> None:
        self._data, self._options, self._verdict = data, options, verdict
        self._artifacts = Artifacts(options.artifacts)

    def run(self) -> None:
        verdict, options = self._verdict, self._options
        with verdict.step(FORM, "form") as notes:
            certificate, size = parse_certificate(self._data), len(self._data)
            self._data = b""
            notes.say(f"{certificate.format}, {size} bytes, canonical")
        verdict.certificate = certificate
        if isinstance(certificate, TrainingCertificate):
            verdict.shows.append(verify_training(certificate, options, verdict))
        else:
            self._check_evaluation(certificate)

    def _check_evaluation(self, certificate: Certificate) -> None:
        verdict, options = self._verdict, self._options

        request = certificate.request
        proves = TIERS[request.policy.tier].PROVES
        development_srs = proves and srs_is_development(request.circuit.srs_digest)
        check_head(certificate, Kind.EVALUATION, options, verdict, development_srs=development_srs)

        srs: Path | None = None
        artefacts = None
        if proves:
            with verdict.step(CIRCUIT, "circuit") as notes:
                artefacts = artefacts_of(certificate.circuit, certificate.request.circuit)
                srs = self._artifacts.find("SRS", certificate.request.circuit.srs_digest, options.srs, "--srs")
                check_vka(artefacts, srs)
                notes.say(
                    "settings, vk, VKA and SRS have the pinned digests; the VKA follows from vk, settings and SRS"
                )
        elif certificate.circuit is not None:
            with verdict.step(CIRCUIT, "circuit"):
                raise EvidenceError("tier commit has no circuit, but the certificate carries one", field="circuit")

        with verdict.step(COVER, "tasks cover the job") as notes:
            notes.say(_check_cover(certificate))

        opened = [
            self._check_task(certificate, task, place, srs)
            for task, place in zip(certificate.tasks, certificate.places, strict=True)
        ]
        if certificate.request.policy.tier == Tier.SAMPLED and len(certificate.tasks) > 1:
            attempt = max(task.commitment.attempt for task in certificate.tasks if task.commitment)
            verdict.shows.append(shows_of_job(certificate.request, attempt))

        private = certificate.request.circuit.visibility == Visibility.HASHED
        if options.reexecute > 0 and private:
            why = "the inputs are private: no record can be executed again, the proofs stand alone"
            verdict.add(REEXECUTION, "re-execution", Status.SKIPPED, why)
        elif options.reexecute > 0:
            with verdict.step(REEXECUTION, "re-execution") as notes:
                model = self._artifacts.read(
                    "encrypted model", certificate.request.model_digest, options.model, "--model"
                )
                try:
                    notes.say(check_reexecution(certificate.request, model, opened, options.reexecute))
                except RefutedError as error:
                    verdict.refuted = error.records
                    raise
        if options.rebuild_circuit and artefacts is None:
            verdict.add(REBUILD, _REBUILT, Status.SKIPPED, "tier commit has no circuit")
        elif options.rebuild_circuit and artefacts is not None:
            with verdict.step(REBUILD, _REBUILT) as notes:
                model = self._artifacts.read(
                    "encrypted model", certificate.request.model_digest, options.model, "--model"
                )
                if srs is None:
                    raise UnavailableError("the circuit cannot be rebuilt without the SRS", hint="give --srs FILE")
                check_rebuilt(artefacts, certificate.request.circuit, model, srs)
                notes.say("the encrypted model gives the pinned settings and compiles to the pinned verifying key")
        if options.second_opinion and artefacts is None:
            verdict.add(SECOND_OPINION, "second opinion", Status.SKIPPED, "tier commit has no proofs")
        compare = options.second_opinion and certificate.circuit is not None
        check_surroundings(certificate, options, verdict, lambda: _check_rung(certificate), compare_verifier=compare)

    def _check_task(
        self, certificate: Certificate, task: CertifiedTask, place: Place, srs: Path | None
    ) -> list[OpenedRecord]:
        statement, options = task.evidence.statement, self._options
        attempt = task.commitment.attempt if task.commitment else 1
        context = TaskContext(
            domain=certificate.domain,
            request=certificate.request,
            start=statement.record_start,
            count=statement.record_count,
            worker=None,
            nonce=None,
            block_hash=_block_hash(task),
            material=certificate.circuit,
            srs=srs,
            second_opinion=options.second_opinion,
        )
        opened = walk_evidence(task.evidence, context, self._verdict)
        check_anchor(certificate, place, context.name, self._verdict)
        tier = TIERS[statement.tier]
        self._verdict.shows.append(f"{context.name}: {tier.shows(statement, certificate.request.policy, attempt)}")
        return opened


def _check_cover(certificate: Certificate) -> str:
    """Step 6."""
    request = certificate.request
    if len(certificate.tasks) != request.shard_count:  # before any list that is as long as the request likes
        raise EvidenceError(
            f"{len(certificate.tasks)} tasks, the request asks for {request.shard_count}", field="tasks"
        )
    wanted = request.shards()
    found = [(task.evidence.statement.record_start, task.evidence.statement.record_count) for task in certificate.tasks]
    if found != wanted:
        raise EvidenceError(f"tasks cover {_ranges(found)}, the request asks for {_ranges(wanted)}", field="tasks")
    policy, end = request.policy, request.record_start + request.record_count - 1
    for position, task in enumerate(certificate.tasks):
        where = f"tasks.{position}"
        if (task.commitment is not None) != (policy.tier == Tier.SAMPLED):
            raise EvidenceError("a commitment belongs to tier sampled, and to no other", field=f"{where}.commitment")
        if task.commitment is not None and task.commitment.attempt > policy.max_attempts:
            raise EvidenceError(
                f"attempt {task.commitment.attempt}, the policy allows {policy.max_attempts}",
                field=f"{where}.commitment.attempt",
            )
        if (task.opening_block_hash is not None) != (policy.tier == Tier.COMMIT):
            raise EvidenceError("an opening block belongs to tier commit", field=f"{where}.openingBlockHash")
        wants = task.evidence.statement.record_count if policy.certify_on_chain else 0
        if len(task.certified) != wants:
            raise EvidenceError(
                f"{len(task.certified)} on-chain certifications, the policy implies {wants}", field=f"{where}.certified"
            )
    return f"{len(found)} tasks cover records {request.record_start}–{end} of {request.input_size}"


def _check_rung(certificate: Certificate) -> str:
    """Step 19."""
    policy, claim = certificate.request.policy, check_rung_claim(certificate)
    if policy.rung != Rung.ZK_ONSITE:
        return f"{enum_name(policy.rung)}: {claim or 'nothing is claimed of the weights'}"
    return f"{enum_name(policy.rung)}: {_ONSITE}{_ONSITE_SAMPLE if policy.tier == Tier.SAMPLED else ''}"


def _ranges(parts: list[tuple[int, int]]) -> str:
    shown = ", ".join(f"{start}–{start + count - 1}" for start, count in parts[:4])
    return shown + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")


def _block_hash(task: CertifiedTask) -> Digest | None:
    return task.commitment.challenge_block_hash if task.commitment else task.opening_block_hash
