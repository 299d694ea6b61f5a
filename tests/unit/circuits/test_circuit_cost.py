"""The cost model: layouts are counted exactly, sizes and times within what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.cost import Columns, columns_of, estimate, laid_out, smaller
from circuits.settings import CircuitSettings, canonical
from tests.unit.circuits.settings_document import document


def settings(rows: int = 14_645, logrows: int = 13) -> CircuitSettings:
    changed = document()
    changed["num_rows"] = rows
    changed["run_args"]["logrows"] = logrows
    return CircuitSettings.parse(canonical(changed))


def test_columns_are_folded_when_rows_run_out() -> None:
    assert (columns_of(settings(8000)).blocks, columns_of(settings(8000)).advice) == (1, 3)
    assert (columns_of(settings(14_645)).blocks, columns_of(settings(14_645)).advice) == (2, 6)


def circuit(
    logrows: int, inner: int, rows: int, base: int, functions: int = 0, reach: int = 0, switch: int = 3
) -> Columns:
    return laid_out(
        rows=rows,
        logrows=logrows,
        inner=inner,
        ranges=[switch, base],
        lookups=functions,
        lookup_range=2 * reach + 1,
    )


# Measured with ezkl 23.0.5: extension, bytes of the proving key, MiB resident while proving, bytes of a proof.
MEASURED = [
    pytest.param(circuit(13, 1, 14_645, 8000), 4, 36_200_291, 116, 3136, id="breast cancer, two blocks"),
    pytest.param(circuit(13, 2, 7322, 8000), 4, 34_621_195, 112, 3072, id="two inner columns"),
    pytest.param(circuit(13, 1, 17_957, 256), 4, 48_795_171, 140, 4320, id="four digits, three blocks"),
    pytest.param(circuit(14, 1, 14_644, 16_000), 4, 47_209_635, 139, 1952, id="one block"),
    pytest.param(circuit(12, 1, 14_645, 4000), 4, 30_696_675, 101, 5504, id="four blocks"),
    pytest.param(circuit(12, 1, 14_645, 8000), 8, 49_046_579, 167, 6240, id="a table in two pieces"),
    pytest.param(circuit(12, 4, 3969, 8000), 8, 45_104_939, 163, 6048, id="four inner columns"),
    pytest.param(circuit(15, 1, 14_644, 32_000), 4, 94_418_083, 242, 1952, id="more rows than needed"),
    pytest.param(circuit(15, 1, 15_752, 8000, 1, 32_768), 8, 245_421_923, 621, 3072, id="a function in three pieces"),
]


@pytest.mark.parametrize(("columns", "extension", "key", "peak", "proof"), MEASURED)
def test_estimates_are_near_what_was_measured(
    columns: Columns, extension: int, key: int, peak: int, proof: int
) -> None:
    found = estimate(columns, 0)
    assert columns.extension == extension
    assert found.key_bytes == pytest.approx(key, rel=0.15)
    assert found.peak_bytes == pytest.approx(peak << 20, rel=0.25)
    assert found.proof_bytes == pytest.approx(proof, rel=0.2)


@given(st.integers(10, 20), st.integers(1, 4), st.integers(1, 200_000), st.integers(2, 9000))
def test_more_rows_never_cost_less(logrows: int, inner: int, rows: int, base: int) -> None:
    one, more = (estimate(circuit(logrows, inner, count, base), count) for count in (rows, 2 * rows))
    assert one.cpu_seconds <= more.cpu_seconds
    assert one.peak_bytes <= more.peak_bytes
    assert one.proof_bytes <= more.proof_bytes


def test_a_smaller_layout_fits_or_there_is_none() -> None:
    large = settings(logrows=17)
    needed = estimate(columns_of(large), large.rows).needed_bytes
    found = smaller(large, needed // 2)
    assert found is not None
    assert found.needed_bytes <= needed // 2
    assert smaller(large, 1 << 20) is None
