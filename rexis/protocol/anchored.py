"""A worker's statement with its place on chain: what a challenge, or a claim on a payment, is about.

Certificates hold these; a worker is told its own by the coordinator, before there is a certificate and without one.
"""

from __future__ import annotations

from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES, Anchor, Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError, NotFoundError
from rexis.protocol.merkle import check_inclusion
from rexis.protocol.parsing import HexBytes, Strict, load_json
from rexis.protocol.records import Opening
from rexis.protocol.signing import require_signer
from rexis.protocol.statement import Statement
from rexis.protocol.typed_data import Domain


class AnchoredStatement(Strict):
    """One task's signed statement, and its place in an anchored tree.

    Nothing here says that the anchor is on chain: :meth:`~contracts.chain.Chain.check_inclusion` does.
    """

    domain: Domain
    statement: Statement
    signature: HexBytes
    anchor: Anchor

    @property
    def digest(self) -> Digest:
        """The statement's digest."""
        return self.domain.digest(self.statement)

    def check(self) -> Digest:
        """Check signature and path; returns the statement's digest.

        Raises
        ------
        SignatureError
            Not signed by the worker that it names.
        MerkleError
            The digest is not where the anchor says.
        """
        digest, anchor = self.digest, self.anchor
        require_signer(digest, self.signature, self.statement.worker, "the statement")
        check_inclusion(anchor.root, anchor.size, anchor.leaf_index, digest, anchor.path, f"statement {digest}")
        return digest


def read_statements(data: bytes) -> list[tuple[AnchoredStatement, list[Opening]]]:
    """The statements of a certificate, or the one of an anchored statement's document, with the records they open.

    Raises
    ------
    MalformedError
        Neither of them.
    """
    certificate = Certificate.read_by_task(data)
    if certificate is None:
        document = load_json(data, max_bytes=MAX_CERTIFICATE_BYTES)
        if not isinstance(document, dict) or "format" not in document:
            return [(AnchoredStatement.from_object(document), [])]
        if document["format"] != "rexis-certificate-v1":
            raise MalformedError("only certificates of evaluations have records", field="format")
        certificate = Certificate.parse(data)
    return [
        (
            AnchoredStatement(
                domain=certificate.domain,
                statement=task.evidence.statement,
                signature=task.evidence.signature,
                anchor=task.anchor,
            ),
            task.evidence.openings,
        )
        for task in certificate.tasks
    ]


def statement_about(
    found: list[tuple[AnchoredStatement, list[Opening]]], record: int
) -> tuple[AnchoredStatement, Opening | None]:
    """The statement about a record, and the record if it is opened.

    Raises
    ------
    NotFoundError
        None of the statements is about it.
    """
    for anchored, openings in found:
        statement = anchored.statement
        if statement.record_start <= record < statement.record_start + statement.record_count:
            return anchored, next((one for one in openings if one.index == record), None)
    raise NotFoundError(f"no statement about record {record}", field="record")
