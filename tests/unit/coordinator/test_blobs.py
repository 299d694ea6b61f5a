"""Blobs: whole and right, or not there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.blobs import Blobs
from coordinator.services import Coordinator
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import DigestMismatchError, NotFoundError, ResourceError
from tests.unit.coordinator.scene import Scene

DATA = os.urandom(300_000)
DIGEST = sha256(DATA)


@pytest.fixture(params=[None, "memory://"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return Blobs(request.param, tmp_path, max_bytes=400_000)


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


def test_a_wrong_cut_off_or_oversized_upload_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(None, tmp_path, max_bytes=400_000)
    with pytest.raises(DigestMismatchError, match="cut off"):
        asyncio.run(blobs.receive(DIGEST, chunks(DATA[:-1])))
    with pytest.raises(ConnectionError):
        asyncio.run(blobs.receive(DIGEST, chunks(DATA, fail_after=2)))
    with pytest.raises(ResourceError):
        asyncio.run(blobs.receive(DIGEST, chunks(DATA + DATA)))
    assert blobs.size(DIGEST) is None
    assert files(tmp_path) == []
    with pytest.raises(NotFoundError):
        blobs.read(DIGEST)


def test_old_rests_of_killed_uploads_go(tmp_path: Path) -> None:
    incoming = tmp_path / "blobs" / "incoming"
    incoming.mkdir(parents=True)
    for name, age in (("old#1", 2 * 86_400), ("new#1", 10)):
        path = incoming / name
        path.write_bytes(b"x")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    Blobs(None, tmp_path, max_bytes=1)
    assert [path.name for path in incoming.iterdir()] == ["new#1"]


def test_upload_and_download_over_http(http: TestClient, scene: Scene) -> None:
    headers, url = scene.headers(), f"/v1/blobs/{DIGEST}"
    assert http.head(url, headers=headers).status_code == 404
    assert http.put(url, content=DATA, headers=headers).status_code == 201
    again = http.put(url, content=b"anything", headers=headers)
    assert (again.status_code, again.json()["size"]) == (200, len(DATA))
    assert http.head(url, headers=headers).headers["Content-Length"] == str(len(DATA))
    assert http.get(url, headers=headers).content == DATA


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
    scene.coordinator.blobs.put(DATA)
    part = http.get(f"/v1/blobs/{DIGEST}", headers={**scene.headers(), "Range": header})
    assert part.status_code == 206
    assert part.content == DATA[expected]
    start = expected.indices(len(DATA))[0]
    assert part.headers["Content-Range"].startswith(f"bytes {start}-")


@pytest.mark.parametrize("header", ["bytes=300000-", "bytes=-0"])
def test_a_range_outside_is_416(http: TestClient, scene: Scene, header: str) -> None:
    scene.coordinator.blobs.put(DATA)
    answer = http.get(f"/v1/blobs/{DIGEST}", headers={**scene.headers(), "Range": header})
    assert (answer.status_code, answer.json()["code"]) == (416, "range")


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=-", "bytes=a-b"])
def test_a_range_that_makes_no_sense_gives_the_whole(http: TestClient, scene: Scene, header: str) -> None:
    scene.coordinator.blobs.put(DATA)
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
