"""BLS in arkworks against py-ecc, RFC 9380's own points and the shared vectors, which the contracts take too."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from py_ecc.bls import G2ProofOfPossession as Reference
from py_ecc.bls.g2_primitives import G2_to_signature, pubkey_to_G1, signature_to_G2, subgroup_check
from py_ecc.bls.hash_to_curve import hash_to_G2
from py_ecc.optimized_bls12_381 import FQ, FQ2, is_on_curve, normalize
from py_ecc.optimized_bls12_381 import b as b1
from py_ecc.optimized_bls12_381 import b2 as b2

from rexis.protocol import bls
from rexis.protocol.bls import BlsKey, aggregate_keys, aggregate_signatures, new_bls_key, possession_message, verify
from rexis.protocol.digests import Digest
from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import Address
from rexis.protocol.typed_data import Domain
from rexis.protocol.validation import Finding, ValidatorVerdict

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/protocol/bls.json").read_text())
DOMAIN = Domain(chain_id=VECTORS["chainId"], verifying_contract=Address.parse(VECTORS["verifyingContract"]))
KEYS = [BlsKey(int(validator["secret"], 16)) for validator in VECTORS["validators"]]
MESSAGE = Digest.parse(VECTORS["verdicts"][0]["message"])


def _raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _eip2537(*numbers: Any) -> bytes:
    return b"".join(int(number).to_bytes(64, "big") for number in numbers)


def _g1(point: Any) -> bytes:
    return _eip2537(*normalize(point))


def _g2(point: Any) -> bytes:
    x, y = normalize(point)
    return _eip2537(*x.coeffs, *y.coeffs)


def _point_1(raw: bytes) -> Any:
    return FQ(int.from_bytes(raw[:64], "big")), FQ(int.from_bytes(raw[64:], "big")), FQ(1)


def _point_2(raw: bytes) -> Any:
    numbers = [int.from_bytes(raw[i : i + 64], "big") for i in range(0, 256, 64)]
    return FQ2(numbers[:2]), FQ2(numbers[2:]), FQ2.one()


# --- against py-ecc: keys, signatures, sums


@pytest.mark.parametrize("key", KEYS[:2])
def test_keys_and_signatures_are_those_of_py_ecc(key: BlsKey) -> None:
    assert key.public_key == _g1(pubkey_to_G1(Reference.SkToPk(key.secret)))
    assert key.sign(MESSAGE) == _g2(signature_to_G2(Reference.Sign(key.secret, bytes(MESSAGE))))


def test_an_aggregate_is_that_of_py_ecc_and_holds_there() -> None:
    signatures = [key.sign(MESSAGE) for key in KEYS[:3]]
    total = aggregate_signatures(signatures)
    compressed = [G2_to_signature(_point_2(signature)) for signature in signatures]
    assert total == _g2(signature_to_G2(Reference.Aggregate(compressed)))
    keys = [Reference.SkToPk(key.secret) for key in KEYS[:3]]
    assert Reference.FastAggregateVerify(keys, bytes(MESSAGE), G2_to_signature(_point_2(total)))
    assert verify(aggregate_keys([key.public_key for key in KEYS[:3]]), MESSAGE, total)


@pytest.mark.parametrize("case", VECTORS["hashes"], ids=["empty", "abc", "q128"])
def test_hashes_to_the_curve_are_those_of_py_ecc(case: dict[str, str]) -> None:
    found = hash_to_G2(_raw(case["message"]), case["dst"].encode(), hashlib.sha256)
    assert _raw(case["point"]) == _g2(found) == BlsKey(1).sign(_raw(case["message"]), case["dst"].encode())


def test_the_empty_messages_hash_is_the_one_in_the_rfc() -> None:
    """RFC 9380, appendix J.10.1."""
    x = (
        0x0141EBFBDCA40EB85B87142E130AB689C673CF60F1A3E98D69335266F30D9B8D4AC44C1038E9DCDD5393FAF5C41FB78A,
        0x05CB8437535E20ECFFAEF7752BADDF98034139C38452458BAEEFAB379BA13DFF5BF5DD71B72418717047F5B0F37DA03D,
    )
    assert _raw(VECTORS["hashes"][0]["point"])[:128] == _eip2537(*x)


# --- vectors


def test_the_vectors_are_what_the_keys_give() -> None:
    for key, validator in zip(KEYS, VECTORS["validators"], strict=True):
        account = Address.parse(validator["account"])
        assert key.public_key == _raw(validator["publicKey"])
        assert key.prove_possession(account, DOMAIN) == _raw(validator["possession"])
        assert verify(
            key.public_key,
            possession_message(key.public_key, account, DOMAIN),
            _raw(validator["possession"]),
            bls.POSSESSION_DST,
        )
    for case in VECTORS["verdicts"]:
        verdict = ValidatorVerdict(
            statement_digest=Digest.parse(VECTORS["statementDigest"]), verdict=Finding(case["verdict"])
        )
        assert str(DOMAIN.digest(verdict)) == case["message"]
        assert [key.sign(Digest.parse(case["message"])) for key in KEYS] == [_raw(x) for x in case["signatures"]]


def test_a_rogue_key_forges_an_aggregate_and_proves_no_possession() -> None:
    rogue = VECTORS["rogue"]
    key = _raw(rogue["publicKey"])
    total = aggregate_keys([*(key.public_key for key in KEYS[:3]), key])
    assert verify(total, MESSAGE, _raw(rogue["aggregate"]))  # the attack, where possession is not asked for
    message = possession_message(key, Address.parse(VECTORS["validators"][3]["account"]), DOMAIN)
    assert not verify(key, message, _raw(rogue["possession"]), bls.POSSESSION_DST)


def test_points_outside_the_subgroup_are_on_the_curve_and_refused() -> None:
    key, signature = _raw(VECTORS["wrongSubgroup"]["publicKey"]), _raw(VECTORS["wrongSubgroup"]["signature"])
    assert is_on_curve(_point_1(key), b1)
    assert is_on_curve(_point_2(signature), b2)
    assert not subgroup_check(_point_1(key))
    assert not subgroup_check(_point_2(signature))
    with pytest.raises(MalformedError, match="public key is no point of its subgroup"):
        verify(key, MESSAGE, KEYS[0].sign(MESSAGE))
    with pytest.raises(MalformedError, match="signature is no point of its subgroup"):
        verify(KEYS[0].public_key, MESSAGE, signature)


# --- what is refused


def test_verify_refuses_another_key_message_or_domain() -> None:
    signature = KEYS[0].sign(MESSAGE)
    assert verify(KEYS[0].public_key, MESSAGE, signature)
    assert not verify(KEYS[1].public_key, MESSAGE, signature)
    assert not verify(KEYS[0].public_key, b"another", signature)
    assert not verify(KEYS[0].public_key, MESSAGE, signature, bls.POSSESSION_DST)


def test_infinity_is_no_key_and_no_signature() -> None:

    zero_key, zero_signature = bytes(128), bytes(256)
    assert not verify(zero_key, MESSAGE, zero_signature)
    assert not verify(KEYS[0].public_key, MESSAGE, zero_signature)
    assert not verify(zero_key, MESSAGE, KEYS[0].sign(MESSAGE))
    assert aggregate_keys([]) == zero_key
    assert aggregate_signatures([]) == zero_signature


@pytest.mark.parametrize("change", [lambda k: k[:-1], lambda k: b"\x01" + k[1:], lambda k: k[:64] + bytes(64)])
def test_malformed_keys_are_refused(change: Any) -> None:
    with pytest.raises(MalformedError):
        verify(change(KEYS[0].public_key), MESSAGE, KEYS[0].sign(MESSAGE))


@pytest.mark.parametrize("secret", [0, -1, bls.ORDER])
def test_secrets_lie_in_the_groups_order(secret: int) -> None:
    with pytest.raises(MalformedError):
        BlsKey(secret)


def test_a_keys_text_does_not_show_it() -> None:
    key = new_bls_key()
    assert str(key.secret) not in repr(key)
    assert key != new_bls_key()
