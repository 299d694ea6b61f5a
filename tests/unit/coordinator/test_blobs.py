"""Blobs: whole and right, or not there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from starlette.testclient import TestClient

from coordinator.blobs import Blobs
from coordinator.services import Coordinator
from rexis.api import ModelRegistration
from rexis.protocol.circuit import NO_CIRCUIT
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import DigestMismatchError, MalformedError, NotFoundError, ResourceError
from rexis.protocol.signing import address_of, new_account
from tests.s3 import S3
from tests.unit.coordinator.fakes import MODEL_DIGEST, make_policy
from tests.unit.coordinator.scene import Scene

DATA = os.urandom(300_000)
DIGEST = sha256(DATA)


@pytest.fixture
def blobs(blob_url: str | None, tmp_path: Path) -> Blobs:
    return Blobs(blob_url, tmp_path, max_bytes=40_000_000)


async def chunks(data: bytes, size: int = 70_000, *, fail_after: int | None = None) -> AsyncIterator[bytes]:
    for number, start in enumerate(range(0, len(data), size)):
        if number == fail_after:
            raise ConnectionError
        yield data[start : start + size]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_received_is_there(blobs: Blobs) -> None:
    assert asyncio.run(blobs.receive(DIGEST, chunks(DATA))) == len(DATA)
    assert blobs.size(DIGEST) == len(DATA)
    assert blobs.read(DIGEST) == DATA
    assert blobs.path(DIGEST, "blob").read_bytes() == DATA
    assert blobs.put(DATA) == DIGEST


def test_parts(blobs: Blobs) -> None:
    blobs.put(DATA)

    async def read(start: int, end: int) -> bytes:
        return b"".join([chunk async for chunk in blobs.stream(DIGEST, start, end)])

    for start, end in ((0, len(DATA)), (5, 6), (100_000, 299_999), (7, 7)):
        assert asyncio.run(read(start, end)) == DATA[start:end]


# Of several parts, so that S3 has a multipart upload to abort.
LARGE = DATA * 70


def test_what_came_in_parts_is_whole(blobs: Blobs) -> None:
    assert asyncio.run(blobs.receive(sha256(LARGE), chunks(LARGE))) == len(LARGE)
    assert blobs.read(sha256(LARGE)) == LARGE
    read, size = blobs.reader(sha256(LARGE))
    assert (read(5, 1 << 20), size) == (LARGE[5 : 1 << 20], len(LARGE))


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "several parts"])
def test_a_wrong_cut_off_or_oversized_upload_leaves_nothing(blobs: Blobs, tmp_path: Path, data: bytes) -> None:
    digest = sha256(data)
    with pytest.raises(DigestMismatchError, match="cut off"):
        asyncio.run(blobs.receive(digest, chunks(data[:-1])))
    with pytest.raises(ConnectionError):
        asyncio.run(blobs.receive(digest, chunks(data, fail_after=len(data) // 70_000 - 1)))
    blobs.max_bytes = len(data) + 1
    with pytest.raises(ResourceError):
        asyncio.run(blobs.receive(digest, chunks(data + data)))
    assert blobs.size(digest) is None
    assert list(blobs.listed()) == []
    assert files(tmp_path) == []
    with pytest.raises(NotFoundError):
        blobs.read(digest)


def test_an_aborted_upload_leaves_no_parts_on_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3.bucket()
    blobs = Blobs(f"s3://{bucket}", tmp_path, max_bytes=40_000_000)
    with pytest.raises(DigestMismatchError):
        asyncio.run(blobs.receive(DIGEST, chunks(LARGE)))
    with pytest.raises(ConnectionError):
        asyncio.run(blobs.receive(sha256(LARGE), chunks(LARGE, fail_after=290)))
    assert (s3.unfinished(bucket), s3.keys(bucket)) == (0, [])


def test_a_blob_is_there_only_when_it_is_whole(blobs: Blobs) -> None:
    async def watched() -> AsyncIterator[bytes]:
        async for chunk in chunks(LARGE, 6_000_000):
            assert await asyncio.to_thread(blobs.size, sha256(LARGE)) is None
            yield chunk

    asyncio.run(blobs.receive(sha256(LARGE), watched()))
    assert [(stored.digest, stored.size) for stored in blobs.listed()] == [(sha256(LARGE), len(LARGE))]
    blobs.remove(sha256(LARGE))
    blobs.remove(sha256(LARGE))
    assert list(blobs.listed()) == []


def test_copies_of_remote_blobs_are_bounded(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    blobs = Blobs(f"s3://{s3.bucket()}", tmp_path, max_bytes=1 << 20, cache_bytes=2 * len(DATA))
    several = [DATA[number:] for number in range(4)]
    paths = [blobs.path(blobs.put(data), "blob") for data in several]
    assert all(path.is_file() for path in paths), "what may be in use stays"
    for age, path in enumerate(paths):
        os.utime(path, (path.stat().st_mtime - 7200 - age,) * 2)
    paths[3].write_bytes(b"damaged")
    assert blobs.path(sha256(several[3]), "blob").read_bytes() == several[3]
    assert files(tmp_path) == sorted([paths[0], paths[3]], key=files(tmp_path).index)


def test_old_rests_of_killed_uploads_go(tmp_path: Path) -> None:
    folder = tmp_path / "blobs" / "sha256" / "ab"
    folder.mkdir(parents=True)
    for name, age in (("old#1", 2 * 86_400), ("new#1", 10), ("blob", 2 * 86_400)):
        path = folder / name
        path.write_bytes(b"x")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    Blobs(None, tmp_path, max_bytes=1)
    assert {path.name for path in folder.iterdir()} == {"new#1", "blob"}


def test_upload_and_download_over_http(http: TestClient, scene: Scene) -> None:
    headers, url = scene.headers(), f"/v1/blobs/{DIGEST}"
    assert http.head(url, headers=headers).status_code == 404
    assert http.put(url, content=DATA, headers=headers).status_code == 201
    again = http.put(url, content=b"anything", headers=headers)
    assert (again.status_code, again.json()["size"]) == (200, len(DATA))
    assert http.head(url, headers=headers).headers["Content-Length"] == str(len(DATA))
    assert http.get(url, headers=headers).content == DATA


def test_who_does_not_hold_a_blob_learns_nothing_of_it(http: TestClient, scene: Scene) -> None:
    url, stranger = f"/v1/blobs/{DIGEST}", scene.headers(new_account())
    scene.upload(scene.requester, DATA)
    for method in ("GET", "HEAD"):
        assert http.request(method, url, headers=stranger).status_code == 404
    # As if it were not there: all of it has to be sent.
    assert http.put(url, content=b"anything", headers=stranger).status_code == 422
    assert http.put(url, content=DATA, headers=stranger).status_code == 201
    assert http.get(url, headers=stranger).content == DATA
    assert http.put(url, content=b"", headers=stranger).status_code == 200


def test_a_job_opens_its_blobs_to_its_requester_and_to_workers_while_they_work(http: TestClient, scene: Scene) -> None:
    scene.publish()
    worker, idle = scene.worker(), scene.worker()
    blobs = [f"/v1/blobs/{MODEL_DIGEST}", f"/v1/blobs/{scene.dataset.digest}"]

    def seen(account: LocalAccount) -> list[int]:
        headers = scene.headers(account)
        return [http.head(url, headers=headers).status_code for url in blobs]

    assert seen(scene.owner) == [200, 404]
    assert seen(scene.requester) == [404, 200]
    scene.submit(policy=make_policy(shard_size=5))
    assert seen(scene.requester) == [200, 200]
    assert seen(worker.account) == [404, 404]
    lease = scene.lease(worker)
    assert seen(worker.account) == [200, 200]
    scene.hand_in(worker, lease)
    assert seen(worker.account) == [404, 404]
    assert seen(idle.account) == [404, 404]


def test_a_digest_alone_opens_nothing(scene: Scene) -> None:
    """Naming somebody's blob as one's dataset, model or outputs does not make it readable."""
    scene.publish()
    thief = new_account()
    coordinator, address = scene.coordinator, address_of(thief)
    with pytest.raises(MalformedError, match="not been uploaded"):
        coordinator.catalogue.register_dataset(address, scene.dataset.digest)
    request = scene.request().model_copy(update={"requester": address})
    with pytest.raises(MalformedError) as refused:
        coordinator.jobs.submit(address, scene.sign(request, thief))
    assert refused.value.field == "request.datasetDigest"
    digest = scene.dataset.digest
    scene.ledger.models[digest, 1] = replace(scene.ledger.models[MODEL_DIGEST, 1], registrant=address)
    scene.ledger.owners[digest] = address
    with pytest.raises(MalformedError) as refused:
        coordinator.catalogue.register_model(
            address, ModelRegistration(model_digest=digest, key_epoch=1, circuit=NO_CIRCUIT, vka=[])
        )
    assert refused.value.field == "modelDigest"
    assert not coordinator.access.may_read(address, digest)

    scene.submit(policy=make_policy(shard_size=5))
    worker = scene.worker()
    lease = scene.lease(worker)
    blob, evidence = worker.work(lease, scene.dataset)
    scene.upload(scene.worker().account, blob)
    with pytest.raises(MalformedError) as refused:
        scene.check(worker, lease, evidence)
    assert refused.value.field == "outputsDigest"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=10-19", slice(10, 20)),
        ("bytes=299990-", slice(299_990, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=10-9999999", slice(10, None)),
    ],
)
def test_ranges(http: TestClient, scene: Scene, header: str, expected: slice) -> None:
    scene.upload(scene.requester, DATA)
    part = http.get(f"/v1/blobs/{DIGEST}", headers={**scene.headers(), "Range": header})
    assert part.status_code == 206
    assert part.content == DATA[expected]
    start = expected.indices(len(DATA))[0]
    assert part.headers["Content-Range"].startswith(f"bytes {start}-")


@pytest.mark.parametrize("header", ["bytes=300000-", "bytes=-0"])
def test_a_range_outside_is_416(http: TestClient, scene: Scene, header: str) -> None:
    scene.upload(scene.requester, DATA)
    answer = http.get(f"/v1/blobs/{DIGEST}", headers={**scene.headers(), "Range": header})
    assert (answer.status_code, answer.json()["code"]) == (416, "range")


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=-", "bytes=a-b"])
def test_a_range_that_makes_no_sense_gives_the_whole(http: TestClient, scene: Scene, header: str) -> None:
    scene.upload(scene.requester, DATA)
    answer = http.get(f"/v1/blobs/{DIGEST}", headers={**scene.headers(), "Range": header})
    assert (answer.status_code, answer.content) == (200, DATA)


def test_uploads_that_are_too_large(http: TestClient, scene: Scene, coordinator: Coordinator) -> None:
    coordinator.blobs.max_bytes = 1000
    url, read = f"/v1/blobs/{DIGEST}", []

    def stream() -> Iterator[bytes]:
        for start in range(0, len(DATA), 500):
            read.append(start)
            yield DATA[start : start + 500]

    announced = http.put(url, content=stream(), headers={**scene.headers(), "Content-Length": str(len(DATA))})
    streamed = http.put(url, content=DATA, headers=scene.headers())
    unannounced = http.put(url, content=stream(), headers=scene.headers())
    for answer in (announced, streamed, unannounced):
        assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert coordinator.blobs.size(DIGEST) is None


def test_blobs_are_not_for_strangers(http: TestClient) -> None:
    for answer in (
        http.get(f"/v1/blobs/{DIGEST}"),
        http.put(f"/v1/blobs/{DIGEST}", content=DATA),
        http.head(f"/v1/blobs/{DIGEST}", headers={"Authorization": "Bearer nonsense"}),
    ):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "0x12", "0x" + "A" * 64, "x" * 5000, str(Digest(bytes(32))) + "0"])
def test_a_name_that_is_no_digest(http: TestClient, scene: Scene, name: str) -> None:
    answer = http.get(f"/v1/blobs/{name}", headers=scene.headers())
    assert answer.status_code in (404, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
