"""What verifying the certificate of a large ``sampled`` job takes: ``python -m bench.certificate``.

Goals: 10,000 records in under 3 s on one core, offline; under 500 MB, whatever the job's size; under 1 MB of
certificate. Each row is a job of its own over a real chain, with real proofs of records that a block after the
commitment drew. It is verified by ``rexis verify --offline`` in a new process on one core: the interpreter's start and
all imports count. The records of a job repeat those of a smaller set under salts of their own, so that their exact
outputs need not all be computed; no verifier could tell.

How memory grows is measured with certificates whose tasks are one task, again and again: they are read whole, and
refused at step 6. The last row is the certificate of most tasks that there can be, of tier ``commit``, and is valid.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench._processes import peak_bytes
from circuits.artefacts import CircuitCache
from circuits.build import build_circuit
from circuits.process import EzklProcess
from circuits.profile import profile_for, rewrites_for
from circuits.rewrites import rewrite
from circuits.srs import Srs, ensure_development_srs
from models.zoo import held_out, load_model_bytes
from rexis.ee import encrypt_records
from rexis.ee.compiler import encrypt_model
from rexis.interpreter import python, python_environment
from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES, MAX_TASKS
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import canonical_json
from rexis.protocol.policy import Tier
from rexis.protocol.tensors import Dataset
from tests.vectors.certificates.issuer import ONSITE_PROFILE, PROFILE, Issuer, Job, Model, records, seal
from tests.vectors.certificates.recorded_chain import recording_chain
from verifier.artifacts import artifact_name

ZOO_MODEL = "breast_cancer"
DEFAULT_OUT = Path(__file__).parent / "out" / "certificate.json"
MEGABYTES = (9, 90, MAX_CERTIFICATE_BYTES // 10**6)
_POLL_S = 0.01
_DISTINCT = 512


@dataclass(frozen=True)
class Shape:
    """A job: its circuit, how many records in tasks of how many, and how many proofs a task."""

    circuit: str
    records: int
    shard: int
    sample: int

    @property
    def name(self) -> str:
        """For a file."""
        return f"{self.circuit}-{self.records}-in-{self.shard}-sampled-{self.sample}"


@dataclass
class Figures:
    """One job's certificate. Times in seconds, medians of the runs; memory in bytes, the largest seen.

    Attributes
    ----------
    cpu_s
        Of the command and its ezkl processes.
    peak_bytes
        Peak resident sets of the processes that lived at the same time, summed.
    step_s
        Wall time until each step's line, from the one before; the first holds the start of the interpreter.
    """

    shape: Shape
    tasks: int
    proofs: int
    certificate_bytes: int
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    step_s: dict[str, float] = field(default_factory=dict)


SHAPES = [
    Shape("tiny", 10_000, 10_000, 16),
    Shape(ZOO_MODEL, 10_000, 10_000, 16),
    Shape(ZOO_MODEL, 10_000, 10_000, 56),
    Shape("tiny", 10_000, 100, 1),
    Shape("tiny", 100_000, 100_000, 16),
]


class LargeJobs(Issuer):
    """An issuer that computes each distinct record's outputs once."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._known: dict[tuple[Digest, bytes], NDArray[Any]] = {}

    def _outputs(self, job: Job, rows: NDArray[Any]) -> NDArray[Any]:
        known = self._known
        new = {row.tobytes(): row for row in rows if (job.model.digest, row.tobytes()) not in known}
        if new:
            made = super()._outputs(job, np.array(list(new.values())))
            known.update(zip(((job.model.digest, each) for each in new), made, strict=True))
        return np.array([known[job.model.digest, row.tobytes()] for row in rows])


def main() -> None:
    """Make, verify, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shapes", type=int, nargs="+", default=range(len(SHAPES)), help="positions in SHAPES")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the certificates there, too")
    given = parser.parse_args()
    found = []
    with TemporaryDirectory(prefix="rexis-bench-") as name, _issuer(Path(name)) as issuer:
        models = _models(issuer, Path(name))
        for shape in (SHAPES[position] for position in given.shapes):
            certificate = Path(name, "certificate.json")
            certificate.write_bytes(canonical_json(issuer.issue(_job(issuer, shape, models))))
            if given.keep is not None:
                given.keep.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(certificate, given.keep / f"{shape.name}.json")
            found.append(_measure(shape, certificate, given.runs))
            _print(found[-1])
        for megabytes in MEGABYTES:
            _print_memory(issuer, Path(name), megabytes)
        _print_most_tasks(issuer, Path(name))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


@contextmanager
def _issuer(folder: Path) -> Iterator[LargeJobs]:
    with EzklProcess() as ezkl, recording_chain(folder / "state") as dev:
        srs = [_srs(profile.logrows, folder) for profile in (PROFILE, PROFILE, ONSITE_PROFILE)]
        yield LargeJobs(dev, ezkl, *srs, cache=folder / "cache")


def _srs(logrows: int, folder: Path) -> Srs:
    made = ensure_development_srs(logrows, folder / "srs")
    with suppress(FileExistsError):
        (folder / artifact_name(made.digest)).hardlink_to(made.path)
    return made


def _models(issuer: Issuer, folder: Path) -> dict[str, tuple[Model, NDArray[np.float32]]]:
    """Each circuit's model, registered, with encrypted records."""
    encrypted = encrypt_model(rewrite(load_model_bytes(ZOO_MODEL), rewrites_for(ZOO_MODEL)), epoch=1, seed=bytes(32))
    profile = profile_for(ZOO_MODEL)
    srs = _srs(profile.logrows, folder)
    circuit = build_circuit(encrypted.model, profile, srs, CircuitCache(folder / "cache"), issuer._ezkl)
    zoo = Model(encrypted.model, circuit)
    issuer.chain("owner").register(zoo.digest, 1, zoo.circuit)
    return {
        "tiny": (issuer.model, records(1, _DISTINCT).records),
        ZOO_MODEL: (zoo, encrypt_records(encrypted.key, held_out(ZOO_MODEL)[0])),
    }


def _job(issuer: Issuer, shape: Shape, models: dict[str, tuple[Model, NDArray[np.float32]]]) -> Job:
    model, some = models[shape.circuit]
    values = np.resize(some, (shape.records + 1, some.shape[1]))
    salts = np.random.default_rng(0).integers(0, 256, (len(values), 32), dtype=np.uint8)
    return issuer.job(
        Tier.SAMPLED,
        count=shape.records,
        shard=shape.shard,
        sample=shape.sample,
        model=model,
        data=Dataset(values, salts),
    )


def _print_memory(issuer: Issuer, folder: Path, megabytes: int) -> None:
    document = issuer.sampled()
    copies = megabytes * 10**6 // len(canonical_json(document["tasks"][0]))
    certificate = folder / "large.json"
    certificate.write_bytes(canonical_json(seal(document | {"tasks": document["tasks"] * copies})))
    run = _verify(certificate)
    if "tasks cover" not in run.last_step:
        raise RuntimeError(f"read otherwise than expected: {run.last_step}")
    print(
        f"{certificate.stat().st_size / 1e6:.0f} MB, {copies} tasks: {run.peak_bytes / 1e6:.0f} MB of memory",
        flush=True,
    )


def _print_most_tasks(issuer: Issuer, folder: Path) -> None:
    values = np.resize(records(1, _DISTINCT).records, (MAX_TASKS + 1, records(1, 1).records.shape[1]))
    salts = np.random.default_rng(0).integers(0, 256, (len(values), 32), dtype=np.uint8)
    job = issuer.job(Tier.COMMIT, count=MAX_TASKS, shard=1, sample=1, data=Dataset(values, salts))
    certificate = folder / "most-tasks.json"
    certificate.write_bytes(canonical_json(issuer.issue(job)))
    run = _verify(certificate)
    if not run.valid:
        raise RuntimeError(f"not valid: {run.last_step}")
    print(
        f"{certificate.stat().st_size / 1e6:.0f} MB, {MAX_TASKS} tasks of tier commit, valid: "
        f"{run.peak_bytes / 1e6:.0f} MB of memory, {run.cpu_s:.0f} s of processor time",
        flush=True,
    )


def _measure(shape: Shape, certificate: Path, runs: int) -> Figures:
    tasks = shape.records // shape.shard
    figures = Figures(shape, tasks, tasks * shape.sample, certificate.stat().st_size)
    done = [_verify(certificate) for _ in range(runs)]
    if not all(run.valid for run in done):
        raise RuntimeError(f"not valid: {done[0].last_step}")
    figures.wall_s = statistics.median(run.wall_s for run in done)
    figures.cpu_s = statistics.median(run.cpu_s for run in done)
    figures.peak_bytes = max(run.peak_bytes for run in done)
    figures.step_s = {name: statistics.median(run.step_s[name] for run in done) for name in done[0].step_s}
    return figures


@dataclass(frozen=True)
class Run:
    """One verification; `step_s` of all tasks together."""

    valid: bool
    last_step: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    step_s: dict[str, float]


def _verify(certificate: Path) -> Run:
    allowed = ["--allow-development-srs", "--allow-development-chain"]
    command = python("-c", "from rexis.cli.main import run; run()", "verify", str(certificate), "--offline", *allowed)
    steps: dict[str, float] = {}
    used = _cpu_of_children()
    start = last = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**python_environment(), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    final = last_step = ""
    with _peak(process.pid) as peak:
        for final in process.stdout:
            now = time.perf_counter()
            name = final[2:4].strip() if final[4:5] == "." else "end"
            steps[name] = steps.get(name, 0.0) + now - last
            last = now
            last_step = final if name != "end" else last_step
        process.wait()
    return Run(
        final.startswith("VALID") and not process.returncode,
        last_step,
        time.perf_counter() - start,
        _cpu_of_children() - used,
        max(peak),
        steps,
    )


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _peak(pid: int) -> Iterator[list[int]]:
    """Peak resident sets of a process and its children, summed, sampled while it lives."""
    found, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_S):
            with suppress(OSError, StopIteration):  # ended meanwhile
                children = Path(f"/proc/{pid}/task").glob("*/children")
                alive = [pid, *(int(child) for threads in children for child in threads.read_text().split())]
                found.append(sum(map(peak_bytes, alive)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def _print(figures: Figures) -> None:
    shape = figures.shape
    print(
        f"{shape.circuit}, {shape.records} records, {figures.tasks} tasks, {figures.proofs} proofs: "
        f"{figures.certificate_bytes / 1e6:.2f} MB, {figures.wall_s:.2f} s, {figures.cpu_s:.2f} s of processor time, "
        f"{figures.peak_bytes / 1e6:.0f} MB"
    )
    print("    " + ", ".join(f"{name}: {seconds:.2f}" for name, seconds in figures.step_s.items()), flush=True)


if __name__ == "__main__":
    main()
