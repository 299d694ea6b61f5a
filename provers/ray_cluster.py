"""A Ray cluster as a worker's site: models and circuits on its nodes, everything that is signed on this side.

A node gets what a lease needs and nothing else: encrypted model and records, settings, SRS. They come with the call,
through Ray's object store, so that no node has a token, a wallet or a way to the coordinator. What a node keeps are the
caches that a worker on that machine would have.

A circuit is worked on by *actors*, each of which has reserved a core and the memory that the circuit takes by its
estimate. A task begins with one and asks for more as proofs wait; what does not fit waits until it does. When a node
dies, what it was at is done again on others; the lease is kept from here meanwhile.

Ray's nodes trust each other: who can reach a cluster's ports can run code on all of it, this side included. They belong
on machines and a network of one operator.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from circuits.artefacts import CircuitArtefacts
from circuits.chain import MAX_CHAIN_BYTES, ChainSettings
from circuits.memory import needed_bytes, require_memory
from circuits.process import DEFAULT_TIMEOUT, ProcessGoneError
from circuits.proving import SegmentProof
from circuits.settings import CircuitSettings
from circuits.srs import srs_bytes
from circuits.verifying import MAX_VK_BYTES
from provers.cache import BlobCache, make_private_folder
from provers.circuit import MAX_MODEL_BYTES, LocalSite
from provers.device import CPU, CUDA, Device
from provers.display import log
from provers.executor import DEFAULT_BATCH, OnnxExecutor
from provers.task import CircuitFiles
from rexis.files import read_file, write_file
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ConflictError, MalformedError, RexisError, UnavailableError
from rexis.protocol.records import Floats, Integers

NODE_CACHE = "REXIS_RAY_CACHE"
"""Environment variable of a node: where it keeps keys. Default: as a worker there would."""

_TICK_S = 0.1
_CONNECT_S = 5.0
_LOOK_EVERY_S = 5.0
_SAY_AFTER_S = 3.0
_RETRIES = 4
_MOST_TASKS = 32
_BLOBS_BYTES = 8 << 30
# What a model takes beside its own size: the runtime, and activations of a batch.
_RUNTIME_BYTES = 256 << 20


@dataclass(frozen=True)
class _Files:
    """What a circuit is rebuilt from, as bytes."""

    pinned: Circuit
    model: bytes
    settings: bytes
    srs: bytes
    vk: bytes = b""
    vka: tuple[Digest, ...] = ()
    segment: int | None = None


class NodeLostError(ProcessGoneError):
    """A node died, or what ran on it was ended from here."""

    code = "ray-node"


class RaySite:
    """See :class:`provers.site.Site`.

    Parameters
    ----------
    address
        ``auto`` for the cluster that this machine is part of, else ``host:port`` of its head.
    memory_bytes
        Largest circuit; None for what the largest node has.
    seconds, device, batch_size
        As for :class:`provers.circuit.LocalSite`, on each node.
    tasks
        Tasks side by side; None for one a core of the cluster.

    Raises
    ------
    UnavailableError
        Ray is not installed, or no cluster answers there.
    """

    def __init__(
        self,
        address: str,
        memory_bytes: int | None = None,
        seconds: float = DEFAULT_TIMEOUT,
        tasks: int | None = None,
        device: Device | None = None,
        batch_size: int = DEFAULT_BATCH,
    ) -> None:
        self._ray = _connected(address)
        self._address, self._memory_bytes, self._most_tasks = address, memory_bytes, tasks
        self._seconds, self._device, self._batch = seconds, str(device or "auto"), batch_size
        self._looked: tuple[float, list[dict[str, float]]] | None = None

    @property
    def provider(self) -> str:
        """See :class:`provers.site.Site`: of a node with a GPU, if there is one and it is wanted."""
        return CUDA if self._gpus else CPU

    @property
    def memory_bytes(self) -> int:
        """See :class:`provers.site.Site`."""
        largest = max((int(node.get("memory", 0)) for node in self._nodes()), default=0)
        return largest if self._memory_bytes is None else min(largest, self._memory_bytes)

    @property
    def gpu_memory_bytes(self) -> int:
        """See :class:`provers.site.Site`. Ray tells how many GPUs there are, not what they have."""
        return 0

    @property
    def taken_bytes(self) -> int:
        """See :class:`provers.site.Site`."""
        total = sum(node.get("memory", 0) for node in self._nodes())
        return max(0, int(total - self._ray.available_resources().get("memory", 0)))

    @property
    def tasks(self) -> int:
        """See :class:`provers.site.Site`."""
        cores = sum(node.get("CPU", 0) for node in self._nodes())
        return self._most_tasks or max(1, min(_MOST_TASKS, int(cores)))

    def describe(self) -> str:
        """See :class:`provers.site.Site`."""
        nodes = self._nodes()
        cores, gpus, memory = (sum(node.get(what, 0) for node in nodes) for what in ("CPU", "GPU", "memory"))
        return (
            f"Ray cluster of {len(nodes)} nodes with {cores:.0f} cores, {gpus:.0f} GPUs, {int(memory) >> 20} MiB in all"
        )

    @contextmanager
    def desk(self, waiting: Callable[[], None]) -> Iterator[RayDesk]:
        """See :class:`provers.site.Site`."""
        desk = RayDesk(self, waiting)
        try:
            yield desk
        finally:
            desk.kill()

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        self._ray.shutdown()

    def capacity(self, needed: int) -> int:
        """How many circuits of this size the whole cluster has room for, one core each."""
        return sum(min(int(node.get("CPU", 0)), int(node.get("memory", 0)) // needed) for node in self._nodes())

    def shortage(self, needed: int) -> str:
        """Why something waits, for a person."""
        free = self._ray.available_resources()
        return (
            f"waits for a Ray node with a free core and {needed >> 20} MiB; free in all are {free.get('CPU', 0):.0f} "
            f"cores and {int(free.get('memory', 0)) >> 20} MiB"
        )

    def evaluate(self, model: Any, records: Floats, needed: int) -> Any:
        """Begin to run a model (a reference to its bytes) on a node."""
        remote = self._ray.remote(_evaluate).options(
            num_cpus=1, num_gpus=1 if self._gpus else 0, memory=needed, max_retries=_RETRIES
        )
        return remote.remote(version("rexis"), model, records, self._device, self._batch)

    def actor(self, files: Any, needed: int) -> Any:
        """Ask for a node that works on a circuit (a reference to its files)."""
        remote = self._ray.remote(_CircuitActor).options(num_cpus=1, memory=needed, max_restarts=0)
        return remote.remote(version("rexis"), files, self._seconds)

    @property
    def ray(self) -> Any:
        """The module."""
        return self._ray

    @property
    def _gpus(self) -> bool:
        return self._device != "cpu" and any(node.get("GPU", 0) >= 1 for node in self._nodes())

    def _nodes(self) -> list[dict[str, float]]:
        """Resources of the nodes that are alive; looked up now and then."""
        now = time.monotonic()
        if self._looked is None or now > self._looked[0] + _LOOK_EVERY_S:
            self._looked = now, [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [node for node in self._looked[1] if node.get("CPU", 0) >= 1]


class RayDesk:
    """See :class:`provers.site.Desk`."""

    def __init__(self, site: RaySite, waiting: Callable[[], None]) -> None:
        self._site, self._waiting = site, waiting
        self._actors: _Actors | None = None
        self._executors: list[RayExecutor] = []

    def executor(self, model: Path) -> RayExecutor:
        """See :class:`provers.site.Desk`."""
        made = RayExecutor(self._site, read_file(model, "model", max_bytes=MAX_MODEL_BYTES), self._waiting)
        self._executors.append(made)
        return made

    def open(self, pinned: Circuit, files: CircuitFiles, progress: Callable[[int, int], None]) -> RayProver:
        """See :class:`provers.site.Desk`."""
        made = _read(pinned, files)
        return self._opened(made, ChainSettings.parse(made.settings).segments)

    def open_segment(
        self, pinned: Circuit, files: CircuitFiles, vk: Path, vka: Sequence[Digest], segment: int
    ) -> RayProver:
        """See :class:`provers.site.Desk`."""
        keys = read_file(vk, "verifying keys", max_bytes=MAX_VK_BYTES)
        made = _read(pinned, files, vk=keys, vka=tuple(vka), segment=segment)
        artefacts = CircuitArtefacts(made.settings, keys, tuple(vka), pinned.srs_digest)
        artefacts.require(pinned)
        return self._opened(made, artefacts.parsed.segments[segment : segment + 1])

    def kill(self) -> None:
        """See :class:`provers.site.Desk`."""
        if self._actors is not None:
            self._actors.kill()
        for executor in self._executors:
            executor.kill()

    def _opened(self, files: _Files, segments: Sequence[CircuitSettings]) -> RayProver:
        for segment in segments:
            require_memory(segment, self._site.memory_bytes)
        needed = max(needed_bytes(segment) for segment in segments)
        self._actors = _Actors(self._site, self._site.ray.put(files), needed, self._waiting)
        return RayProver(self._actors)


class RayExecutor:
    """See :class:`provers.executor.Executor`."""

    def __init__(self, site: RaySite, model: bytes, waiting: Callable[[], None]) -> None:
        self._site, self._waiting = site, waiting
        self._model, self._needed = site.ray.put(model), _RUNTIME_BYTES + 4 * len(model)
        self._provider = site.provider
        self._running: Any = None

    @property
    def provider(self) -> str:
        """What the last run was on."""
        return self._provider

    def run(self, records: Floats) -> Floats:
        """See :class:`provers.executor.Executor`."""
        self._running = reference = self._site.evaluate(self._model, records, self._needed + 4 * records.nbytes)
        outputs: Floats
        outputs, self._provider = _result(self._site, reference, self._waiting, self._needed)
        self._running = None
        return outputs

    def kill(self) -> None:
        """End the run, if there is one."""
        if (running := self._running) is not None:
            self._site.ray.cancel(running, force=True)


class RayProver:
    """See :class:`provers.task.RecordProver` and :class:`provers.site.PieceProver`."""

    def __init__(self, actors: _Actors) -> None:
        self._actors = actors
        actors.first()

    @property
    def at_once(self) -> int:
        """How many calls are worth making at a time."""
        return self._actors.most

    def outputs(self, records: Integers) -> Integers:
        """See :class:`provers.task.RecordProver`."""
        found: Integers = self._actors.call("outputs", records)
        return found

    def trace(self, records: Integers) -> list[Integers]:
        """See :class:`provers.task.RecordProver`."""
        found: list[Integers] = self._actors.call("trace", records)
        return found

    def prove(self, inputs: Integers) -> SegmentProof:
        """See :class:`provers.site.PieceProver`."""
        return self.prove_segment(0, inputs)

    def prove_segment(self, segment: int, inputs: Integers) -> SegmentProof:
        """See :class:`provers.task.RecordProver`."""
        found: SegmentProof = self._actors.call("prove_segment", segment, inputs)
        return found

    def check_segment(
        self, segment: int, proofs: Sequence[bytes], inputs: Integers, outputs: Integers
    ) -> list[str | None]:
        """See :class:`provers.task.RecordProver`."""
        found: list[str | None] = self._actors.call("check_segment", segment, list(proofs), inputs, outputs)
        return found


class _Actors:
    """The actors of one circuit of one task: one at first, more while calls wait and the cluster may have room.

    Ray could start an actor of a dead node elsewhere and repeat its call there; but it would wait for a node that is
    free, while the task's other actors hold the nodes that there are. So a call goes to the next of those instead.
    """

    def __init__(self, site: RaySite, files: Any, needed: int, waiting: Callable[[], None]) -> None:
        self._site, self._files, self._needed, self._waiting = site, files, needed, waiting
        self.most = max(1, site.capacity(needed))
        self._lock = threading.Lock()
        self._all: list[Any] = []
        self._free: list[Any] = []
        self._coming: dict[Any, Any] = {}  # by the reference that tells that it is ready
        self._lost = 0
        self._killed = False

    def first(self) -> None:
        """Wait until the keys are there, on one node."""
        self._give_back(self._next())

    def call(self, method: str, *arguments: Any) -> Any:
        """A method, by the next actor that is free; if its node dies, by the next one."""
        while True:
            actor = self._next()
            try:
                found = _result(self._site, getattr(actor, method).remote(*arguments), self._waiting, self._needed)
            except NodeLostError as error:
                with self._lock:
                    self._drop(actor, error)
                continue
            except BaseException:
                self._give_back(actor)
                raise
            self._give_back(actor)
            return found

    def kill(self) -> None:
        """End all of them, and what they are at."""
        with self._lock:
            self._killed = True
            for actor in self._all:
                self._site.ray.kill(actor, no_restart=True)

    def _give_back(self, actor: Any) -> None:
        with self._lock:
            self._free.append(actor)

    def _next(self) -> Any:
        begun, said = time.monotonic(), False
        while True:
            with self._lock:
                if self._killed:
                    raise ProcessGoneError("the circuit's actors were ended")
                self._look()
                if self._free:
                    return self._free.pop()
                if not self._coming and len(self._all) < self.most:
                    actor = self._site.actor(self._files, self._needed)
                    self._all.append(actor)
                    self._coming[actor.ready.remote()] = actor
                alone = len(self._all) == len(self._coming)
            if alone and not said and time.monotonic() > begun + _SAY_AFTER_S:
                log.info("%s", self._site.shortage(self._needed))
                said = True
            self._waiting()
            time.sleep(_TICK_S)

    def _look(self) -> None:
        """Take up the actors whose keys are made."""
        if not self._coming:
            return
        ready, _ = self._site.ray.wait(list(self._coming), num_returns=len(self._coming), timeout=0)
        for reference in ready:
            actor = self._coming.pop(reference)
            try:
                _get(self._site, reference)
            except NodeLostError as error:
                self._drop(actor, error)
            else:
                self._free.append(actor)

    def _drop(self, actor: Any, error: NodeLostError) -> None:
        self._all.remove(actor)
        self._lost += 1
        if self._killed or self._lost > _RETRIES:
            raise error
        log.warning("a Ray node was lost in a task (%d of %d times): going on with others", self._lost, _RETRIES)


def _result(site: RaySite, reference: Any, waiting: Callable[[], None], needed: int) -> Any:
    """Wait for a call; say why if it does not begin."""
    begun, said = time.monotonic(), False
    while True:
        ready, _ = site.ray.wait([reference], timeout=_TICK_S)
        if ready:
            return _get(site, reference)
        waiting()
        if not said and time.monotonic() > begun + _SAY_AFTER_S and site.ray.available_resources().get("CPU", 0) < 1:
            log.info("%s", site.shortage(needed))
            said = True


def _get(site: RaySite, reference: Any) -> Any:
    """What a call gave, or raised, as if it had been made here."""
    errors = site.ray.exceptions
    try:
        return site.ray.get(reference)
    except errors.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RexisError):
            raise cause from None
        raise UnavailableError(f"a Ray node failed: {type(cause).__name__}") from error
    except errors.RayError as error:
        raise NodeLostError(
            f"what ran on a Ray node was ended: {type(error).__name__}", hint="Ray's own log says what became of it"
        ) from error


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise UnavailableError("Ray is not installed", hint="pip install 'rexis[ray]'") from None
    _require_somebody(address)
    try:
        ray.init(address=address, namespace="rexis", log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, OSError) as error:
        where = (
            "this machine is part of no Ray cluster" if address == "auto" else f"no Ray cluster answers at {address}"
        )
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UnavailableError(f"{where}: {first}", hint="start one with `ray start --head`, or check --ray") from None
    return ray


def _require_somebody(address: str) -> None:
    """Look whether anybody listens: Ray itself goes on trying for minutes."""
    if address == "auto":
        return
    host, separator, port = address.rpartition(":")
    if not separator or "/" in address or not port.isdecimal():
        raise MalformedError(f"no address of a Ray cluster: {address!r}", field="ray", hint="auto, or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UnavailableError(
            f"no Ray cluster answers at {address}: {error.strerror or error}",
            hint="start one with `ray start --head`, or check --ray",
        ) from None


def _read(pinned: Circuit, files: CircuitFiles, **others: Any) -> _Files:
    settings = read_file(files.settings, "settings", max_bytes=MAX_CHAIN_BYTES)
    return _Files(
        pinned=pinned,
        model=read_file(files.model, "model", max_bytes=MAX_MODEL_BYTES),
        settings=settings,
        srs=read_file(files.srs, "SRS", max_bytes=srs_bytes(ChainSettings.parse(settings).logrows)),
        **others,
    )


# --- what runs on a node ----------------------------------------------------------------------------------------


class _CircuitActor:
    """One circuit on one node, with a child of ezkl of its own."""

    def __init__(self, given_version: str, files: _Files, seconds: float) -> None:
        _require_version(given_version)
        self._files = files
        self._segment = files.segment
        cores, self._ends = os.cpu_count() or 1, ExitStack()
        self._site = LocalSite(make_private_folder(_node_cache() / "keys"), None, seconds, provers=cores)
        self._desk = self._ends.enter_context(self._site.desk(lambda: None))
        self._prover: Any = None

    def ready(self) -> None:
        """Make the keys, if this has not been done since the actor was started."""
        if self._prover is not None:
            return
        files, blobs = self._files, self._blobs()
        given = CircuitFiles(*(self._file(blobs, data) for data in (files.model, files.settings, files.srs)))
        try:
            if self._segment is None:
                self._prover = self._desk.open(files.pinned, given, lambda done, total: None)
            else:
                vk = self._file(blobs, files.vk)
                self._prover = self._desk.open_segment(files.pinned, given, vk, files.vka, self._segment)
        finally:
            blobs.done()

    def outputs(self, records: Integers) -> Integers:
        """See :class:`RayProver`."""
        found: Integers = self._opened().outputs(records)
        return found

    def trace(self, records: Integers) -> list[Integers]:
        """See :class:`RayProver`."""
        found: list[Integers] = self._opened().trace(records)
        return found

    def prove_segment(self, segment: int, inputs: Integers) -> SegmentProof:
        """See :class:`RayProver`."""
        prover = self._opened()
        return prover.prove_segment(segment, inputs) if self._segment is None else prover.prove(inputs)  # type: ignore[no-any-return]

    def check_segment(
        self, segment: int, proofs: Sequence[bytes], inputs: Integers, outputs: Integers
    ) -> list[str | None]:
        """See :class:`RayProver`."""
        found: list[str | None] = self._opened().check_segment(segment, proofs, inputs, outputs)
        return found

    def _opened(self) -> Any:
        self.ready()
        return self._prover

    def _blobs(self) -> BlobCache:
        def fetch(digest: Digest, to: Path) -> None:
            write_file(to, self._by_digest()[digest], private=True, overwrite=True)

        return BlobCache(make_private_folder(_node_cache()) / "blobs", max_bytes=_BLOBS_BYTES, fetch=fetch)

    def _by_digest(self) -> Mapping[Digest, bytes]:
        files = self._files
        return {sha256(data): data for data in (files.model, files.settings, files.srs, files.vk)}

    def _file(self, blobs: BlobCache, data: bytes) -> Path:
        return blobs.get(sha256(data))


def _evaluate(given_version: str, model: bytes, records: Floats, device: str, batch_size: int) -> tuple[Floats, str]:
    """Outputs, and the provider that they were computed by."""
    _require_version(given_version)
    executor = _executor(bytes(model), device, batch_size)
    return executor.run(records), executor.provider


@functools.lru_cache(maxsize=1)  # Ray uses a process again; the next shard of a job has the same model
def _executor(model: bytes, device: str, batch_size: int) -> OnnxExecutor:
    folder = make_private_folder(_node_cache() / "models")
    path = folder / f"{os.getpid()}.onnx"
    write_file(path, model, private=True, overwrite=True)
    try:
        return OnnxExecutor(path, batch_size=batch_size, device=Device.parse(device), threads=1)
    finally:
        path.unlink()


def _require_version(given: str) -> None:
    if given != (found := version("rexis")):
        raise ConflictError(f"a Ray node has rexis {found}, this worker {given}", hint="install the same on all nodes")


def _node_cache() -> Path:
    from platformdirs import user_cache_path

    given = os.environ.get(NODE_CACHE)
    return make_private_folder(Path(given) if given else user_cache_path("rexis") / "ray-node")
