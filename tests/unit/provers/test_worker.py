"""The loop: what a worker does when all is well, and when something is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provers import service as service_module
from provers.circuit import LocalDesk
from provers.onchain import OnChain, Unchecked
from provers.onsite import WITHHELD
from provers.options import WorkerOptions
from provers.task import CircuitFiles
from rexis.api import Progress, Stage
from rexis.locks import locked
from rexis.protocol.circuit import Circuit
from rexis.protocol.errors import ChainError, ForbiddenError, NotFoundError, UnavailableError
from rexis.protocol.policy import Tier
from rexis.protocol.signing import address_of
from rexis.protocol.statement import JobRequest
from tests.unit.protocol.test_onsite import circuit as hashed_circuit
from tests.unit.protocol.test_onsite import private
from tests.unit.provers.bench import REQUESTER, Bench, lease_of, slow
from tests.unit.provers.fakes import (
    CIRCUIT,
    FakeCircuit,
    make_lease,
)


@pytest.fixture
def circuit(monkeypatch: pytest.MonkeyPatch) -> FakeCircuit:
    """Stands in for ezkl."""
    fake = FakeCircuit()

    def opened(
        self: LocalDesk,
        pinned: Circuit,
        files: CircuitFiles,
        progress: Callable[[int, int], None],
    ) -> FakeCircuit:
        assert pinned == CIRCUIT
        assert (files.settings.read_bytes(), files.srs.read_bytes()) == (b"settings", b"srs")
        return fake

    monkeypatch.setattr(LocalDesk, "open", opened)
    return fake


@pytest.mark.parametrize(("tier", "proofs"), [(Tier.COMMIT, 0), (Tier.SAMPLED, 2), (Tier.ZK, 8)])
def test_a_task_is_done_and_handed_in(bench: Bench, circuit: FakeCircuit, tier: Tier, proofs: int) -> None:
    done = bench.run(lease_of(tier))
    (evidence,) = done.handed_in
    assert len(evidence.proofs) == len(circuit.proved) == proofs
    assert evidence.outputs_digest in done.uploaded
    assert done.statements == ([evidence.statement] if tier == Tier.SAMPLED else [])
    assert (done.failures, done.released) == ([], [])
    assert bench.display.stages[0] == Stage.FETCH
    assert bench.display.stages[-1] == Stage.UPLOAD


def test_registration_says_what_the_worker_can(bench: Bench) -> None:
    (registration,) = bench.run().registered
    assert registration.tiers == [Tier.COMMIT, Tier.SAMPLED, Tier.ZK]
    assert registration.memory_bytes > 0
    assert registration.provider.endswith("ExecutionProvider")


def test_registration_says_what_private_records_there_are_and_for_whom(bench: Bench, tmp_path: Path) -> None:
    data, requester = private(), address_of(REQUESTER)
    (tmp_path / "data").write_bytes(data.to_bytes())
    bench.options = {"onsite": (tmp_path / "data",), "onsite_requester": requester}
    (registration,) = bench.run().registered
    assert (registration.datasets, registration.requester) == ([data.digest], requester)


def test_a_coordinator_that_is_down_is_waited_for(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    down = UnavailableError("cannot reach the coordinator", hint="is it running?")
    done = bench.run(down, down, down, lease_of(Tier.COMMIT))
    assert len(done.handed_in) == 1
    assert sum("trying again within" in record.message for record in caplog.records) == 3


def test_a_coordinator_that_forgot_the_worker_is_told_again(bench: Bench) -> None:
    done = bench.run(NotFoundError("no such worker"), lease_of(Tier.COMMIT))
    assert len(done.registered) == 2
    assert len(done.handed_in) == 1


def test_a_worker_that_is_not_admitted_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(registration: object) -> None:
        raise ForbiddenError("not on the list of workers")

    monkeypatch.setattr(bench.coordinator, "register_worker", refuse)
    with pytest.raises(ForbiddenError):
        bench.run(lease_of(Tier.COMMIT))


def test_a_task_that_fails_is_reported_and_the_worker_goes_on(bench: Bench) -> None:
    bad = lease_of(Tier.COMMIT, start=1)
    done = bench.run(bad, lease_of(Tier.COMMIT))
    ((code, detail),) = done.failures
    assert code == "conflict"
    assert "not a shard" in detail
    assert len(done.handed_in) == 1


def test_an_error_of_our_own_is_reported_without_its_text(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ValueError("holds who knows what")

    monkeypatch.setattr(service_module, "read_shard", broken)
    assert bench.run(lease_of(Tier.COMMIT)).failures == [("internal", "the worker failed: ValueError")]


def test_why_private_records_could_not_be_proved_stays_here(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    data = private()
    done = bench.run(make_lease(Tier.ZK, data, REQUESTER, circuit=hashed_circuit()))
    assert done.failures == [WITHHELD]
    assert any(str(data.digest) in record.message for record in caplog.records)


def test_a_model_that_is_not_on_chain_is_not_computed(bench: Bench) -> None:
    class Revoked(Unchecked):
        def require_model(self, request: JobRequest) -> None:
            raise ChainError("model was revoked")

    bench.chain = Revoked()
    done = bench.run(lease_of(Tier.COMMIT))
    assert done.failures == [("chain", "model was revoked")]
    assert Stage.COMPUTE not in bench.display.stages


def test_refused_evidence_does_not_end_the_worker(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.coordinator.accepts = False
    assert len(bench.run(lease_of(Tier.COMMIT), lease_of(Tier.COMMIT)).handed_in) == 2
    assert "proofs: because" in caplog.text


def test_a_lost_lease_is_dropped(bench: Bench, circuit: FakeCircuit, caplog: pytest.LogCaptureFixture) -> None:
    bench.coordinator.lost = True
    slow(circuit, until=lambda: bool(bench.coordinator.progress))
    done = bench.run(lease_of(Tier.ZK))
    assert (done.handed_in, done.failures, done.released) == ([], [], [])
    assert "given to another worker" in caplog.text


def test_a_stop_gives_the_lease_back(bench: Bench, circuit: FakeCircuit) -> None:
    slow(circuit, until=lambda: bench.request_stop() or True)
    lease = lease_of(Tier.ZK)
    done = bench.run(lease)
    assert done.released == [lease.lease_id]
    assert (done.handed_in, done.failures) == ([], [])
    assert len(circuit.proved) <= 1


def test_a_stop_ends_the_wait_for_another_workers_download(bench: Bench, circuit: FakeCircuit) -> None:
    folder = bench.folder / "blobs"
    folder.mkdir(parents=True)
    bench.coordinator.on_heartbeat = lambda progress: bench.request_stop()
    lease = lease_of(Tier.ZK)
    with locked(folder / ".lock"):  # as another worker does while it downloads
        done = bench.run(lease)
    assert done.released == [lease.lease_id]
    assert (done.handed_in, done.failures) == ([], [])


def test_a_stop_can_wait_for_the_task(bench: Bench, circuit: FakeCircuit) -> None:
    bench.options["finish"] = True
    slow(circuit, until=lambda: bench.request_stop() or True)
    done = bench.run(lease_of(Tier.ZK), lease_of(Tier.ZK))
    assert len(done.handed_in) == 1
    assert (done.failures, done.released) == ([], [])


def test_a_stop_in_the_last_upload_does_not_waste_the_task(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = bench.coordinator.upload_blob

    def stop_then_upload(source: bytes) -> Any:
        bench.request_stop()
        return upload(source)

    monkeypatch.setattr(bench.coordinator, "upload_blob", stop_then_upload)
    assert len(bench.run(lease_of(Tier.COMMIT)).handed_in) == 1


def test_heartbeats_say_how_far_the_task_is(bench: Bench, circuit: FakeCircuit) -> None:
    seen: list[Progress] = bench.coordinator.progress
    slow(circuit, until=lambda: any(each.stage == Stage.PROVE for each in seen))
    bench.run(lease_of(Tier.SAMPLED).model_copy(update={"heartbeat_seconds": 60}))  # news does not wait for that
    assert Progress(stage=Stage.PROVE, done=0, total=2) in seen


def test_a_killed_worker_does_not_prove_twice(bench: Bench, circuit: FakeCircuit) -> None:
    bench.run(lease_of(Tier.ZK))
    again = Bench(bench.folder)
    assert len(again.run(lease_of(Tier.ZK)).handed_in) == 1
    assert len(circuit.proved) == 8


class TestNode:
    """Which chain node is believed. Nothing is by default: the coordinator is not trusted."""

    @pytest.fixture
    def asked(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The nodes that were connected to; the coordinator suggests one."""
        asked: list[str] = []
        bench.chain = None
        info = bench.coordinator.info().model_copy(update={"rpc_url": "http://127.0.0.1:8545"})
        monkeypatch.setattr(bench.coordinator, "info", lambda: info)
        monkeypatch.setattr(OnChain, "connect", lambda url, info: asked.append(url) or Unchecked())
        return asked

    def test_without_a_choice_it_does_not_start(self, bench: Bench, asked: list[str]) -> None:
        with pytest.raises(ChainError, match="no chain node") as refused:
            bench.run(lease_of(Tier.COMMIT))
        assert "--trust-coordinator-rpc" in str(refused.value.hint)
        assert (asked, bench.coordinator.registered) == ([], [])

    def test_its_own(self, bench: Bench, asked: list[str]) -> None:
        bench.options["rpc_url"] = "http://own.test"
        assert len(bench.run(lease_of(Tier.COMMIT)).handed_in) == 1
        assert asked == ["http://own.test"]

    def test_the_coordinators(self, bench: Bench, asked: list[str], caplog: pytest.LogCaptureFixture) -> None:
        bench.options["trust_coordinator_rpc"] = True
        assert len(bench.run(lease_of(Tier.COMMIT)).handed_in) == 1
        assert asked == ["http://127.0.0.1:8545"]
        assert "node is trusted" in caplog.text

    def test_the_coordinators_if_it_has_none(self, bench: Bench) -> None:
        bench.chain, bench.options["trust_coordinator_rpc"] = None, True
        with pytest.raises(ChainError, match="suggests no chain node"):
            bench.run(lease_of(Tier.COMMIT))

    def test_none(self, bench: Bench, asked: list[str], caplog: pytest.LogCaptureFixture) -> None:
        bench.options["unchecked_chain"] = True
        assert len(bench.run(lease_of(Tier.COMMIT)).handed_in) == 1
        assert asked == []
        assert "NOT CHECKED" in caplog.text


def test_a_dishonest_worker_says_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.options["dishonest"] = "alter-outputs:0.25"
    with caplog.at_level(logging.WARNING):
        assert len(bench.run(lease_of(Tier.COMMIT)).handed_in) == 1
    assert "DISHONEST" in caplog.text


def test_options_do_not_show_the_wallet_or_the_rpc_key() -> None:
    options = WorkerOptions(
        coordinator="http://c.test", account=REQUESTER, name="w", cache=Path("c"), rpc_url="https://rpc.test/key"
    )
    assert "rpc.test" not in repr(options)
    assert REQUESTER.address not in repr(options)
