"""This machine as a worker's site: models in this process, circuits in ezkl's children, memory shared by all tasks."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from circuits.artefacts import CircuitArtefacts, CircuitCache
from circuits.build import prepare_keys, prepare_segment
from circuits.chain import MAX_CHAIN_BYTES, ChainSettings
from circuits.memory import needed_bytes, require_memory, total_bytes
from circuits.pool import EzklPool, PoolShare
from circuits.process import DEFAULT_TIMEOUT
from circuits.proving import Prover, SegmentProver
from circuits.settings import CircuitSettings
from circuits.srs import read_srs
from circuits.verifying import MAX_VK_BYTES
from provers.budget import MemoryBudget
from provers.device import AUTO, CUDA, Device, Gpu, Kind, gpus
from provers.executor import DEFAULT_BATCH, OnnxExecutor, best_provider
from provers.task import CircuitFiles
from rexis.files import read_file
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.policy import Tier

MAX_MODEL_BYTES = 2 << 30  # protobuf's own limit
# The limit counts addresses, of which a process has more than memory: libraries, stacks. Measured with the breast
# cancer model: 124 MiB resident, and done under a limit of 230 MiB.
_ADDRESSES_BYTES = 256 << 20
# What a child takes the estimated memory for. Witnesses and settings take little.
_LARGE = frozenset({"keys", "prove"})
# One proof keeps a few cores busy, and one task proves several records at a time.
_CORES_A_TASK, _MOST_TASKS = 4, 8
DEFAULT_PROVERS = os.cpu_count() or 1
DEFAULT_TASKS = max(1, min(_MOST_TASKS, (os.cpu_count() or 1) // _CORES_A_TASK))


def provable_tiers() -> tuple[Tier, ...]:
    """The tiers that this installation can serve: without ezkl, only ``commit``."""
    if importlib.util.find_spec("ezkl") is None:
        return (Tier.COMMIT,)
    return (Tier.COMMIT, Tier.SAMPLED, Tier.ZK)


class LocalSite:
    """See :class:`provers.site.Site`. The children live as long as the worker.

    Parameters
    ----------
    keys
        Folder of the keys; may be shared by several workers.
    memory_bytes
        Refuse circuits whose set-up would take more, and end a child that does; None for what is free at the time
        and what the machine has.
    seconds
        End a child that takes longer over one set-up or one proof.
    provers
        Children that prove side by side, of all tasks together; fewer at a time where the memory is not there for them.
    tasks
        Tasks side by side.
    device, batch_size
        What models run on, and how many records at a time.
    """

    def __init__(
        self,
        keys: Path,
        memory_bytes: int | None,
        seconds: float = DEFAULT_TIMEOUT,
        provers: int = DEFAULT_PROVERS,
        tasks: int = DEFAULT_TASKS,
        device: Device = AUTO,
        batch_size: int = DEFAULT_BATCH,
    ) -> None:
        self._cache, self._budget = CircuitCache(keys), MemoryBudget(memory_bytes)
        limit = _ADDRESSES_BYTES + (total_bytes() if memory_bytes is None else memory_bytes)
        self._setup = EzklPool(1, memory_limit=limit, timeout=seconds)  # with all cores
        self._provers = EzklPool(provers, memory_limit=limit, timeout=seconds)
        self._tasks, self._device, self._batch = tasks, device, batch_size
        self._provider = best_provider(device)
        self._gpu = _gpu(self._provider, device)

    @property
    def provider(self) -> str:
        """See :class:`provers.site.Site`."""
        return self._provider

    @property
    def memory_bytes(self) -> int:
        """See :class:`provers.site.Site`."""
        return self._budget.total

    @property
    def gpu_memory_bytes(self) -> int:
        """See :class:`provers.site.Site`."""
        return 0 if self._gpu is None else self._gpu.memory_bytes

    @property
    def taken_bytes(self) -> int:
        """See :class:`provers.site.Site`."""
        return self._budget.taken

    @property
    def tasks(self) -> int:
        """See :class:`provers.site.Site`."""
        return self._tasks

    def describe(self) -> str:
        """See :class:`provers.site.Site`."""
        if self._provider != CUDA:
            return f"CPU, {os.cpu_count()} cores"
        return "a GPU" if self._gpu is None else f"{self._gpu.name}, {self._gpu.memory_bytes >> 20} MiB"

    @contextmanager
    def desk(self, waiting: Callable[[], None]) -> Iterator[LocalDesk]:
        """See :class:`provers.site.Site`."""
        threads = 0 if self._tasks == 1 else max(1, (os.cpu_count() or 1) // self._tasks)
        executor = lambda model: OnnxExecutor(  # noqa: E731
            model, batch_size=self._batch, device=self._device, threads=threads
        )
        desk = LocalDesk(self._cache, self._budget, self._setup, self._provers, executor, waiting)
        try:
            yield desk
        finally:
            desk.kill()

    def close(self) -> None:
        """End the children for good."""
        self._setup.close()
        self._provers.close()


class LocalDesk:
    """See :class:`provers.site.Desk`. Works on one circuit."""

    def __init__(
        self,
        cache: CircuitCache,
        budget: MemoryBudget,
        setup: EzklPool,
        provers: EzklPool,
        executor: Callable[[Path], OnnxExecutor],
        waiting: Callable[[], None],
    ) -> None:
        self._cache, self._budget, self._executor, self._waiting = cache, budget, executor, waiting
        self._needed = 0
        self._setup = PoolShare(setup, self._admit, waiting)
        self._provers = PoolShare(provers, self._admit, waiting)

    def executor(self, model: Path) -> OnnxExecutor:
        """See :class:`provers.site.Desk`."""
        return self._executor(model)

    def open(self, pinned: Circuit, files: CircuitFiles, progress: Callable[[int, int], None]) -> Prover:
        """See :class:`provers.site.Desk`."""
        settings = read_file(files.settings, "settings", max_bytes=MAX_CHAIN_BYTES)
        at_once = self._require(ChainSettings.parse(settings).segments)
        model = read_file(files.model, "model", max_bytes=MAX_MODEL_BYTES)
        srs = read_srs(files.srs, pinned.srs_digest)
        made = prepare_keys(model, settings, pinned, srs, self._cache, self._setup, self._waiting, progress)
        return Prover(made, self._provers, at_once)

    def open_segment(
        self, pinned: Circuit, files: CircuitFiles, vk: Path, vka: Sequence[Digest], segment: int
    ) -> SegmentProver:
        """See :class:`provers.site.Desk`."""
        artefacts = CircuitArtefacts(
            settings=read_file(files.settings, "settings", max_bytes=MAX_CHAIN_BYTES),
            vk=read_file(vk, "verifying keys", max_bytes=MAX_VK_BYTES),
            vka=tuple(vka),
            srs_digest=pinned.srs_digest,
        )
        artefacts.require(pinned)
        at_once = self._require(artefacts.parsed.segments[segment : segment + 1])
        model = read_file(files.model, "model", max_bytes=MAX_MODEL_BYTES)
        srs = read_srs(files.srs, pinned.srs_digest)
        made = prepare_segment(model, artefacts, pinned, segment, srs, self._cache, self._setup, self._waiting)
        return SegmentProver(made, srs, self._provers, at_once)

    def kill(self) -> None:
        """See :class:`provers.site.Desk`."""
        self._setup.kill()
        self._provers.kill()

    def _require(self, segments: Sequence[CircuitSettings]) -> int:
        """Refuse circuits that do not fit; returns how many proofs the memory is there for."""
        most = self._budget.total
        for segment in segments:
            require_memory(segment, most)
        self._needed = max(needed_bytes(segment) for segment in segments)
        return max(1, min(self._provers.size, most // self._needed))

    def _admit(self, operation: str) -> AbstractContextManager[None]:
        return self._budget.take(self._needed, self._waiting) if operation in _LARGE else nullcontext()


def _gpu(provider: str, device: Device) -> Gpu | None:
    """The GPU that a session came up on, as its driver tells."""
    index = device.index if device.kind == Kind.CUDA else 0
    return next((gpu for gpu in gpus() if provider == CUDA and gpu.index == index), None)
