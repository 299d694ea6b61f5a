"""Commands of the data owner and requester: encrypt, submit, follow, fetch, decrypt."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, note, say, transfer, working
from rexis.cli.options import (
    Coordinator,
    Json,
    KeyFile,
    PassphraseFile,
    RungName,
    Wallet,
    connect,
    digest,
    open_chain,
    read_deployment,
)
from rexis.protocol.errors import (
    ConflictError,
    DigestMismatchError,
    NotFoundError,
    RexisError,
    TensorError,
    UnavailableError,
)

if TYPE_CHECKING:
    from rexis.api import JobView, ModelView
    from rexis.client import RexisClient
    from rexis.protocol.certificate import Certificate
    from rexis.protocol.digests import Digest
    from rexis.protocol.policy import Policy
    from rexis.protocol.typed_data import Domain

_MAX_DATASET_BYTES = 8 << 30
_SEVERAL = ".npz"  # records of several inputs
OUTPUTS, CERTIFICATE = "outputs.safetensors", "certificate.json"


class TierName(StrEnum):
    """The tiers, as options name them."""

    COMMIT = "commit"
    SAMPLED = "sampled"
    ZK = "zk"


# Proving dominates: a task should be minutes of work for one worker, not hours.
_SHARD_SIZE = {TierName.COMMIT: 4096, TierName.SAMPLED: 256, TierName.ZK: 32}
# Float32 re-execution differs by rounding. A circuit computes in fixed point, and how far its encrypted outputs are
# from the float model's depends on the EE key: over 40 keys and all held-out records of the breast cancer model, the
# largest difference of a key had a median of 0.034 and a maximum of 0.076 (`python -m bench.warm_proof --keys 40`).
# A quarter is 3.3 times that maximum, so that no honest certificate fails, and small against outputs whose two classes
# are six apart in the median record.
_CIRCUIT_TOLERANCE = 0.25
ABS_TOLERANCE = {TierName.COMMIT: 1e-3, TierName.SAMPLED: _CIRCUIT_TOLERANCE, TierName.ZK: _CIRCUIT_TOLERANCE}

Manifest = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The plain model's manifest (models/onnx/NAME.manifest.json)."),
]
DatasetFile = Annotated[Path, typer.Option("--dataset", metavar="FILE", help="What `rexis encrypt` wrote.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def encrypt(
    key: KeyFile,
    records: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Plain records: .npy, or .csv with a header line; of several inputs .npz, by name."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The encrypted dataset to write (.safetensors); of several inputs .npz."),
    ],
    manifest: Manifest = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column of the CSV that is no feature (id, label); may be repeated."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Encrypt records with an EE key, and salt them for the commitment.

    Without --manifest the records must be standardised already, as the plain model was trained on them. With it they
    are raw values in the units of the source, and a CSV's columns are found by name.

    Records of several inputs are written as the encrypted model takes them, to be run without a job: jobs run models
    with one input.
    """
    from rexis.cli.passphrase import read_passphrase
    from rexis.cli.records import look_raw, read_manifest, read_records
    from rexis.ee import encrypt_records, load_key, record_salts
    from rexis.files import require_absent, write_file
    from rexis.protocol.digests import sha256, tensor_digest
    from rexis.protocol.tensors import Dataset

    require_absent(out)
    if records.suffix == _SEVERAL:
        _encrypt_inputs(key, records, out, manifest, passphrase_file, as_json=as_json)
        return
    plain = read_records(records, read_manifest(manifest) if manifest else None, drop or ())
    if look_raw(plain):
        note("warning: values beyond ±100. Are these records standardised? If not, give --manifest.")
    ee_key = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    encrypted = encrypt_records(ee_key, plain)
    blob = Dataset(encrypted, record_salts(ee_key, tensor_digest(encrypted), len(encrypted))).to_bytes()
    write_file(out, blob)
    if as_json:
        emit({"dataset": str(out), "datasetDigest": str(sha256(blob)), "shape": list(encrypted.shape)})
    else:
        say(f"{out}: {len(encrypted)} records of {encrypted[0].size} values, digest {sha256(blob)}")


def _encrypt_inputs(
    key: Path, records: Path, out: Path, manifest: Path | None, passphrase_file: Path | None, *, as_json: bool
) -> None:
    """Encrypt the records of a model with several inputs."""
    from rexis.cli.passphrase import read_passphrase
    from rexis.cli.records import read_inputs, write_inputs
    from rexis.ee import encrypt_records, load_key

    if manifest is not None:
        raise typer.BadParameter("a manifest describes one input", param_hint="--manifest")
    if out.suffix != _SEVERAL:
        raise typer.BadParameter(f"records of several inputs are written as {_SEVERAL}", param_hint="--out")
    plain = read_inputs(records)
    encrypted = encrypt_records(load_key(key, read_passphrase(f"EE key {key}", passphrase_file)), plain)
    write_inputs(out, encrypted)
    if as_json:
        emit({"records": str(out), "shapes": {name: list(values.shape) for name, values in encrypted.items()}})
        return
    count = len(next(iter(encrypted.values())))
    say(f"{out}: {count} records of inputs {', '.join(encrypted)}, to be run without a job")


def submit(
    dataset: DatasetFile,
    model: Annotated[str, typer.Option(metavar="DIGEST", help="The encrypted model's digest.")],
    epoch: Annotated[int, typer.Option(min=1, help="The model's key epoch.")],
    coordinator: Coordinator,
    wallet: Wallet,
    tier: Annotated[TierName, typer.Option(help="How much the workers must show.")] = TierName.SAMPLED,
    sample_size: Annotated[
        int | None,
        typer.Option(
            "-k", "--sample-size", min=0, help="sampled: records proved per task (default 8). commit: records opened."
        ),
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Records per task. Default: 4096 commit, 256 sampled, 32 zk.")
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="First record.")] = 0,
    count: Annotated[int | None, typer.Option(min=1, help="How many records. Default: all from --start.")] = None,
    max_attempts: Annotated[int, typer.Option(min=1, max=100, help="Commitments allowed per task.")] = 3,
    abs_tolerance: Annotated[
        float | None, typer.Option(min=0, help="Re-execution may differ by this. Default: 0.001 commit, 0.25 else.")
    ] = None,
    rel_tolerance: Annotated[float, typer.Option(min=0, help="And by this part of the value.")] = 1e-3,
    certify_on_chain: Annotated[
        bool, typer.Option("--certify-on-chain", help="zk: have the Certifier contract check every proof.")
    ] = False,
    rung: Annotated[
        RungName,
        typer.Option(
            help="Privacy rung. ee-private-weights takes only a model whose owner claims it, by signature; zk-onsite "
            "uploads hashes alone, and your own worker proves: `rexis worker run --onsite FILE`."
        ),
    ] = RungName.EE_OUTSOURCED,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until the job is certified or failed.")] = False,
    deployment: Annotated[
        Path | None,
        typer.Option(
            envvar="REXIS_DEPLOYMENT", metavar="FILE", help="Sign for this deployment only. Default: the coordinator's."
        ),
    ] = None,
    rpc: Annotated[
        str | None,
        typer.Option(
            "--rpc", envvar="REXIS_RPC", metavar="URL", help="With --deployment: look the model up on chain first."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Upload a dataset, sign a job and submit it. Prints the job's id.

    What is signed names the chain, the model and its circuit. Without --deployment and --rpc they are as the
    coordinator says, and only `rexis verify` will show if it lied. The contracts are always this version's.
    """
    from contracts.onchain import require_deployment
    from rexis.client import job_request
    from rexis.files import read_file
    from rexis.protocol.onsite import PrivateDataset, read_own_dataset
    from rexis.protocol.policy import Tier

    model_digest = digest(model, "--model")
    policy = _policy(tier, sample_size, shard_size, max_attempts, abs_tolerance, rel_tolerance, certify_on_chain, rung)
    blob = read_file(dataset, "dataset", max_bytes=_MAX_DATASET_BYTES)
    if dataset.suffix == _SEVERAL:
        raise TensorError(
            f"{dataset} holds records of several inputs; jobs run models with one, since a record is committed as one "
            "tensor",
            field="dataset",
            hint="run the encrypted model on them without a job",
        )
    records = read_own_dataset(blob)
    if isinstance(records, PrivateDataset) != (rung == RungName.ZK_ONSITE):
        raise typer.BadParameter(
            "zk-onsite takes what `rexis onsite commit` wrote, and no other rung does", param_hint="--rung"
        )
    if isinstance(records, PrivateDataset):
        blob = records.public.to_bytes()  # from here on there are only hashes
    domain = read_deployment(deployment).domain if deployment else None
    with connect(coordinator, wallet, passphrase_file, domain) as client:
        _require_tier(client, policy)
        info = client.info()
        require_deployment(info.domain, info.contracts)
        registered = client.model(model_digest, epoch)
        _require_rung(registered, policy, info.domain)
        if policy.tier != Tier.COMMIT and (fault := records.misfit(registered.circuit)) is not None:
            raise TensorError(fault, field="dataset")  # before anything is uploaded
        if deployment is not None and rpc is not None:
            _require_on_chain(registered, rpc, deployment)
        with transfer("uploading the dataset") as progress:
            dataset_digest = client.upload_blob(blob, progress=progress)
        client.register_dataset(dataset_digest)
        request = job_request(
            info,
            registered,
            records,
            dataset_digest,
            policy,
            requester=client.address,
            record_start=start,
            record_count=count,
        )
        view = client.submit_job(request)
        if not as_json:
            say(str(view.job_id))
        if wait:
            view = _follow(client, view.job_id)
    if as_json:
        emit(view.to_object())
    if wait:
        _require_certified(view)


def status(
    job: JobId,
    coordinator: Coordinator,
    wallet: Wallet,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until it is certified or failed.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show a job with its tasks, why they wait, and the faults that were found."""
    from rexis.cli.console import stdout
    from rexis.cli.progress import job_table

    job_id = digest(job, "JOB")
    with connect(coordinator, wallet, passphrase_file) as client:
        view = _follow(client, job_id) if wait else client.job(job_id)
    if as_json:
        emit(view.to_object())
    else:
        stdout().print(job_table(view))
    if wait:
        _require_certified(view)


def cancel(
    job: JobId, coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """End a job that is not finished. Work that was done for it is lost."""
    job_id = digest(job, "JOB")
    with connect(coordinator, wallet, passphrase_file) as client:
        view = client.cancel_job(job_id)
    if as_json:
        emit(view.to_object())
        return
    say(f"{view.job_id}  {view.state.value}  {view.reason or ''}".rstrip())


def jobs(
    coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """List your jobs, newest first."""
    from rexis.cli.progress import summary

    with connect(coordinator, wallet, passphrase_file) as client:
        found = client.jobs()
    if as_json:
        emit([view.to_object() for view in found])
        return
    for view in found:
        say(f"{view.job_id}  {view.submitted_at}  {summary(view)}")
    if not found:
        note("no jobs")


def fetch(
    job: JobId,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to; made if it is missing.")],
    coordinator: Coordinator,
    wallet: Wallet,
    dataset: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your dataset: check at once that the outputs are the certified ones."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Download a job's outputs, its certificate and the files that an auditor needs with it.

    DIR gets outputs.safetensors (yours), certificate.json, and sha256-… files: the encrypted model and the SRS. An
    interrupted fetch goes on where it stopped.
    """
    from rexis.outputs import read_outputs

    job_id = digest(job, "JOB")
    out.mkdir(parents=True, exist_ok=True)
    with connect(coordinator, wallet, passphrase_file) as client:
        certificate = _fetch_certificate(client, job_id, out)
        outputs = client.outputs(job_id)
        read_outputs(certificate, outputs)
        if dataset is not None:
            _check_outputs(certificate, outputs, dataset)
        _keep(out / OUTPUTS, outputs)
        names = [CERTIFICATE, OUTPUTS]
        for what, wanted in _auditors_files(certificate):
            name = f"sha256-{wanted.hex()}"
            with transfer(f"downloading the {what}") as progress:
                client.download_blob(wanted, out / name, progress=progress)
            names.append(name)
    if as_json:
        emit({"jobId": str(job_id), "folder": str(out), "files": names})
        return
    for name in names:
        say(str(out / name))


def decrypt(
    key: KeyFile,
    outputs: Annotated[Path, typer.Option(metavar="FILE", help="outputs.safetensors, from `rexis fetch`.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Predictions to write: .csv or .npy.")],
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: certificate.json beside the outputs.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your dataset: shows that these are the certified outputs.")
    ] = None,
    trust_outputs: Annotated[
        bool, typer.Option("--trust-outputs", help="Decrypt without the dataset, so without that check.")
    ] = False,
    manifest: Manifest = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Decrypt a job's outputs, once they are shown to be the ones that its certificate certifies.

    The certificate itself is checked by `rexis verify`.
    """
    from rexis.cli.passphrase import read_passphrase
    from rexis.cli.records import read_manifest, write_predictions
    from rexis.ee import decrypt_outputs, load_key
    from rexis.files import read_file, require_absent
    from rexis.outputs import as_floats, read_outputs

    if (dataset is None) == (not trust_outputs):
        raise typer.BadParameter("give the dataset, or --trust-outputs", param_hint="--dataset")
    require_absent(out)
    class_names = (read_manifest(manifest).class_names or None) if manifest else None
    document = _read_certificate(certificate or outputs.with_name(CERTIFICATE))
    blob = read_file(outputs, "outputs", max_bytes=_MAX_DATASET_BYTES)
    if dataset is not None:
        _check_outputs(document, blob, dataset)
    encrypted = as_floats(document, read_outputs(document, blob))
    ee_key = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    request = document.request
    ee_key.require(model_digest=request.model_digest, epoch=request.key_epoch)
    plain = decrypt_outputs(ee_key, encrypted)
    write_predictions(out, plain, request.record_start, class_names)
    if as_json:
        emit({"out": str(out), "records": len(plain), "outputsCertified": dataset is not None})
        return
    checked = "as certified" if dataset is not None else "NOT compared with the certificate"
    say(f"{out}: outputs of {len(plain)} records, {checked}")


def _policy(
    tier: TierName,
    sample_size: int | None,
    shard_size: int | None,
    max_attempts: int,
    abs_tolerance: float | None,
    rel_tolerance: float,
    certify_on_chain: bool,
    rung: RungName,
) -> Policy:
    from rexis.protocol.policy import Policy, Rung, Tier

    default_sample = 8 if tier == TierName.SAMPLED else 0
    tolerance = ABS_TOLERANCE[tier] if abs_tolerance is None else abs_tolerance
    return Policy.from_object(
        {
            "tier": Tier[tier.name],
            "sampleSize": default_sample if sample_size is None else sample_size,
            "shardSize": shard_size or _SHARD_SIZE[tier],
            "maxAttempts": max_attempts,
            "absToleranceE9": round(tolerance * 1e9),
            "relToleranceE9": round(rel_tolerance * 1e9),
            "rung": Rung[rung.name],
            "validators": 0,
            "certifyOnChain": certify_on_chain,
        }
    )


def _require_tier(client: RexisClient, policy: Policy) -> None:
    offered = client.info().tiers
    if policy.tier not in offered:
        names = ", ".join(tier.name.lower() for tier in offered)
        wanted = policy.tier.name.lower()
        raise UnavailableError(f"this coordinator does not check tier {wanted}", hint=f"it checks {names}")


def _require_rung(model: ModelView, policy: Policy, domain: Domain) -> None:
    """A job of rung ee-private-weights is signed only for a model with its owner's claim; says whose word it is."""
    from rexis.protocol.policy import Rung
    from rexis.protocol.rung import require_rung_claim

    if policy.rung != Rung.EE_PRIVATE_WEIGHTS:
        return
    if model.rung_claim is None:
        raise ConflictError(
            f"the model's owner {model.owner} has not claimed rung ee-private-weights",
            field="rung",
            hint="submit with --rung ee-outsourced, or have the owner run `rexis register --rung … --card FILE`",
        )
    claim = require_rung_claim(
        model.rung_claim, domain, rung=policy.rung, model=model.model_digest, epoch=model.key_epoch
    )
    if claim.owner != model.owner:
        raise ConflictError(f"{claim.owner} claims the rung, the model is {model.owner}'s", field="rung")
    note(f"rung ee-private-weights: {claim}")


def _require_on_chain(model: ModelView, rpc: str, deployment: Path) -> None:
    """Compare what the coordinator says of a model with the registry."""
    with working("looking the model up on chain"):
        found = open_chain(rpc, deployment, None).registration(model.model_digest, model.key_epoch)
    if found.circuit_hash != model.circuit.hash_struct():
        raise ConflictError(
            "the coordinator names another circuit for the model than the chain", hint="do not trust this coordinator"
        )
    if found.owner != model.owner:
        raise ConflictError(
            f"the coordinator says that the model is {model.owner}'s, the chain {found.owner}'s",
            hint="do not trust this coordinator",
        )
    if found.revoked_at is not None:
        raise ConflictError(f"the model's key epoch was revoked in block {found.revoked_at}")


def _follow(client: RexisClient, job_id: Digest) -> JobView:
    from rexis.cli.progress import following

    with following() as show:
        return client.wait_for_job(job_id, show)


def _require_certified(view: JobView) -> None:
    from rexis.api import JobState

    if view.state != JobState.CERTIFIED:
        raise RexisError(
            f"job {view.job_id} failed: {view.reason or 'no reason given'}", hint="`rexis status` shows the faults"
        )


def _fetch_certificate(client: RexisClient, job_id: Digest, out: Path) -> Certificate:
    from rexis.protocol.certificate import Certificate
    from rexis.protocol.digests import require_digest

    view = client.job(job_id)
    if view.certificate_digest is None:
        raise NotFoundError(f"job {job_id} has no certificate: it is {view.state.value}", hint=view.reason)
    data = require_digest(client.certificate(job_id), view.certificate_digest, "certificate")
    certificate = Certificate.parse(data)
    if certificate.job_id != job_id:
        raise DigestMismatchError(f"the coordinator sent the certificate of job {certificate.job_id}")
    _keep(out / CERTIFICATE, data)
    return certificate


def _auditors_files(certificate: Certificate) -> list[tuple[str, Digest]]:
    """What a certificate names by digest and does not hold."""
    files = [("encrypted model", certificate.request.model_digest)]
    if certificate.circuit is not None:
        files.append(("SRS", certificate.request.circuit.srs_digest))
    return files


def _read_certificate(path: Path) -> Certificate:
    from rexis.files import read_file
    from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES, Certificate

    return Certificate.parse(read_file(path, "certificate", max_bytes=MAX_CERTIFICATE_BYTES))


def _check_outputs(certificate: Certificate, outputs: bytes, dataset: Path) -> None:
    from rexis.files import read_file
    from rexis.outputs import read_outputs, require_certified
    from rexis.protocol.digests import sha256
    from rexis.protocol.onsite import PrivateDataset, read_own_dataset

    blob = read_file(dataset, "dataset", max_bytes=_MAX_DATASET_BYTES)
    found = read_own_dataset(blob)
    dataset_digest = found.digest if isinstance(found, PrivateDataset) else sha256(blob)
    require_certified(certificate, found, dataset_digest, read_outputs(certificate, outputs))


def _keep(path: Path, data: bytes) -> None:
    """Write a file, unless it is there already with the same bytes."""
    from rexis.files import read_file, write_file

    try:
        write_file(path, data)
    except ConflictError:
        if read_file(path, "file", max_bytes=len(data)) != data:
            raise
