"""Commands around a training job: submit it with its plan, fetch what it gave."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, say, transfer
from rexis.cli.options import Coordinator, Json, PassphraseFile, Wallet, connect, digest
from rexis.cli.requester import (
    CERTIFICATE,
    DatasetFile,
    JobId,
    fetch_certificate_bytes,
    follow,
    keep,
    require_certified,
    require_tier,
)
from rexis.protocol.errors import DigestMismatchError, MalformedError

if TYPE_CHECKING:
    from rexis.protocol.digests import Digest
    from rexis.protocol.policy import Policy
    from rexis.protocol.training import TrainingPlan

CHECKPOINT, TRANSCRIPT, LOSSES, PLOT = "checkpoint.onnx", "transcript.json", "losses.csv", "losses.svg"
_MAX_PLAN_BYTES = 4 << 20


class TrainingTier(StrEnum):
    """The tiers of trainings, as options name them."""

    COMMIT = "commit"
    SAMPLED = "sampled"


PlanFile = Annotated[Path, typer.Option("--plan", metavar="FILE", help="What `rexis train plan` wrote.")]


def submit(
    dataset: DatasetFile,
    plan: PlanFile,
    model: Annotated[str, typer.Option(metavar="DIGEST", help="The encrypted base model's digest.")],
    epoch: Annotated[int, typer.Option(min=1, help="Its key epoch.")],
    coordinator: Coordinator,
    wallet: Wallet,
    tier: Annotated[TrainingTier, typer.Option(help="How much the worker must show.")] = TrainingTier.SAMPLED,
    sample_size: Annotated[
        int, typer.Option("-k", "--sample-size", min=1, help="sampled: stretches between states that are re-executed.")
    ] = 4,
    max_attempts: Annotated[int, typer.Option(min=1, max=100, help="Commitments allowed.")] = 3,
    rel_tolerance: Annotated[
        float | None,
        typer.Option(min=0, max=0.999, help="A stretch may end this part of its own way apart. Default: 0.001."),
    ] = None,
    abs_tolerance: Annotated[
        float | None, typer.Option(min=0, max=0.999, help="Or this part of the state's length. Default: 0.000001.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-10, max=10, help="Among your own jobs: a higher one goes first.")] = 0,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The job fails if it isn't done by then: 2026-12-01T18:00:00Z."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until the job is certified or failed.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Upload a dataset with labels, sign a training job and submit it with its plan. Prints the job's id."""
    from rexis.client import training_request
    from rexis.datafiles import open_dataset_file
    from rexis.protocol.onsite import PrivateDataset

    model_digest = digest(model, "--model")
    wanted = read_plan(plan)
    policy = _policy(tier, sample_size, max_attempts, abs_tolerance, rel_tolerance)
    rows = open_dataset_file(dataset)
    if isinstance(rows, PrivateDataset):
        raise MalformedError("a training needs the encrypted records, not their hashes", field="dataset")
    with connect(coordinator, wallet, passphrase_file) as client:
        require_tier(client, policy)
        info = client.info()
        registered = client.model(model_digest, epoch)
        with transfer("uploading the dataset") as progress:
            dataset_digest = client.upload_blob(dataset, progress=progress)
        client.register_dataset(dataset_digest)
        request = training_request(info, registered, rows, dataset_digest, wanted, policy, requester=client.address)
        view = client.submit_job(request, wanted, priority=priority, deadline=deadline)
        if not as_json:
            say(str(view.job_id))
        if wait:
            view = follow(client, view.job_id)
    if as_json:
        emit(view.to_object())
    if wait:
        require_certified(view)


def fetch(
    job: JobId,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to; made if it is missing.")],
    coordinator: Coordinator,
    wallet: Wallet,
    states: Annotated[
        bool, typer.Option("--states/--no-states", help="Also what an auditor re-executes: dataset and all states.")
    ] = True,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Download the trained model, its transcript and its certificate, and draw the loss.

    DIR gets checkpoint.onnx (encrypted: `rexis ee decrypt-model`), certificate.json, transcript.json, losses.csv,
    losses.svg, and files that an auditor needs (sha256-…). The transcript is the certificate's, and the model is the
    one that it ends with; the certificate itself is checked by `rexis verify`.
    """
    from rexis.api import TranscriptView
    from rexis.cli.curve import Curve
    from rexis.protocol.training_certificate import TrainingCertificate, parse_certificate
    from rexis.protocol.transcript import check_transcript

    job_id = digest(job, "JOB")
    out.mkdir(parents=True, exist_ok=True)
    with connect(coordinator, wallet, passphrase_file) as client:
        data = fetch_certificate_bytes(client, job_id)
        certificate = parse_certificate(data)
        if not isinstance(certificate, TrainingCertificate):
            raise MalformedError(f"job {job_id} is no training", field="job", hint="use `rexis fetch`")
        if certificate.job_id != job_id:
            raise DigestMismatchError(f"the coordinator sent the certificate of job {certificate.job_id}")
        evidence = certificate.evidence
        check_transcript(evidence.transcript, certificate.plan, evidence.statement.task_id, certificate.domain)
        keep(out / CERTIFICATE, data)
        wanted = [(certificate.trained_model, CHECKPOINT), _named(certificate.request.model_digest)]
        if states:
            wanted.append(_named(certificate.request.dataset_digest))
            wanted += dict.fromkeys(_named(signed.state_digest) for signed in evidence.transcript)
        for blob, name in wanted:
            with transfer(f"downloading {name}") as progress:
                client.download_blob(blob, out / name, progress=progress)
    view = TranscriptView(plan=certificate.plan, checkpoints=evidence.transcript)
    curve = Curve.of(view)
    keep(out / TRANSCRIPT, view.to_json())
    keep(out / LOSSES, curve.csv().encode())
    keep(out / PLOT, curve.svg(f"loss of job {job_id}").encode())
    names = [CERTIFICATE, TRANSCRIPT, LOSSES, PLOT, *(name for _, name in wanted)]
    if as_json:
        emit({"jobId": str(job_id), "folder": str(out), "files": names, "modelDigest": str(certificate.trained_model)})
        return
    for name in names:
        say(str(out / name))
    losses = curve.losses
    say(f"{len(losses)} steps, loss {losses[min(losses)]:.4f} → {losses[max(losses)]:.4f}")


def _named(blob: Digest) -> tuple[Digest, str]:
    """A blob with the name that auditors look for."""
    return blob, f"sha256-{blob.hex()}"


def read_plan(path: Path) -> TrainingPlan:
    """What `rexis train plan` wrote."""
    from rexis.files import read_file
    from rexis.protocol.training import TrainingPlan

    return TrainingPlan.from_json(read_file(path, "plan", max_bytes=_MAX_PLAN_BYTES))


def _policy(
    tier: TrainingTier, sample_size: int, max_attempts: int, abs_tolerance: float | None, rel_tolerance: float | None
) -> Policy:
    from rexis.protocol.policy import Policy, Rung, Tier
    from rexis.protocol.training import DEFAULT_ABS_TOLERANCE_E9, DEFAULT_REL_TOLERANCE_E9

    def e9(given: float | None, default: int) -> int:
        return default if given is None else round(given * 1e9)

    return Policy.from_object(
        {
            "tier": Tier[tier.name],
            "sampleSize": sample_size if tier == TrainingTier.SAMPLED else 0,
            "shardSize": 1,
            "maxAttempts": max_attempts,
            "absToleranceE9": e9(abs_tolerance, DEFAULT_ABS_TOLERANCE_E9),
            "relToleranceE9": e9(rel_tolerance, DEFAULT_REL_TOLERANCE_E9),
            "rung": Rung.EE_OUTSOURCED,
            "validators": 0,
            "certifyOnChain": False,
        }
    )
