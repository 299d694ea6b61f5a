"""Tier ``sampled``: the tables of docs/sampled.md, and how many block hashes a second one core can try."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from fractions import Fraction

from rexis.protocol.challenge import challenge_indices
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.keccak import keccak
from rexis.protocol.sampling import (
    altered_records,
    job_log_survival,
    job_sample_size_for,
    sample_size_for,
    survival,
)

_SHARES = (Fraction(1, 256), Fraction(1, 100), Fraction(5, 100), Fraction(1, 10), Fraction(1, 4), Fraction(1, 2))
_SAMPLES = (4, 8, 16, 32, 64, 128)
_HEADER_BYTES = 600  # an Ethereum block header's RLP is about this long; 32 bytes of it are the proposer's to choose


def survival_table(records: int = 256) -> str:
    """How likely m altered records of a task survive one challenge of k."""
    rows = []
    for share in _SHARES:
        altered = altered_records(records, share)
        rows.append([f"{altered} ({float(share):.2g})", *(f"{survival(records, altered, k):.2g}" for k in _SAMPLES)])
    return _table([f"altered of {records} (f)", *(f"k = {k}" for k in _SAMPLES)], rows)


def bound_table(records: int = 72, sample: int = 8) -> str:
    """The exact figure beside the usual bound (1−f)^k."""
    rows = [
        [str(altered), f"{survival(records, altered, sample):.3g}", f"{(1 - altered / records) ** sample:.3g}"]
        for altered in (1, 8, 18, 36, 60)
    ]
    return _table([f"altered of {records}, k = {sample}", "exact", "(1−f)^k"], rows)


def size_table(share: Fraction = Fraction(5, 100)) -> str:
    """The sample that catches a share in one task, by confidence and attempts."""
    confidences = (Fraction(99, 100), Fraction(999, 1000), Fraction(999_999, 1_000_000))
    columns = [(confidence, attempts) for confidence in confidences for attempts in (1, 3)]
    rows = [
        [str(records), *(str(sample_size_for(records, share, *column)) for column in columns)]
        for records in (72, 256, 4096, 1 << 20)
    ]
    head = (
        f"{float(confidence):.6%}".rstrip("0%").rstrip(".") + f" %, {attempts} att." for confidence, attempts in columns
    )
    return _table(["records of the task", *head], rows)


def proposer_table(share: Fraction = Fraction(5, 100), confidence: Fraction = Fraction(999, 1000)) -> str:
    """The same where the block's proposer may try many hashes: three attempts."""
    powers = (0, 1, 10, 20, 30, 40)
    rows = [
        [str(records), *(str(sample_size_for(records, share, confidence, 3 << power)) for power in powers)]
        for records in (256, 4096, 1 << 20)
    ]
    return _table(["records of the task", *(f"2^{power} hashes" for power in powers)], rows)


def job_table(records: int = 10_000, share: Fraction = Fraction(5, 100)) -> str:
    """Proofs for a whole job, by the size of its tasks: against altered records anywhere, and in any one task."""
    rows = []
    for shard in (64, 256, 1024, 4096, records):
        job = job_sample_size_for(records, shard, share, Fraction(999, 1000), 3)
        sizes = [min(shard, records - start) for start in range(0, records, shard)]
        task = max(sample_size_for(size, share, Fraction(999, 1000), 3) for size in sizes)
        one = 1.0 - math.exp(job_log_survival(records, shard, 1, job, 3))
        proofs = (sum(min(k, size) for size in sizes) for k in (job, task))
        both = [f"{k} ({number})" for k, number in zip((job, task), proofs, strict=True)]
        rows.append([str(shard), str(len(sizes)), *both, f"{one:.2g}"])
    return _table(
        [
            "records a task",
            "tasks",
            "k for the job (proofs)",
            "k for each task (proofs)",
            "one record in the job, caught",
        ],
        rows,
    )


def tables() -> list[str]:
    """All, in the order of the page."""
    return [survival_table(), bound_table(), size_table(), job_table(), proposer_table()]


def hashes_a_second(seconds: float = 2.0, records: int = 256, sample: int = 8) -> float:
    """Headers that differ in 8 bytes, hashed, and the challenge of each drawn: tries a second of one Python process."""
    statement, header = sha256(b"statement"), bytes(_HEADER_BYTES - 8)
    begun, tried = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for _ in range(100):
            block = Digest(keccak(header + tried.to_bytes(8, "big")))
            challenge_indices(statement, block, 0, records, sample)
            tried += 1
    return tried / (time.perf_counter() - begun)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Print everything."""
    print("\n\n".join(tables()))
    print(f"\n{hashes_a_second():,.0f} block hashes a second and core, in Python")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
