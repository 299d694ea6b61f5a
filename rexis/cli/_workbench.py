"""What `rexis worker check` and `rexis worker bench` look at: the zoo's models, with their tuned circuits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
from eth_account.signers.local import LocalAccount

from circuits.build import make_chain
from circuits.process import EzklProcess
from circuits.profile import profile_for, rewrites_for, tuned_models
from circuits.rewrites import rewrite
from circuits.segments import cut_model
from circuits.settings import CircuitSettings
from models.zoo import load_manifest, load_model_bytes, names
from provers import checkup, gauge
from provers.checkup import Finding, ZooModel
from provers.device import CUDA, Device, Kind, gpus
from provers.options import WorkerOptions
from rexis.client import RexisClient
from rexis.protocol.errors import UnavailableError
from rexis.protocol.records import Floats

_CACHE_BYTES = WorkerOptions.cache_bytes + WorkerOptions.proof_cache_bytes


@dataclass(frozen=True)
class Wanted:
    """What to look at."""

    cache: Path
    device: Device
    coordinator: str | None = None
    rpc: str | None = None
    account: LocalAccount | None = field(default=None, repr=False)
    memory_bytes: int | None = None
    models: tuple[str, ...] = ()


def findings(wanted: Wanted) -> Iterator[Finding]:
    """All of it, each as soon as it is known."""
    yield from checkup.machine(wanted.cache, _CACHE_BYTES, wanted.memory_bytes, wanted.device)
    with tempfile.TemporaryDirectory(prefix="rexis-check-") as folder, EzklProcess() as ezkl:
        for name in wanted.models or names():
            yield checkup.model(_zoo_model(name, Path(folder), ezkl), wanted.device, wanted.memory_bytes)
    info = None
    if wanted.coordinator is None:
        yield checkup.skipped("coordinator", "--coordinator")
    else:
        found, info = checkup.coordinator(wanted.coordinator)
        yield from found
        if wanted.account is None:
            yield checkup.skipped("registration", "--wallet")
        elif info is not None:
            with RexisClient(wanted.coordinator, wanted.account) as client:
                yield checkup.standing(client)
    if wanted.rpc is None:
        yield checkup.skipped("chain node", "--rpc")
    else:
        yield from checkup.chain(wanted.rpc, info)


def figures(run: tuple[str, ...], prove: tuple[str, ...], cache: Path) -> Iterator[gauge.Figure]:
    """Hashing, models, proofs."""
    yield gauge.hashing()
    devices = {"cpu": Device(Kind.CPU)}
    if CUDA in ort.get_available_providers():
        devices |= {f"cuda:{gpu.index}": Device(Kind.CUDA, gpu.index) for gpu in gpus()}
    with tempfile.TemporaryDirectory(prefix="rexis-bench-") as folder:
        for name in run or names():
            file, record = _file(name, Path(folder)), _record(name)
            yield from gauge.inference(name, file, record, devices)
    for name in prove:
        model = rewrite(load_model_bytes(name), rewrites_for(name))
        yield from gauge.proof(name, model, profile_for(name), _record(name), cache)


def _zoo_model(name: str, folder: Path, ezkl: EzklProcess) -> ZooModel:
    return ZooModel(name, _file(name, folder), _record(name), _segments(name, ezkl))


def _segments(name: str, ezkl: EzklProcess) -> tuple[CircuitSettings, ...] | None:
    """Settings of the tuned circuit; laying it out takes a second or two."""
    if name not in tuned_models():
        return None
    model, profile = rewrite(load_model_bytes(name), rewrites_for(name)), profile_for(name)
    try:
        return tuple(make_chain(cut_model(model, profile.cuts), profile, ezkl).segments)
    except UnavailableError:  # ezkl is missing, which has been said
        return None


def _file(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(load_model_bytes(name))
    return path


def _record(name: str) -> Floats:
    """A record of zeros: the mean of a standardised one, the first symbol of a sequence."""
    return np.zeros((1, *load_manifest(name).onnx.record_shape), dtype=np.float32)
