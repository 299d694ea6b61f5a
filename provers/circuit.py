"""A task's circuit, with its keys, in the prover's child process."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from circuits.artefacts import CircuitArtefacts, CircuitCache
from circuits.build import prepare_keys, prepare_segment
from circuits.chain import MAX_CHAIN_BYTES, ChainSettings
from circuits.memory import available_bytes, needed_bytes, require_memory, total_bytes
from circuits.pool import EzklPool
from circuits.process import DEFAULT_TIMEOUT, EzklProcess
from circuits.proving import Prover, SegmentProver
from circuits.settings import CircuitSettings
from circuits.srs import read_srs
from circuits.verifying import MAX_VK_BYTES
from provers.task import CircuitFiles
from rexis.files import read_file
from rexis.protocol.circuit import Circuit
from rexis.protocol.digests import Digest
from rexis.protocol.policy import Tier

_MAX_MODEL_BYTES = 2 << 30  # protobuf's own limit
# The limit counts addresses, of which a process has more than memory: libraries, stacks. Measured with the breast
# cancer model: 124 MiB resident, and done under a limit of 230 MiB.
_ADDRESSES_BYTES = 256 << 20
DEFAULT_PROVERS = os.cpu_count() or 1


def provable_tiers() -> tuple[Tier, ...]:
    """The tiers that this installation can serve: without ezkl, only ``commit``."""
    if importlib.util.find_spec("ezkl") is None:
        return (Tier.COMMIT,)
    return (Tier.COMMIT, Tier.SAMPLED, Tier.ZK)


class Circuits:
    """Opens circuits, one at a time, in child processes that live as long as the worker.

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
        Children that prove side by side, at most; fewer where the memory is not there for them.
    """

    def __init__(
        self,
        keys: Path,
        memory_bytes: int | None,
        seconds: float = DEFAULT_TIMEOUT,
        provers: int = DEFAULT_PROVERS,
    ) -> None:
        self._cache = CircuitCache(keys)
        self._memory_bytes = memory_bytes
        limit = _ADDRESSES_BYTES + (total_bytes() if memory_bytes is None else memory_bytes)
        self._ezkl = EzklProcess(memory_limit=limit, timeout=seconds)  # for set-up, with all cores
        self._provers = EzklPool(provers, memory_limit=limit, timeout=seconds)

    @property
    def memory_bytes(self) -> int:
        """What set-up and proofs may take."""
        return available_bytes() if self._memory_bytes is None else self._memory_bytes

    def open(
        self,
        pinned: Circuit,
        files: CircuitFiles,
        waiting: Callable[[], None],
        progress: Callable[[int, int], None],
    ) -> Prover:
        """Rebuild the pinned circuit's keys, or find them, and check that they are the pinned ones.

        Parameters
        ----------
        waiting
            Called while another worker makes the same keys; may raise, which ends the wait.
        progress
            Called with how many segments' keys are there, and of how many.

        Raises
        ------
        DigestMismatchError
            The encrypted model is not that of the registered circuit.
        CircuitError
            ezkl refused, crashed, or took more memory or time than it may.
        ResourceError
            By the estimate it would take more memory than the worker may use.
        """
        settings = read_file(files.settings, "settings", max_bytes=MAX_CHAIN_BYTES)
        segments = ChainSettings.parse(settings).segments
        for segment in segments:
            require_memory(segment, self.memory_bytes)
        model = read_file(files.model, "model", max_bytes=_MAX_MODEL_BYTES)
        srs = read_srs(files.srs, pinned.srs_digest)
        made = prepare_keys(model, settings, pinned, srs, self._cache, self._ezkl, waiting, progress)
        return Prover(made, self._provers, self._at_once(segments))

    def open_segment(
        self,
        pinned: Circuit,
        files: CircuitFiles,
        vk: Path,
        vka: Sequence[Digest],
        segment: int,
        waiting: Callable[[], None],
    ) -> SegmentProver:
        """As :meth:`open`, but one segment: its keys only are made, and compared with its part of `vk` and `vka`.

        Raises
        ------
        DigestMismatchError, CircuitError, ResourceError
            See :meth:`open`.
        """
        artefacts = CircuitArtefacts(
            settings=read_file(files.settings, "settings", max_bytes=MAX_CHAIN_BYTES),
            vk=read_file(vk, "verifying keys", max_bytes=MAX_VK_BYTES),
            vka=tuple(vka),
            srs_digest=pinned.srs_digest,
        )
        artefacts.require(pinned)
        segments = artefacts.parsed.segments[segment : segment + 1]
        for settings in segments:
            require_memory(settings, self.memory_bytes)
        model = read_file(files.model, "model", max_bytes=_MAX_MODEL_BYTES)
        srs = read_srs(files.srs, pinned.srs_digest)
        made = prepare_segment(model, artefacts, pinned, segment, srs, self._cache, self._ezkl, waiting)
        return SegmentProver(made, srs, self._provers, self._at_once(segments))

    def _at_once(self, segments: Sequence[CircuitSettings]) -> int:
        """Proofs that the memory is there for."""
        each = max(needed_bytes(segment) for segment in segments)
        return max(1, min(self._provers.size, self.memory_bytes // each))

    def close(self) -> None:
        """End the children for good."""
        self._ezkl.close()
        self._provers.close()

    def kill(self) -> None:
        """End what is going on, from any thread; the calls in progress fail."""
        self._ezkl.kill()
        self._provers.kill()
