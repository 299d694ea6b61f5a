"""Commands of the data owner and requester: encrypt, submit, follow, fetch, decrypt."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, note, say, transfer, working
from rexis.cli.escrow import DEFAULT_BLOCKS, NATIVE, ClaimBlocks, MinStake, Offer, TokenName, pay_in
from rexis.cli.options import (
    Coordinator,
    Json,
    KeyFile,
    PassphraseFile,
    RungName,
    Wallet,
    connect,
    digest,
    open_accountable,
    open_chain,
    read_accountability,
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
    from eth_account.signers.local import LocalAccount

    from contracts.accountable import AccountableChain
    from rexis.api import Info, JobView, ModelView
    from rexis.cli.curve import Curve
    from rexis.client import RexisClient
    from rexis.protocol.certificate import Certificate
    from rexis.protocol.digests import Digest
    from rexis.protocol.parsing import Address
    from rexis.protocol.policy import Policy
    from rexis.protocol.typed_data import Domain

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
    from rexis.cli.records import look_raw, open_records, read_manifest
    from rexis.datafiles import write_dataset
    from rexis.ee import encrypt_records, load_key, record_salts
    from rexis.files import require_absent
    from rexis.protocol.rows import blocks

    require_absent(out)
    if records.suffix == _SEVERAL:
        _encrypt_inputs(key, records, out, manifest, passphrase_file, as_json=as_json)
        return
    plain = open_records(records, read_manifest(manifest) if manifest else None, drop or ())
    if look_raw(plain):
        note("warning: values beyond ±100. Are these records standardised? If not, give --manifest.")
    ee_key = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    dataset_digest, shape = write_dataset(
        out,
        len(plain),
        (encrypt_records(ee_key, block) for _, block in blocks(plain)),
        lambda encrypted, start, count: record_salts(ee_key, encrypted, count, start=start),
    )
    if as_json:
        emit({"dataset": str(out), "datasetDigest": str(dataset_digest), "shape": list(shape)})
    else:
        say(f"{out}: {shape[0]} records of {math.prod(shape[1:])} values, digest {dataset_digest}")


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
    validators: Annotated[
        int, typer.Option(min=0, max=256, help="How many validators must have found each task valid, on chain.")
    ] = 0,
    quorum: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --validators: the manifest of those that you mean.")
    ] = None,
    priority: Annotated[
        int, typer.Option(min=-10, max=10, help="Among your own jobs: a higher one goes first; waiting counts, too.")
    ] = 0,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The job fails if it isn't done by then: 2026-12-01T18:00:00Z."),
    ] = None,
    pay: Annotated[
        str | None,
        typer.Option(
            "--pay", metavar="AMOUNT", help="Pay the job by an escrow, at most so much in all: 0.5 or 500000wei."
        ),
    ] = None,
    token: TokenName = NATIVE,
    escrow: Annotated[
        Path | None,
        typer.Option(
            envvar="REXIS_ACCOUNTABILITY",
            metavar="FILE",
            help="With --pay: whose escrow, what `rexis disputes deploy` wrote.",
        ),
    ] = None,
    claim_blocks: ClaimBlocks = DEFAULT_BLOCKS,
    min_stake: MinStake = None,
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
            "--rpc",
            envvar="REXIS_RPC",
            metavar="URL",
            help="With --deployment: look the model up on chain first. With --pay: pay.",
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
    from rexis.api import PaymentOffer
    from rexis.client import job_request
    from rexis.datafiles import open_dataset_file
    from rexis.protocol.onsite import PrivateDataset
    from rexis.protocol.policy import Tier

    model_digest = digest(model, "--model")
    if (validators > 0) != (quorum is not None):
        raise typer.BadParameter("--validators and --quorum are given together", param_hint="--quorum")
    policy = _policy(
        tier, sample_size, shard_size, max_attempts, abs_tolerance, rel_tolerance, certify_on_chain, rung, validators
    )
    if dataset.suffix == _SEVERAL:
        raise TensorError(
            f"{dataset} holds records of several inputs; jobs run models with one, since a record is committed as one "
            "tensor",
            field="dataset",
            hint="run the encrypted model on them without a job",
        )
    records = open_dataset_file(dataset)
    if isinstance(records, PrivateDataset) != (rung == RungName.ZK_ONSITE):
        raise typer.BadParameter(
            "zk-onsite takes what `rexis onsite commit` wrote, and no other rung does", param_hint="--rung"
        )
    # Of private records the hashes alone are sent.
    sent: Path | bytes = records.public.to_bytes() if isinstance(records, PrivateDataset) else dataset
    domain = read_deployment(deployment).domain if deployment else None
    with connect(coordinator, wallet, passphrase_file, domain) as client:
        require_tier(client, policy)
        info = client.info()
        require_deployment(info.domain, info.contracts)
        meant = None if quorum is None else _require_quorum(info, quorum)
        registered = client.model(model_digest, epoch)
        _require_rung(registered, policy, info.domain)
        if policy.tier != Tier.COMMIT and (fault := records.misfit(registered.circuit)) is not None:
            raise TensorError(fault, field="dataset")  # before anything is uploaded
        chain = None if pay is None else _open_escrow(info, rpc, escrow, client.account)
        size = count if count is not None else len(records) - start
        offer = None
        if chain is not None and pay is not None:
            offer = Offer.read(chain, pay, token, claim_blocks, min_stake, size)
        if deployment is not None and rpc is not None:
            _require_on_chain(registered, rpc, deployment)
        with transfer("uploading the dataset") as progress:
            dataset_digest = client.upload_blob(sent, progress=progress)
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
        payment = None
        if chain is not None:
            payment = PaymentOffer(payer=client.address, escrow=chain.accountability.job_escrow)
        view = client.submit_job(request, priority=priority, deadline=deadline, quorum=meant, payment=payment)
        if not as_json:
            say(str(view.job_id))
        if chain is not None and offer is not None:
            pay_in(chain, request, view.job_id, offer)
        if wait:
            view = follow(client, view.job_id)
    if as_json:
        emit(view.to_object())
    if wait:
        require_certified(view)


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
        view = follow(client, job_id) if wait else client.job(job_id)
    if as_json:
        emit(view.to_object())
    else:
        stdout().print(job_table(view))
    if wait:
        require_certified(view)


def watch(
    job: JobId, coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """Print each change of a job's state as it happens, from its submission to its end. Exit code 1 if it fails.

    Of a training a terminal shows the losses so far as a curve. With --json one document a line.
    """
    from rexis.cli.progress import change_line, following
    from rexis.watching import Watcher, watch_job

    job_id = digest(job, "JOB")
    with connect(coordinator, wallet, passphrase_file) as client, following(_curve(client, job_id)) as follower:
        tell = Watcher(
            lambda change: emit(change.to_object()) if as_json else say(change_line(change)), follower.on_progress
        )
        view = watch_job(client, job_id, tell)
    require_certified(view)


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


def token(coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None) -> None:
    """Print a bearer token, for the auditor's desk to follow a job with. It is a secret.

    Whoever has it may do what you may, until it ends (half an hour, unless the operator decided otherwise).
    """
    with connect(coordinator, wallet, passphrase_file) as client:
        say(client.login())


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
    job_id = digest(job, "JOB")
    out.mkdir(parents=True, exist_ok=True)
    with connect(coordinator, wallet, passphrase_file) as client:
        certificate = _fetch_certificate(client, job_id, out)
        fetch_outputs(client, job_id, certificate, out / OUTPUTS, dataset)
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
    from rexis.files import require_absent
    from rexis.outputs import as_floats, open_outputs
    from rexis.protocol.rows import blocks

    if (dataset is None) == (not trust_outputs):
        raise typer.BadParameter("give the dataset, or --trust-outputs", param_hint="--dataset")
    require_absent(out)
    class_names = (read_manifest(manifest).class_names or None) if manifest else None
    document = _read_certificate(certificate or outputs.with_name(CERTIFICATE))
    if dataset is not None:
        _check_outputs(document, outputs, dataset)
    encrypted = open_outputs(document, outputs)
    ee_key = load_key(key, read_passphrase(f"EE key {key}", passphrase_file))
    request = document.request
    ee_key.require(model_digest=request.model_digest, epoch=request.key_epoch)
    plain = (decrypt_outputs(ee_key, as_floats(document, block)) for _, block in blocks(encrypted))
    write_predictions(out, len(encrypted), plain, request.record_start, class_names)
    if as_json:
        emit({"out": str(out), "records": len(encrypted), "outputsCertified": dataset is not None})
        return
    checked = "as certified" if dataset is not None else "NOT compared with the certificate"
    say(f"{out}: outputs of {len(encrypted)} records, {checked}")


def _policy(
    tier: TierName,
    sample_size: int | None,
    shard_size: int | None,
    max_attempts: int,
    abs_tolerance: float | None,
    rel_tolerance: float,
    certify_on_chain: bool,
    rung: RungName,
    validators: int = 0,
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
            "validators": validators,
            "certifyOnChain": certify_on_chain,
        }
    )


def require_tier(client: RexisClient, policy: Policy) -> None:
    """Refuse a tier that the coordinator does not check, before anything is uploaded."""
    offered = client.info().tiers
    if policy.tier not in offered:
        names = ", ".join(tier.name.lower() for tier in offered)
        wanted = policy.tier.name.lower()
        raise UnavailableError(f"this coordinator does not check tier {wanted}", hint=f"it checks {names}")


def _open_escrow(info: Info, rpc: str | None, manifest: Path | None, account: LocalAccount) -> AccountableChain:
    """The escrow of a manifest, if it is the one that the coordinator looks after."""
    if rpc is None or manifest is None:
        raise typer.BadParameter("--pay needs --escrow FILE and --rpc URL", param_hint="--pay")
    chain = open_accountable(rpc, manifest, account)
    found = chain.accountability
    if (info.domain.chain_id, info.escrow) != (found.chain_id, found.job_escrow):
        raise ConflictError(
            f"the coordinator looks after escrow {info.escrow}, the manifest is of {found.job_escrow} on chain "
            f"{found.chain_id}",
            field="escrow",
        )
    return chain


def _require_quorum(info: Info, manifest: Path) -> Address:
    """The quorum that a manifest is of, if it is the one that the coordinator asks."""
    found = read_accountability(manifest)
    if (info.domain.chain_id, info.quorum) != (found.chain_id, found.validator_quorum):
        raise ConflictError(
            f"the coordinator asks quorum {info.quorum}, the manifest is of {found.validator_quorum} on chain "
            f"{found.chain_id}",
            field="quorum",
            hint="use a coordinator whose validators you trust, or leave --validators out",
        )
    return found.validator_quorum


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
        raise ConflictError(f"{claim.owner} claims the rung, {model.owner} registered the model", field="rung")
    note(f"rung ee-private-weights: {claim}")


def _require_on_chain(model: ModelView, rpc: str, deployment: Path) -> None:
    """Compare what the coordinator says of a model with the registry."""
    with working("looking the model up on chain"):
        found = open_chain(rpc, deployment, None).registration(model.model_digest, model.key_epoch)
    if found.circuit_hash != model.circuit.hash_struct():
        raise ConflictError(
            "the coordinator names another circuit for the model than the chain", hint="do not trust this coordinator"
        )
    if found.registrant != model.owner:
        raise ConflictError(
            f"the coordinator says that {model.owner} registered the model, the chain {found.registrant}",
            hint="do not trust this coordinator",
        )
    if found.revoked_at is not None:
        raise ConflictError(f"the model's key epoch was revoked in block {found.revoked_at}")


def follow(client: RexisClient, job_id: Digest) -> JobView:
    """Show a job's progress until its end."""
    from rexis.cli.progress import following
    from rexis.watching import watch_job

    with following(_curve(client, job_id)) as follower:
        view = watch_job(client, job_id, follower)
    follower.show(view)
    return view


def _curve(client: RexisClient, job_id: Digest) -> Curve | None:
    """The losses so far of a training; None for a job of another kind, or while nobody tells."""
    from rexis.cli.curve import Curve

    try:
        return None if client.job(job_id).training is None else Curve.of(client.transcript(job_id))
    except UnavailableError:  # whoever follows the job is more patient
        return None


def require_certified(view: JobView) -> None:
    """Fail with the reason of a job that failed."""
    from rexis.api import JobState

    if view.state != JobState.CERTIFIED:
        raise RexisError(
            f"job {view.job_id} failed: {view.reason or 'no reason given'}", hint="`rexis status` shows the faults"
        )


def fetch_certificate_bytes(client: RexisClient, job_id: Digest) -> bytes:
    """The certificate that a job's view names."""
    from rexis.protocol.digests import require_digest

    view = client.job(job_id)
    if view.certificate_digest is None:
        raise NotFoundError(f"job {job_id} has no certificate: it is {view.state.value}", hint=view.reason)
    return require_digest(client.certificate(job_id), view.certificate_digest, "certificate")


def _fetch_certificate(client: RexisClient, job_id: Digest, out: Path) -> Certificate:
    from rexis.protocol.certificate import Certificate

    data = fetch_certificate_bytes(client, job_id)
    certificate = Certificate.parse(data)
    if certificate.job_id != job_id:
        raise DigestMismatchError(f"the coordinator sent the certificate of job {certificate.job_id}")
    keep(out / CERTIFICATE, data)
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


def fetch_outputs(
    client: RexisClient, job_id: Digest, certificate: Certificate, path: Path, dataset: Path | None
) -> None:
    """Download a job's outputs and check them, before they have their name."""
    from rexis.files import already_there, publish
    from rexis.outputs import open_outputs
    from rexis.transfers import digest_of, part_of

    part = part_of(path)
    resumed = part.exists()
    while True:
        with transfer("downloading the outputs") as progress:
            client.download_outputs(job_id, part, progress=progress)
        try:
            if dataset is None:
                open_outputs(certificate, part)
            else:
                _check_outputs(certificate, part, dataset)
            break
        except RexisError:
            part.unlink()
            if not resumed:  # the part of before may have been of something else
                raise
            resumed = False
    if path.exists() and digest_of(path) != digest_of(part):
        raise already_there(path)
    publish(part, path, overwrite=True)


def _check_outputs(certificate: Certificate, outputs: Path, dataset: Path) -> None:
    from rexis.datafiles import open_dataset_file
    from rexis.outputs import open_outputs, require_certified
    from rexis.protocol.onsite import PrivateDataset
    from rexis.transfers import digest_of

    found = open_dataset_file(dataset)
    dataset_digest = found.digest if isinstance(found, PrivateDataset) else digest_of(dataset)
    require_certified(certificate, found, dataset_digest, open_outputs(certificate, outputs))


def keep(path: Path, data: bytes) -> None:
    """Write a file, unless it is there already with the same bytes."""
    from rexis.files import read_file, write_file

    try:
        write_file(path, data)
    except ConflictError:
        if read_file(path, "file", max_bytes=len(data)) != data:
            raise
