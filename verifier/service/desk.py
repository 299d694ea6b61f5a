"""The auditor's desk as files: the page that was built from ``verifier/desk``, and certificates to look at with it.

The page verifies by itself (ADR 25). Whatever is served here is read before the first request, or listed then: no path
of a request is ever looked up in a file system.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Response

from rexis.protocol.certificate import FORMAT
from rexis.protocol.errors import NotFoundError, UnavailableError
from rexis.protocol.training_certificate import TRAINING_FORMAT

BUILT = Path(__file__).resolve().parents[1] / "desk" / "dist"
_NOT_BUILT = "The desk is not built here: in a checkout `make setup` builds it. The API is at /v1/verify.\n"
PAGE, ALONE = "index.html", "desk.html"

# The page runs its own scripts and no others, makes no HTML of text (trusted types), starts its worker from a blob, so
# that nothing is loaded later, and connects to this server and to the chain node or coordinator that its user names,
# which is anybody's: https, or this machine.
_CONNECT = "connect-src 'self' https: http://127.0.0.1:* http://localhost:*"
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "worker-src blob:",
        _CONNECT,
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types default",
    ]
)
_HEADERS = {"Content-Security-Policy": _POLICY, "Cross-Origin-Opener-Policy": "same-origin"}
_FRESH = _HEADERS | {"Cache-Control": "no-cache"}
# Their names hold a hash of what is in them.
_FOR_EVER = _HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}

_FORMATS = tuple(f'"{name}"'.encode() for name in (FORMAT, TRAINING_FORMAT))
_SRS = re.compile(rb'"srsDigest":"0x([0-9a-f]{64})"')


def desk_routes(built: Path = BUILT) -> APIRouter:
    """The page at ``/``, its files, and ``/desk.html``: the same page in one file, to be kept."""
    router = APIRouter(include_in_schema=False)
    files = {path.relative_to(built).as_posix(): path.read_bytes() for path in sorted(_plain_files(built))}

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page() -> Response:
        if PAGE not in files:
            return Response(_NOT_BUILT, HTTPStatus.NOT_FOUND, media_type="text/plain")
        return Response(files[PAGE], headers=_FRESH, media_type="text/html")

    @router.api_route(f"/{ALONE}", methods=["GET", "HEAD"])
    async def alone() -> Response:
        # To be saved, not run here: its policy stands in the file.
        headers = {"Cache-Control": "no-cache", "Content-Disposition": f'attachment; filename="{ALONE}"'}
        return Response(_found(files, ALONE), headers=headers, media_type="text/html")

    @router.api_route("/assets/{name}", methods=["GET", "HEAD"])
    async def asset(name: str) -> Response:
        kind, _ = mimetypes.guess_type(name)
        return Response(
            _found(files, f"assets/{name}"), headers=_FOR_EVER, media_type=kind or "application/octet-stream"
        )

    return router


def example_routes(folder: Path | None, max_bytes: int) -> APIRouter:
    """The certificates in a folder, and the files beside them that they name by digest; without one, an empty list.

    Raises
    ------
    UnavailableError
        There is no certificate in it.
    """
    router = APIRouter(prefix="/examples", include_in_schema=False)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(_plain_files(folder))} if folder else {}
    certificates = {name: path for name, path in files.items() if _is_certificate(path, max_bytes)}
    artefacts = {path.name: path for path in files.values() if path.name.startswith("sha256-")}
    if folder and not certificates:
        raise UnavailableError(f"there is no certificate in {folder}", hint="`make demo` leaves some in demo-out/")
    offered = certificates | artefacts
    listed = [
        {
            "name": name.removesuffix("/certificate.json"),
            "path": f"examples/{quote(name)}",
            "artefacts": [f"examples/{each}" for each in _named(path) if each in artefacts],
        }
        for name, path in certificates.items()
    ]
    document = json.dumps({"examples": listed}).encode()

    @router.get("/")
    async def examples() -> Response:
        return Response(document, media_type="application/json")

    @router.get("/{name:path}")
    def example(name: str) -> Response:
        path = offered.get(name)
        if path is None:
            raise NotFoundError(f"no example {name}", hint="they are listed at /examples/")
        try:
            return Response(path.read_bytes(), media_type="application/octet-stream")
        except OSError:
            raise NotFoundError(f"the file of {name} is gone") from None

    return router


def _found(files: dict[str, bytes], name: str) -> bytes:
    if name not in files:
        raise NotFoundError(f"nothing at /{name}", hint="the page is at /, the API is described at /openapi.json")
    return files[name]


def _plain_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _is_certificate(path: Path, max_bytes: int) -> bool:
    if path.suffix != ".json" or path.stat().st_size > max_bytes:
        return False
    data = path.read_bytes()
    return any(name in data for name in _FORMATS)


def _named(certificate: Path) -> list[str]:
    """Names of files that a certificate refers to: the SRS, whose file a page may compare."""
    return sorted({f"sha256-{digest.decode()}" for digest in _SRS.findall(certificate.read_bytes())})
