"""SRS files: well-formed, pinned, and never mistaken for the ceremony's."""

from pathlib import Path

import pytest

from circuits.srs import (
    PERPETUAL_POWERS_OF_TAU,
    SrsKind,
    read_perpetual_srs,
    read_srs,
    srs_bytes,
    srs_kind,
)
from rexis.protocol.digests import ZERO_DIGEST, sha256
from rexis.protocol.errors import CircuitError, DigestMismatchError, NotFoundError


def fake_srs(folder: Path, logrows: int = 4) -> Path:
    """A file of an SRS's shape."""
    path = folder / "some.srs"
    path.write_bytes(logrows.to_bytes(4, "little") + bytes(srs_bytes(logrows) - 4))
    return path


def test_well_formed_file_is_read_with_its_digest(tmp_path: Path) -> None:
    path = fake_srs(tmp_path)
    srs = read_srs(path)
    assert (srs.logrows, srs.digest, srs.kind) == (4, sha256(path.read_bytes()), SrsKind.DEVELOPMENT)


def test_truncated_and_extended_files_are_refused(tmp_path: Path) -> None:
    path = fake_srs(tmp_path)
    data = path.read_bytes()
    for other in (data[:-1], data + b"\0", data[:3], b""):
        path.write_bytes(other)
        with pytest.raises(CircuitError):
            read_srs(path)


def test_impossible_logrows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes((60).to_bytes(4, "little"))
    with pytest.raises(CircuitError, match="not an SRS"):
        read_srs(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_srs(tmp_path / "none")


def test_another_srs_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError):
        read_srs(fake_srs(tmp_path), ZERO_DIGEST)


def test_file_that_claims_to_be_the_ceremony_is_refused_by_its_hash(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError):
        read_perpetual_srs(fake_srs(tmp_path), 4)


def test_no_pin_no_ceremony(tmp_path: Path) -> None:
    with pytest.raises(CircuitError, match="no public SRS"):
        read_perpetual_srs(fake_srs(tmp_path), 27)


def test_kind_follows_from_the_digest_alone() -> None:
    assert srs_kind(PERPETUAL_POWERS_OF_TAU[13]) is SrsKind.PERPETUAL_POWERS_OF_TAU
    assert srs_kind(sha256(b"")) is SrsKind.DEVELOPMENT


def test_pins_are_those_that_the_installed_ezkl_holds() -> None:
    ezkl = pytest.importorskip("ezkl")
    library = next(Path(ezkl.__file__).parent.glob("*.so")).read_bytes()
    assert sorted(PERPETUAL_POWERS_OF_TAU) == list(range(1, 27))
    for pin in PERPETUAL_POWERS_OF_TAU.values():
        assert pin.hex().encode() in library
