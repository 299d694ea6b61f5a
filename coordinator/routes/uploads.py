"""Resumable uploads: tus 1.0.0 (https://tus.io), core protocol with creation, expiration and termination.

The blob's digest stands in the metadata of the creation: ``Upload-Metadata: digest <base64 of 0x…>``.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from email.utils import formatdate
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from coordinator.documents import Caller, Services, UploadPath, arriving, operation
from coordinator.roles import PARTIES
from coordinator.uploads import Upload
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError, ResourceError, RexisError
from rexis.web.bodies import announced_bytes

_VERSION = "1.0.0"
_PROTOCOL = {"Tus-Resumable": _VERSION, "Cache-Control": "no-store"}
_PART = "application/offset+octet-stream"
_REFUSES = (404, 412, 422)


class VersionError(RexisError):
    """Another version of tus, or none."""

    code = "tus-version"
    status = 412


class MediaTypeError(RexisError):
    """A body of another type."""

    code = "media-type"
    status = 415


def _require_version(version: Annotated[str, Header(alias="Tus-Resumable")] = "") -> None:
    if version != _VERSION:
        raise VersionError("this speaks tus 1.0.0", field="Tus-Resumable", hint=f"send Tus-Resumable: {_VERSION}")


router = APIRouter(prefix="/v1/uploads", tags=["blobs"])
# What tus asks a request to say; OPTIONS alone comes without.
_tus: dict[str, Any] = {"dependencies": [Depends(_require_version)]}


@router.options("", **operation("What is spoken here", (HTTPStatus.NO_CONTENT, None), roles=PARTIES))
def options(caller: Caller, services: Services) -> Response:
    headers = {
        "Tus-Version": _VERSION,
        "Tus-Extension": "creation,expiration,termination",
        "Tus-Max-Size": str(services.blobs.max_bytes),
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=_PROTOCOL | headers)


@router.post(
    "",
    **_tus,
    **operation(
        "Begin the upload of a blob in parts, or find it again",
        (HTTPStatus.CREATED, None),
        (HTTPStatus.OK, None),
        refuses=(412, 413, 422),
        roles=PARTIES,
    ),
)
def begin(
    caller: Caller,
    services: Services,
    length: Annotated[str, Header(alias="Upload-Length")] = "",
    metadata: Annotated[str, Header(alias="Upload-Metadata")] = "",
) -> Response:
    upload, created = services.uploads.begin(caller, _digest(metadata), _number(length, "Upload-Length"))
    headers = _standing(upload) | {"Location": f"/v1/uploads/{upload.upload_id}"}
    return Response(status_code=HTTPStatus.CREATED if created else HTTPStatus.OK, headers=headers)


@router.head(
    "/{upload_id}",
    **_tus,
    **operation("How much of an upload is here", (HTTPStatus.OK, None), refuses=_REFUSES, roles=PARTIES),
)
def head_upload(caller: Caller, services: Services, upload_id: UploadPath) -> Response:
    return Response(headers=_standing(services.uploads.find(caller, upload_id)))


@router.patch(
    "/{upload_id}",
    **_tus,
    **operation(
        "Send the next part; the last one makes the blob",
        (HTTPStatus.NO_CONTENT, None),
        refuses=(*_REFUSES, 408, 409, 413, 415),
        roles=PARTIES,
    ),
)
async def append(
    request: Request,
    caller: Caller,
    services: Services,
    upload_id: UploadPath,
    offset: Annotated[str, Header(alias="Upload-Offset")] = "",
) -> Response:
    if request.headers.get("Content-Type") != _PART:
        raise MediaTypeError("a part has another type", field="Content-Type", hint=f"send {_PART}")
    start = _number(offset, "Upload-Offset")
    upload = await run_in_threadpool(services.uploads.find, caller, upload_id)
    announced = announced_bytes(request)
    if announced is not None and start == upload.received and start + announced > upload.size:
        raise ResourceError(f"{announced} bytes from {start} on: the upload was announced with {upload.size}")
    upload = await services.uploads.append(upload, start, arriving(request))
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=_standing(upload))


@router.delete(
    "/{upload_id}",
    **_tus,
    **operation("Throw an upload away", (HTTPStatus.NO_CONTENT, None), refuses=_REFUSES, roles=PARTIES),
)
async def end(caller: Caller, services: Services, upload_id: UploadPath) -> Response:
    await services.uploads.end(await run_in_threadpool(services.uploads.find, caller, upload_id))
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=_PROTOCOL)


def _standing(upload: Upload) -> dict[str, str]:
    return {
        **_PROTOCOL,
        "Upload-Offset": str(upload.received),
        "Upload-Length": str(upload.size),
        "Upload-Expires": formatdate(upload.expires_at / 1000, usegmt=True),
    }


def _number(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise MalformedError("not a number of bytes", field=field)
    return int(text)


def _digest(metadata: str) -> Digest:
    for pair in metadata.split(","):
        name, _, value = pair.strip().partition(" ")
        if name == "digest":
            try:
                return Digest.parse(b64decode(value, validate=True).decode("ascii"), "Upload-Metadata")
            except (binascii.Error, ValueError):
                break
    raise MalformedError(
        "names no digest", field="Upload-Metadata", hint="digest, and the base64 of the blob's digest (0x…)"
    )
