"""``rexis export``: certificates in the formats of others."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rexis.cli.console import say
from rexis.cli.options import PassphraseFile, digest
from rexis.protocol.errors import DigestMismatchError, ForbiddenError, MalformedError, NotFoundError

if TYPE_CHECKING:
    from rexis.client import RexisClient
    from rexis.protocol.digests import Digest

app = typer.Typer(help="Write certificates in the formats of others.", no_args_is_help=True)

_MAX_KEY = 16 << 10
_JOB = re.compile("0x[0-9a-f]{64}")

_Certificate = Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="The certificate file.")]


@app.command("in-toto")
def in_toto(
    certificate: _Certificate,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Ed25519 private key that signs, PEM without passphrase.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The DSSE envelope, a new file.")],
) -> None:
    """Write a certificate as an in-toto Statement in a signed DSSE envelope."""
    from rexis.exports.attestation import envelope_of
    from rexis.files import write_file

    write_file(out, envelope_of(_read(certificate), _load_key(key, private=True)))
    say(f"written to {out}")


@app.command("certificate")
def certificate(
    envelope: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="What `rexis export in-toto` wrote.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Ed25519 public key that must have signed, PEM.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The certificate, a new file.")],
) -> None:
    """Take the certificate out of a DSSE envelope, byte for byte. What it shows, `rexis verify` says."""
    from rexis.exports.attestation import certificate_in
    from rexis.files import write_file

    write_file(out, certificate_in(_read(envelope), _load_key(key, private=False)))
    say(f"written to {out}")


@app.command("ro-crate")
def ro_crate(
    source: Annotated[str, typer.Argument(metavar="CERTIFICATE|JOB", help="A certificate file, or a job's id.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The crate, a new folder.")],
    coordinator: Annotated[
        str | None,
        typer.Option(envvar="REXIS_COORDINATOR", metavar="URL", help="Of a job: the coordinator that has it."),
    ] = None,
    wallet: Annotated[
        Path | None, typer.Option(envvar="REXIS_WALLET", metavar="FILE", help="Of a job: the wallet that may read it.")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a finished job as an RO-Crate: its certificate, and what it is about.

    Of a job at a coordinator the crate also holds what the job made, if the wallet may have that: the outputs, or
    the trained model, encrypted as they are. Model and dataset are named by digest only.
    """
    from rexis.files import require_absent

    require_absent(out)
    if not _JOB.fullmatch(source):
        _write_crate(out, _read(Path(source)))
    elif coordinator is None or wallet is None:
        raise MalformedError("of a job they are needed", field="--coordinator, --wallet")
    else:
        from rexis.cli.options import connect

        with connect(coordinator, wallet, passphrase_file) as client, TemporaryDirectory(dir=out.parent) as folder:
            certificate, made = _download_made(client, digest(source, "JOB"), Path(folder))
            _write_crate(out, certificate, made)
        if made is None:
            say("without what the job made: the wallet may not read that")
    say(f"written to {out}")


def _download_made(client: RexisClient, job_id: Digest, folder: Path) -> tuple[bytes, Path | None]:
    """A finished job's certificate, and what it made as a file: outputs or trained model. None if that may not be read.

    Raises
    ------
    DigestMismatchError
        The coordinator sends another job's certificate.
    """
    from rexis.cli.console import transfer
    from rexis.cli.requester import OUTPUTS, fetch_outputs
    from rexis.cli.training_jobs import CHECKPOINT
    from rexis.protocol.training_certificate import TrainingCertificate, parse_certificate

    data = client.certificate(job_id)
    certificate = parse_certificate(data)
    if certificate.job_id != job_id:
        raise DigestMismatchError(f"the coordinator sent the certificate of job {certificate.job_id}")
    try:
        if isinstance(certificate, TrainingCertificate):
            made = folder / CHECKPOINT
            with transfer("downloading the trained model") as progress:
                client.download_blob(certificate.trained_model, made, progress=progress)
        else:
            made = folder / OUTPUTS
            fetch_outputs(client, job_id, certificate, made, None)
    except (ForbiddenError, NotFoundError):
        return data, None
    return data, made


def _write_crate(out: Path, certificate: bytes, made: Path | None = None) -> None:
    """Write the crate under another name beside it, then rename it."""
    from rexis.exports.ro_crate import CrateFile, crate_of
    from rexis.files import write_file
    from rexis.transfers import digest_of

    described = CrateFile(made.name, made.stat().st_size, digest_of(made)) if made is not None else None
    with TemporaryDirectory(dir=out.parent) as name:
        crate = Path(name, "crate")
        crate.mkdir()
        for file, data in crate_of(certificate, described).items():
            write_file(crate / file, data)
        if made is not None:
            made.rename(crate / made.name)
        crate.rename(out)


@app.command("tlog-proof")
def tlog_proof(
    certificate: _Certificate,
    coordinator: Annotated[str, typer.Option(metavar="URL", help="The coordinator, whose log has the anchors.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A file for each anchor, in a new folder.")],
) -> None:
    """Fetch proofs that a certificate's anchors are in the coordinator's log, checked against its wallet's address."""
    from rexis.client import RexisClient
    from rexis.exports.anchor_log import proofs_of
    from rexis.files import require_absent, write_file
    from rexis.protocol.training_certificate import parse_certificate

    require_absent(out)
    with RexisClient(coordinator) as client:
        key, proofs = proofs_of(parse_certificate(_read(certificate)), client)
    out.mkdir()
    for anchor, proof in proofs.items():
        write_file(out / f"anchor-{anchor}.tlog-proof", proof.encode())
    write_file(out / "log.key", f"{key}\n".encode())
    say(f"written to {out}; the log is {key.name}")


def _read(path: Path) -> bytes:
    from rexis.files import read_file
    from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES

    return read_file(path, "certificate", max_bytes=2 * MAX_CERTIFICATE_BYTES)


def _load_key(path: Path, *, private: bool) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    from rexis.files import read_file
    from rexis.protocol.errors import KeyFileError

    data = read_file(path, "key", max_bytes=_MAX_KEY)
    try:
        found = load_pem_private_key(data, None) if private else load_pem_public_key(data)
    except (ValueError, TypeError):
        raise KeyFileError(f"{path} is no key in PEM, or has a passphrase") from None
    if not isinstance(found, Ed25519PrivateKey if private else Ed25519PublicKey):
        raise KeyFileError(f"{path} is no Ed25519 key")
    return found
