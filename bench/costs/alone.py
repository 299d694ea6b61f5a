"""A worker's memory at tier ``commit``: one task in a process of its own.

``python -m bench.costs.alone FOLDER`` does the task whose ``lease.json``, ``dataset`` and ``model.onnx`` lie there and
prints its largest resident set in bytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench._processes import peak_bytes
from provers.cache import ProofCache
from provers.executor import OnnxExecutor
from provers.task import RecordProver, Task, read_dataset
from provers.tiers.commit import CommitProver
from rexis.api import Lease
from rexis.interpreter import python, python_environment
from rexis.protocol.certificate import Commitment
from rexis.protocol.errors import UnavailableError
from rexis.protocol.signing import new_account
from rexis.protocol.statement import Statement


def commit_peak_bytes(lease: Lease, dataset: Path, model: Path) -> int:
    """Do the task in a new process; returns its largest resident set.

    Raises
    ------
    UnavailableError
        The process failed.
    """
    with tempfile.TemporaryDirectory(prefix="rexis-bench-") as name:
        folder = Path(name)
        (folder / "lease.json").write_bytes(lease.to_json())
        shutil.copy(dataset, folder / "dataset")
        shutil.copy(model, folder / "model.onnx")
        command = python("-m", "bench.costs.alone", name)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=python_environment())
    if done.returncode != 0:
        raise UnavailableError(f"a worker by itself failed: {done.stderr[-300:]}")
    return int(done.stdout)


def main() -> None:
    """The child."""
    folder = Path(sys.argv[1])
    lease = Lease.from_json((folder / "lease.json").read_bytes())
    task = Task(
        lease=lease,
        account=new_account(),
        dataset=read_dataset(folder / "dataset", lease.request),
        executor=OnnxExecutor(folder / "model.onnx"),
        open_circuit=_nothing_to_prove,
        proofs=ProofCache(folder / "proofs", max_bytes=0),
        commit=_nothing_to_commit,
        at=lambda stage, done, total: None,
    )
    worker = CommitProver(task)
    worker.prepare()
    worker.evidence(worker.compute())
    print(peak_bytes(os.getpid()))


def _nothing_to_prove() -> RecordProver:
    raise UnavailableError("tier commit has no circuit")


def _nothing_to_commit(statement: Statement) -> Commitment:
    raise UnavailableError("tier commit has no challenge")


if __name__ == "__main__":
    main()
