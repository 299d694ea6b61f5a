"""What fuzzers of certificates run: reading one, and every step of verification that comes before a proof."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import verifier.envelope
import verifier.evidence
from rexis.protocol.parsing import canonical_json
from verifier.certificate import VerifyOptions, verify_certificate

VECTORS = Path(__file__).parents[1] / "vectors" / "certificates"
# Without the SRS, no proof is looked at, and no child process begins.
_OPTIONS = VerifyOptions(offline=True, allow_development_srs=True, allow_development_chain=True)


def check(data: bytes) -> None:
    """Read and verify; whatever is not true of `data` is a verdict, and nothing else may be raised.

    Signatures count as good, since no fuzzer finds one: what lies behind them is reached.
    """
    _verify(data)
    try:  # and as if it had been written in the canonical form
        document = json.loads(data)
        again = canonical_json(document)
    except (ValueError, RecursionError, UnicodeError):
        return
    if again != data:
        _verify(again)


def _verify(data: bytes) -> None:
    with (
        patch.object(verifier.envelope, "require_signer", _signed),
        patch.object(verifier.evidence, "require_signer", _signed),
    ):
        verdict = verify_certificate(data, _OPTIONS)
    if verdict.failed is None and verdict.certificate is None:
        raise AssertionError("no step failed, and nothing was read")


def _signed(*_: object) -> None:
    pass


def seeds() -> list[bytes]:
    """The certificates of the test vectors, the forged ones too, smallest first."""
    found = [path.read_bytes() for path in sorted(VECTORS.glob("*/certificate.json"))]
    return sorted(found, key=len)
