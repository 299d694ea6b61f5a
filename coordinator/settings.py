"""Settings, from ``REXIS_…`` environment variables or given to the constructor."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from contracts.accountability import Accountability
from contracts.onchain import Deployment
from coordinator.front import LOOPBACK
from coordinator.garbage import Retention
from coordinator.roles import EVERYBODY, read_members
from rexis.api import MAX_VERDICTS, Role
from rexis.files import read_file, require_private
from rexis.protocol.errors import KeyFileError, MalformedError
from rexis.protocol.parsing import Address, AddressField
from rexis.telemetry import logs
from rexis.wallet import load_wallet
from rexis.web.clients import read_networks

_MAX_FILE = 64 << 10
_HOUR_MS = 3600 * 1000
_MAX_MEMBERS = 4 << 20
# A folder with a file for each setting that no environment variable should hold, named as the variable would be.
_SECRETS = "REXIS_SECRETS_DIR"


def _networks(texts: list[str]) -> list[str]:
    read_networks(texts)
    return texts


def _origins(texts: list[str]) -> list[str]:
    for text in texts:
        url = urlsplit(text)
        if url.scheme not in ("http", "https") or not url.netloc or text != f"{url.scheme}://{url.netloc}":
            raise ValueError(f"{text} is no origin: scheme, host and port, as in https://desk.example.org")
    return texts


class Settings(BaseSettings):
    """What an operator decides.

    Attributes
    ----------
    public_url
        Where clients reach the coordinator. Sign-in messages name its host, so it must be right; without it only
        the address that is listened on, and the loopback names, are known.
    data_dir
        Holds the database and the blobs, unless the next two say otherwise.
    database_url
        SQLAlchemy URL; default an SQLite file in `data_dir`.
    database_connections
        Most connections of this process to a PostgreSQL server at a time, beside two of its own.
    migrate
        Change the tables of an older version at the start, on PostgreSQL too; those of SQLite always are.
    blob_url
        obstore URL (``file://``, ``s3://bucket/prefix`` …); default a folder in `data_dir`. S3's endpoint, region and
        credentials are the environment's: ``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` …
    max_blob_bytes
        Size limit of one blob.
    blob_cache_bytes
        Bound on the copies of blobs that libraries need as files, where the store is remote.
    upload_seconds
        An upload in parts ends when nothing has come for so long.
    retention_unused_hours, retention_dataset_days, retention_job_days, retention_certificate_days
        How long blobs are kept after their last use: what nothing names, registered datasets, what a job used and made
        (since it ended), certificates; of the last three 0 is for ever. Blobs of registered models are kept for ever.
    retention_grace_hours
        How long a condemned blob still waits for somebody who uses it again.
    collect_seconds
        How often blobs are collected.
    max_uploads, max_staged_bytes
        Unfinished uploads in parts of one address, and the bytes that they announce together.
    rpc, fallback_rpcs
        The chain node that the coordinator uses, and others that are asked when it does not answer.
    suggested_rpc
        A chain endpoint to name in ``/v1/info``; it must hold no secret.
    deployment
        The document that ``rexis deploy`` wrote.
    accountability
        The manifest that ``rexis disputes deploy`` wrote: of the validators whose verdicts jobs may ask for, and
        of the escrow by which they may be paid.
    wallet, passphrase, passphrase_file
        Ethereum keystore (version 3) of the coordinator's account, and what opens it.
    duties
        Whether this process also does what coordinators do on their own: expire leases, write to the chain, issue
        certificates. Of several over one database at least one must.
    members
        Who may sign in, as requester, model owner and worker; everybody if there are neither these nor a file.
    members_file
        A JSON object with the roles of each address, for members with others.
    operators
        Who may see the queue and the audit log, and give roles to others.
    allowed_hosts
        Names, beside that of `public_url` and the loopback ones, under which clients may reach the coordinator.
    trusted_proxies
        Addresses and networks of proxies whose ``X-Forwarded-For`` says who the client is.
    desk_origins
        Origins of auditors' desks whose pages may ask this coordinator (CORS), with a token that their user gives them.
    tls_cert, tls_key
        PEM files, to serve HTTPS without a proxy.
    requests_per_second, request_burst
        Requests of one address; 0 for no limit. Counted by each process.
    stranger_requests_per_second, stranger_burst
        Requests of one client (IP address) that has not signed in.
    max_stored_bytes, max_unfinished_jobs, max_daily_records
        What one address may have: bytes of blobs that it uploaded, jobs, records of the jobs of one day (UTC).
    token_seconds
        How long a bearer token is good; clients sign in again before it ends.
    lease_seconds, heartbeat_seconds
        How long a lease lasts after a worker's last sign of life, and how often it is asked for one.
    stalled_seconds
        After so long without progress, heartbeats keep a lease no longer. Setting a circuit up is one step.
    max_lease_seconds
        How long a lease lasts in all.
    max_leases
        Open leases of one worker.
    anchor_seconds
        How long an accepted statement of an unfinished job may wait for its anchor.
    anchor_interval_seconds
        Shortest time between two anchors. A block takes one at most in any case.
    confirmations
        Blocks that must follow a block before its hash is used, and what is written in it counts as final.
    chain_poll_seconds
        How often the node is asked for a new block while transactions are under way.
    stuck_seconds
        A transaction that no block takes for so long is offered more for.
    max_fee_gwei
        Never offer more for a unit of gas; no bound if None.
    body_seconds
        How long a request's body may keep us waiting, beside the time that its bytes take at 16 KiB a second.
    max_connections
        Open connections, long polls among them; the next is answered 503.
    worker_seconds
        A worker that was silent for so long counts as offline.
    max_task_faults
        Workers that may fail one task; then its job fails.
    max_task_vanished
        Workers that may vanish with one task; then it is quarantined until its requester has it tried again.
    retry_seconds, max_retry_seconds
        How long a task waits after a worker vanished with it or gave it up; it doubles each time, up to the second.
    barred_seconds
        How long a worker gets nothing once its faults weigh too much (docs/operations.md).
    priority_seconds
        How much waiting a step of a job's priority is worth.
    max_certified_records
        Records of one job that the Certifier contract may be asked to check; each is a transaction of ours.
    max_validated_statements
        Statements of one job that validators may be asked about; each is a transaction of ours.
    max_streams
        Open streams of job events of one caller, in one process.
    metrics_host, metrics_port
        Where ``/metrics`` is served, to everybody who reaches it; nowhere without a port.
    """

    model_config = SettingsConfigDict(env_prefix="REXIS_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536)] = 8080
    public_url: str | None = None
    data_dir: Path = Path(".rexis/coordinator")
    database_url: str | None = None
    database_connections: Annotated[int, Field(ge=2)] = 20
    migrate: bool = False
    blob_url: str | None = None
    max_blob_bytes: Annotated[int, Field(ge=1)] = 4 << 30
    blob_cache_bytes: Annotated[int, Field(ge=0)] = 10 << 30
    upload_seconds: Annotated[float, Field(gt=0)] = 24 * 3600.0
    retention_unused_hours: Annotated[float, Field(ge=1)] = 24.0
    retention_dataset_days: Annotated[float, Field(ge=0)] = 90.0
    retention_job_days: Annotated[float, Field(ge=0)] = 90.0
    retention_certificate_days: Annotated[float, Field(ge=0)] = 0.0
    retention_grace_hours: Annotated[float, Field(ge=0)] = 1.0
    collect_seconds: Annotated[float, Field(gt=0)] = 3600.0
    max_uploads: Annotated[int, Field(ge=1)] = 16
    max_staged_bytes: Annotated[int, Field(ge=1)] = 64 << 30
    rpc: str = "http://127.0.0.1:8545"
    fallback_rpcs: list[str] = []
    suggested_rpc: str | None = None
    deployment: Path = Path("deployment.json")
    accountability: Path | None = None
    wallet: Path = Path("coordinator.wallet.json")
    passphrase: SecretStr | None = None
    passphrase_file: Path | None = None
    duties: bool = True
    members: list[AddressField] | None = None
    members_file: Path | None = None
    operators: list[AddressField] = []
    allowed_hosts: list[str] = []
    trusted_proxies: Annotated[list[str], AfterValidator(_networks)] = []
    desk_origins: Annotated[list[str], AfterValidator(_origins)] = []
    tls_cert: Path | None = None
    tls_key: Path | None = None
    requests_per_second: Annotated[float, Field(ge=0)] = 200.0
    request_burst: Annotated[int, Field(ge=1)] = 2000
    stranger_requests_per_second: Annotated[float, Field(ge=0)] = 20.0
    stranger_burst: Annotated[int, Field(ge=1)] = 600
    max_stored_bytes: Annotated[int, Field(ge=0)] = 1 << 40
    max_unfinished_jobs: Annotated[int, Field(ge=0)] = 1000
    max_daily_records: Annotated[int, Field(ge=0)] = 1_000_000_000
    token_seconds: Annotated[float, Field(gt=0, le=24 * 3600)] = 1800.0
    lease_seconds: Annotated[float, Field(gt=0)] = 60.0
    heartbeat_seconds: Annotated[int, Field(ge=1)] = 15
    stalled_seconds: Annotated[float, Field(gt=0)] = 1200.0
    max_lease_seconds: Annotated[float, Field(gt=0)] = 6 * 3600.0
    max_leases: Annotated[int, Field(ge=1)] = 4
    anchor_seconds: Annotated[float, Field(ge=0)] = 30.0
    anchor_interval_seconds: Annotated[float, Field(ge=0)] = 0.0
    confirmations: Annotated[int, Field(ge=0)] = 0
    chain_poll_seconds: Annotated[float, Field(gt=0)] = 0.5
    stuck_seconds: Annotated[float, Field(gt=0)] = 180.0
    max_fee_gwei: Annotated[float, Field(gt=0)] | None = None
    worker_seconds: Annotated[float, Field(gt=0)] = 120.0
    body_seconds: Annotated[float, Field(gt=0)] = 20.0
    max_connections: Annotated[int, Field(ge=1)] = 1000
    max_task_faults: Annotated[int, Field(ge=1)] = 16
    max_task_vanished: Annotated[int, Field(ge=1)] = 3
    retry_seconds: Annotated[float, Field(ge=0)] = 1.0
    max_retry_seconds: Annotated[float, Field(ge=0)] = 300.0
    barred_seconds: Annotated[float, Field(ge=0)] = 24 * 3600.0
    priority_seconds: Annotated[float, Field(ge=0)] = 600.0
    max_certified_records: Annotated[int, Field(ge=0)] = 256
    max_validated_statements: Annotated[int, Field(ge=0, le=MAX_VERDICTS)] = 256
    max_streams: Annotated[int, Field(ge=1)] = 16
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, lt=65536)] | None = None

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """Settings from the environment, and those that are given.

        Raises
        ------
        MalformedError
            Names the variable.
        """
        folder = os.environ.get(_SECRETS)
        try:
            return cls(_secrets_dir=folder, **given)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
            variable = "REXIS_" + "_".join(str(part) for part in fault["loc"][:1]).upper()
            raise MalformedError(fault["msg"].removeprefix("Value error, "), field=variable) from None
        except SettingsError as error:  # a list that is not JSON
            name = re.search(r'field "(\w+)"', str(error))
            field = f"REXIS_{name[1].upper()}" if name else "REXIS_…"
            raise MalformedError("cannot be read", field=field, hint="lists are written as JSON") from None

    @property
    def retention(self) -> Retention:
        """How long blobs are kept."""
        return Retention(
            unused_ms=int(self.retention_unused_hours * _HOUR_MS),
            dataset_ms=_days(self.retention_dataset_days),
            job_ms=_days(self.retention_job_days),
            certificate_ms=_days(self.retention_certificate_days),
            grace_ms=int(self.retention_grace_hours * _HOUR_MS),
        )

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'coordinator.sqlite'}"

    def named_members(self) -> dict[Address, frozenset[Role]] | None:
        """Members by setting with their roles; None if the coordinator is open."""
        if self.members is None and self.members_file is None:
            return None
        named = dict.fromkeys(self.members or [], EVERYBODY)
        if self.members_file is not None:
            for address, roles in read_members(
                read_file(self.members_file, "members file", max_bytes=_MAX_MEMBERS)
            ).items():
                named[address] = named.get(address, frozenset()) | roles
        return named

    def hosts(self) -> set[str]:
        """Names under which clients may reach the coordinator."""
        public = urlsplit(self.public_url or "").hostname
        return {*LOOPBACK, self.host, *self.allowed_hosts, *({public} if public else ())}

    def read_deployment(self) -> Deployment:
        """The contracts in use."""
        return Deployment.from_json(read_file(self.deployment, "deployment", max_bytes=_MAX_FILE))

    def read_accountability(self) -> Accountability | None:
        """The deployment whose validators may be asked, if there is one.

        Raises
        ------
        MalformedError
            Its addresses do not follow from its terms, or it is no manifest.
        """
        if self.accountability is None:
            return None
        return Accountability.from_json(read_file(self.accountability, "accountability manifest", max_bytes=_MAX_FILE))

    def open_wallet(self) -> LocalAccount:
        """Unlock the coordinator's account.

        Raises
        ------
        KeyFileError
            No passphrase is set, others can read its file, or it does not open the wallet.
        """
        if self.passphrase_file is not None:
            require_private(self.passphrase_file, "passphrase file")
            text = read_file(self.passphrase_file, "passphrase file", max_bytes=_MAX_FILE).decode().rstrip("\r\n")
        elif self.passphrase is not None:
            text = self.passphrase.get_secret_value()
        else:
            raise KeyFileError(
                "no passphrase for the coordinator's wallet", hint="set REXIS_PASSPHRASE or REXIS_PASSPHRASE_FILE"
            )
        logs.hide(text)
        return load_wallet(self.wallet, text)


def _days(days: float) -> int | None:
    return int(days * 24 * _HOUR_MS) if days else None
