"""Settings, from ``REXIS_…`` environment variables or given to the constructor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from eth_account.signers.local import LocalAccount
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from contracts.onchain import Deployment
from rexis.files import read_file, require_private
from rexis.protocol.errors import KeyFileError, MalformedError
from rexis.protocol.parsing import AddressField
from rexis.wallet import load_wallet

_MAX_FILE = 64 << 10


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
    blob_url
        obstore URL (``file://``, ``s3://`` …); default a folder in `data_dir`.
    rpc
        The chain node that the coordinator uses.
    suggested_rpc
        A chain endpoint to name in ``/v1/info``; it must hold no secret.
    deployment
        The document that ``rexis deploy`` wrote.
    wallet, passphrase, passphrase_file
        Ethereum keystore (version 3) of the coordinator's account, and what opens it.
    members
        Who may sign in; everybody if None.
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
    confirmations
        Blocks that must follow a block before its hash is used.
    body_seconds
        How long a request's body may keep us waiting, beside the time that its bytes take at 16 KiB a second.
    max_connections
        Open connections, long polls among them; the next is answered 503.
    worker_seconds
        A worker that was silent for so long counts as offline.
    max_task_faults
        Workers that may fail one task; then its job fails.
    max_certified_records
        Records of one job that the Certifier contract may be asked to check; each is a transaction of ours.
    """

    model_config = SettingsConfigDict(env_prefix="REXIS_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536)] = 8080
    public_url: str | None = None
    data_dir: Path = Path(".rexis/coordinator")
    database_url: str | None = None
    blob_url: str | None = None
    max_blob_bytes: Annotated[int, Field(ge=1)] = 4 << 30
    rpc: str = "http://127.0.0.1:8545"
    suggested_rpc: str | None = None
    deployment: Path = Path("deployment.json")
    wallet: Path = Path("coordinator.wallet.json")
    passphrase: SecretStr | None = None
    passphrase_file: Path | None = None
    members: list[AddressField] | None = None
    lease_seconds: Annotated[float, Field(gt=0)] = 60.0
    heartbeat_seconds: Annotated[int, Field(ge=1)] = 15
    stalled_seconds: Annotated[float, Field(gt=0)] = 1200.0
    max_lease_seconds: Annotated[float, Field(gt=0)] = 6 * 3600.0
    max_leases: Annotated[int, Field(ge=1)] = 4
    anchor_seconds: Annotated[float, Field(ge=0)] = 30.0
    confirmations: Annotated[int, Field(ge=0)] = 0
    worker_seconds: Annotated[float, Field(gt=0)] = 120.0
    body_seconds: Annotated[float, Field(gt=0)] = 20.0
    max_connections: Annotated[int, Field(ge=1)] = 1000
    max_task_faults: Annotated[int, Field(ge=1)] = 16
    max_certified_records: Annotated[int, Field(ge=0)] = 256

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """Settings from the environment, and those that are given.

        Raises
        ------
        MalformedError
            Names the variable.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
            variable = "REXIS_" + "_".join(str(part) for part in fault["loc"][:1]).upper()
            raise MalformedError(fault["msg"].removeprefix("Value error, "), field=variable) from None
        except SettingsError as error:  # a list that is not JSON
            name = re.search(r'field "(\w+)"', str(error))
            field = f"REXIS_{name[1].upper()}" if name else "REXIS_…"
            raise MalformedError("cannot be read", field=field, hint="lists are written as JSON") from None

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'coordinator.sqlite'}"

    def read_deployment(self) -> Deployment:
        """The contracts in use."""
        return Deployment.from_json(read_file(self.deployment, "deployment", max_bytes=_MAX_FILE))

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
        return load_wallet(self.wallet, text)
