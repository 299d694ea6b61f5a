"""Structured reference strings: read, check, tell a ceremony's from a development one.

Whoever makes a development SRS may know its secret and can then prove anything. Whether an SRS is the real one is
decided by its SHA-256 alone, against the table that ezkl pins.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from circuits.process import EzklProcess
from circuits.settings import MAX_LOGROWS
from rexis.files import publish
from rexis.protocol.digests import Digest, digest_stream
from rexis.protocol.errors import CircuitError, ConflictError, DigestMismatchError, NotFoundError, UnavailableError

# SHA-256 of ezkl's files of the perpetual powers of tau, by logrows (ezkl 23.0.5, src/srs_sha.rs).
PERPETUAL_POWERS_OF_TAU: dict[int, Digest] = {
    logrows: Digest.parse("0x" + pin)
    for logrows, pin in enumerate(
        (
            "cafb2aa72c200ddc4e28aacabb8066e829207e2484b8d17059a566232f8a297b",
            "8194ec51da5d332d2e17283ade34920644774452c2fadf33742e8c739e275d8e",
            "0729e815bce2ac4dfad7819982c6479c3b22c32b71f64dca05e8fdd90e8535ef",
            "2c0785da20217fcafd3b12cc363a95eb2529037cc8a9bddf8fb15025cbc8cdc9",
            "5b950e3b76e7a9923d69f6d6585ce6b5f9458e5ec57a71c9de5005d32d544692",
            "85030b2924111fc60acaf4fb8a7bad89531fbe0271aeab0c21e545f71eee273d",
            "e65f95150519fe01c2bedf8f832f5249822ef84c9c017307419e10374ff9eeb1",
            "446092fd1d6030e5bb2f2a8368267d5ed0fbdb6a766f6c5e4a4841827ad3106f",
            "493d088951882ad81af11e08c791a38a37c0ffff14578cf2c7fb9b7bca654d8b",
            "9705d450e5dfd06adb673705f7bc34418ec86339203198beceb2ae7f1ffefedb",
            "257fa566ed9bc0767d3e63e92b5e966829fa3347d320a32055dc31ee7d33f8a4",
            "28b151069f41abc121baa6d2eaa8f9e4c4d8326ddbefee2bd9c0776b80ac6fad",
            "d5d94bb25bdc024f649213593027d861042ee807cafd94b49b54f1663f8f267d",
            "c09129f064c08ecb07ea3689a2247dcc177de6837e7d2f5f946e30453abbccef",
            "90807800a1c3b248a452e1732c45ee5099f38b737356f5542c0584ec9c3ebb45",
            "2a1a494630e71bc026dd5c0eab4c1b9a5dbc656228c1f0d48f5dbd3909b161d3",
            "41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
            "d0148475717a2ba269784a178cb0ab617bc77f16c58d4a3cbdfe785b591c7034",
            "d1a1655b4366a766d1578beb257849a92bf91cb1358c1a2c37ab180c5d3a204d",
            "54ef75911da76d7a6b7ea341998aaf66cb06c679c53e0a88a4fe070dd3add963",
            "486e044cf98704e07f41137d2b89698dc03d1fbf34d13b60902fea19a6013b4b",
            "1ee9b4396db3e4e2516ac5016626ab6ba967f091d5d23afbdb7df122a0bb9d0c",
            "748e48b9b6d06f9c82d26bf551d0af43ee2e801e4be56d7ccb20312e267fd1d6",
            "f94fa4afa2f5147680f907d4dd96a8826206c26bd3328cd379feaed614b234de",
            "dec49a69893fbcd66cd06296b2d936a6aceb431c130b2e52675fe4274b504f57",
            "b198a51d48b88181508d8e4ea9dea39db285e4585663b29b7e4ded0c22a94875",
        ),
        start=1,
    )
}

_HEADER = 4  # u32 k, little-endian
_POINT = 64  # G1, uncompressed; a G2 point takes two
_WORD = 32
# Order of BN254's base field (EIP-196), and the factor of the Montgomery form in which halo2 writes coordinates.
_BASE_FIELD = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
_UNMONTGOMERY = pow(1 << 256, -1, _BASE_FIELD)


class SrsKind(Enum):
    """Where an SRS comes from."""

    DEVELOPMENT = "development"
    PERPETUAL_POWERS_OF_TAU = "perpetual-powers-of-tau"


@dataclass(frozen=True)
class Srs:
    """A well-formed SRS file, with its SHA-256."""

    path: Path
    logrows: int
    digest: Digest

    @property
    def kind(self) -> SrsKind:
        """Follows from the digest alone."""
        return srs_kind(self.digest)


def srs_kind(digest: Digest) -> SrsKind:
    """``perpetual-powers-of-tau`` if the digest is pinned; anything else is ``development``."""
    if digest in PERPETUAL_POWERS_OF_TAU.values():
        return SrsKind.PERPETUAL_POWERS_OF_TAU
    return SrsKind.DEVELOPMENT


def srs_bytes(logrows: int) -> int:
    """Size of an SRS file: k, 2^k points in each of two bases, two G2 points."""
    return _HEADER + 2 * (_POINT << logrows) + 4 * _POINT


def read_srs(path: Path, expected: Digest | None = None) -> Srs:
    """Read an SRS file of either kind.

    Parameters
    ----------
    expected
        The digest that a statement pins.

    Raises
    ------
    NotFoundError
        No such file.
    UnavailableError
        It cannot be read.
    CircuitError
        Not an SRS, or cut short.
    DigestMismatchError
        Another SRS than the expected one.
    """
    try:
        with path.open("rb") as stream:
            logrows = int.from_bytes(stream.read(_HEADER), "little")
            size = path.stat().st_size
            if not 1 <= logrows <= MAX_LOGROWS:
                raise CircuitError(f"{path} is not an SRS file", hint=f"its header names logrows {logrows}")
            if size != srs_bytes(logrows):
                raise CircuitError(
                    f"SRS {path} has {size} bytes, one for logrows {logrows} has {srs_bytes(logrows)}",
                    hint="the download may have been cut short; fetch it again",
                )
            stream.seek(0)
            digest = digest_stream(stream)
    except FileNotFoundError:
        raise NotFoundError(f"no SRS at {path}") from None
    except OSError as error:
        raise UnavailableError(f"cannot read SRS {path}: {error.strerror}") from None
    if expected is not None and digest != expected:
        raise DigestMismatchError(f"SRS {path} has digest {digest}, not the pinned {expected}")
    return Srs(path.absolute(), logrows, digest)


def g2_words(srs: Srs) -> tuple[Digest, ...]:
    """The two G2 points of an SRS, G2 and −s·G2, as a VKA holds them; read without ezkl.

    Returns
    -------
    tuple
        Eight 32-byte words: of each point x and y, of each coordinate first the imaginary part (EIP-197).
    """
    with srs.path.open("rb") as stream:
        stream.seek(-4 * _POINT, os.SEEK_END)
        raw = stream.read()
    stored = [int.from_bytes(raw[start : start + _WORD], "little") for start in range(0, len(raw), _WORD)]
    x0, x1, y0, y1, sx0, sx1, sy0, sy1 = (value * _UNMONTGOMERY % _BASE_FIELD for value in stored)
    words = (x1, x0, y1, y0, sx1, sx0, -sy1 % _BASE_FIELD, -sy0 % _BASE_FIELD)
    return tuple(Digest(word.to_bytes(_WORD, "big")) for word in words)


def read_perpetual_srs(path: Path, logrows: int) -> Srs:
    """Read a ceremony's SRS; refuse every file whose SHA-256 is not the pinned one.

    Raises
    ------
    CircuitError, DigestMismatchError, NotFoundError, UnavailableError
        As :func:`read_srs`, and for a logrows that nothing is pinned for.
    """
    if logrows not in PERPETUAL_POWERS_OF_TAU:
        raise CircuitError(f"no public SRS is pinned for logrows {logrows}", hint=f"1 to {MAX_LOGROWS}")
    return read_srs(path, PERPETUAL_POWERS_OF_TAU[logrows])


def ensure_development_srs(logrows: int, cache_dir: Path) -> Srs:
    """The development SRS of a cache folder, made on first use. Not for anything that others should believe.

    The secret is random, so that every folder has another SRS; parties that work together must share the file.
    """
    path = cache_dir / f"development-k{logrows}.srs"
    if not path.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".srs-") as folder, EzklProcess() as ezkl:
            made = Path(folder).absolute() / path.name
            ezkl.call("srs", out=str(made), logrows=logrows)
            read_srs(made)
            with contextlib.suppress(ConflictError):  # another process was first; its file counts
                publish(made, path, overwrite=False)
    return read_srs(path)
