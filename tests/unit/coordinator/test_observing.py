"""Figures, readiness and streams of one coordinator, against what its database holds."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError
from sqlmodel import select
from starlette.testclient import TestClient

from coordinator import metrics
from coordinator.gauges import StateGauges
from coordinator.readiness import Check, Checks, CheckState, Pulse, Readiness
from coordinator.services import Coordinator
from coordinator.states import change
from coordinator.store import Store
from coordinator.tables import TaskRow
from coordinator.watching import watch_events
from rexis.api import TaskState
from rexis.protocol.digests import ZERO_DIGEST
from rexis.protocol.errors import UnavailableError
from rexis.protocol.signing import address_of, new_account
from rexis.watching import ServerEvent, parse_events
from tests.unit.coordinator.fakes import FakeClock, FakeLedger
from tests.unit.coordinator.scene import Scene

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(registry: CollectorRegistry) -> Samples:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


@pytest.fixture(autouse=True)
def _watched() -> None:
    watch_events()


def gauges(coordinator: Coordinator) -> Samples:
    registry = CollectorRegistry()
    registry.register(StateGauges(coordinator._store, coordinator.leases._clock, 1000))
    return scrape(registry)


def test_figures_are_those_of_the_database(scene: Scene, clock: FakeClock) -> None:
    scene.publish()
    scene.submit()
    clock.pass_seconds(90)
    worker = scene.worker()
    lease = scene.lease(worker)
    found = gauges(scene.coordinator)
    assert found[key("rexis_queue_tasks", tier="commit")] == 1
    assert found[key("rexis_queue_oldest_seconds", tier="commit")] == 90
    assert found[key("rexis_leases_open")] == 1
    assert found[key("rexis_jobs_open", state="running")] == 1
    assert found[key("rexis_workers_online")] == 1
    assert found[key("rexis_anchor_lag_seconds")] == 0
    assert found[key("rexis_database_up")] == 1
    scene.hand_in(worker, lease)
    clock.pass_seconds(7)
    found = gauges(scene.coordinator)
    assert found[key("rexis_anchor_waiting_statements")] == 1
    assert found[key("rexis_anchor_lag_seconds")] == 7
    assert found[key("rexis_workers_online")] == 0


def test_figures_cost_at_most_a_twentieth_of_the_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now, reads = 0.0, 0

    def read(self: StateGauges) -> list[object]:
        nonlocal now, reads
        now, reads = now + 2.0, reads + 1
        return []

    monkeypatch.setattr(StateGauges, "_read", read)
    collector = StateGauges(scene.coordinator._store, FakeClock(), 1000, lambda: now)
    for _ in range(100):
        collector.collect()
        now += 1.0
    assert reads == 3  # at 0, 40 and 80 s


def test_a_database_that_is_away_is_a_figure(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("select", {}, Exception("away"))

    monkeypatch.setattr(scene.coordinator._store, "reading", away)
    assert gauges(scene.coordinator) == {key("rexis_database_up"): 0}


def test_changes_count_when_they_are_committed(scene: Scene) -> None:
    scene.publish()
    scene.submit()
    leased = key("rexis_state_changes_total", entity="task", before="pending", after="leased")
    accepted = key("rexis_state_changes_total", entity="task", before="leased", after="accepted")
    computed = key("rexis_compute_seconds_count", tier="commit")
    before = scrape(metrics.REGISTRY)
    _lease_and_fail(scene.coordinator._store)
    assert scrape(metrics.REGISTRY).get(leased, 0) == before.get(leased, 0), "it was rolled back"
    scene.do_all()
    after = scrape(metrics.REGISTRY)
    assert after[leased] - before.get(leased, 0) == 2
    assert after[accepted] - before.get(accepted, 0) == 2
    assert after[computed] - before.get(computed, 0) == 2


def _lease_and_fail(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing() as session:
        change(session, session.exec(select(TaskRow)).first(), TaskState.LEASED, reason="a worker has it", at=1)
        raise ZeroDivisionError


def test_refused_evidence_counts_by_step(scene: Scene) -> None:
    scene.publish()
    scene.submit()
    worker = scene.worker()
    lease = scene.lease(worker)
    blob, evidence = worker.work(lease, scene.dataset)
    scene.upload(worker.account, blob)
    wrong = evidence.model_copy(update={"signature": evidence.signature[:-1] + b"\x00"})
    before = scrape(metrics.REGISTRY)
    with pytest.raises(Exception, match="step 7"):
        scene.check(worker, lease, wrong)
    name = key("rexis_verification_failures_total", step="statement")
    assert scrape(metrics.REGISTRY)[name] - before.get(name, 0) == 1


def test_requests_count_by_template_whatever_strangers_type(http: TestClient, scene: Scene) -> None:
    http.get(f"/v1/jobs/{ZERO_DIGEST}", headers=scene.headers())
    for path in ("/wp-login.php", "/v1/jobs/x/y/z", "/%00"):
        http.get(path)
    http.request("BREW", "/v1/info")
    found = {labels for name, labels in scrape(metrics.REGISTRY) if name == "rexis_http_requests_total"}
    routes = {dict(labels)["route"] for labels in found}
    assert "/v1/jobs/{job_id}" in routes
    assert not any(str(ZERO_DIGEST) in route or "wp-login" in route for route in routes)
    assert "BREW" not in {dict(labels)["method"] for labels in found}


# --- readiness -----------------------------------------------------------------------------------------------------


def states(found: Readiness) -> dict[str, CheckState]:
    return {check.name: check.state for check in found.checks}


def ready(http: TestClient) -> tuple[int, Readiness]:
    response = http.get("/readyz")
    return response.status_code, Readiness.from_json(response.content)


def test_ready(http: TestClient) -> None:
    status, found = ready(http)
    assert (status, found.ready) == (200, True)
    assert states(found) == dict.fromkeys(("database", "blobs", "duties", "chain"), CheckState.OK)


def test_without_its_chain_it_is_degraded(http: TestClient, ledger: FakeLedger) -> None:
    ledger.down = True
    status, found = ready(http)
    assert (status, found.ready) == (200, True)
    assert states(found)["chain"] == CheckState.DEGRADED


def test_without_a_part_it_is_not_ready_and_shows_no_secret(
    coordinator: Coordinator, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("postgresql://user:secret@host")

    monkeypatch.setattr(coordinator._store, "reading", fails)
    monkeypatch.setattr("coordinator.blobs.obstore.put", fails)
    coordinator.pulse.beat("expire")
    monkeypatch.setattr(coordinator.pulse, "_longest_s", -1.0)
    response = http.get("/readyz")
    assert response.status_code == 503
    found = states(Readiness.from_json(response.content))
    assert found == dict.fromkeys(("database", "blobs", "duties"), CheckState.FAILED) | {"chain": CheckState.OK}
    assert "secret" not in response.text


def test_a_check_that_hangs_fails_and_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.readiness._LIMIT_S", 0.05)
    ends, begun = threading.Event(), []

    def hangs() -> None:
        begun.append(1)
        ends.wait(10)

    checks = Checks([Check("slow", hangs, needed=True, kept_s=0.0)])
    for _ in range(3):
        found = asyncio.run(checks.run())
        assert not found.ready
        assert "no answer" in found.checks[0].detail
    assert len(begun) == 1
    ends.set()
    checks.close()


def test_results_are_kept_however_often_strangers_ask() -> None:
    asked: list[int] = []
    checks = Checks([Check("one", lambda: asked.append(1), needed=True, kept_s=60.0)])
    for _ in range(20):
        asyncio.run(checks.run())
    assert asked == [1]
    checks.close()


def test_a_loop_that_does_not_go_round_is_noticed() -> None:
    pulse = Pulse(0.01)
    pulse.check()
    pulse.beat("expire")
    pulse.check()
    time.sleep(0.02)
    with pytest.raises(UnavailableError, match="expire"):
        pulse.check()


# --- streams -------------------------------------------------------------------------------------------------------


def events(http: TestClient, scene: Scene, job: object, after: int = 0) -> list[ServerEvent]:
    headers = scene.headers() | ({"Last-Event-ID": str(after)} if after else {})
    response = http.get(f"/v1/jobs/{job}/events", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    return list(parse_events(iter([response.content])))


def test_a_finished_jobs_stream_tells_all_and_ends(http: TestClient, scene: Scene) -> None:
    scene.publish()
    job = scene.submit().job_id
    scene.coordinator.jobs.cancel(address_of(scene.requester), job)
    found = events(http, scene, job)
    assert [event.kind for event in found][-1] == "end"
    changes = [event for event in found if event.kind == "change"]
    numbers = [event.number for event in changes if event.number is not None]
    assert len(numbers) == len(changes)
    assert numbers == sorted(set(numbers))
    assert b'"after":"failed"' in changes[-1].data or b'"after":"failed"' in changes[-2].data
    middle = numbers[1]
    rest = events(http, scene, job, middle)
    assert [event.number for event in rest if event.kind == "change"] == [n for n in numbers if n > middle]


def test_a_stream_is_its_requesters(http: TestClient, scene: Scene) -> None:
    scene.publish()
    job = scene.submit().job_id
    assert http.get(f"/v1/jobs/{job}/events").status_code == 401
    assert http.get(f"/v1/jobs/{job}/events", headers=scene.headers(new_account())).status_code == 403
    assert http.get(f"/v1/jobs/{ZERO_DIGEST}/events", headers=scene.headers()).status_code == 404
    wrong = http.get(f"/v1/jobs/{job}/events", headers=scene.headers() | {"Last-Event-ID": "1; drop"})
    assert wrong.status_code == 422


def test_a_caller_has_only_so_many_streams(scene: Scene) -> None:
    scene.publish()
    job = scene.submit().job_id
    caller, streams = address_of(scene.requester), scene.coordinator.streams

    async def body() -> None:
        opened = [streams.stream(caller, job, 0) for _ in range(16)]
        for stream in opened:
            await anext(stream)
        with pytest.raises(Exception, match="open already"):
            streams.admit(caller, job)
        await opened[0].aclose()
        streams.admit(caller, job)
        for stream in opened[1:]:
            await stream.aclose()

    asyncio.run(body())
    assert not streams._open
