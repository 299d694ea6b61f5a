"""What this machine can do as a worker, found out by trying, and said in plain words."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
import onnxruntime as ort

from circuits.cost import estimate_of, total
from circuits.memory import available_bytes, total_bytes
from circuits.settings import EZKL_VERSION, CircuitSettings
from circuits.srs import PERPETUAL_POWERS_OF_TAU, srs_bytes
from contracts.chain import Chain
from contracts.onchain import Deployment, require_deployment
from provers.device import CUDA, Device, gpus
from provers.executor import OnnxExecutor, best_provider
from rexis.api import Info
from rexis.client import RexisClient
from rexis.protocol.errors import RexisError
from rexis.protocol.records import Floats
from rexis.protocol.typed_data import Domain
from rexis.transport import Retry

_SECONDS = 10.0
# A sign-in message is good for minutes, a lease about as long; a clock that is off by more gets neither right.
_SKEW_WARN_S, _SKEW_FAIL_S = 30.0, 240.0
_OLD_BLOCK_S = 300.0


class Grade(StrEnum):
    """How a finding is meant."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        Its name.
    says
        What was found, in a sentence.
    hint
        What to do about it.
    """

    what: str
    grade: Grade
    says: str
    hint: str | None = None


@dataclass(frozen=True)
class ZooModel:
    """A model that tasks may be about.

    Attributes
    ----------
    file
        Its ONNX file.
    record
        One record, ``[1, …]``.
    segments
        Settings of its tuned circuit; None if it has none.
    """

    name: str
    file: Path
    record: Floats
    segments: Sequence[CircuitSettings] | None


def machine(folder: Path, cache_bytes: int, memory_bytes: int | None, device: Device) -> Iterator[Finding]:
    """Memory, disk, devices and programs.

    Parameters
    ----------
    folder
        The worker's cache folder; need not be there.
    cache_bytes
        What the caches there may take.
    memory_bytes
        What the worker may take; None for what is free.
    """
    yield _memory(memory_bytes)
    yield _disk(folder, cache_bytes)
    yield _device(device)
    yield _torch()
    yield _ezkl()
    yield _srs(folder)


def model(found: ZooModel, device: Device, memory_bytes: int | None) -> Finding:
    """Whether tasks about one zoo model can be done here, tier by tier; one record is run."""
    what = f"model {found.name}"
    try:
        OnnxExecutor(found.file, device=device).run(found.record)
    except RexisError as error:
        return Finding(what, Grade.FAIL, f"cannot be run: {error.message}", error.hint)
    if found.segments is None:
        return Finding(
            what,
            Grade.WARN,
            "tier commit: yes. Proofs: it has no tuned circuit in this version",
            "`rexis circuits tune` or `rexis circuits cut` makes one",
        )
    cost = total([estimate_of(segment) for segment in found.segments])
    free = available_bytes() if memory_bytes is None else memory_bytes
    needs = f"proofs take about {_mib(cost.needed_bytes)} and {cost.cpu_seconds:.1f} s of processor time a record"
    if cost.needed_bytes > free:
        return Finding(
            what, Grade.FAIL, f"tier commit: yes. Tiers sampled, zk: no, {needs}, {_mib(free)} are there", "more memory"
        )
    if not _has_ezkl():
        return Finding(what, Grade.FAIL, f"tier commit: yes. Tiers sampled, zk: no, without ezkl ({needs})")
    at_once = min(os.cpu_count() or 1, free // cost.needed_bytes)
    return Finding(what, Grade.OK, f"tiers commit, sampled, zk: yes; {needs}, {at_once} at a time fit")


def coordinator(url: str) -> tuple[list[Finding], Info | None]:
    """Whether it answers, what it is, and whether the clocks agree."""
    begun = time.time()
    try:
        answer = httpx.get(f"{url.rstrip('/')}/healthz", timeout=_SECONDS)
        took = time.time() - begun
        with RexisClient(url, retry=Retry(attempts=1)) as client:
            info = client.info()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        says = f"no answer from {url}: {type(error).__name__}"
        return [Finding("coordinator", Grade.FAIL, says, "is it running, and is the URL right?")], None
    except RexisError as error:
        return [Finding("coordinator", Grade.FAIL, error.message, error.hint)], None
    tiers = ", ".join(tier.name.lower() for tier in info.tiers)
    says = f"version {info.version} answers in {took * 1000:.0f} ms; chain {info.domain.chain_id}, tiers {tiers}"
    ours = version("rexis")
    same = info.version == ours
    hint = None if same else f"this is rexis {ours}; the same version on both sides is safest"
    found = [Finding("coordinator", Grade.OK if same else Grade.WARN, says, hint)]
    return [*found, _clock(answer.headers.get("date"), (begun + time.time()) / 2)], info


def standing(client: RexisClient) -> Finding:
    """What the coordinator knows of this wallet as a worker."""
    try:
        workers = client.workers()
    except RexisError as error:
        return Finding("registration", Grade.FAIL, error.message, error.hint)
    found = next((one for one in workers if one.address == client.address), None)
    if found is None:
        return Finding(
            "registration", Grade.OK, f"{client.address} signs in; not registered yet: `rexis worker run` does that"
        )
    says = f"{found.name} ({found.address}), last seen {found.last_seen}, {found.faults} faults"
    hint = "refused evidence is counted for good: its log says which, and why" if found.faults else None
    return Finding("registration", Grade.WARN if found.faults else Grade.OK, says, hint)


def chain(rpc: str, info: Info | None) -> Iterator[Finding]:
    """Whether the node answers, is on the coordinator's chain, has the contracts, and is up to date."""
    try:
        node = Chain.connect(rpc)
        head = node.block_number()
    except RexisError as error:
        yield Finding("chain node", Grade.FAIL, error.message, error.hint)
        return
    says = f"answers; chain {node.chain_id}, block {head}"
    if info is not None and info.domain.chain_id != node.chain_id:
        says += f", and the coordinator is on chain {info.domain.chain_id}"
        yield Finding("chain node", Grade.FAIL, says, "give a node of the coordinator's chain: --rpc")
        return
    yield Finding("chain node", Grade.OK, says)
    yield _contracts(node, info)
    yield _block_time(rpc)


def skipped(what: str, option: str) -> Finding:
    """A part that was not asked for."""
    return Finding(what, Grade.SKIPPED, "not looked at", f"give {option}")


def _memory(memory_bytes: int | None) -> Finding:
    free, there = available_bytes(), total_bytes()
    says = f"{_mib(free)} of {_mib(there)} are free"
    if memory_bytes is not None and memory_bytes > free:
        return Finding("memory", Grade.WARN, f"{says}, the worker may take {_mib(memory_bytes)}", "a lower --memory")
    return Finding("memory", Grade.OK, says)


def _disk(folder: Path, cache_bytes: int) -> Finding:
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(place, os.W_OK):
        return Finding("disk", Grade.FAIL, f"{place} cannot be written", "another --cache")
    free = shutil.disk_usage(place).free
    says = f"{_gib(free)} are free for {folder}; its caches take up to {_gib(cache_bytes)}, and keys come on top"
    return Finding("disk", Grade.OK if free > cache_bytes else Grade.WARN, says, None)


def _device(device: Device) -> Finding:
    try:
        provider = best_provider(device)
    except RexisError as error:
        return Finding("device", Grade.FAIL, error.message, error.hint)
    cards = "; ".join(
        f"cuda:{gpu.index} {gpu.name}, {_mib(gpu.free_bytes)} of {_mib(gpu.memory_bytes)} free" for gpu in gpus()
    )
    if provider == CUDA:
        return Finding("device", Grade.OK, f"models run on the GPU ({provider}): {cards or 'no nvidia-smi'}")
    if cards:
        built = CUDA in ort.get_available_providers()
        hint = "its CUDA or cuDNN libraries do not load" if built else "pip install onnxruntime-gpu"
        return Finding("device", Grade.WARN, f"models run on the CPU, though there is a GPU: {cards}", hint)
    return Finding("device", Grade.OK, f"models run on the CPU ({provider}, {os.cpu_count()} cores); no GPU is seen")


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", Grade.SKIPPED, "not installed; evaluation does not need it")
    import torch

    if not torch.cuda.is_available():
        return Finding("torch", Grade.OK, f"torch {torch.__version__} computes on the CPU")
    free, there = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name()
    return Finding("torch", Grade.OK, f"torch {torch.__version__} sees {name}, {_mib(free)} of {_mib(there)} free")


def _ezkl() -> Finding:
    try:
        found = version("ezkl")
    except PackageNotFoundError:
        return Finding("ezkl", Grade.FAIL, "not installed: only tier commit", "pip install 'rexis[worker]'")
    if found != EZKL_VERSION:
        return Finding("ezkl", Grade.FAIL, f"version {found}, not {EZKL_VERSION}: other keys, other proofs")
    return Finding("ezkl", Grade.OK, f"version {found}, as pinned")


def _srs(folder: Path) -> Finding:
    blobs = folder / "blobs"
    pinned = {f"sha256-{digest.hex()}": logrows for logrows, digest in PERPETUAL_POWERS_OF_TAU.items()}
    sizes = {srs_bytes(logrows): logrows for logrows in pinned.values()}
    files = list(blobs.glob("sha256-*")) if blobs.is_dir() else []
    public = sorted(pinned[file.name] for file in files if file.name in pinned)
    others = sorted(sizes[size] for file in files if file.name not in pinned and (size := file.stat().st_size) in sizes)
    words = [f"public ones for logrows {_list(public)}"] if public else []
    words += [f"development ones for logrows {_list(others)}"] if others else []
    kept = " and ".join(words) or "none kept yet"
    return Finding("SRS", Grade.OK, f"{kept}; a task's own is fetched from the coordinator, and checked by its digest")


def _clock(date: str | None, at: float) -> Finding:
    if date is None:
        return Finding("clock", Grade.SKIPPED, "the coordinator does not tell the time")
    try:
        skew = at - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding("clock", Grade.SKIPPED, "the coordinator's time cannot be read")
    says = f"within {max(1.0, abs(skew)):.0f} s of the coordinator's"
    if abs(skew) < _SKEW_WARN_S:
        return Finding("clock", Grade.OK, says)
    off = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the coordinator's"
    return Finding("clock", Grade.FAIL if abs(skew) > _SKEW_FAIL_S else Grade.WARN, off, "is time kept (NTP) here?")


def _contracts(node: Chain, info: Info | None) -> Finding:
    try:
        if info is not None:
            require_deployment(info.domain, info.contracts)
        node.attach(Deployment.on(node.chain_id))
    except RexisError as error:
        return Finding("contracts", Grade.FAIL, error.message, error.hint)
    return Finding("contracts", Grade.OK, f"this version's stand there; {_named(Deployment.on(node.chain_id).domain)}")


def _block_time(rpc: str) -> Finding:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]}
    try:
        found: Any = httpx.post(rpc, json=asked, timeout=_SECONDS).json()
        age = time.time() - int(found["result"]["timestamp"], 16)
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return Finding("chain time", Grade.SKIPPED, "the node does not tell its last block's time")
    if age < -_SKEW_WARN_S:
        return Finding("chain time", Grade.WARN, f"the last block is {-age:.0f} s in the future", "is the clock right?")
    if age > _OLD_BLOCK_S:
        says = f"the last block is {age:.0f} s old"
        return Finding("chain time", Grade.WARN, says, "a node that lags shows no fresh challenges")
    return Finding("chain time", Grade.OK, f"the last block is {max(0.0, age):.0f} s old")


def _has_ezkl() -> bool:
    return importlib.util.find_spec("ezkl") is not None


def _named(domain: Domain) -> str:
    return f"EvidenceLog {domain.verifying_contract}"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(numbers)))


def _mib(count: int) -> str:
    return f"{count >> 20} MiB"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
