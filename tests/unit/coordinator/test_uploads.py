"""Resumable uploads: tus over HTTP, on both kinds of store."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from httpx import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from coordinator.services import Coordinator
from coordinator.uploads import PART_BYTES
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ConflictError, DigestMismatchError, NotFoundError, ResourceError
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene

DATA = os.urandom(2 * PART_BYTES + 1000)
DIGEST = sha256(DATA)
OWNER = address_of(new_account())


@pytest.fixture
def coordinator(blob_url: str | None, tmp_path: Path, ledger: FakeLedger, clock: FakeClock) -> Iterator[Coordinator]:
    made = make_coordinator(tmp_path, ledger, clock, blob_url=blob_url)
    yield made
    made.close()


class Sender:
    """A tus client."""

    def __init__(self, http: TestClient, headers: dict[str, str], digest: Digest = DIGEST) -> None:
        self.http, self.headers = http, headers | {"Tus-Resumable": "1.0.0"}
        self.digest, self.path = digest, ""

    def begin(self, size: int = len(DATA)) -> Response:
        metadata = f"filename Zm9v,digest {b64encode(str(self.digest).encode()).decode()}"
        headers = self.headers | {"Upload-Length": str(size), "Upload-Metadata": metadata}
        answer = self.http.post("/v1/uploads", headers=headers)
        self.path = answer.headers.get("Location", "")
        return answer

    def offset(self) -> int:
        return int(self.http.head(self.path, headers=self.headers).headers["Upload-Offset"])

    def send(self, offset: int, data: bytes, **more: str) -> Response:
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream", **more}
        return self.http.patch(self.path, content=data, headers=self.headers | headers)


@pytest.fixture
def sender(http: TestClient, scene: Scene) -> Sender:
    return Sender(http, scene.headers())


def staged(coordinator: Coordinator) -> list[str]:
    return [name for _, name, _ in coordinator.blobs.staged()]


async def arriving(*chunks: bytes, fails: type[Exception] | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if fails is not None:
        raise fails


def test_parts_become_a_blob(sender: Sender, coordinator: Coordinator, scene: Scene) -> None:
    answer = sender.begin()
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "0")
    first = sender.send(0, DATA[:10])
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "10")
    again = sender.begin()
    assert (again.status_code, again.headers["Upload-Offset"]) == (200, "10"), "who lost the address finds it again"
    assert sender.offset() == 10
    assert coordinator.blobs.size(DIGEST) is None
    last = sender.send(10, DATA[10:])
    assert (last.status_code, last.headers["Upload-Offset"]) == (204, str(len(DATA)))
    assert coordinator.blobs.read(DIGEST) == DATA
    assert coordinator.access.holds(address_of(scene.requester), DIGEST)
    assert staged(coordinator) == []
    assert sender.http.head(sender.path, headers=sender.headers).status_code == 404


def test_a_wrong_byte_is_found_and_all_thrown_away(sender: Sender, coordinator: Coordinator) -> None:
    sender.begin()
    sender.send(0, DATA[:100])
    wrong = bytes([DATA[100] ^ 1]) + DATA[101:]
    refused = sender.send(100, wrong)
    assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
    assert (coordinator.blobs.size(DIGEST), staged(coordinator)) == (None, [])
    assert sender.begin().status_code == 201


def test_an_offset_that_is_not_the_uploads_is_refused(sender: Sender) -> None:
    sender.begin()
    sender.send(0, DATA[:100])
    for offset in (0, 99, 101, len(DATA), 10**18 - 1):
        assert sender.send(offset, b"xy").status_code == 409
    for text in ("-1", "x", "", "1" * 19, "٣"):
        headers = {"Upload-Offset": text.encode(), "Content-Type": "application/offset+octet-stream"}
        answer = sender.http.patch(sender.path, content=b"xy", headers=[*sender.headers.items(), *headers.items()])  # type: ignore[arg-type,list-item]
        assert answer.status_code == 422, text
    assert sender.offset() == 100


def test_more_than_was_announced_is_refused(sender: Sender, coordinator: Coordinator) -> None:
    sender.begin(size=50)
    assert sender.send(0, DATA[:51]).status_code == 413
    assert sender.offset() == 0

    def endless() -> Iterator[bytes]:  # chunked: nobody says how much it is
        yield DATA[:30]
        yield DATA[30:90]

    headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    answer = sender.http.patch(sender.path, content=endless(), headers=sender.headers | headers)
    assert answer.status_code == 413
    assert sender.offset() == 50
    # All that was announced is here, and it is not what the digest names.
    assert sender.send(50, b"").status_code == 422
    assert staged(coordinator) == []


def test_what_came_before_the_connection_broke_is_kept(coordinator: Coordinator) -> None:
    upload, _ = coordinator.uploads.begin(OWNER, DIGEST, len(DATA))
    broken = arriving(DATA[: PART_BYTES + 5], DATA[PART_BYTES + 5 : PART_BYTES + 9], fails=ConnectionError)
    with pytest.raises(ConnectionError):
        asyncio.run(coordinator.uploads.append(upload, 0, broken))
    upload = coordinator.uploads.find(OWNER, upload.upload_id)
    assert upload.received == PART_BYTES + 9
    asyncio.run(coordinator.uploads.append(upload, upload.received, arriving(DATA[upload.received :])))
    assert coordinator.blobs.read(DIGEST) == DATA


def test_an_upload_goes_on_at_another_process(
    coordinator: Coordinator, blob_url: str | None, tmp_path: Path, ledger: FakeLedger, clock: FakeClock
) -> None:
    other = make_coordinator(tmp_path, ledger, clock, blob_url=blob_url)
    upload, _ = coordinator.uploads.begin(OWNER, DIGEST, len(DATA))
    asyncio.run(coordinator.uploads.append(upload, 0, arriving(DATA[:500])))
    found, created = other.uploads.begin(OWNER, DIGEST, len(DATA))
    assert (found.upload_id, found.received, created) == (upload.upload_id, 500, False)
    asyncio.run(other.uploads.append(found, 500, arriving(DATA[500:])))
    other.close()
    assert coordinator.blobs.read(DIGEST) == DATA


def test_of_two_senders_at_one_offset_one_is_told_where_the_upload_is(coordinator: Coordinator) -> None:
    upload, _ = coordinator.uploads.begin(OWNER, DIGEST, len(DATA))

    async def both() -> list[object]:
        sends = (coordinator.uploads.append(upload, 0, arriving(DATA[:size])) for size in (70, 90))
        return await asyncio.gather(*sends, return_exceptions=True)

    found = asyncio.run(both())
    assert sum(isinstance(one, ConflictError) for one in found) == 1
    received = coordinator.uploads.find(OWNER, upload.upload_id).received
    assert received in (70, 90)
    assert len(staged(coordinator)) == 1
    rest = coordinator.uploads.find(OWNER, upload.upload_id)
    asyncio.run(coordinator.uploads.append(rest, received, arriving(DATA[received:])))
    assert coordinator.blobs.read(DIGEST) == DATA


def test_two_wallets_upload_the_same_blob(coordinator: Coordinator) -> None:
    owners = [address_of(new_account()) for _ in range(2)]

    async def both() -> None:
        uploads = [coordinator.uploads.begin(owner, DIGEST, len(DATA))[0] for owner in owners]
        assert uploads[0].upload_id != uploads[1].upload_id
        await asyncio.gather(*(coordinator.uploads.append(one, 0, arriving(DATA[:-1], DATA[-1:])) for one in uploads))

    asyncio.run(both())
    assert coordinator.blobs.read(DIGEST) == DATA
    assert all(coordinator.access.holds(owner, DIGEST) for owner in owners)
    assert staged(coordinator) == []


def test_two_requests_finish_one_upload(coordinator: Coordinator) -> None:
    """The answer of the last part was lost, and the client asks again while the first request still works."""
    upload, _ = coordinator.uploads.begin(OWNER, DIGEST, len(DATA))
    asyncio.run(coordinator.uploads.append(upload, 0, arriving(DATA[:-1])))
    upload = coordinator.uploads.find(OWNER, upload.upload_id)

    async def both() -> list[object]:
        whole = await coordinator.uploads._receive(upload, upload.received, arriving(DATA[-1:]))
        sends = (coordinator.uploads.append(whole, whole.size, arriving()) for _ in range(2))
        return await asyncio.gather(*sends, return_exceptions=True)

    assert not any(isinstance(one, DigestMismatchError) for one in asyncio.run(both()))
    assert coordinator.blobs.read(DIGEST) == DATA


def test_an_upload_expires(coordinator: Coordinator, clock: FakeClock) -> None:
    upload, _ = coordinator.uploads.begin(OWNER, DIGEST, len(DATA))
    asyncio.run(coordinator.uploads.append(upload, 0, arriving(DATA[:500])))
    clock.now += int(coordinator.settings.upload_seconds * 1000) - 1
    assert asyncio.run(coordinator.uploads.expire()) == 0
    clock.now += 1
    with pytest.raises(NotFoundError):
        coordinator.uploads.find(OWNER, upload.upload_id)
    again, created = coordinator.uploads.begin(OWNER, DIGEST, len(DATA))
    assert (again.received, created) == (0, True)
    clock.now += int(coordinator.settings.upload_seconds * 1000)
    assert asyncio.run(coordinator.uploads.expire()) == 1
    clock.now += 10**12  # the store's own times are real
    asyncio.run(coordinator.uploads.expire())
    assert staged(coordinator) == [], "parts that no upload knows go too"


def test_an_address_has_a_bounded_number_of_uploads_and_bytes(
    tmp_path: Path, ledger: FakeLedger, clock: FakeClock
) -> None:
    small = make_coordinator(tmp_path / "other", ledger, clock, max_uploads=2, max_staged_bytes=100, max_blob_bytes=90)
    small.uploads.begin(OWNER, sha256(b"1"), 40)
    with pytest.raises(ResourceError):
        small.uploads.begin(OWNER, sha256(b"2"), 61)
    with pytest.raises(ResourceError):
        small.uploads.begin(OWNER, sha256(b"2"), 91)
    small.uploads.begin(OWNER, sha256(b"2"), 60)
    with pytest.raises(ResourceError):
        small.uploads.begin(OWNER, sha256(b"3"), 1)
    small.uploads.begin(address_of(new_account()), sha256(b"3"), 1)
    small.close()


def test_uploads_are_their_owners(sender: Sender, scene: Scene) -> None:
    sender.begin()
    stranger: LocalAccount = new_account()
    headers = sender.headers | scene.headers(stranger)
    assert sender.http.head(sender.path, headers=headers).status_code == 404
    assert sender.http.delete(sender.path, headers=headers).status_code == 404
    assert Sender(sender.http, headers).begin().headers["Location"] != sender.path
    assert sender.http.delete(sender.path, headers=sender.headers).status_code == 204
    assert sender.http.head(sender.path, headers=sender.headers).status_code == 404


def test_other_versions_and_types_are_refused(sender: Sender) -> None:
    assert sender.http.options("/v1/uploads", headers=sender.headers).headers["Tus-Version"] == "1.0.0"
    sender.begin()
    assert sender.send(0, b"x", **{"Tus-Resumable": "0.2.2"}).status_code == 412
    assert sender.send(0, b"x", **{"Content-Type": "text/plain"}).status_code == 415
    for metadata in ("", "digest", "digest !", "digest MHg=", "name MHg="):
        headers = sender.headers | {"Upload-Length": "5", "Upload-Metadata": metadata}
        assert sender.http.post("/v1/uploads", headers=headers).status_code == 422


_SMALL = bytes(range(200))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 210), st.integers(0, 80), st.booleans()), max_size=12))
def test_whatever_is_sent_a_blob_is_the_right_bytes(
    tmp_path_factory: pytest.TempPathFactory, sends: list[tuple[int, int, bool]]
) -> None:
    """Any order of honest and lying parts: what is received never shrinks, and no wrong blob appears."""
    made = make_coordinator(tmp_path_factory.mktemp("u"), FakeLedger(new_account()), FakeClock())
    upload, _ = made.uploads.begin(OWNER, sha256(_SMALL), len(_SMALL))
    honest = True
    for offset, size, cut in sends:
        upload, _ = made.uploads.begin(OWNER, sha256(_SMALL), len(_SMALL))
        before, data = upload.received, _SMALL[offset : offset + size]
        try:
            asyncio.run(made.uploads.append(upload, offset, arriving(data, fails=OSError if cut else None)))
        except (ConflictError, OSError, ResourceError):
            pass
        else:
            honest = honest and offset == before
    found, _ = made.uploads.begin(OWNER, sha256(_SMALL), len(_SMALL))
    if made.blobs.size(sha256(_SMALL)) is None:
        asyncio.run(made.uploads.append(found, found.received, arriving(_SMALL[found.received :])))
    assert made.blobs.read(sha256(_SMALL)) == _SMALL
    assert honest
    made.close()
