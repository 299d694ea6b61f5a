"""What is collected, what never is, and what happens to a blob that is used while it is being removed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select, update
from typer.testing import CliRunner

from coordinator.garbage import Garbage
from coordinator.inventory import Inventory
from coordinator.services import Coordinator
from coordinator.tables import BlobRow, BlobState, DatasetRow, JobRow, ReaderRow
from coordinator.times import wall_clock
from rexis.api import JobState
from rexis.cli.main import app
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ConflictError, MalformedError, NotFoundError, RexisError, UnavailableError
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import MODEL_DIGEST, FakeClock, FakeLedger, make_coordinator, make_policy
from tests.unit.coordinator.scene import Scene

HOUR = 3600 * 1000
DAY = 24 * HOUR
DATA = os.urandom(1000)


def collect(scene: Scene, clock: FakeClock) -> None:
    """Condemn, wait for the grace, remove."""
    scene.coordinator.garbage.run()
    clock.now += HOUR
    scene.coordinator.garbage.run()


def there(scene: Scene, *digests: Digest) -> list[bool]:
    found = [scene.coordinator.blobs.size(digest) is not None for digest in digests]
    with scene.coordinator._store.reading() as session:
        rows = [session.get(BlobRow, str(digest)) is not None for digest in digests]
    assert rows == found
    return found


def end(scene: Scene, state: JobState) -> None:
    with scene.coordinator._store.writing() as session:
        session.exec(update(JobRow).values(state=state))


def made(scene: Scene, job_id: Digest) -> list[Digest]:
    """Outputs and evidence of a job."""
    with scene.coordinator._store.reading() as session:
        rows = session.exec(select(BlobRow.digest)).all()
    known = {str(MODEL_DIGEST), str(scene.dataset.digest)}
    return [Digest.parse(digest) for digest in rows if digest not in known]


def test_what_nothing_names_goes_after_a_day_and_the_grace(scene: Scene, clock: FakeClock) -> None:
    digest = scene.upload(scene.requester, DATA)
    clock.now += DAY
    scene.coordinator.garbage.run()
    clock.now += 1
    assert scene.coordinator.garbage.run().condemned == 1
    assert there(scene, digest) == [True], "the grace is not over"
    clock.now += HOUR
    done = scene.coordinator.garbage.run()
    assert (done.condemned, done.removed, done.removed_bytes) == (0, 1, len(DATA))
    assert there(scene, digest) == [False]
    with scene.coordinator._store.reading() as session:
        assert session.exec(select(ReaderRow)).all() == []


def test_what_is_registered_or_open_or_certified_stays(scene: Scene, clock: FakeClock) -> None:
    scene.publish()
    job = scene.submit()
    scene.do_all()
    data, outputs = scene.dataset.digest, made(scene, job.job_id)
    assert len(outputs) == 4
    clock.now += 1000 * DAY
    collect(scene, clock)
    assert all(there(scene, MODEL_DIGEST, data, *outputs)), "the job is open"
    end(scene, JobState.CERTIFIED)
    certificate = scene.coordinator.blobs.put(b"a certificate")
    with scene.coordinator._store.writing() as session:
        session.exec(update(JobRow).values(certificate_digest=str(certificate)))
    clock.now += 89 * DAY
    collect(scene, clock)
    assert all(there(scene, MODEL_DIGEST, data, certificate, *outputs))
    clock.now += 2 * DAY
    collect(scene, clock)
    assert there(scene, MODEL_DIGEST, certificate) == [True, True]
    assert not any(there(scene, data, *outputs))
    with scene.coordinator._store.reading() as session:
        assert session.exec(select(DatasetRow)).all() == [], "a dataset without records is none"
    with pytest.raises(NotFoundError):
        scene.outputs(job)
    with pytest.raises(MalformedError, match="not known"):
        scene.submit(nonce=sha256(b"again"))


def test_zero_days_is_for_ever(tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> None:
    kept = {"retention_dataset_days": 0, "retention_job_days": 0}
    scene = Scene(make_coordinator(tmp_path, ledger, clock, **kept), ledger)
    scene.publish()
    job = scene.submit()
    scene.do_all()
    end(scene, JobState.FAILED)
    clock.now += 10_000 * DAY
    collect(scene, clock)
    assert all(there(scene, scene.dataset.digest, *made(scene, job.job_id)))
    scene.coordinator.close()


def condemned(scene: Scene, clock: FakeClock, digest: Digest, state: BlobState = BlobState.CONDEMNED) -> None:
    with scene.coordinator._store.writing() as session:
        row = session.get_one(BlobRow, str(digest))
        row.fate, row.changed_at = state, clock.now


def use_by_job(scene: Scene) -> None:
    scene.submit()


def use_by_registration(scene: Scene) -> None:
    scene.coordinator.catalogue.register_dataset(address_of(scene.requester), scene.dataset.digest)


def use_by_upload(scene: Scene) -> None:
    scene.upload(scene.requester, scene.dataset.to_bytes())


USES = [use_by_job, use_by_registration, use_by_upload]


@pytest.mark.parametrize("use", USES)
def test_a_condemned_blob_that_is_used_stays(scene: Scene, clock: FakeClock, use: Callable[[Scene], None]) -> None:
    scene.publish()
    condemned(scene, clock, scene.dataset.digest)
    use(scene)
    clock.now += HOUR
    assert scene.coordinator.garbage.run().removed == 0
    assert there(scene, scene.dataset.digest) == [True]


@pytest.mark.parametrize("use", USES)
def test_a_blob_that_is_being_removed_is_refused_and_can_be_sent_again(
    scene: Scene, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, use: Callable[[Scene], None]
) -> None:
    scene.publish()
    digest = scene.dataset.digest
    condemned(scene, clock, digest)
    clock.now += HOUR
    remove, met = scene.coordinator.blobs.remove, []

    def remove_slowly(one: Digest) -> None:
        for _ in range(2):  # before the bytes go, and after
            with pytest.raises((UnavailableError, NotFoundError, MalformedError)):
                use(scene)
            met.append(one)
            remove(one)

    monkeypatch.setattr(scene.coordinator.blobs, "remove", remove_slowly)
    assert scene.coordinator.garbage.run().removed == 1
    assert met == [digest, digest]
    assert there(scene, digest) == [False]
    use_by_upload(scene)
    assert there(scene, digest) == [True]
    use_by_registration(scene)
    assert scene.submit().state == JobState.QUEUED


def test_two_processes_collect_at_once(scene: Scene, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has claimed the other leaves alone, unless the claim is old: then its process is dead."""
    coordinator = scene.coordinator
    other = Garbage(coordinator._store, coordinator.blobs, clock, coordinator.settings.retention)
    digest = scene.upload(scene.requester, DATA)
    clock.now += 2 * DAY
    coordinator.garbage.run()
    clock.now += HOUR
    removed = []

    def die(one: Digest) -> None:
        assert other.run().removed == 0
        removed.append(one)
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(coordinator.blobs, "remove", die)
        coordinator.garbage.run()
    assert removed == [digest]
    assert other.run().removed == 0
    clock.now += 15 * 60 * 1000
    assert other.run().removed == 1
    assert there(scene, digest) == [False]


def test_a_rehearsal_changes_nothing(scene: Scene, clock: FakeClock) -> None:
    digest = scene.upload(scene.requester, DATA)
    clock.now += 2 * DAY
    assert scene.coordinator.garbage.rehearse() == [(digest, len(DATA), BlobState.LIVE)]
    scene.coordinator.garbage.run()
    clock.now += HOUR
    assert scene.coordinator.garbage.rehearse() == [(digest, len(DATA), BlobState.CONDEMNED)]
    assert there(scene, digest) == [True]


def test_orphans_are_listed_and_go_only_if_they_are_taken_in(scene: Scene, clock: FakeClock) -> None:
    digest = scene.upload(scene.requester, DATA)
    with scene.coordinator._store.writing() as session:  # for example of a database that was restored
        session.delete(session.get_one(BlobRow, str(digest)))
    garbage = scene.coordinator.garbage
    assert list(garbage.orphans(adopt=False)) == [(digest, len(DATA))]
    clock.now += 10**13  # the store's own times are real
    collect(scene, clock)
    assert scene.coordinator.blobs.size(digest) is not None
    assert list(garbage.orphans(adopt=True)) == [(digest, len(DATA))]
    assert list(garbage.orphans(adopt=True)) == []
    collect(scene, clock)
    assert there(scene, digest) == [False]


def test_an_upload_under_way_keeps_what_is_there(scene: Scene, clock: FakeClock) -> None:
    digest = scene.upload(scene.requester, DATA)
    clock.now += 2 * DAY
    scene.coordinator.uploads.begin(address_of(new_account()), digest, len(DATA))
    collect(scene, clock)
    assert there(scene, digest) == [True]


def test_an_inventory_refuses_what_is_being_removed(coordinator: Coordinator, scene: Scene, clock: FakeClock) -> None:
    digest = scene.upload(scene.requester, DATA)
    condemned(scene, clock, digest, BlobState.REMOVING)
    with pytest.raises(UnavailableError):
        Inventory(coordinator._store, clock).expect({digest: 5})
    with pytest.raises(UnavailableError):
        coordinator.blobs.put(DATA)


STEPS = st.lists(st.sampled_from(["collect", "hour", "weeks", "upload", "register", "submit", "end"]), max_size=14)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_happens_an_open_job_has_its_blobs(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    clock, ledger = FakeClock(), FakeLedger(new_account())
    scene = Scene(make_coordinator(tmp_path_factory.mktemp("gc"), ledger, clock, retention_dataset_days=10), ledger)
    scene.publish()
    digest = scene.dataset.digest
    for number, step in enumerate(steps):
        try:
            if step == "collect":
                scene.coordinator.garbage.run()
            elif step == "upload":
                use_by_upload(scene)
            elif step == "register":
                use_by_registration(scene)
            elif step == "submit":
                scene.submit(nonce=sha256(bytes([number])), policy=make_policy())
            elif step == "end":
                end(scene, JobState.FAILED)
            else:
                clock.now += HOUR if step == "hour" else 100 * DAY
        except RexisError as error:
            assert not isinstance(error, ConflictError)
        with scene.coordinator._store.reading() as session:
            open_jobs = session.exec(select(JobRow).where(col(JobRow.state) == JobState.QUEUED)).all()
            registered = session.get(DatasetRow, str(digest)) is not None
        if open_jobs or registered:
            assert scene.coordinator.blobs.size(digest) is not None, step
        assert scene.coordinator.blobs.size(MODEL_DIGEST) is not None
    scene.coordinator.close()


def test_an_operator_collects_by_command(tmp_path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    clock.now = wall_clock() - 3 * DAY
    scene = Scene(make_coordinator(tmp_path, ledger, clock), ledger)
    digest = scene.upload(scene.requester, DATA)
    scene.coordinator.close()
    monkeypatch.setenv("REXIS_RETENTION_GRACE_HOURS", "0")

    def run(*more: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["coordinator", "collect", "--data", str(tmp_path), "--json", *more])
        assert done.exit_code == 0, done.output
        found: dict[str, object] = json.loads(done.stdout)
        return found

    blobs = [{"digest": str(digest), "size": len(DATA), "state": "live"}]
    assert run("--dry-run", "--orphans") == {"blobs": blobs, "orphans": []}
    assert run() == {"condemned": 1, "removed": 1, "removedBytes": len(DATA), "adopted": 0}
    assert scene.coordinator.blobs.size(digest) is None
