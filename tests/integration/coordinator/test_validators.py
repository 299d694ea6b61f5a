"""Independent validators, end to end: real processes, HTTP, a real chain and the real contract."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from eth_account.signers.local import LocalAccount
from onnx import TensorProto, helper, numpy_helper

from contracts.accountability import Accountability, Terms
from contracts.accountable import AccountableChain
from contracts.chain import Deployment
from contracts.devchain import DevChain
from rexis.api import JobState, JobView, Role, SignedVerdict, VerdictSubmission
from rexis.cli.main import main
from rexis.files import write_file
from rexis.protocol.bls import BlsKey, aggregate_signatures
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, MalformedError
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.signing import address_of
from rexis.protocol.validation import Finding, ValidatorVerdict
from rexis.validator_key import create_validator_key, load_validator_key
from tests.integration.coordinator.rig import PASSPHRASE, Rig
from tests.unit.coordinator.fakes import evaluate, make_policy
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Outcome
from verifier.validators import VALIDATORS

MIN_STAKE = 10**16
_REXIS = "from rexis.cli.main import run; run()"


class JudgedRig(Rig):
    """A coordinator that knows the quorum, and a model that can be run again."""

    quorum: Accountability
    front: str | None = None

    @property
    def url(self) -> str:
        return self.front or super().url

    @property
    def model(self) -> bytes:
        """What :func:`evaluate` computes; of this rig's own, since a digest has one owner on chain."""
        axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
        nodes = [
            helper.make_node("ReduceSum", ["input", "axes"], ["sum"], keepdims=1),
            helper.make_node("ReduceMax", ["input"], ["most"], axes=[1], keepdims=1),
            helper.make_node("Concat", ["sum", "most"], ["output"], axis=1),
        ]
        value = helper.make_tensor_value_info
        ins, outs = value("input", TensorProto.FLOAT, ["n", 4]), value("output", TensorProto.FLOAT, ["n", 2])
        graph = helper.make_graph(nodes, "sums", [ins], [outs], [axes])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        made.doc_string = address_of(self.owner)
        assert isinstance(made, onnx.ModelProto)
        return bytes(made.SerializeToString())

    def settings(self) -> dict[str, str]:
        return {**super().settings(), "REXIS_ACCOUNTABILITY": str(self.manifest)}

    @property
    def manifest(self) -> Path:
        path = self.folder / "accountability.json"
        if not path.exists():
            path.write_bytes(self.quorum.to_json())
        return path

    def submit(self, validators: int = 1) -> JobView:
        policy = make_policy(validators=validators, abs_tolerance_e9=1000, shard_size=5)
        client = self.client(self.requester)
        request = self.request(policy, nonce=Digest(os.urandom(32)))
        return client.submit_job(request, quorum=self.quorum.validator_quorum)

    def until(self, job: JobView, holds: Callable[[JobView], bool], seconds: float = 90.0) -> JobView:
        deadline = time.monotonic() + seconds
        while not holds(view := self.client(self.requester).job(job.job_id)):
            assert time.monotonic() < deadline, (view.state, view.reason, self.log)
            time.sleep(0.2)
        return view


@dataclass
class Judge:
    """A validator with its files; :meth:`run` starts ``rexis validator run``."""

    folder: Path
    account: LocalAccount
    key: BlsKey
    slot: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def run(self, rig: JudgedRig) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable, "-c", _REXIS, "validator", "run", "--coordinator", rig.url,
                    "--wallet", str(self.folder / "wallet.json"), "--key", str(self.folder / "key.json"),
                    "--quorum", str(rig.manifest), "--rpc", rig.dev.url, "--state", str(self.state),
                    "--every", "0.3", "--allow-development-chain",
                ],
                env={**os.environ, "REXIS_PASSPHRASE": PASSPHRASE, "REXIS_LOG_FORMAT": "json"},
                stdout=log,
                stderr=log,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def sign(self, domain: object, statement: Digest, finding: Finding) -> SignedVerdict:
        message = domain.digest(ValidatorVerdict(statement_digest=statement, verdict=finding))  # type: ignore[attr-defined]
        return SignedVerdict(statement=statement, verdict=finding, signature=self.key.sign(message))

    def hand_in(self, rig: JudgedRig, job: JobView, finding: Finding) -> list[Digest]:
        """As somebody would who checks nothing."""
        client = rig.client(self.account)
        (asked,) = [one for one in client.validations() if one.job_id == job.job_id]
        verdicts = [self.sign(rig.deployment.domain, one, finding) for one in asked.statements]
        client.hand_verdicts_in(job.job_id, VerdictSubmission(slot=self.slot, verdicts=verdicts))
        return asked.statements

    def decided(self) -> int:
        with suppress(sqlite3.Error), sqlite3.connect(self.state / "journal.sqlite") as journal:
            return int(journal.execute("SELECT count(*) FROM verdict").fetchone()[0])
        return 0


@pytest.fixture(scope="module")
def quorum(dev: DevChain, deployment: Deployment, funded: Callable[[], LocalAccount]) -> Accountability:
    governance = funded()
    chain = AccountableChain.connect(dev.url, account=governance)
    chain.attach(deployment)
    return chain.deploy_accountability(
        Terms(
            governance=address_of(governance), token=ZERO_ADDRESS, bond=1, penalty=1, reward_bps=1,
            treasury=address_of(governance), challenge_period=10, response_window=10, validator_delay=10,
            validator_min_stake=MIN_STAKE, threshold_bps=6666,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def judges(
    tmp_path_factory: pytest.TempPathFactory,
    dev: DevChain,
    quorum: Accountability,
    funded: Callable[[], LocalAccount],
) -> Iterator[list[Judge]]:
    """Three validators that joined by command: with 8, 2 and 1 at stake."""
    manifest = tmp_path_factory.mktemp("quorum") / "accountability.json"
    manifest.write_bytes(quorum.to_json())
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REXIS_PASSPHRASE", PASSPHRASE)
        for stake in (8, 2, 1):
            folder, account = tmp_path_factory.mktemp("validator"), funded()
            write_file(
                folder / "wallet.json", json.dumps(account.encrypt(PASSPHRASE, iterations=2)).encode(), private=True
            )
            create_validator_key(folder / "key.json", PASSPHRASE, work=2)
            arguments = [
                "validator", "join", "--rpc", dev.url, "--wallet", str(folder / "wallet.json"),
                "--key", str(folder / "key.json"), "--quorum", str(manifest), "--stake", str(stake * MIN_STAKE),
            ]  # fmt: skip
            assert main(arguments) == 0
            key = load_validator_key(folder / "key.json", PASSPHRASE)
            made.append(Judge(folder, account, key, slot=len(made)))
    chain = AccountableChain.connect(dev.url)
    chain.discover()
    chain.attach_accountability(quorum)
    for judge in made:
        seat = chain.validator_in(judge.slot)
        assert seat is not None and (seat.account, seat.public_key) == (address_of(judge.account), judge.key.public_key)
    yield made
    for judge in made:
        for process in judge.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory,
    dev: DevChain,
    deployment: Deployment,
    funded: Callable[[], LocalAccount],
    quorum: Accountability,
    judges: list[Judge],
) -> Iterator[JudgedRig]:
    made = JudgedRig(tmp_path_factory.mktemp("coordinator"), dev, deployment, owner=funded(), account=funded())
    made.quorum = quorum
    made.start(REXIS_OPERATORS=json.dumps([address_of(made.account)]), REXIS_CHAIN_POLL_SECONDS="0.2")
    operator = made.client(made.account)
    for judge in judges:
        operator.give_roles(address_of(judge.account), [Role.VALIDATOR])
    made.publish()
    yield made
    made.close()


def stop(process: subprocess.Popen[bytes], judge: Judge) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, judge.log


def verify(rig: JudgedRig, document: bytes, **options: object):  # type: ignore[no-untyped-def]
    given = {"quorum": rig.quorum, "rpc_url": rig.dev.url, "allow_development_chain": True, **options}
    return verify_certificate(document, VerifyOptions(**given))  # type: ignore[arg-type]


def waits_for_validators(view: JobView) -> bool:
    return (view.reason or "").startswith("waits for validators")


def test_an_honest_majority_certifies_with_one_dishonest_and_one_dead(rig: JudgedRig, judges: list[Judge]) -> None:
    """8 of 11 at stake is honest, 2 says the contrary of what is true, 1 says nothing."""
    job = rig.submit()
    rig.worker().do_one(rig.dataset)
    rig.until(job, waits_for_validators)
    judges[1].hand_in(rig, job, Finding.INVALID)
    view = rig.client(rig.requester).job(job.job_id)
    assert view.state == JobState.ANCHORING and "1 found a statement not valid" in (view.reason or "")
    (group,) = rig.client(rig.requester).waiting(job.job_id).groups
    assert "1 validators have judged, 1 are wanted on each" in group.reason

    process = judges[0].run(rig)
    view = rig.until(job, lambda view: view.state in (JobState.CERTIFIED, JobState.FAILED))
    assert view.state == JobState.CERTIFIED, view.reason
    assert main(["validator", "status", "--state", str(judges[0].state), "--json"]) == 0
    stop(process, judges[0])
    assert main(["validator", "status", "--state", str(judges[0].state), "--json"]) == 1

    document = rig.client(rig.requester).certificate(job.job_id)
    verdict = verify(rig, document)
    assert verdict.outcome == Outcome.VALID, verdict.steps
    unnamed = verify(rig, document, quorum=None)
    assert [step.number for step in unnamed.unchecked] == [VALIDATORS]
    other = Accountability.on(rig.quorum.chain_id, rig.quorum.terms.model_copy(update={"threshold_bps": 9000}))
    failed = verify(rig, document, quorum=other).failed
    assert failed is not None and failed.number == VALIDATORS
    # The transaction was one, whatever the coordinator went through.
    rig.stop(signal.SIGKILL)
    rig.start(REXIS_CHAIN_POLL_SECONDS="0.2")
    assert rig.client(rig.requester).job(job.job_id).state == JobState.CERTIFIED


def test_a_wrong_output_is_refuted_and_fails_the_job(rig: JudgedRig, judges: list[Judge]) -> None:
    job = rig.submit()
    worker = rig.worker()
    lease = worker.lease()
    wrong = evaluate(rig.dataset.records)
    wrong[:, 0] += 0.5
    blob, evidence = worker.fake.work(lease, rig.dataset, outputs=wrong)
    worker.client.upload_blob(blob)
    assert worker.client.evidence(lease.lease_id, evidence).accepted  # tier commit: nobody has run it again so far
    rig.until(job, waits_for_validators)
    draft = rig.client(judges[0].account).draft_certificate(job.job_id)

    process = judges[0].run(rig)
    view = rig.until(job, lambda view: view.state in (JobState.CERTIFIED, JobState.FAILED))
    stop(process, judges[0])
    assert view.state == JobState.FAILED
    assert "validators found the statement of records 0–4 not valid" in (view.reason or "")
    assert [(fault.code, fault.worker) for fault in view.tasks[0].faults] == [
        ("refuted-by-validators", worker.fake.address)
    ]
    failed = verify(rig, draft).failed
    assert failed is not None and "found statement" in failed.detail and failed.number == VALIDATORS
    with pytest.raises(ConflictError, match="for good"):
        rig.client(rig.requester).retry_job(job.job_id)


@pytest.mark.slow
def test_a_verdict_with_fewer_signers_than_wanted_is_not_enough(rig: JudgedRig, judges: list[Judge]) -> None:
    """Whoever has enough stake alone writes a verdict down; the policy wants two."""
    with pytest.raises(MalformedError, match="this coordinator's is"):
        rig.client(rig.requester).submit_job(rig.request(make_policy(validators=2)))
    job = rig.submit(validators=2)
    rig.worker().do_one(rig.dataset)
    rig.until(job, waits_for_validators)
    client = rig.client(judges[0].account)
    draft = client.draft_certificate(job.job_id)
    with pytest.raises(ConflictError, match="has no certificate"):
        rig.client(rig.requester).certificate(job.job_id)
    (statement,) = judges[0].hand_in(rig, job, Finding.VALID)
    time.sleep(1.5)
    assert rig.client(rig.requester).job(job.job_id).state == JobState.ANCHORING

    chain = AccountableChain.connect(rig.dev.url, account=judges[0].account)
    chain.attach(rig.deployment)
    chain.attach_accountability(rig.quorum)
    signature = aggregate_signatures([judges[0].sign(rig.deployment.domain, statement, Finding.VALID).signature])
    chain.record_verdict(statement, Finding.VALID, [0], signature)
    failed = verify(rig, draft).failed
    assert failed is not None and failed.number == VALIDATORS
    assert "1 validators signed for statement" in failed.detail and "the policy wants 2" in failed.detail
    view = rig.until(job, lambda view: view.state == JobState.FAILED)
    assert "with 1 signers, the policy wants 2" in (view.reason or "")


class Wall:
    """An HTTP proxy in front of a coordinator that lets verdicts through once it is open, and says when one came."""

    def __init__(self, to: str) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.round = 0  # what came in an earlier one is dropped: its sender is dead
        wall = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.command == "POST" and self.path.startswith("/v1/validations/"):
                    came_in = wall.round
                    wall.reached.set()
                    wall.opened.wait()
                    if wall.round != came_in:
                        self.close_connection = True
                        return
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                found = httpx.request(self.command, f"{to}{self.path}", headers=headers, content=body, timeout=60)
                data = b"" if self.command == "HEAD" else found.content
                self.send_response(found.status_code)
                for name in ("content-type", "etag", "content-range", "accept-ranges"):
                    if name in found.headers:
                        self.send_header(name, found.headers[name])
                self.send_header("Content-Length", found.headers.get("content-length", str(len(data))))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_HEAD = pass_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.opened.set()
        self._server.shutdown()


def test_killed_between_signing_and_handing_in_it_says_the_same_again(rig: JudgedRig, judges: list[Judge]) -> None:
    judge, wall = judges[0], Wall(f"http://127.0.0.1:{rig.port}")
    rig.stop()
    rig.front = wall.url
    rig.start(REXIS_PUBLIC_URL=wall.url, REXIS_CHAIN_POLL_SECONDS="0.2")
    job = rig.submit()
    rig.worker().do_one(rig.dataset)
    rig.until(job, waits_for_validators)
    before = judge.decided()
    process = judge.run(rig)
    assert wall.reached.wait(90), judge.log
    process.kill()
    process.wait()
    wall.round += 1
    assert judge.decided() == before + 1

    began = len(judge.log)
    both = [judge.run(rig), judge.run(rig)]  # with one journal: whoever comes second is refused
    deadline = time.monotonic() + 90
    while not (ended := [one for one in both if one.poll() is not None]):
        assert time.monotonic() < deadline, judge.log
        time.sleep(0.1)
    assert [one.returncode for one in ended] == [1]
    assert "another validator runs with" in judge.log
    (process,) = [one for one in both if one not in ended]
    wall.opened.set()
    rig.until(job, lambda view: view.state == JobState.CERTIFIED)
    deadline = time.monotonic() + 60
    while "handed in" not in judge.log[began:]:  # the answer is on its way
        assert time.monotonic() < deadline, judge.log
        time.sleep(0.1)
    stop(process, judge)
    events = [json.loads(line) for line in judge.log[began:].splitlines() if line.startswith("{")]
    told = [one["event"] for one in events if one["event"] in ("checked", "handed in")]
    assert told == ["handed in"]
    assert judge.decided() == before + 1
    wall.close()
