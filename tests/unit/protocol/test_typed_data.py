"""Our EIP-712 encoder against eth_account's, and what a digest must be sensitive to."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account.messages import encode_typed_data

from rexis.protocol.circuit import NO_CIRCUIT, Circuit
from rexis.protocol.digests import ZERO_DIGEST, Digest, sha256
from rexis.protocol.errors import MalformedError
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import ZERO_ADDRESS, Address
from rexis.protocol.policy import Rung
from rexis.protocol.rung import RungClaim
from rexis.protocol.statement import JobRequest, Statement, statement_for
from rexis.protocol.typed_data import Domain, Struct

DOMAIN = Domain(chain_id=31337, verifying_contract=Address.from_bytes(b"\x11" * 20))


def request_object(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "kind": "evaluation",
        "modelDigest": str(sha256(b"model")),
        "keyEpoch": 1,
        "circuit": {
            "vkDigest": str(sha256(b"vk")),
            "vkaDigest": str(sha256(b"vka")),
            "srsDigest": str(sha256(b"srs")),
            "settingsDigest": str(sha256(b"settings")),
            "visibility": "public",
            "inputScale": 7,
            "outputScale": 14,
            "inputLength": 30,
            "outputLength": 2,
        },
        "datasetDigest": str(sha256(b"data")),
        "inputRoot": str(sha256(b"root")),
        "inputSize": 143,
        "recordStart": 3,
        "recordCount": 140,
        "policy": {
            "tier": "sampled",
            "sampleSize": 8,
            "shardSize": 64,
            "maxAttempts": 3,
            "absToleranceE9": 1000,
            "relToleranceE9": 0,
            "rung": "ee-outsourced",
            "validators": 0,
            "certifyOnChain": False,
        },
        "requester": str(Address.from_bytes(b"\x22" * 20)),
        "coordinator": str(Address.from_bytes(b"\x33" * 20)),
        "nonce": str(sha256(b"nonce")),
    }
    return {**base, **changes}


def request() -> JobRequest:
    return JobRequest.from_object(request_object())


def statement() -> Statement:
    return statement_for(
        request(), DOMAIN, start=3, count=64, output_root=sha256(b"out"), worker=ZERO_ADDRESS, nonce=sha256(b"lease")
    )


def types(kind: type[Struct]) -> dict[str, list[dict[str, str]]]:
    return {
        part.split("(")[0]: [
            {"type": member.split(" ")[0], "name": member.split(" ")[1]} for member in part.split("(")[1].split(",")
        ]
        for part in kind.type_string().split(")")[:-1]
    }


def plain(struct: Struct) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, field in type(struct).model_fields.items():
        value = getattr(struct, name)
        if isinstance(value, Struct):
            out[str(field.alias)] = plain(value)
        elif isinstance(value, bool | str):
            out[str(field.alias)] = value
        else:
            out[str(field.alias)] = bytes(value) if isinstance(value, bytes) else int(value)
    return out


def rung_claim() -> RungClaim:
    return RungClaim(
        rung=Rung.EE_PRIVATE_WEIGHTS, model_digest=sha256(b"model"), key_epoch=1, base_digest=sha256(b"base"),
        distance_e9=1_300_000_000, threshold_e9=10**9, card_digest=sha256(b"card"), owner=ZERO_ADDRESS,
    )  # fmt: skip


@pytest.mark.parametrize("make", [request, statement, rung_claim])
def test_digest_equals_that_of_eth_account(make: Any) -> None:
    struct = make()
    domain = {"name": "rexis", "version": "1", "chainId": 31337, "verifyingContract": str(DOMAIN.verifying_contract)}
    signable = encode_typed_data(domain, types(type(struct)), plain(struct))
    assert keccak(b"\x19" + signable.version + signable.header + signable.body) == bytes(DOMAIN.digest(struct))


def test_json_round_trip() -> None:
    assert JobRequest.from_json(request().to_json()) == request()
    assert Statement.from_json(statement().to_json()) == statement()


@pytest.mark.parametrize("name", list(Statement.model_fields))
def test_every_field_changes_the_digest(name: str) -> None:
    original = statement()
    value = getattr(original, name)
    if isinstance(value, Digest):
        other: Any = sha256(value)
    elif isinstance(value, Circuit):
        other = value.model_copy(update={"vka_digest": sha256(b"another")})
    elif isinstance(value, Address):
        other = Address.from_bytes(b"\x44" * 20)
    else:
        other = int(value) + 1
    changed = original.model_copy(update={name: other})
    assert DOMAIN.digest(changed) != DOMAIN.digest(original)


def test_domain_changes_the_digest() -> None:
    base = DOMAIN.digest(statement())
    assert DOMAIN.model_copy(update={"chain_id": 1}).digest(statement()) != base
    assert DOMAIN.model_copy(update={"verifying_contract": ZERO_ADDRESS}).digest(statement()) != base


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"kind": "eval"}, "kind", "evaluation"),
        ({"kind": 1}, "kind", "evaluation"),
        ({"keyEpoch": 0}, "keyEpoch", "greater"),
        ({"keyEpoch": "1"}, "keyEpoch", "integer"),
        ({"keyEpoch": True}, "keyEpoch", "integer"),
        ({"modelDigest": "0x" + "A" * 64}, "modelDigest", "not a digest"),
        ({"modelDigest": "ab"}, "modelDigest", "not a digest"),
        ({"requester": "0x" + "aB" * 20}, "requester", "checksum"),
        ({"recordCount": 141}, "JobRequest", "beyond inputSize"),
        ({"recordCount": 0}, "recordCount", "greater"),
        ({"extra": 1}, "extra", "xtra"),
        ({"circuit": NO_CIRCUIT.to_object()}, "JobRequest", "circuit"),
    ],
)
def test_parsing_refuses(change: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        JobRequest.from_object(request_object(**change))
    assert caught.value.field == field
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sampleSize": 0}, "sampleSize"),
        ({"tier": "zk"}, "sampleSize must be 0"),
        ({"certifyOnChain": True}, "tier zk"),
        ({"rung": "zk-onsite"}, "hashed inputs go together"),
        ({"rung": "zk-onsite", "tier": "commit"}, "sampled or zk"),
        ({"rung": "zk-onsite", "tier": "zk", "sampleSize": 0, "certifyOnChain": True}, "contract takes public"),
        ({"validators": 257}, "less"),
        ({"validators": 1, "tier": "commit", "sampleSize": 0}, "run opened records again"),
        ({"shardSize": 0}, "greater"),
        ({"shardSize": 2**21}, "less"),
        ({"maxAttempts": 101}, "less"),
    ],
)
def test_policy_refuses(change: dict[str, Any], text: str) -> None:
    policy = {**request_object()["policy"], **change}
    with pytest.raises(MalformedError, match=text):
        JobRequest.from_object(request_object(policy=policy))


def test_no_circuit_is_all_zero() -> None:
    with pytest.raises(MalformedError, match="zero"):
        Circuit.from_object({**NO_CIRCUIT.to_object(), "vkDigest": str(sha256(b"x"))})
    assert NO_CIRCUIT.srs_digest == ZERO_DIGEST


def test_shards_cover_exactly() -> None:
    shards = request().shards()
    assert shards == [(3, 64), (67, 64), (131, 12)]
