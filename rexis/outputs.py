"""Whether downloaded outputs are the ones that a certificate certifies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rexis.files import reader
from rexis.protocol import tensors
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.errors import DigestMismatchError
from rexis.protocol.onsite import PrivateDataset
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats, Integers, dequantise, input_root, output_format, output_salts
from rexis.protocol.rows import Rows
from rexis.protocol.tensors import Dataset, unpack_outputs


def read_outputs(certificate: Certificate, blob: bytes) -> Floats | Integers:
    """A job's outputs ``[count, …]`` from their blob, in the encoding of the certificate's tier."""
    request = certificate.request
    return unpack_outputs(blob, count=request.record_count, fixed=request.policy.tier != Tier.COMMIT)


def open_outputs(certificate: Certificate, path: Path) -> Rows:
    """As :func:`read_outputs`, of a file, in which they stay."""
    request = certificate.request
    fixed = request.policy.tier != Tier.COMMIT
    return tensors.open_outputs(*reader(path, "outputs"), count=request.record_count, fixed=fixed)


def as_floats(certificate: Certificate, outputs: Floats | Integers) -> Floats:
    """Outputs as float32: those of a circuit are fixed point with its output scale."""
    if certificate.request.policy.tier == Tier.COMMIT:
        return outputs.astype(np.float32)
    return dequantise(outputs.astype(np.int64), certificate.request.circuit.output_scale)


def require_certified(
    certificate: Certificate, dataset: Dataset | PrivateDataset, dataset_digest: Digest, outputs: Rows
) -> None:
    """Check that these records went in and these outputs came out, by the roots of the certificate's statements.

    The salts of the requester's own dataset are needed for that, so nobody else can do it for all records.
    Whether the certificate itself is valid is ``verifier``'s to say. Of a private dataset the hashes are compared; that
    they are those of its records only hashing again shows (:mod:`circuits.hashing`), or a proof.

    Raises
    ------
    DigestMismatchError
        The dataset is another one, or a task's outputs are not those that its worker signed.
    """
    request = certificate.request
    tier, circuit = request.policy.tier, request.circuit
    if dataset_digest != request.dataset_digest:
        raise DigestMismatchError(
            f"the dataset has digest {dataset_digest}, the certificate is about {request.dataset_digest}",
            field="dataset",
        )
    if input_root(tier, circuit, dataset.committed, dataset.leaf_salts) != request.input_root:
        raise DigestMismatchError("the dataset's records do not have the certificate's input root", field="dataset")
    leaves = output_format(tier, circuit)
    for task in certificate.tasks:
        statement = task.evidence.statement
        start, end = statement.record_start, statement.record_start + statement.record_count
        rows = outputs[start - request.record_start : end - request.record_start]
        if (
            len(rows) == 0
            or leaves.tree(rows, output_salts(dataset.leaf_salts[start:end])).root != statement.output_root
        ):
            raise DigestMismatchError(
                f"outputs of records {start} … {end - 1} are not the certified ones",
                field="outputs",
                hint="fetch them again; if that does not help, the coordinator serves other outputs than it certified",
            )
