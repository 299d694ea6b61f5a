"""A certificate as an in-toto Statement (v1) in a DSSE envelope (v1.0.2), and back, byte for byte.

The certificate is canonical JSON and stands in the predicate as it is; writing it canonically again gives its bytes.
The envelope's signature says who passes it on. It adds nothing to what the certificate shows.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rexis.protocol.certificate import MAX_CERTIFICATE_BYTES
from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError, SignatureError
from rexis.protocol.parsing import canonical_json, load_json
from rexis.protocol.training_certificate import TrainingCertificate, parse_certificate

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:rexis:predicate:certificate:v1"


def statement_of(certificate: bytes) -> dict[str, Any]:
    """The in-toto Statement. Its subjects are the model that the certificate is about, and the certificate.

    Of a training that is the model that it made.
    """
    read = parse_certificate(certificate)
    trained = isinstance(read, TrainingCertificate)
    model = read.trained_model if isinstance(read, TrainingCertificate) else read.request.model_digest
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": "trained-model" if trained else "encrypted-model", "digest": {"sha256": model.hex()}},
            {"name": "certificate.json", "digest": {"sha256": sha256(certificate).hex()}},
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"certificate": read.to_object()},
    }


def envelope_of(certificate: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signed DSSE envelope, JSON."""
    payload = canonical_json(statement_of(certificate))
    signature = key.sign(pre_authentication(payload))
    return json.dumps(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": b64encode(payload).decode("ascii"),
            "signatures": [{"keyid": key_id(key.public_key()), "sig": b64encode(signature).decode("ascii")}],
        }
    ).encode()


def certificate_in(envelope: bytes, key: Ed25519PublicKey) -> bytes:
    """The certificate in an envelope that `key` signed.

    Raises
    ------
    MalformedError
        It is no such envelope.
    SignatureError
        It has no signature of this key.
    """
    found = load_json(envelope, max_bytes=2 * MAX_CERTIFICATE_BYTES)
    try:
        if found["payloadType"] != PAYLOAD_TYPE:
            raise MalformedError(f"holds no {PAYLOAD_TYPE}", field="payloadType")
        payload = b64decode(found["payload"], validate=True)
        signatures = [b64decode(each["sig"], validate=True) for each in found["signatures"]]
    except (KeyError, TypeError, ValueError):
        raise MalformedError("no DSSE envelope") from None
    if not any(_signed(key, signature, payload) for signature in signatures):
        raise SignatureError("the envelope has no signature of this key")
    statement = load_json(payload, max_bytes=MAX_CERTIFICATE_BYTES)
    try:
        certificate = canonical_json(statement["predicate"]["certificate"])
    except (KeyError, TypeError):
        raise MalformedError("the statement holds no certificate", field="predicate") from None
    if statement != statement_of(certificate):
        raise MalformedError("the statement is not the one that follows from its certificate")
    return certificate


def pre_authentication(payload: bytes) -> bytes:
    """DSSE's PAE: what is signed."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hex()


def _signed(key: Ed25519PublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, pre_authentication(payload))
    except InvalidSignature:
        return False
    return True
