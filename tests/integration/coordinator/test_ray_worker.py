"""A worker whose tasks and proofs are spread over a Ray cluster: real nodes, coordinator, chain and proofs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from circuits.artefacts import CircuitCache
from circuits.build import ProvingCircuit, build_circuit
from circuits.chain import ChainSettings
from circuits.memory import needed_bytes
from circuits.process import EzklProcess
from circuits.srs import ensure_development_srs
from provers.status import WorkerStatus, running
from provers.task import CircuitFiles
from rexis.protocol.errors import MalformedError, UnavailableError
from rexis.protocol.policy import Tier
from rexis.protocol.records import quantise
from tests.integration.circuits.tiny_circuit import TINY, mlp
from tests.integration.coordinator.rig import Rig
from tests.integration.coordinator.test_proved_jobs import ProvedRig
from tests.integration.provers.ray_rig import LocalCluster, local_cluster
from tests.unit.coordinator.fakes import make_dataset

RECORDS = 16
MODEL = mlp(77)  # no other test registers it
ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = """
import sys
from pathlib import Path
from provers.worker import WorkerOptions, run_worker
from rexis.protocol.signing import new_account
coordinator, cache, ray = sys.argv[1:]
run_worker(WorkerOptions(
    coordinator=coordinator, account=new_account(), name="ray", cache=Path(cache), unchecked_chain=True, ray=ray
))
"""


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> ProvingCircuit:
    pytest.importorskip("ezkl")
    folder = tmp_path_factory.mktemp("owner")
    with EzklProcess() as ezkl:
        srs = ensure_development_srs(TINY.logrows, folder)
        return build_circuit(MODEL, TINY, srs, CircuitCache(folder / "keys"), ezkl)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster() as made:
        yield made


def until(condition: Callable[[], bool], log: Path | None = None, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:] if log else "did not happen in time"
        time.sleep(0.05)


def needed(circuit: ProvingCircuit) -> int:
    """MiB of one proof, by the estimate."""
    (segment,) = ChainSettings.parse(circuit.artefacts.settings).segments
    return (needed_bytes(segment) >> 20) + 1


@pytest.mark.slow
def test_a_job_ends_well_though_a_node_dies_in_it(
    rig: Rig, circuit: ProvingCircuit, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rig, "model", MODEL)
    room = needed(circuit) + 400  # for the model, beside one proof
    nodes = [cluster.add(name=name, memory_mib=room) for name in ("first", "second")]
    rig.dataset = make_dataset(RECORDS)
    with EzklProcess() as ezkl:
        proved = RayProvedRig(rig, circuit, ezkl)
        job = proved.submit(Tier.ZK, shard_size=RECORDS, sample_size=0)
        cache, log = tmp_path / "cache", tmp_path / "worker.log"
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, rig.url, str(cache), cluster.address], cwd=ROOT, stdout=out, stderr=out
            )
        try:
            made = lambda: len(list((cache / "proofs").glob("*.proof"))) if cache.exists() else 0  # noqa: E731
            until(lambda: made() >= 2 and len(cluster.used()) == 2, log)
            assert made() < RECORDS
            (status,) = running(cache)
            cluster.kill(nodes.pop(0))
            rig.finished(job.job_id, 400)
            certificate = proved.certificate(job)
            worker.terminate()
            assert worker.wait(30) == 0
        finally:
            worker.kill()
            worker.wait()
            for node in nodes:
                cluster.kill(node)
    assert [len(task.evidence.proofs) for task in certificate.tasks] == [RECORDS]
    assert certificate.tasks[0].evidence.statement.worker == status.address
    assert_computes_on_ray(status)
    text = log.read_text()
    assert text.count("a Ray node was lost") == 1
    assert "leased" in text
    assert text.count("leased") == 1, "the lease was kept"


def assert_computes_on_ray(status: WorkerStatus) -> None:
    assert status.site.startswith("Ray cluster of 2 nodes with 2 cores")
    assert 0 < status.memory_bytes < 4 << 30


class RayProvedRig(ProvedRig):
    """Without a worker of its own."""

    def new_worker(self) -> None:
        """None: the one on Ray shall get the task."""


def test_what_does_not_fit_waits_and_says_why(
    circuit: ProvingCircuit, cluster: LocalCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two tasks, and memory for one of them, though there are cores for both."""
    from provers.ray_cluster import RaySite

    node = cluster.add(name="small", cores=4, memory_mib=needed(circuit) * 3 // 2)
    site = RaySite(cluster.address)
    files = CircuitFiles(tmp_path / "model", tmp_path / "settings", circuit.srs.path)
    files.model.write_bytes(MODEL)
    files.settings.write_bytes(circuit.artefacts.settings)
    inputs = quantise(make_dataset(1).records, circuit.artefacts.description.input_scale)
    proofs: list[object] = []

    def second() -> None:
        with site.desk(lambda: None) as desk:
            prover = desk.open(circuit.artefacts.description, files, lambda done, total: None)
            proofs.append(prover.prove_segment(0, inputs[0]))

    try:
        assert site.capacity(needed(circuit) << 20) == 1
        with site.desk(lambda: None) as desk, caplog.at_level(logging.INFO, "rexis.worker"):
            prover = desk.open(circuit.artefacts.description, files, lambda done, total: None)
            assert prover.at_once == 1
            waiting = threading.Thread(target=second, daemon=True)
            waiting.start()
            until(lambda: "waits for a Ray node with a free core and" in caplog.text)
            assert len(prover.prove_segment(0, inputs[0]).data) > 1000
            assert proofs == []
        waiting.join(240)
        assert len(proofs) == 1
    finally:
        site.close()
        cluster.kill(node)


@pytest.mark.parametrize("address", ["somewhere", "ray://127.0.0.1:1", "127.0.0.1:"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    from provers.ray_cluster import RaySite

    with pytest.raises(MalformedError, match="no address of a Ray cluster"):
        RaySite(address)


def test_where_nobody_listens_is_said_at_once() -> None:
    from provers.ray_cluster import RaySite

    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no Ray cluster answers at 127\.0\.0\.1:9") as refused:
        RaySite("127.0.0.1:9")
    assert "ray start --head" in str(refused.value.hint)
    assert time.monotonic() - begun < 10


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from provers.ray_cluster import RaySite

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match="Ray is not installed") as refused:
        RaySite("127.0.0.1:9")
    assert "rexis[ray]" in str(refused.value.hint)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
