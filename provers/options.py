"""What a worker can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount

from circuits.process import DEFAULT_TIMEOUT
from contracts.accountability import Accountability
from provers.device import AUTO, Device
from provers.executor import DEFAULT_BATCH
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Tier
from rexis.protocol.typed_data import Domain

_GIB = 1 << 30


@dataclass(frozen=True)
class WorkerOptions:
    """Options of ``rexis worker run``.

    Attributes
    ----------
    coordinator
        URL.
    account
        The wallet that signs in and signs statements.
    name
        Shown to people.
    cache
        Folder for blobs, keys and proofs; workers on one machine may share it.
    rpc_url
        A chain node that the worker trusts.
    trust_coordinator_rpc
        Without `rpc_url`: trust the node that the coordinator suggests. It can then show any model and challenge.
    unchecked_chain
        Without either: leave the checks of models and challenges on chain out.
    domain
        Chain and EvidenceLog to work for. Default: what the coordinator names when the worker starts.
    tiers
        Tiers to serve. Default: all that this installation can prove.
    trains
        Take training tasks. Default: if torch is installed, and models do not run on a Ray cluster.
    batch_size
        Records per run of the model.
    memory_bytes
        Memory for keys and proofs of all tasks together. Default: what is free at the time.
    proof_seconds
        Longest set-up or proof; one that takes longer fails its task.
    provers
        Proofs made side by side, of all tasks together, if the memory is there. Default: one a core.
    tasks
        Tasks side by side. Default: see :data:`provers.circuit.DEFAULT_TASKS`.
    device
        What models run on.
    ray
        Address of a Ray cluster to compute on (``auto``: the one that this machine is part of) rather than here.
    disputes, kept_bytes
        The deployment whose challenges are answered, over `rpc_url`; and how much may be kept for that.
    cache_bytes, proof_cache_bytes
        Bounds on the blobs and the finished proofs that are kept.
    finish
        On SIGTERM, finish the tasks under way rather than give them back.
    onsite
        Private datasets on this machine (rung ``zk-onsite``). A worker with such does no other tasks.
    onsite_requester
        Whose jobs on them are done. Default: the worker's own wallet's.
    wait_seconds
        Length of one long poll; a stop between tasks takes at most this long.
    metrics_host, metrics_port
        Where ``/metrics`` is served; nowhere without a port.
    dishonest
        A fault of :mod:`provers.dishonest`, for tests and the demo only.
    """

    coordinator: str
    account: LocalAccount = field(repr=False)
    name: str
    cache: Path
    rpc_url: str | None = field(default=None, repr=False)
    trust_coordinator_rpc: bool = False
    unchecked_chain: bool = False
    domain: Domain | None = None
    tiers: tuple[Tier, ...] | None = None
    trains: bool | None = None
    batch_size: int = DEFAULT_BATCH
    memory_bytes: int | None = None
    proof_seconds: float = DEFAULT_TIMEOUT
    provers: int | None = None
    tasks: int | None = None
    device: Device = AUTO
    ray: str | None = None
    disputes: Accountability | None = None
    kept_bytes: int = 20 * _GIB
    cache_bytes: int = 20 * _GIB
    proof_cache_bytes: int = _GIB
    finish: bool = False
    onsite: tuple[Path, ...] = ()
    onsite_requester: Address | None = None
    wait_seconds: int = 5
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    dishonest: str | None = None
