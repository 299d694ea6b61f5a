"""A worker looks before it signs: outputs beyond what it warranted are not signed, nor anything unlooked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provers.warranted import WarrantedCircuits, require_near
from rexis.protocol.circuit import Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import CircuitError, NotFoundError, TensorError
from rexis.protocol.records import Integers

SCALE = 7
CIRCUIT = Circuit(
    vk_digest=sha256(b"vk"), vka_digest=sha256(b"vka"), srs_digest=sha256(b"srs"), settings_digest=sha256(b"settings"),
    visibility=Visibility.PUBLIC, input_scale=SCALE, output_scale=SCALE, input_length=2, output_length=2,
)  # fmt: skip


class Doubling:
    """A circuit that gives twice its inputs."""

    at_once = 2

    def outputs(self, records: Integers) -> Integers:
        return 2 * records

    def trace(self, records: Integers) -> list[Integers]:
        raise NotImplementedError

    def prove_segment(self, segment: int, inputs: Integers) -> object:
        raise NotImplementedError

    def check_segment(self, segment: int, proofs: object, inputs: Integers, outputs: Integers) -> list[str | None]:
        raise NotImplementedError


def _near(outputs: np.ndarray, tolerance: int, records: np.ndarray) -> int:  # type: ignore[type-arg]
    return require_near(Doubling(), CIRCUIT, records, outputs, tolerance, start=10)  # type: ignore[arg-type]


def test_the_tolerance_is_exact_over_all_records() -> None:
    records = (np.arange(80, dtype=np.float32) / 2**SCALE).reshape(40, 2)
    outputs = 2 * records
    assert _near(outputs, 0, records) == 0
    outputs[33, 1] += np.float32(3 / 2**SCALE)
    assert _near(outputs, 3, records) == 3
    with pytest.raises(CircuitError, match=r"record 43 lies 3 units of 2\^-7 .* and 2 are warranted"):
        _near(outputs, 2, records)
    outputs[33, 1] = np.nextafter(outputs[33, 1], np.float32(9))
    with pytest.raises(CircuitError, match="lies 4 units"):
        _near(outputs, 3, records)


def test_what_has_no_fixed_point_is_not_signed() -> None:
    records = np.array([[1.0, 2.0**50]], dtype=np.float32)
    with pytest.raises(TensorError, match="too large for fixed point"):
        _near(2 * records, 1 << 60, records)
    with pytest.raises(TensorError, match="not as many as the circuit's outputs"):
        _near(np.zeros((1, 3), dtype=np.float32), 9, np.zeros((1, 2), dtype=np.float32))


def test_a_circuit_is_kept_by_its_hash(tmp_path: Path) -> None:
    srs = tmp_path / "somewhere.srs"
    srs.write_bytes(b"points")
    circuit_hash = Digest(CIRCUIT.hash_struct())
    kept = WarrantedCircuits(tmp_path)
    with pytest.raises(NotFoundError, match="nothing is signed unlooked"):
        kept.get(circuit_hash)
    for _ in range(2):
        kept.keep(CIRCUIT, b"{}", srs)
    found = WarrantedCircuits(tmp_path).get(circuit_hash)
    assert found.circuit == CIRCUIT
    assert (found.settings.read_bytes(), found.srs.read_bytes()) == (b"{}", b"points")
