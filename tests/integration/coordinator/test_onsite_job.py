"""Rung ``zk-onsite`` from end to end, by the commands: what a coordinator and a certificate get to see of records."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from eth_account.signers.local import LocalAccount
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load

from circuits.hashing import poseidon
from circuits.process import EzklProcess
from rexis.api import TaskState, WorkerRegistration
from rexis.cli.main import main
from rexis.client import job_request
from rexis.files import write_file
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import MalformedError, TensorError
from rexis.protocol.merkle import leaf_hash
from rexis.protocol.onsite import PrivateDataset, read_own_dataset, salted
from rexis.protocol.policy import Rung, Tier
from rexis.protocol.records import SALT_BYTES, Encoding, Floats, LeafFormat, Side, quantise
from rexis.protocol.signing import new_account
from rexis.protocol.tensors import Dataset
from tests.integration.circuits.tiny_circuit import TINY
from tests.integration.coordinator.rig import PASSPHRASE, Rig
from tests.unit.coordinator.fakes import make_policy

# The model adds the first two values and the last two: these two records differ in all, their outputs in none. Their
# integers have five digits, so that one that is found somewhere is no chance, and are no ports of clients in a log.
ONE = np.array([[29837, -17401, 21277, 11827]], dtype=np.float32) / 2**TINY.input_scale
OTHER = np.array([[-14563, 26999, 13331, 19773]], dtype=np.float32) / 2**TINY.input_scale

_REXIS = "from rexis.cli.main import run; run()"


def adder() -> bytes:
    """Four values in, two sums out."""
    weights = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["records", "w"], ["sums"], transB=1)],
        "adder",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


class Onsite:
    """A rig whose model hashes its inputs, with a data owner who has the ``rexis`` command."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.folder = rig, folder
        self._wallet("owner", rig.owner)
        self._wallet("requester", rig.requester)
        self.model = adder()
        (folder / "model.onnx").write_bytes(self.named_model)
        (folder / "profile.json").write_bytes(TINY.to_json())
        chain = ["--rpc", rig.dev.url, "--deployment", str(rig.folder / "deployment.json")]
        circuit = ["--profile", str(folder / "profile.json"), "--srs", "development", "--cache", str(folder / "cache")]
        model = ["--model", str(folder / "model.onnx"), "--epoch", "1"]
        self.run("owner", "register", *model, *chain, *circuit, "--rung", "zk-onsite")

    @property
    def named_model(self) -> bytes:
        """A model of this rig's own: a digest has one owner on chain."""
        proto = onnx.load_from_string(self.model)
        proto.producer_name = self.rig.owner.address
        data: bytes = proto.SerializeToString()
        return data

    @property
    def digest(self) -> Digest:
        return sha256(self.named_model)

    def _wallet(self, name: str, account: LocalAccount) -> None:
        document = json.dumps(account.encrypt(PASSPHRASE, iterations=2)).encode()
        write_file(self.folder / f"{name}.json", document, private=True)

    def run(self, who: str, *arguments: str) -> None:
        """A command, as somebody."""
        wallet = ["--coordinator", self.rig.url, "--wallet", str(self.folder / f"{who}.json")]
        assert main([*arguments, *wallet]) == 0

    def commit(self, name: str, records: Floats) -> PrivateDataset:
        """Salt and hash records with the command."""
        np.save(self.folder / f"{name}.npy", records)
        model = ["--model", str(self.digest), "--epoch", "1"]
        files = ["--records", str(self.folder / f"{name}.npy"), "--out", str(self.folder / name)]
        self.run("requester", "onsite", "commit", *model, *files)
        found = read_own_dataset((self.folder / name).read_bytes())
        assert isinstance(found, PrivateDataset)
        return found

    def submit(self, name: str, *options: str) -> Digest:
        """Submit a job on a private dataset with the command."""
        before = {view.job_id for view in self.rig.client(self.rig.requester).jobs()}
        model = ["--model", str(self.digest), "--epoch", "1", "--dataset", str(self.folder / name)]
        self.run("requester", "submit", *model, "--rung", "zk-onsite", *options)
        (job,) = {view.job_id for view in self.rig.client(self.rig.requester).jobs()} - before
        return job

    def worker(self, *names: str) -> subprocess.Popen[bytes]:
        """The data owner's worker, a process of its own."""
        onsite = [part for name in names for part in ("--onsite", str(self.folder / name))]
        where = ["--coordinator", self.rig.url, "--wallet", str(self.folder / "requester.json")]
        options = ["--rpc", self.rig.dev.url, "--cache", str(self.folder / "worker"), *onsite]
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _REXIS, "worker", "run", *where, *options],
                env={**os.environ, "REXIS_PASSPHRASE": PASSPHRASE},
                stdout=log,
                stderr=log,
            )

    def certificate(self, job: Digest) -> Path:
        """The finished job's files, fetched with the command."""
        assert self.rig.finished(job, 120).certificate_digest is not None, (self.folder / "worker.log").read_text()
        out = self.folder / f"job-{job.hex()[:8]}"
        self.run("requester", "fetch", str(job), "--out", str(out))
        return out


@pytest.fixture
def onsite(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Onsite]:
    pytest.importorskip("ezkl")
    monkeypatch.setenv("REXIS_PASSPHRASE", PASSPHRASE)
    (tmp_path / "owner").mkdir()
    yield Onsite(rig, tmp_path / "owner")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a JSON document, by its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        yield f"{path}.length", len(value)
        for position, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{position}]")
    else:
        yield path, value


def differing(one: bytes, other: bytes) -> set[str]:
    """Paths at which two documents are not alike."""
    first, second = dict(leaves(json.loads(one))), dict(leaves(json.loads(other)))
    return {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)}


def size(document: bytes) -> int:
    """Bytes of a certificate but for its times and its place on chain, which can take a digit more for a later job."""
    return len(re.sub(rb'("(?:computeMs|proveMs|blockNumber|anchorId)":)\d+', rb"\1", document))


def traces(data: PrivateDataset) -> dict[str, re.Pattern[bytes]]:
    """Whatever of a private dataset could stand in a file: values, integers, salts, leaves, the hash without salt."""
    found: dict[str, bytes] = {}
    integers = quantise(data.records, TINY.input_scale)
    fixed = LeafFormat(side=Side.INPUT, encoding=Encoding.FIXED, scale=TINY.input_scale)
    with EzklProcess() as ezkl:
        unsalted = poseidon(integers, ezkl)
        assert np.array_equal(poseidon(salted(integers, data.secrets), ezkl), data.public.hashes)
    for row, (record, values, secret) in enumerate(zip(data.records, integers, data.secrets, strict=True)):
        found |= {f"float {row}.{i}": value.tobytes() for i, value in enumerate(record)}
        found |= {f"integer {row}.{i}": int(value).to_bytes(8, "big", signed=True) for i, value in enumerate(values)}
        found |= {f"little {row}.{i}": int(value).to_bytes(8, "little", signed=True) for i, value in enumerate(values)}
        found |= {f"secret {row}": secret.tobytes()[:8], f"unsalted hash {row}": unsalted[row].tobytes()}
        for salt in (bytes(SALT_BYTES), data.leaf_salts[row].tobytes()):
            found[f"leaf {row} {salt[:1].hex()}"] = leaf_hash(fixed.leaf(salt, fixed.payload(values)))
    patterns = {
        name: re.compile(b"|".join((re.escape(raw), re.escape(raw.hex().encode())))) for name, raw in found.items()
    }
    for row, values in enumerate(integers.tolist()):
        for i, value in enumerate(values):
            text = str(value).encode()
            patterns[f"text {row}.{i}"] = re.compile(rb"(?<![0-9a-fA-F.])" + text + rb"(?![0-9a-fA-F.])")
    return patterns


def test_nothing_but_the_output_depends_on_the_record(onsite: Onsite) -> None:
    one, again, other = (
        onsite.commit(name, records) for name, records in (("one", ONE), ("again", ONE), ("other", OTHER))
    )
    jobs = [onsite.submit(name, "--tier", "zk") for name in ("one", "again", "other")]
    stranger = onsite.rig.worker()
    stranger.client.register_worker(_prover())
    assert stranger.client.lease(1) is None
    reason = onsite.rig.client(onsite.rig.requester).job(jobs[0]).tasks[0].waiting
    assert reason is not None
    assert "no worker holds the records" in reason

    worker = onsite.worker("one", "again", "other")
    try:
        folders = [onsite.certificate(job) for job in jobs]
    finally:
        worker.terminate()
        worker.wait(60)

    for folder in folders:
        _verify(onsite, folder)
        assert _outputs(folder / "outputs.safetensors").tolist() == [[12436, 33104]]
    first, second, third = ((folder / "certificate.json").read_bytes() for folder in folders)
    when = {".issuedAt"}  # within one second or not
    assert differing(first, third) - when == differing(first, second) - when
    assert ".tasks[0].evidence.openings[0].input" in differing(first, second)
    assert ".tasks[0].evidence.openings[0].output" not in differing(first, third)
    assert size(first) == size(second) == size(third)

    everything = [path for path in onsite.rig.folder.rglob("*") if path.is_file() and onsite.folder not in path.parents]
    seen = b"\n".join([path.read_bytes() for path in everything] + [first, second, third])
    assert one.public.hashes[0].tobytes().hex().encode() in seen
    assert one.public.to_bytes() in seen
    for data in (one, again, other):
        patterns = traces(data)
        assert not [name for name, pattern in patterns.items() if pattern.search(seen)]
        # The control: what a job of another rung uploads and publishes has such traces.
        salts = np.zeros((1, SALT_BYTES), dtype=np.uint8)
        integers = quantise(data.records, TINY.input_scale)
        public = Dataset(data.records, salts).to_bytes() + integers.astype(">i8").tobytes().hex().encode()
        assert {name.split()[0] for name, pattern in patterns.items() if pattern.search(public)} >= {"float", "integer"}


def test_who_may_not_have_it(onsite: Onsite) -> None:
    """Records do not go up by mistake, and other people's jobs find no way to them."""
    private = onsite.commit("one", ONE)
    model = onsite.rig.client(onsite.rig.requester).model(onsite.digest, 1)
    assert model.circuit.visibility == Visibility.HASHED
    client, info = onsite.rig.client(onsite.rig.requester), onsite.rig.client(onsite.rig.requester).info()
    policy = make_policy(tier=Tier.ZK, sample_size=0, rung=Rung.ZK_ONSITE)
    plain = Dataset(ONE, np.zeros((1, SALT_BYTES), dtype=np.uint8))
    with pytest.raises(TensorError, match="the circuit takes hashes"):
        job_request(info, model, plain, plain.digest, policy, requester=client.address)
    blob = private.to_bytes()
    client.upload_blob(blob)
    with pytest.raises(TensorError, match="never leaves"):
        client.register_dataset(sha256(blob))
    request = job_request(info, model, private, private.digest, policy, requester=client.address)
    with pytest.raises(MalformedError, match="not known here"):
        client.submit_job(request)

    listed = ["--model", str(onsite.digest), "--epoch", "1", "--coordinator", onsite.rig.url]
    wallet = ["--wallet", str(onsite.folder / "requester.json"), "--dataset", str(onsite.folder / "one")]
    assert main(["submit", *listed, *wallet, "--tier", "zk"]) == 2  # of rung ee-outsourced


def test_jobs_of_others_on_the_same_hashes_do_not_wear_the_owners_worker_out(onsite: Onsite) -> None:
    """Hashes are no secret, so that anybody can ask about them. The worker that holds the records is not asked."""
    private = onsite.commit("one", ONE)
    blob = private.public.to_bytes()
    stranger = onsite.rig.client(new_account())
    stranger.upload_blob(blob)
    stranger.register_dataset(private.digest)
    policy = make_policy(tier=Tier.ZK, sample_size=0, rung=Rung.ZK_ONSITE)
    model = stranger.model(onsite.digest, 1)
    asked = stranger.submit_job(
        job_request(stranger.info(), model, private, private.digest, policy, requester=stranger.address)
    )
    job = onsite.submit("one", "--tier", "zk")
    worker = onsite.worker("one")
    try:
        onsite.certificate(job)
    finally:
        worker.terminate()
        worker.wait(60)
    (task,) = stranger.job(asked.job_id).tasks
    assert (task.fault_count, task.state) == (0, TaskState.PENDING)
    assert task.waiting is not None
    assert "no worker holds the records for this requester" in task.waiting


def _prover() -> WorkerRegistration:
    return WorkerRegistration(
        name="stranger", provider="CPUExecutionProvider", tiers=[Tier.SAMPLED, Tier.ZK], memory_bytes=1 << 30
    )


def _outputs(path: Path) -> Any:
    return load(path.read_bytes())["outputs"]


def _verify(onsite: Onsite, folder: Path) -> None:
    chain = ["--rpc", onsite.rig.dev.url, "--allow-development-srs", "--allow-development-chain"]
    more = ["--artifacts", str(folder), "--rebuild-circuit", "--second-opinion", "--reexecute", "1"]
    report = subprocess.run(
        [sys.executable, "-c", _REXIS, "verify", "--json", str(folder / "certificate.json"), *chain, *more],
        capture_output=True,
        check=False,
    )
    found = json.loads(report.stdout)
    assert report.returncode == 0, found
    steps = {step["number"]: step for step in found["steps"]}
    assert steps[12]["status"] == "skipped"
    assert "private" in steps[12]["detail"]
    assert steps[13]["status"] == steps[20]["status"] == "ok"
    assert steps[19]["detail"].startswith("zk-onsite: ")
