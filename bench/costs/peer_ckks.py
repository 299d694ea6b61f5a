"""CKKS (TenSEAL) inference on the breast cancer MLP with squares for ReLU: :mod:`bench.ckks` says why and how."""

from __future__ import annotations

import importlib.util

from bench import ckks
from bench.costs.checks import Checks, require
from bench.costs.result import PeerCost, Spread
from bench.costs.scope import Scope
from models.zoo import held_out

NAME = "CKKS (TenSEAL)"
MODEL = ckks.MODEL
_SHOWS = "nothing: the server is trusted to compute rightly"
_HIDES = "records and outputs (IND-CPA under RLWE, 128 bits); not the weights"
_MISSING = "tenseal is not installed (pip install 'rexis[bench]')"


def measure(scope: Scope, checks: Checks) -> list[PeerCost]:
    """A record a ciphertext, with the precise and with the fast parameters."""
    if importlib.util.find_spec("tenseal") is None:
        checks.skip("CKKS outputs are within their bound", MODEL, _MISSING)
        return [PeerCost(peer=NAME, model=MODEL, shows=_SHOWS, hides=_HIDES, reason=_MISSING)]
    from bench._ckks_mlp import FAST, PRECISE, OneRecord
    from bench._square_mlp import clipped, trained

    square = trained()
    plain = ckks.Plain(square.onnx)
    contestants = []
    for name, parameters, bound in (("precise", PRECISE, 1e-4), ("fast", FAST, 1e-2)):
        mlp = OneRecord(square.layers, parameters)
        contestants.append(ckks.Contestant(name, mlp, plain, bound, clipped, mlp.evaluation_key_bytes))
    records, _ = held_out(MODEL)
    rows = ckks.measured(contestants, [records[index : index + 1] for index in range(scope.proofs)])
    for row in rows:
        with checks.that("CKKS outputs are within their bound", f"{MODEL}, {row.side}") as seen:
            require(row.accurate, f"relative error {row.max_relative_error:.2g}, at most {row.bound:g} is expected")
            seen(f"relative error {row.max_relative_error:.2g}")
    return [_peer(row) for row in rows]


def _peer(row: ckks.Row) -> PeerCost:
    median, low, high = (us / 1e6 for us in (row.evaluate.median_us, row.evaluate.p25_us, row.evaluate.p75_us))
    return PeerCost(
        peer=f"{NAME}, {row.side}",
        model=MODEL,
        shows=_SHOWS,
        hides=_HIDES,
        work=Spread(median, low, high, row.runs),
        sent_bytes=row.sent_bytes,
        max_error=row.max_absolute_error,
        agreement=row.same_decisions,
        note=f"one thread; x² for ReLU; spread: quartiles; encrypts in {row.encrypt.median_us / 1e3:.0f} ms, "
        f"{row.evaluation_key_bytes / 1e6:.0f} MB of keys; error is against its own plain model",
    )
