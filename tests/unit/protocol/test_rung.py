"""The owner's claim of a rung: what it must be about, and who must have signed it."""

from __future__ import annotations

from typing import Any

import pytest

from rexis.protocol.digests import sha256
from rexis.protocol.errors import EvidenceError, MalformedError, SignatureError
from rexis.protocol.parsing import Address
from rexis.protocol.policy import Rung
from rexis.protocol.rung import (
    PRIVATE_WEIGHTS_DISTANCE_E9,
    RungClaim,
    SignedRungClaim,
    require_rung_claim,
    sign_rung_claim,
)
from rexis.protocol.signing import address_of, new_account
from rexis.protocol.typed_data import Domain

DOMAIN = Domain(chain_id=31337, verifying_contract=Address.from_bytes(b"\x11" * 20))
OWNER = new_account()
MODEL = sha256(b"encrypted model")


def claim(**changes: Any) -> RungClaim:
    fields: dict[str, Any] = {
        "rung": Rung.EE_PRIVATE_WEIGHTS,
        "model_digest": MODEL,
        "key_epoch": 2,
        "base_digest": sha256(b"base"),
        "distance_e9": PRIVATE_WEIGHTS_DISTANCE_E9,
        "threshold_e9": PRIVATE_WEIGHTS_DISTANCE_E9,
        "card_digest": sha256(b"card"),
        "owner": address_of(OWNER),
    }
    return RungClaim(**{**fields, **changes})


def require(signed: SignedRungClaim, domain: Domain = DOMAIN) -> RungClaim:
    return require_rung_claim(signed, domain, rung=Rung.EE_PRIVATE_WEIGHTS, model=MODEL, epoch=2)


def test_a_claim_at_the_threshold_holds_and_says_whose_word_it_is() -> None:
    found = require(sign_rung_claim(OWNER, claim(), DOMAIN))
    assert found == claim()
    assert f"claimed by the owner {address_of(OWNER)}, not checkable without the plain weights" in str(found)


def test_json_round_trip() -> None:
    signed = sign_rung_claim(OWNER, claim(), DOMAIN)
    assert SignedRungClaim.from_json(signed.to_json()) == signed


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rung": Rung.EE_OUTSOURCED}, "rung"),
        ({"model_digest": sha256(b"another")}, "modelDigest"),
        ({"key_epoch": 1}, "keyEpoch"),
        ({"distance_e9": PRIVATE_WEIGHTS_DISTANCE_E9 - 1}, "distanceE9"),
        ({"threshold_e9": PRIVATE_WEIGHTS_DISTANCE_E9 - 1}, "thresholdE9"),
    ],
)
def test_a_claim_of_something_else_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        require(sign_rung_claim(OWNER, claim(**changes), DOMAIN))
    assert caught.value.field == f"rungClaim.claim.{field}"


def test_a_claim_must_be_signed_by_the_owner_it_names_for_this_deployment() -> None:
    signed = sign_rung_claim(OWNER, claim(), DOMAIN)
    for wrong in (sign_rung_claim(new_account(), claim(), DOMAIN), SignedRungClaim(claim=claim(), signature=b"")):
        with pytest.raises(SignatureError):
            require(wrong)
    with pytest.raises(SignatureError):
        require(signed, DOMAIN.model_copy(update={"chain_id": 1}))
    with pytest.raises(SignatureError):
        require(signed.model_copy(update={"claim": claim(base_digest=sha256(b"a base that is farther away"))}))


def test_an_epoch_of_zero_is_no_claim() -> None:
    with pytest.raises(MalformedError, match="greater"):
        RungClaim.from_object({**claim().to_object(), "keyEpoch": 0})
