"""What `rexis export` writes, read by the field's own libraries, and read back."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rexis.cli.main import main
from rexis.exports.attestation import (
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    certificate_in,
    envelope_of,
    pre_authentication,
    statement_of,
)
from rexis.exports.ro_crate import crate_of
from rexis.protocol.errors import MalformedError, SignatureError
from rexis.protocol.parsing import canonical_json

VECTORS = Path(__file__).parents[2] / "vectors"
EVALUATION = (VECTORS / "certificates/commit/certificate.json").read_bytes()
TRAINING = (VECTORS / "training/cheat-at-commit/certificate.json").read_bytes()
KEY = Ed25519PrivateKey.generate()


@pytest.mark.parametrize("certificate", [EVALUATION, TRAINING], ids=("evaluation", "training"))
def test_in_totos_libraries_read_the_envelope(certificate: bytes) -> None:
    from google.protobuf.json_format import Parse
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    written = envelope_of(certificate, KEY)
    envelope = Envelope.from_dict(json.loads(written))
    key = SSlibKey.from_crypto(KEY.public_key(), keyid=next(iter(envelope.signatures)))
    assert envelope.payload_type == PAYLOAD_TYPE
    assert set(envelope.verify([key], 1)) == {key.keyid}
    other = SSlibKey.from_crypto(Ed25519PrivateKey.generate().public_key(), keyid=key.keyid)
    with pytest.raises(Exception, match="signatures"):
        envelope.verify([other], 1)
    statement = Statement.copy_from_pb(Parse(envelope.payload, statement_pb2.Statement()))
    statement.validate()
    assert statement.pb.predicate_type == PREDICATE_TYPE
    assert statement.pb.subject[1].digest["sha256"] == sha256(certificate).hexdigest()
    assert certificate_in(written, KEY.public_key()) == certificate


def test_an_envelope_of_another_key_or_with_another_subject_is_refused() -> None:
    written = envelope_of(EVALUATION, KEY)
    with pytest.raises(SignatureError):
        certificate_in(written, Ed25519PrivateKey.generate().public_key())
    with pytest.raises(SignatureError):
        certificate_in(json.dumps(json.loads(written) | {"signatures": []}).encode(), KEY.public_key())
    payload = canonical_json(statement_of(EVALUATION) | {"subject": []})
    signature = {"keyid": "", "sig": b64encode(KEY.sign(pre_authentication(payload))).decode()}
    changed = {"payload": b64encode(payload).decode(), "signatures": [signature]}
    with pytest.raises(MalformedError, match="follows from its certificate"):
        certificate_in(json.dumps(json.loads(written) | changed).encode(), KEY.public_key())
    for text in (b"[]", b"{}", json.dumps(json.loads(written) | {"payload": "!"}).encode()):
        with pytest.raises(MalformedError):
            certificate_in(text, KEY.public_key())


@pytest.mark.parametrize("certificate", [EVALUATION, TRAINING], ids=("evaluation", "training"))
def test_ro_crates_library_reads_the_crate(certificate: bytes, tmp_path: Path) -> None:
    from rocrate.rocrate import ROCrate

    source = tmp_path / "crate"
    source.mkdir()
    for name, data in crate_of(certificate).items():
        (source / name).write_bytes(data)
    crate = ROCrate(source)
    (file,) = crate.root_dataset["hasPart"]
    assert file.type == "File"
    assert file["sha256"] == sha256(certificate).hexdigest()
    (job,) = crate.root_dataset["mentions"]
    assert job.type == "CreateAction"
    assert job["instrument"].type == "SoftwareApplication"
    assert file in job["result"]
    # Written again, by the library, it is the same crate.
    crate.write(tmp_path / "again")
    assert (tmp_path / "again/certificate.json").read_bytes() == certificate
    assert {each.id for each in ROCrate(tmp_path / "again").get_entities()} == {
        each.id for each in crate.get_entities()
    }


def test_the_commands_lead_back_to_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = tmp_path / "key", tmp_path / "key.pub"
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "c.json").write_bytes(EVALUATION)
    envelope, back = tmp_path / "e.json", tmp_path / "back.json"
    assert main(["export", "in-toto", str(tmp_path / "c.json"), "--key", str(private), "--out", str(envelope)]) == 0
    assert main(["export", "certificate", str(envelope), "--key", str(public), "--out", str(back)]) == 0
    assert back.read_bytes() == EVALUATION
    assert main(["export", "in-toto", str(tmp_path / "c.json"), "--key", str(public), "--out", str(back)]) == 1
    assert main(["export", "ro-crate", str(tmp_path / "c.json"), "--out", str(tmp_path / "crate")]) == 0
    assert sorted(path.name for path in (tmp_path / "crate").iterdir()) == [
        "certificate.json",
        "ro-crate-metadata.json",
    ]
    capsys.readouterr()
