"""What a validator signed it remembers, whatever ends it: two verdicts on one statement are never decided."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import ConflictError, RexisError
from rexis.protocol.validation import Finding
from verifier.validator.journal import Journal

KEY, JOB = b"a public key", sha256(b"a job")
ONE, TWO, THREE = (sha256(text) for text in (b"1", b"2", b"3"))
VALID, INVALID = Finding.VALID, Finding.INVALID


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def test_a_second_verdict_on_a_statement_is_refused(path: Path) -> None:
    with Journal(path, KEY) as journal:
        journal.decide(JOB, {ONE: VALID})
        journal.decide(JOB, {ONE: VALID})
        with pytest.raises(ConflictError, match="was found valid before"):
            journal.decide(sha256(b"another job"), {ONE: INVALID})
    with Journal(path, KEY) as journal, pytest.raises(ConflictError):
        journal.decide(JOB, {ONE: INVALID})


def test_of_verdicts_with_a_contradiction_none_is_written(path: Path) -> None:
    with Journal(path, KEY) as journal:
        journal.decide(JOB, {TWO: INVALID})
        with pytest.raises(ConflictError):
            journal.decide(JOB, {ONE: VALID, TWO: VALID, THREE: VALID})
        assert journal.of([ONE, TWO, THREE]) == {TWO: INVALID}


def test_keys_have_journals_of_their_own(path: Path) -> None:
    with Journal(path, KEY) as journal:
        journal.decide(JOB, {ONE: VALID})
    with Journal(path, b"another key") as journal:
        assert journal.of([ONE]) == {}
        journal.decide(JOB, {ONE: INVALID})


def test_what_is_kept_is_counted(path: Path) -> None:
    with Journal(path, KEY) as journal:
        assert journal.counts() == {"valid": 0, "invalid": 0, "kept": 0}
        journal.decide(JOB, {ONE: VALID, TWO: INVALID})
        journal.decide(sha256(b"another job"), {THREE: VALID})
        journal.note_handed_in(JOB)
        assert journal.counts() == {"valid": 2, "invalid": 1, "kept": 1}


def test_many_statements_are_found(path: Path) -> None:
    statements = [sha256(n.to_bytes(4, "big")) for n in range(1200)]
    with Journal(path, KEY) as journal:
        journal.decide(JOB, dict.fromkeys(statements, VALID))
        assert journal.of(statements) == dict.fromkeys(statements, VALID)


def test_of_two_that_decide_at_once_one_is_refused(path: Path) -> None:
    """Two processes on one file: not what a validator does, and harmless all the same."""
    with Journal(path, KEY):
        pass
    refused: list[Finding] = []

    def decide(finding: Finding) -> None:
        with Journal(path, KEY) as journal:
            for n in range(50):
                try:
                    journal.decide(JOB, {sha256(n.to_bytes(4, "big")): finding})
                except ConflictError:
                    refused.append(finding)

    threads = [threading.Thread(target=decide, args=[finding]) for finding in Finding]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 50


def test_a_verdict_outlives_kill_9(path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom rexis.protocol.digests import Digest\n"
        "from rexis.protocol.validation import Finding\nfrom verifier.validator.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), sys.argv[2].encode())\n"
        "journal.decide(Digest.parse(sys.argv[3]), {Digest.parse(sys.argv[3]): Finding.INVALID})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path), KEY.decode(), str(ONE)], check=False)
    assert done.returncode == -signal.SIGKILL
    with Journal(path, KEY) as journal:
        assert journal.of([ONE]) == {ONE: INVALID}


def test_a_file_that_is_no_journal_is_not_signed_without(path: Path) -> None:
    path.write_bytes(os.urandom(4096))
    with pytest.raises(RexisError, match="cannot be used"):
        Journal(path, KEY)


def test_others_cannot_read_it(path: Path) -> None:
    with Journal(path, KEY):
        assert path.stat().st_mode & 0o077 == 0
    assert isinstance(ONE, Digest)
