"""The demo's flow as one test: real chain, contracts, coordinator, workers and proofs, each a process of its own."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.zoo import held_out, load_model_bytes
from rexis.cli.demo import SHARD_SIZE, Demo
from rexis.cli.main import main
from rexis.cli.stack import Stack, stop
from rexis.ee import load_key
from rexis.outputs import as_floats, read_outputs
from rexis.protocol.certificate import Certificate
from rexis.protocol.tensors import Dataset
from tests.evm import needs_evm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


class Flow:
    """A stack with the main job done."""

    def __init__(self, stack: Stack) -> None:
        self.lines: list[str] = []
        self.stack = stack
        self.demo = Demo(stack, self.lines.append)
        self.demo.set_up()
        self.workers = [stack.start_worker(name) for name in ("worker-1", "worker-2")]
        self.sampled = self.demo.evaluate()
        self.scores = self.demo.decrypt(self.sampled)
        stop(self.workers[1])
        self.zk = self.demo.certify()


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    with pytest.MonkeyPatch.context() as patch, Stack(tmp_path_factory.mktemp("e2e") / "stack") as stack:
        for name in [name for name in os.environ if name.startswith("REXIS_")]:
            patch.delenv(name)
        yield Flow(stack)


def verify(certificate: Path, *options: str) -> tuple[int, dict]:
    """As an auditor's command does, in this process: what it takes to start one is not tested here."""
    written = io.StringIO()
    with redirect_stdout(written):
        code = main(
            [
                "verify", str(certificate), "--json", "--allow-development-srs", "--allow-development-chain", *options,
            ]
        )  # fmt: skip
    return code, json.loads(written.getvalue())


def test_decisions_agree_with_the_plain_model(flow: Flow) -> None:
    assert flow.scores.agreement is not None
    assert flow.scores.agreement >= 0.99
    assert flow.scores.plain["accuracy"] > 0.9


@pytest.mark.parametrize("name", ["sampled", "zk"])
def test_auditor_verifies_against_the_chain_and_offline(flow: Flow, name: str) -> None:
    certificate = getattr(flow, name)
    assert flow.demo.audit(certificate) == 0, flow.lines
    for options in (("--offline",), ("--offline", "--reexecute", "3")):
        code, report = verify(certificate, *options)
        assert code == 0, report
    code, report = verify(certificate)
    assert code == 2, report


def test_circuit_can_be_rebuilt_from_the_model(flow: Flow) -> None:
    code, report = verify(flow.zk, "--offline", "--rebuild-circuit")
    assert code == 0, report


@needs_evm
@pytest.mark.parametrize("name", ["sampled", "zk"])
def test_the_solidity_verifier_agrees(flow: Flow, name: str) -> None:
    code, report = verify(getattr(flow, name), "--rpc", flow.stack.chain_url, "--second-opinion")
    assert code == 0, report
    assert [step["status"] for step in report["steps"] if step["number"] == 20][-1:] == ["ok"]


def test_development_parameters_are_refused_by_default(flow: Flow) -> None:
    assert flow.stack.rexis("verify", str(flow.zk), "--offline", check=False).returncode == 1


def test_certificate_states_the_fixed_point_error(flow: Flow) -> None:
    """Recomputed here from the float model; how large it is depends on the key (0.02 to 0.06 over 16 of them)."""
    certificate = Certificate.parse(flow.sampled.read_bytes())
    blob = flow.sampled.with_name("outputs.safetensors").read_bytes()
    exact = as_floats(certificate, read_outputs(certificate, blob))
    session = onnxruntime.InferenceSession(flow.stack.folder / "encrypted.onnx", providers=["CPUExecutionProvider"])
    records = Dataset.from_bytes(flow.demo.dataset.read_bytes()).records
    error = np.abs(exact - session.run(None, {session.get_inputs()[0].name: records})[0])
    for task in certificate.tasks:
        statement, stated = task.evidence.statement, task.evidence.measured
        found = error[statement.record_start : statement.record_start + statement.record_count]
        assert stated.max_abs_error_e9 * 1e-9 == pytest.approx(found.max(), abs=1e-5)
        assert stated.rms_error_e9 * 1e-9 == pytest.approx(np.sqrt((found**2).mean()), abs=1e-5)
        assert found.max() > 0


def test_any_changed_byte_is_refused(flow: Flow, tmp_path: Path) -> None:
    data = flow.zk.read_bytes()
    rng = np.random.default_rng(3)
    for name in flow.zk.parent.glob("sha256-*"):
        (tmp_path / name.name).symlink_to(name)
    for at in rng.choice(len(data), 12, replace=False):
        forged = tmp_path / "forged.json"
        forged.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert verify(forged, "--offline")[0] == 1, f"byte {at}"


@pytest.mark.slow
def test_killed_worker_loses_nothing_but_time(flow: Flow) -> None:
    """`kill -9` in the middle of the proofs; another worker takes the task when the lease has run out."""
    demo, stack = flow.demo, flow.stack
    stop(flow.workers[0])
    victim = stack.start_worker("victim")
    submitted = stack.rexis("submit", *demo._job("--tier", "sampled", "-k", "8", "--count", "40"), "--json")
    job = json.loads(submitted.stdout)["jobId"]
    demo.wait(job, lambda found: (found["tasks"][0]["progress"] or {}).get("stage") == "prove")
    stop(victim, kill=True)
    time.sleep(1)
    orphans = subprocess.run(["pgrep", "-fc", "workers/victim"], capture_output=True, text=True, check=False)
    assert orphans.stdout.strip() in ("", "0"), "the killed worker left a process behind"
    flow.workers[0] = stack.start_worker("worker-1")
    view = demo.wait(job, lambda found: found["state"] in ("certified", "failed"))
    assert view["state"] == "certified", view


@pytest.mark.slow
def test_dishonest_worker_is_caught_and_the_task_is_done(flow: Flow) -> None:
    view = flow.demo.catch_cheat(flow.workers[0])
    assert view["state"] == "certified"
    text = "\n".join(flow.lines)
    assert re.search(r"caught with probability 0\.9\d\d", text)
    faults = view["tasks"][0]["faults"]
    if faults:  # else the one sample in ten that misses the cheat: no defect
        assert view["tasks"][0]["worker"] != faults[0]["worker"]
        assert "step" in faults[0]["detail"]
    assert view["tasks"][0]["count"] == SHARD_SIZE


def test_store_blobs_and_logs_hold_no_secret(flow: Flow) -> None:
    """Greps everything the coordinator and the workers wrote for plain records, plain weights, keys and passphrases."""
    stack = flow.stack
    passphrase = stack.passphrase_file.read_text().strip()
    key = load_key(stack.folder / "ee.key", passphrase)
    secrets = {
        "passphrase": passphrase.encode(),
        "salt secret": key.data_secret,
        "salt secret, hex": key.data_secret.hex().encode(),
    }
    records, _ = held_out("breast_cancer")
    for row in (0, 71, len(records) - 1):
        secrets[f"plain record {row}"] = records[row, :4].tobytes()
        secrets[f"plain record {row}, text"] = repr(float(records[row, 0])).encode()
    import onnx
    from onnx import numpy_helper

    for tensor in onnx.load_from_string(load_model_bytes("breast_cancer")).graph.initializer:
        secrets[f"plain weights {tensor.name}"] = numpy_helper.to_array(tensor).tobytes()[:16]
    from rexis.wallet import load_wallet

    for wallet in (stack.folder / "wallets").glob("*.json"):
        private = bytes(load_wallet(wallet, passphrase).key)
        secrets[f"private key of {wallet.stem}"] = private
        secrets[f"private key of {wallet.stem}, hex"] = private.hex().encode()
    places = [stack.folder / name for name in ("coordinator", "logs", "workers", "certificates")]
    files = [
        file
        for place in places
        for file in place.rglob("*")
        if file.is_file() and not file.name.startswith("predictions")
    ]
    assert len(files) > 10
    found = [
        (what, str(file))
        for file in files
        for data in [file.read_bytes()]
        for what, secret in secrets.items()
        if secret in data
    ]
    assert found == []
    # and the search can find things: the encrypted records do lie there
    encrypted = Dataset.from_bytes((stack.folder / "dataset.safetensors").read_bytes()).records[0, :4].tobytes()
    assert any(encrypted in file.read_bytes() for file in files)


def test_logs_hold_no_token(flow: Flow) -> None:
    logs = "".join(file.read_text() for file in (flow.stack.folder / "logs").glob("*.log"))
    assert "Bearer" not in logs
    assert "Traceback" not in logs
