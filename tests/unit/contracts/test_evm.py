"""The Solidity verifier in an EVM of this process, with a real proof; its last equation again in py-ecc."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from py_ecc.optimized_bn128 import FQ, FQ2, FQ12, field_modulus, is_on_curve, pairing
from py_ecc.optimized_bn128 import b as b1
from py_ecc.optimized_bn128 import b2 as b2

import contracts.evm
from contracts.evm import LocalVerifier, pinned_code
from contracts.onchain import FIELD
from rexis.protocol.digests import sha256
from rexis.protocol.errors import DigestMismatchError, UnavailableError
from tests.evm import needs_evm

pytestmark = needs_evm

TINY = json.loads((Path(__file__).parents[2] / "vectors/protocol/halo2_tiny.json").read_text())
PROOF = bytes.fromhex(TINY["proof"][2:])
VKA = [bytes.fromhex(word[2:]) for word in TINY["vka"]]
INSTANCES = [int(value) % FIELD for value in (*TINY["inputs"], *TINY["outputs"])]
OTHER_OUTPUT = [*INSTANCES[:-1], (INSTANCES[-1] + 1) % FIELD]


@pytest.fixture(scope="module")
def verifier() -> LocalVerifier:
    return LocalVerifier(VKA)


def test_accepts_the_honest_proof_again_and_again(verifier: LocalVerifier) -> None:
    answers = [verifier.verify(PROOF, INSTANCES) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0].accepted
    assert 500_000 < answers[0].gas < 1_000_000


@pytest.mark.parametrize("position", [0, 63, 64, 1000, 2000, len(PROOF) - 1])
def test_rejects_a_proof_with_one_bit_turned(verifier: LocalVerifier, position: int) -> None:
    forged = bytearray(PROOF)
    forged[position] ^= 1
    assert not verifier.verify(bytes(forged), INSTANCES).accepted


@pytest.mark.parametrize(
    "instances",
    [OTHER_OUTPUT, INSTANCES[::-1], INSTANCES[:-1], [*INSTANCES, 0], [], [INSTANCES[0] + FIELD, *INSTANCES[1:]]],
    ids=("another-output", "turned-round", "one-less", "one-more", "none", "unreduced"),
)
def test_rejects_other_instances(verifier: LocalVerifier, instances: list[int]) -> None:
    assert not verifier.verify(PROOF, instances).accepted


def test_a_vka_that_costs_more_than_the_limit_gives_no_answer() -> None:
    words = [*VKA[:3], (1 << 40).to_bytes(32, "big"), *VKA[4:]]  # so many evaluations are to be read
    with pytest.raises(UnavailableError, match="no answer"):
        LocalVerifier(words).verify(PROOF, INSTANCES)


def test_code_that_is_not_the_pinned_one_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts.evm, "VERIFIER_CODE", sha256(b"another"))
    with pytest.raises(DigestMismatchError, match="not 0x"):
        LocalVerifier(VKA)


def test_without_an_evm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrevm", None)
    with pytest.raises(UnavailableError) as caught:
        LocalVerifier(VKA)
    assert caught.value.hint == "pip install 'rexis[second-opinion]'"


# --- the pairing ------------------------------------------------------------------------------------------------

_CALL_PAIRING = bytes.fromhex("60085afa")  # PUSH1 8, GAS, STATICCALL
_REVERT_WITH_IT = bytes.fromhex("fd005afa")  # REVERT, with offset and size of what the precompile would have read


def _pairing_input(instances: list[int]) -> bytes:
    """What the verifier hands to the pairing precompile (EIP-197), by a verifier that stops there and returns it."""
    code = pinned_code()
    assert code.count(_CALL_PAIRING) == 1
    answer = LocalVerifier(VKA, code.replace(_CALL_PAIRING, _REVERT_WITH_IT)).verify(PROOF, instances)
    assert len(answer.revert_data) == 2 * 192
    return answer.revert_data


def _holds(data: bytes) -> bool:
    """∏ e(G1, G2) = 1 in py-ecc, another implementation of another author's."""
    product = FQ12.one()
    for start in range(0, len(data), 192):
        x, y, x1, x0, y1, y0 = (int.from_bytes(data[at : at + 32], "big") for at in range(start, start + 192, 32))
        assert max(x, y, x0, x1, y0, y1) < field_modulus
        g1, g2 = (FQ(x), FQ(y), FQ(1)), (FQ2([x0, x1]), FQ2([y0, y1]), FQ2.one())
        assert is_on_curve(g1, b1)
        assert is_on_curve(g2, b2)
        product *= pairing(g2, g1)
    return bool(product == FQ12.one())


def test_the_equation_of_the_pairing_holds_in_py_ecc(verifier: LocalVerifier) -> None:
    data = _pairing_input(INSTANCES)
    assert data[64:192] == b"".join(VKA[16:20])  # [1]₂ and [−s]₂, as the SRS has them
    assert data[256:384] == b"".join(VKA[20:24])
    assert _holds(data)


def test_the_equation_does_not_hold_for_a_false_output() -> None:
    assert not _holds(_pairing_input(OTHER_OUTPUT))
