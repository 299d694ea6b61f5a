"""Files by digest: what cannot be read leaves it undecided, what is another file does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuits.process import EzklProcess, ProcessGoneError
from rexis.protocol.digests import sha256
from rexis.protocol.errors import DigestMismatchError, UnavailableError
from verifier import circuit
from verifier.artifacts import Artifacts, artifact_name

DATA = b"an encrypted model"
DIGEST = sha256(DATA)


def test_bytes_are_those_that_were_checked(tmp_path: Path) -> None:
    (tmp_path / artifact_name(DIGEST)).write_bytes(DATA)
    assert Artifacts(tmp_path).read("model", DIGEST, None, "--model") == DATA
    assert Artifacts(tmp_path).find("model", DIGEST, None, "--model") == tmp_path / artifact_name(DIGEST)


@pytest.mark.parametrize("method", ["find", "read"])
def test_another_file_is_refused(tmp_path: Path, method: str) -> None:
    given = tmp_path / "given"
    given.write_bytes(b"another")
    with pytest.raises(DigestMismatchError):
        getattr(Artifacts(None), method)("model", DIGEST, given, "--model")


@pytest.mark.parametrize("method", ["find", "read"])
def test_a_file_that_cannot_be_read_leaves_it_undecided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / artifact_name(DIGEST)
    path.write_bytes(DATA)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UnavailableError, match="cannot be read: Permission denied"):
        getattr(Artifacts(tmp_path), method)("model", DIGEST, None, "--model")


def test_a_process_that_dies_leaves_it_undecided(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="did not finish"),
        circuit._undecided_if_gone(),
        EzklProcess(timeout=0.2) as ezkl,
    ):
        ezkl.call("srs", out=str(tmp_path / "srs"), logrows=18)
    assert not issubclass(ProcessGoneError, UnavailableError)  # for a worker it is a failure of its own
