"""The cost model: layouts are counted exactly, sizes and times within what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.cost import Columns, columns_of, estimate, estimate_of, laid_out, smaller
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
    found = estimate(columns)
    assert columns.extension == extension
    assert found.key_bytes == pytest.approx(key, rel=0.15)
    assert found.peak_bytes == pytest.approx(peak << 20, rel=0.25)
    assert found.proof_bytes == pytest.approx(proof, rel=0.2)


# Others, with nonlinear functions, and tables that are filled while proving: a lookup by index, sorting, or both.
COUNTED = [
    pytest.param(Columns(13, 2834, 1, 1, (1, 1), 0, 0, 0, 17), 23_605_411, 1952, 541_549, 12_103, 4032, id="none"),
    pytest.param(Columns(10, 2827, 1, 3, (1, 1), 0, 0, 1, 31), 11_935_323, 5504, 1_144_514, 6919, 7968, id="sorting"),
    pytest.param(Columns(9, 374, 2, 1, (1, 1), 0, 0, 1, 31), 4_492_675, 4032, 867_252, 2823, 5792, id="index"),
    pytest.param(
        Columns(11, 1247, 1, 1, (1, 1, 2), 0, 0, 2, 31), 16_652_307, 3520, 805_127, 5575, 5536, id="sorting and index"
    ),
    pytest.param(
        Columns(11, 2488, 3, 2, (1, 1), 1, 5, 1, 31), 44_846_555, 13_824, 2_580_871, 18_311, 18_368, id="five pieces"
    ),
    pytest.param(
        Columns(9, 1389, 1, 3, (1, 4, 1), 2, 9, 2, 6), 22_914_675, 19_712, 3_756_516, 8007, 29_440, id="two functions"
    ),
]


@pytest.mark.parametrize(("columns", "key", "proof", "gas", "vk", "vka"), COUNTED)
def test_sizes_and_gas_follow_from_the_counts(
    columns: Columns, key: int, proof: int, gas: int, vk: int, vka: int
) -> None:
    found = estimate(columns)
    assert found.key_bytes == pytest.approx(key, rel=0.05)
    assert found.proof_bytes == pytest.approx(proof, rel=0.02)
    assert found.gas == pytest.approx(gas, rel=0.05)
    assert found.vk_bytes == pytest.approx(vk, rel=0.1)
    assert found.vka_bytes == pytest.approx(vka, rel=0.1)


def test_settings_say_which_tables_are_filled() -> None:
    changed = document()
    changed |= {
        "num_dynamic_lookups": 3,
        "num_shuffles": 2,
        "total_dynamic_col_size": 900,
        "total_shuffle_col_size": 300,
    }
    read = CircuitSettings.parse(canonical(changed))
    assert (read.filled, read.filled_rows) == ({"index", "sorting"}, 1200)
    assert columns_of(read).advice == columns_of(settings()).advice + 3
    assert (columns_of(settings()).extension, columns_of(read).extension) == (4, 8)
    found = smaller(read, 1 << 40)
    assert found is not None
    assert 1 << found.columns.logrows >= 1200


@given(st.integers(10, 20), st.integers(1, 4), st.integers(1, 200_000), st.integers(2, 9000))
def test_more_rows_never_cost_less(logrows: int, inner: int, rows: int, base: int) -> None:
    one, more = (estimate(circuit(logrows, inner, count, base)) for count in (rows, 2 * rows))
    assert one.cpu_seconds <= more.cpu_seconds
    assert one.peak_bytes <= more.peak_bytes
    assert one.proof_bytes <= more.proof_bytes


def test_a_smaller_layout_fits_or_there_is_none() -> None:
    large = settings(logrows=17)
    needed = estimate_of(large).needed_bytes
    found = smaller(large, needed // 2)
    assert found is not None
    assert found.needed_bytes <= needed // 2
    assert smaller(large, 1 << 20) is None


# Hashed inputs, measured with ezkl 23.0.5: bytes of the proving key and of a proof.
@pytest.mark.parametrize(
    ("columns", "key", "proof"),
    [
        pytest.param(Columns(10, 1556, 1, 2, (1, 1), 0, 0, 0, 3, hashed=True), 10_622_747, 3904, id="two blocks"),
        pytest.param(Columns(11, 1642, 3, 1, (1, 1), 0, 0, 0, 3, hashed=True), 24_519_731, 4928, id="inner columns"),
        pytest.param(Columns(12, 966, 2, 1, (1, 1), 0, 0, 0, 3, hashed=True), 41_169_051, 3840, id="one block"),
    ],
)
def test_a_hash_has_columns_of_its_own(columns: Columns, key: int, proof: int) -> None:
    assert columns.extension == 8
    assert estimate(columns).key_bytes == pytest.approx(key, rel=0.05)
    assert estimate(columns).proof_bytes == pytest.approx(proof, rel=0.1)


def test_a_circuit_too_wide_for_a_vka_is_told_apart() -> None:
    """Measured: 43 blocks have a VKA of 64,352 bytes; over 45 blocks ezkl panics."""
    widest, panics = (circuit(9, 1, blocks * 504, 500, switch=3) for blocks in (43, 46))
    assert estimate(widest).vka_bytes == pytest.approx(64_352, rel=0.05)
    assert not estimate(panics).has_vka
    assert estimate(circuit(9, 1, 36 * 504, 500)).has_vka
