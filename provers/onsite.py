"""Datasets that a worker has on its own machine, for rung ``zk-onsite``: whose requests are served, and with what."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from provers.task import require_requested
from rexis.files import read_file
from rexis.protocol.circuit import Visibility
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ConflictError, TensorError
from rexis.protocol.onsite import PrivateDataset, read_own_dataset
from rexis.protocol.parsing import Address
from rexis.protocol.statement import JobRequest

MAX_DATASET_BYTES = 8 << 30
WITHHELD = "onsite-failed", "the worker on the data owner's machine could not do the task; its own log says why"
"""What a coordinator hears of a failure: the reason may tell of records."""


class OwnDatasets:
    """Private datasets by the digest of their hashes.

    Parameters
    ----------
    files
        What ``rexis onsite commit`` wrote.
    owner
        The one requester that may have them evaluated: with a model of somebody else's choice an output can be the
        record itself.
    """

    def __init__(self, files: Iterable[Path], owner: Address) -> None:
        read = [_read(path) for path in files]
        self._owner, self._datasets = owner, {dataset.digest: dataset for dataset in read}

    def __len__(self) -> int:
        return len(self._datasets)

    @property
    def digests(self) -> list[Digest]:
        """What the worker tells the coordinator that it holds."""
        return sorted(self._datasets)

    def requested(self, request: JobRequest) -> PrivateDataset | None:
        """The dataset of a request about private records; None if a request is about others, and this worker has none.

        Raises
        ------
        ConflictError
            Somebody else's request, records that are not here, or no private ones though this worker is for such only.
        MalformedError, DigestMismatchError
            The dataset is not what the requester signed.
        """
        if request.circuit.visibility != Visibility.HASHED:
            if self._datasets:
                raise ConflictError("this worker proves on its own datasets only")
            return None
        found = self._datasets.get(request.dataset_digest)
        if found is None:
            raise ConflictError(f"the records of dataset {request.dataset_digest} are not on this machine")
        if request.requester != self._owner:
            raise ConflictError(f"{request.requester} asks about records of {self._owner}", field="request.requester")
        require_requested(found, request)
        return found


def _read(path: Path) -> PrivateDataset:
    found = read_own_dataset(read_file(path, "private dataset", max_bytes=MAX_DATASET_BYTES))
    if not isinstance(found, PrivateDataset):
        raise TensorError(
            f"{path} is a dataset for others to compute on", hint="`rexis onsite commit` makes a private one"
        )
    return found
