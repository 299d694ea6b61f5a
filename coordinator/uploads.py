"""Uploads that go on where they stopped: parts wait in the blob store, what is known of them in the database.

So any coordinator process can take any part of an upload. A part is taken by one statement that moves the offset on;
of two senders at one offset the second learns where the upload is now. Nothing is a blob before the digest of all the
parts together was found right.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlmodel import Session, col, delete, func, select, update

from coordinator.access import Access
from coordinator.blobs import Blobs
from coordinator.store import Store
from coordinator.tables import UploadPartRow, UploadRow
from coordinator.times import Clock
from rexis.protocol.digests import Digest
from rexis.protocol.errors import (
    ConflictError,
    DigestMismatchError,
    MalformedError,
    NotFoundError,
    ResourceError,
    UnavailableError,
)
from rexis.protocol.parsing import Address

PART_BYTES = 8 << 20
"""What is collected in memory before it is stored."""
_MOST_PARTS = 20_000
# Requests of one address whose parts are in memory at a time, in this process.
_SENDING_AT_ONCE = 8
_LOST_PART_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Terms:
    """What uploads may take.

    Attributes
    ----------
    lasting_ms
        An upload ends when nothing has come for so long.
    open, staged_bytes
        Unfinished uploads of one address, and the bytes that they announced together.
    """

    lasting_ms: int
    open: int
    staged_bytes: int


@dataclass(frozen=True)
class Upload:
    """An upload as it stands.

    Attributes
    ----------
    received
        Bytes that are stored; the next one has this offset.
    expires_at
        In milliseconds.
    """

    upload_id: str
    owner: Address
    digest: Digest
    size: int
    received: int
    expires_at: int

    @classmethod
    def of(cls, row: UploadRow) -> Upload:
        """As the database has it."""
        owner, digest = Address.parse(row.owner), Digest.parse(row.digest)
        return cls(row.upload_id, owner, digest, row.size, row.received, row.expires_at)


class Uploads:
    """Unfinished uploads."""

    def __init__(self, store: Store, blobs: Blobs, access: Access, clock: Clock, terms: Terms) -> None:
        self._store, self._blobs, self._access, self._clock, self._terms = store, blobs, access, clock, terms
        self._sending: Counter[Address] = Counter()

    def begin(self, caller: Address, digest: Digest, size: int) -> tuple[Upload, bool]:
        """The caller's upload of a blob, and whether it is new: who lost its address asks again.

        Raises
        ------
        ResourceError
            Larger than a blob may be, or more than one address may have under way.
        MalformedError
            Empty, or under way with another size.
        """
        if size < 1:
            raise MalformedError("an empty blob needs no upload in parts", field="Upload-Length", hint="use PUT")
        if size > self._blobs.max_bytes:
            raise self._blobs.too_large(str(size))
        self._access.require_room(caller, size)
        now = self._clock()
        with self._store.writing() as session:
            mine = list(session.exec(select(UploadRow).where(col(UploadRow.owner) == caller)))
            running = [row for row in mine if row.expires_at > now]
            for row in running:
                if row.digest == str(digest):
                    if row.size != size:
                        raise MalformedError(f"the upload of {digest} has {row.size} bytes", field="Upload-Length")
                    return Upload.of(row), False
            # An expired row of this blob must go first: there is one for each owner and digest.
            for row in mine:
                if row.digest == str(digest):
                    _forget(session, row.upload_id)
            announced = sum(row.size for row in running) + size
            if len(running) >= self._terms.open or announced > self._terms.staged_bytes:
                raise ResourceError(
                    f"{len(running)} uploads under way, with this one {announced} bytes; an address may have "
                    f"{self._terms.open}, and {self._terms.staged_bytes} bytes",
                    hint="finish or delete one first",
                )
            row = UploadRow(
                upload_id=secrets.token_hex(16),
                owner=caller,
                digest=str(digest),
                size=size,
                received=0,
                expires_at=now + self._terms.lasting_ms,
            )
            session.add(row)
            return Upload.of(row), True

    def find(self, caller: Address, upload_id: str) -> Upload:
        """An upload of the caller's; :class:`NotFoundError` if it ended, or is somebody else's."""
        with self._store.reading() as session:
            row = session.get(UploadRow, upload_id)
        if row is None or row.owner != caller or row.expires_at <= self._clock():
            raise NotFoundError(f"no upload {upload_id}", hint="it is finished or has expired: begin again")
        return Upload.of(row)

    async def append(self, upload: Upload, offset: int, chunks: AsyncIterator[bytes]) -> Upload:
        """Add what comes, and finish the upload once all of it is there.

        What had come before an interruption is kept.

        Raises
        ------
        ConflictError
            The upload is at another offset.
        ResourceError
            More comes than was announced; what was announced is kept.
        DigestMismatchError
            The bytes are not those of the digest. The upload is thrown away.
        UnavailableError
            Too many requests of the same address at a time.
        """
        if self._sending[upload.owner] >= _SENDING_AT_ONCE:
            raise UnavailableError("many uploads of yours are under way", hint="send fewer at a time")
        self._sending[upload.owner] += 1
        try:
            upload = await self._receive(upload, offset, chunks)
        finally:
            self._sending[upload.owner] -= 1
            if not self._sending[upload.owner]:
                del self._sending[upload.owner]
        if upload.received == upload.size:
            await self._finish(upload)
        return upload

    async def end(self, upload: Upload) -> None:
        """Throw an upload away."""
        keys = await asyncio.to_thread(self._remove, upload.upload_id)
        await self._blobs.drop(keys)

    async def expire(self) -> int:
        """Throw away the uploads for which nothing has come for long, and parts of uploads that nobody knows.

        Returns
        -------
        int
            How many uploads went.
        """
        ended = await asyncio.to_thread(self._expired)
        for upload_id in ended:
            await self._blobs.drop(await asyncio.to_thread(self._remove, upload_id))
        await self._blobs.drop(await asyncio.to_thread(self._lost_parts))
        return len(ended)

    async def _receive(self, upload: Upload, offset: int, chunks: AsyncIterator[bytes]) -> Upload:
        if offset != upload.received:
            raise _elsewhere(upload.received)
        held, excess = bytearray(), False
        try:
            async for chunk in chunks:
                held += chunk
                if excess := upload.received + len(held) > upload.size:
                    del held[upload.size - upload.received :]
                    break
                while len(held) >= PART_BYTES:
                    part = bytes(held[:PART_BYTES])
                    del held[:PART_BYTES]
                    upload = await self._take(upload, part)
        except Exception:
            if held:
                await self._take(upload, bytes(held))
            raise
        upload = await self._take(upload, bytes(held)) if held else upload
        if excess:
            raise ResourceError(f"the upload has more than the {upload.size} bytes that were announced")
        return upload

    async def _take(self, upload: Upload, data: bytes) -> Upload:
        key = await self._blobs.stage(upload.upload_id, upload.received, data)
        try:
            return await asyncio.to_thread(self._advance, upload, key, len(data))
        except Exception:
            await self._blobs.drop([key])
            raise

    def _advance(self, upload: Upload, key: str, size: int) -> Upload:
        until = self._clock() + self._terms.lasting_ms
        mine = (col(UploadRow.upload_id) == upload.upload_id, col(UploadRow.received) == upload.received)
        with self._store.writing() as session:
            moved = session.exec(
                update(UploadRow).where(*mine).values(received=upload.received + size, expires_at=until)
            )
            if moved.rowcount != 1:
                row = session.get(UploadRow, upload.upload_id)
                if row is None:
                    raise NotFoundError("the upload is over", hint="it was finished, or thrown away")
                raise _elsewhere(row.received)
            parts = select(func.count()).where(col(UploadPartRow.upload_id) == upload.upload_id)
            if session.exec(parts).one() >= _MOST_PARTS:
                raise ResourceError("the upload came in too many pieces", hint="send larger ones")
            session.add(UploadPartRow(upload_id=upload.upload_id, start=upload.received, size=size, name=key))
        return Upload(upload.upload_id, upload.owner, upload.digest, upload.size, upload.received + size, until)

    async def _finish(self, upload: Upload) -> None:
        keys = await asyncio.to_thread(self._keys, upload.upload_id)
        try:
            await self._blobs.assemble(upload.digest, keys)
        except DigestMismatchError:
            await self.end(upload)
            raise
        except FileNotFoundError:
            # Another request finished it meanwhile, or threw it away.
            if await asyncio.to_thread(self._blobs.size, upload.digest) is None:
                raise NotFoundError("the upload is over", hint="begin again") from None
        await asyncio.to_thread(self._access.uploaded, upload.owner, upload.digest, upload.size)
        await self.end(upload)

    def _keys(self, upload_id: str) -> list[str]:
        parts = select(UploadPartRow.name).where(col(UploadPartRow.upload_id) == upload_id)
        with self._store.reading() as session:
            return list(session.exec(parts.order_by(col(UploadPartRow.start))))

    def _remove(self, upload_id: str) -> list[str]:
        keys = self._keys(upload_id)
        with self._store.writing() as session:
            _forget(session, upload_id)
        return keys

    def _expired(self) -> list[str]:
        with self._store.reading() as session:
            return list(session.exec(select(UploadRow.upload_id).where(col(UploadRow.expires_at) <= self._clock())))

    def _lost_parts(self) -> list[str]:
        """Parts without an upload: left by a process that died between two steps."""
        with self._store.reading() as session:
            known = set(session.exec(select(UploadRow.upload_id)))
        old = self._clock() - _LOST_PART_MS
        return [
            name
            for upload_id, name, at in self._blobs.staged()
            if upload_id not in known and at.timestamp() * 1000 < old
        ]


def _forget(session: Session, upload_id: str) -> None:
    session.exec(delete(UploadPartRow).where(col(UploadPartRow.upload_id) == upload_id))
    session.exec(delete(UploadRow).where(col(UploadRow.upload_id) == upload_id))


def _elsewhere(received: int) -> ConflictError:
    return ConflictError(f"the upload has {received} bytes", field="Upload-Offset", hint="go on from there")
