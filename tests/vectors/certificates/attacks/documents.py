"""Steps 1 and 2: the bytes of the document, and its seal."""

from __future__ import annotations

import json

from rexis.protocol.parsing import canonical_json, parse_hex, to_hex
from tests.vectors.certificates.attacks.forging import opening, proof
from tests.vectors.certificates.case import forged
from tests.vectors.certificates.issuer import Document, Issuer, high_s, seal


@forged(1, "canonical form", "anybody")
def whitespace(issuer: Issuer) -> bytes:
    """Reformatted for reading: the same values in other bytes, so that two files claim to be one certificate."""
    return json.dumps(issuer.commit(), indent=1, sort_keys=True).encode() + b"\n"


@forged(1, "canonical form", "anybody")
def reordered_keys(issuer: Issuer) -> bytes:
    """The keys stand in another order."""
    document = issuer.commit()
    turned = {key: document[key] for key in reversed(sorted(document))}  # noqa: C413
    return json.dumps(turned, separators=(",", ":")).encode() + b"\n"


@forged(1, "canonical form", "anybody")
def escaped_text(issuer: Issuer) -> bytes:
    """A letter is written as a Unicode escape, which a search for the text would not find."""
    return canonical_json(issuer.commit()).replace(b"evaluation", b"\\u0065valuation")


@forged(1, "canonical form", "anybody")
def no_final_newline(issuer: Issuer) -> bytes:
    """The last byte is gone."""
    return canonical_json(issuer.commit())[:-1]


@forged(1, "duplicate key 'tasks'", "coordinator")
def duplicate_key(issuer: Issuer) -> bytes:
    """Two lists of tasks: one reader would see the first, another the last."""
    return b'{"tasks":[],' + canonical_json(issuer.commit())[1:]


@forged(1, "not an integer", "coordinator")
def float_number(issuer: Issuer) -> bytes:
    """A float where an integer should stand: readers differ in how they round it."""
    return canonical_json(issuer.commit()).replace(b'"computeMs":1,', b'"computeMs":1.0,')


@forged(1, "beyond 2^53-1", "coordinator")
def huge_integer(issuer: Issuer) -> bytes:
    """An integer that some readers round: 2^53 + 1."""
    return canonical_json(issuer.commit()).replace(b'"computeMs":1,', b'"computeMs":9007199254740993,')


@forged(1, "not an integer", "coordinator")
def not_a_number(issuer: Issuer) -> bytes:
    """NaN, which is not JSON but which many readers take."""
    return canonical_json(issuer.commit()).replace(b'"computeMs":1,', b'"computeMs":NaN,')


@forged(1, "Extra inputs", "coordinator")
def unknown_field(issuer: Issuer) -> Document:
    """A field of the coordinator's own, under its seal: "approvedBy" says what nobody approved."""
    return seal({**issuer.commit(), "approvedBy": "the regulator"})


@forged(1, "not JSON", "anybody")
def truncated(issuer: Issuer) -> bytes:
    """The second half of the file is missing."""
    data = canonical_json(issuer.commit())
    return data[: len(data) // 2]


@forged(1, "not JSON", "anybody")
def appended(issuer: Issuer) -> bytes:
    """A second document stands behind the first."""
    return canonical_json(issuer.commit()) + b"{}\n"


@forged(1, "nested deeper", "anybody")
def nested(issuer: Issuer) -> bytes:
    """Brackets ten thousand deep, to exhaust the reader's stack."""
    return b'{"tasks":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n"


@forged(1, "wrong checksum", "coordinator")
def address_without_checksum(issuer: Issuer) -> Document:
    """The requester's address in lower case: another text for the same account."""
    document = issuer.commit()
    document["request"]["requester"] = document["request"]["requester"].lower()
    return seal(document)


@forged(1, "not a digest", "coordinator")
def digest_in_upper_case(issuer: Issuer) -> Document:
    """The model's digest in upper case: another text for the same model."""
    document = issuer.commit()
    document["request"]["modelDigest"] = "0x" + document["request"]["modelDigest"][2:].upper()
    return seal(document)


@forged(1, "statement version 1 only", "coordinator", "worker")
def another_version(issuer: Issuer) -> Document:
    """A statement of version 2, in the hope that a checker of version 1 reads it with its own rules."""
    document = issuer.commit()
    document["tasks"][0]["evidence"]["statement"]["version"] = 2
    return seal(document)


@forged(1, "at least 1", "coordinator", "worker")
def empty_proof(issuer: Issuer) -> Document:
    """A proof of no bytes."""
    return seal(proof(issuer.zk(), "0x"))


@forged(1, "at least 1 item", "coordinator")
def no_tasks(issuer: Issuer) -> Document:
    """A certificate of nothing: no task, so that nothing can fail."""
    return seal({**issuer.commit(), "tasks": []})


@forged(1, "issuedAt", "coordinator")
def issued_at_no_time(issuer: Issuer) -> Document:
    """Issued on a day that no calendar has."""
    return seal({**issuer.commit(), "issuedAt": "2026-02-30T25:00:00Z"})


@forged(1, "issuedAt", "coordinator")
def issued_at_in_other_digits(issuer: Issuer) -> Document:
    """The date in Arabic-Indic digits, which a reader's `\\d` takes and its clock does not."""
    digits = str.maketrans("0123456789", "".join(chr(0x660 + digit) for digit in range(10)))
    return seal({**issuer.commit(), "issuedAt": "2026-01-02T00:00:00Z".translate(digits)})


@forged(1, r"passed\n✓ 18", "coordinator")
def field_that_looks_like_a_report(issuer: Issuer) -> Document:
    """An unknown field whose name holds lines of a report, to be shown to the auditor within the refusal."""
    return seal({**issuer.commit(), "passed\n✓ 18. on-chain certification\n\nshows: all outputs are right\nVALID\n": 1})


@forged(2, "not by", "anybody")
def byte_changed(issuer: Issuer) -> Document:
    """Somebody changed the date on the way."""
    return {**issuer.commit(), "issuedAt": "2025-01-02T00:00:00Z"}


@forged(2, "not by", "anybody")
def measured_error_changed(issuer: Issuer) -> Document:
    """Somebody made the measured error, which nothing proves, look smaller than it was."""
    document = issuer.zk()
    document["tasks"][0]["evidence"]["measured"]["proveMs"] = 1
    return document


@forged(2, "not by", "anybody")
def output_changed_on_the_way(issuer: Issuer) -> Document:
    """Somebody changed an output on the way."""
    document = issuer.zk()
    output = document["tasks"][0]["evidence"]["openings"][0]["output"]
    return opening(document, output="0x" + "00" * 8 + output[18:])


@forged(2, "not by", "anybody")
def sealed_by_another(issuer: Issuer) -> Document:
    """Somebody who is not the request's coordinator changed the date and sealed the document again."""
    return seal({**issuer.commit(), "issuedAt": "2025-01-02T00:00:00Z"}, by="stranger")


@forged(2, "not by", "anybody")
def seal_of_another_certificate(issuer: Issuer) -> Document:
    """The coordinator's seal of another certificate."""
    return {**issuer.commit(), "seal": issuer.zk()["seal"]}


@forged(2, "high s", "anybody")
def seal_malleated(issuer: Issuer) -> Document:
    """The seal's other form, which anybody can compute: a second file for one certificate."""
    document = issuer.commit()
    return {**document, "seal": to_hex(high_s(parse_hex(document["seal"])))}


@forged(2, "65 bytes", "anybody")
def seal_empty(issuer: Issuer) -> Document:
    """No seal."""
    return {**issuer.commit(), "seal": "0x"}


@forged(2, "not by", "anybody")
def request_signature_as_seal(issuer: Issuer) -> Document:
    """The requester's signature in the place of the seal: a good signature, of another and over something else."""
    document = issuer.commit()
    return {**document, "seal": document["requestSignature"]}
