"""The Solidity source of ezkl's reusable verifier.

It does not depend on the circuit: two circuits with other rows and columns give the same bytes (tested). What differs
is the VKA, which the contract takes as an argument.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from circuits.build import ProvingCircuit
from circuits.process import EzklProcess
from rexis.protocol.errors import CircuitError

_BEGIN, _END = "contract Halo2VerifierReusable", "}"


def reusable_verifier_source(circuit: ProvingCircuit, ezkl: EzklProcess) -> str:
    """``Halo2VerifierReusable.sol`` as ezkl writes it.

    Raises
    ------
    CircuitError
        ezkl did not write a complete contract.
    """
    keys = circuit.segments[0].folder
    with tempfile.TemporaryDirectory(prefix="rexis-evm-") as folder:
        out = Path(folder, "verifier.sol")
        ezkl.call(
            "verifier",
            vk=str(keys / "vk"),
            settings=str(keys / "settings.json"),
            srs=str(circuit.srs.path),
            out=str(out),
        )
        source = out.read_text(encoding="utf-8") if out.exists() else ""
    if _BEGIN not in source or not source.rstrip().endswith(_END) or source.count("{") != source.count("}"):
        raise CircuitError("ezkl did not write a complete verifier contract")
    return source
