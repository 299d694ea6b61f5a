"""ezkl's Solidity verifier, as rexis deploys it, run in an EVM inside this process: no node, no chain, no key.

The code is the package's own (``contracts/abi``), compiled from ``contracts/src/vendor`` by ``make setup`` and compared
with that build by ``make check``; it is never fetched from a chain. The EVM is revm (by way of ``pyrevm``), whose
BN254 precompiles (EIP-196, EIP-197) share no code with ezkl.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.artefacts import load
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import DigestMismatchError, UnavailableError
from rexis.protocol.keccak import keccak

# SHA-256 of the verifier's creation code. Another compiler, or another ezkl, is another verifier: change it on purpose.
VERIFIER_CODE = Digest.parse("0x256a32407d656cf06107169294ba80e743f661ac7ef2b4a9567de07bec9a1c04")
# Measured: 0.6 to 1.5 M a proof. Ends what a stranger's VKA could make endless; a block of Ethereum has less.
GAS_LIMIT = 1 << 28

_CALLER = "0x" + "11" * 20
_REGISTER = keccak(b"registerVka(bytes32[])")[:4]
_VERIFY = keccak(b"verifyProof(bytes,uint256[],bytes32[])")[:4]
_REVERT = re.compile(r"^Revert \{ gas_used: (\d+), output: 0x([0-9a-f]*) \}$")
_PADDING = bytes(33)  # revm keeps code with so many STOPs after its end
_TRUE = (1).to_bytes(32, "big")


@dataclass(frozen=True)
class Answer:
    """What the verifier said of one proof.

    Attributes
    ----------
    accepted
        Whether ``verifyProof`` returned true for this very VKA; otherwise it reverted.
    gas
        Used by the call, with the transaction's own cost.
    revert_data
        Empty if accepted, and for every reason that the verifier has against a proof.
    """

    accepted: bool
    gas: int
    revert_data: bytes = b""


class LocalVerifier:
    """One EVM with the verifier deployed and one VKA registered.

    Parameters
    ----------
    vka
        The circuit's words. That their digest is the pinned one is the caller's to check.
    code
        Creation code; by default the pinned one.

    Raises
    ------
    UnavailableError
        There is no EVM here, or it did not run the verifier.
    DigestMismatchError
        The package's verifier is not the pinned one.
    """

    def __init__(self, vka: Sequence[bytes], code: bytes | None = None) -> None:
        try:
            import pyrevm
        except ImportError:
            raise UnavailableError(
                "there is no EVM here for a second opinion", hint="pip install 'rexis[second-opinion]'"
            ) from None
        self._evm = pyrevm.EVM(gas_limit=GAS_LIMIT)
        self._vka = [bytes(word) for word in vka]
        self._digest = keccak(b"".join(self._vka))
        try:
            self._address = self._evm.deploy(_CALLER, pinned_code() if code is None else code)
            found = self._evm.message_call(
                _CALLER, self._address, calldata=_call(_REGISTER, {"bytes32[]": self._vka}), gas=GAS_LIMIT
            )
        except RuntimeError as error:
            raise UnavailableError(f"the EVM did not run the verifier: {error}") from None
        if found != self._digest:
            raise UnavailableError("the verifier in the EVM registered the VKA under another digest")

    @property
    def runtime(self) -> bytes:
        """The deployed code, to compare with a chain's."""
        return bytes(self._evm.get_code(self._address) or b"").removesuffix(_PADDING)

    def verify(self, proof: bytes, instances: Sequence[int]) -> Answer:
        """Ask about one proof.

        Parameters
        ----------
        instances
            Field elements: the circuit's inputs, then its outputs. Rebuilt by the caller, never a prover's.

        Raises
        ------
        UnavailableError
            The EVM came to no answer, for example within :data:`GAS_LIMIT`.
        """
        call = _call(_VERIFY, {"bytes": proof, "uint256[]": list(instances), "bytes32[]": self._vka})
        try:
            found = self._evm.message_call(_CALLER, self._address, calldata=call, gas=GAS_LIMIT, is_static=True)
        except RuntimeError as error:
            reverted = _REVERT.match(str(error))
            if reverted is None:
                raise UnavailableError(f"the EVM came to no answer: {str(error)[:200]}") from None
            return Answer(False, int(reverted[1]), bytes.fromhex(reverted[2]))
        result = self._evm.result
        return Answer(found[:64] == _TRUE + self._digest, result.gas_used if result else 0)


def pinned_code() -> bytes:
    """Creation code of the verifier; :class:`DigestMismatchError` if it is not the pinned one."""
    code = load("Halo2VerifierReusable").bytecode
    if sha256(code) != VERIFIER_CODE:
        raise DigestMismatchError(f"the Solidity verifier in this installation is {sha256(code)}, not {VERIFIER_CODE}")
    return code


def _call(selector: bytes, arguments: dict[str, object]) -> bytes:
    from eth_abi.abi import encode  # only here: most verifications ask no EVM

    return selector + encode(list(arguments), list(arguments.values()))
