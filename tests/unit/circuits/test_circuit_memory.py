"""The memory estimate is close above what was measured, and refuses in time."""

from pathlib import Path

import pytest

from circuits import memory, verifying
from circuits.settings import CircuitSettings, canonical
from circuits.srs import Srs
from rexis.protocol.digests import ZERO_DIGEST
from rexis.protocol.errors import ResourceError
from tests.unit.circuits.settings_document import document


def settings(rows: int, logrows: int) -> CircuitSettings:
    changed = document()
    changed["num_rows"] = rows
    changed["run_args"]["logrows"] = logrows
    return CircuitSettings.parse(canonical(changed))


def test_set_up_that_does_not_fit_is_refused_with_numbers_and_a_layout_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = settings(14_645, 17)
    needed = memory.needed_bytes(large)
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    memory.require_memory(large)
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    with pytest.raises(ResourceError, match=f"takes about {needed >> 20} MiB, {(needed - 1) >> 20} MiB") as refused:
        memory.require_memory(large)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("logrows 1")
    with pytest.raises(ResourceError) as refused:
        memory.require_memory(large, 1 << 20)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("no layout of this model fits: cut it into segments (`rexis circuits cut`)")


class TestMachine:
    """Free memory, from files that stand for the kernel's."""

    @pytest.fixture
    def group(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A machine with 8 GiB available, in a control group of 4 GiB of which 3 are in use, 2 of them page cache."""
        meminfo = tmp_path / "meminfo"
        meminfo.write_text(f"MemTotal:       {16 << 20} kB\nMemAvailable:   {8 << 20} kB\nHugePages_Total:  0\n")
        (tmp_path / "memory.max").write_text(f"{4 << 30}\n")
        (tmp_path / "memory.current").write_text(f"{3 << 30}\n")
        (tmp_path / "memory.stat").write_text(f"anon {1 << 30}\nfile {2 << 30}\ninactive_file {2 << 30}\n")
        monkeypatch.setattr(memory, "_MEMINFO", meminfo)
        monkeypatch.setattr(memory, "_GROUP", tmp_path)
        sizes = {"SC_PHYS_PAGES": 4 << 20, "SC_AVPHYS_PAGES": 1 << 20, "SC_PAGE_SIZE": 4096}
        monkeypatch.setattr(memory.os, "sysconf", lambda name: sizes[name])
        return tmp_path

    def test_page_cache_of_the_group_counts_as_free(self, group: Path) -> None:
        assert memory.available_bytes() == 3 << 30
        assert memory.total_bytes() == 4 << 30

    def test_group_over_its_limit_has_nothing(self, group: Path) -> None:
        (group / "memory.current").write_text(f"{7 << 30}\n")
        assert memory.available_bytes() == 0

    def test_machine_may_have_less_than_the_group(self, group: Path) -> None:
        (group / "memory.max").write_text(f"{64 << 30}\n")
        assert memory.available_bytes() == 8 << 30
        assert memory.total_bytes() == 16 << 30

    def test_group_without_a_limit(self, group: Path) -> None:
        (group / "memory.max").write_text("max\n")
        assert memory.available_bytes() == 8 << 30

    def test_no_group(self, group: Path) -> None:
        (group / "memory.max").unlink()
        assert memory.available_bytes() == 8 << 30

    def test_no_meminfo(self, group: Path) -> None:
        (group / "memory.max").unlink()
        (group / "meminfo").unlink()
        assert memory.available_bytes() == 4 << 30

    @pytest.mark.parametrize(("total", "limit"), [(4 << 30, 3 << 30), (64 << 30, 16 << 30)])
    def test_checking_leaves_room_on_a_small_machine(
        self, monkeypatch: pytest.MonkeyPatch, total: int, limit: int
    ) -> None:
        asked: list[int] = []

        class Started(Exception):
            pass

        def start(**options: int) -> None:
            asked.append(options["memory_limit"])
            raise Started

        monkeypatch.setattr(verifying, "total_bytes", lambda: total)
        monkeypatch.setattr(verifying, "EzklProcess", start)
        with pytest.raises(Started):
            settings = CircuitSettings.parse(canonical(document()))
            verifying.rebuilt_vka(settings, b"vk", Srs(Path("srs"), 13, ZERO_DIGEST))
        assert asked == [limit]


def test_this_machine_has_some_memory() -> None:
    assert 0 < memory.available_bytes() <= memory.total_bytes()
