"""How much memory a circuit's set-up will take, before it takes it.

A rule fitted to dense networks, not a bound. The pk holds about ``60 + 14 · a`` field elements a row, `a` the number of
advice columns; prove peaks at about three times the pk, set-up below that. Measured with ezkl 23.0.5: pk 36 MB and
122 MiB resident for a = 6, k = 13; pk 57 MB and 184 MiB for a = 12, k = 13; pk 138 MB and 354 MiB for a = 6, k = 15.
"""

from __future__ import annotations

import os
from pathlib import Path

from circuits.settings import CircuitSettings
from rexis.protocol.errors import ResourceError

_FIELD_BYTES = 32
_BASE_ELEMENTS, _ELEMENTS_PER_ADVICE = 60, 14
_PEAK_PER_PK = 3
_PROCESS_BYTES = 150 << 20
_BLINDING_ROWS = 10  # ezkl keeps some rows of each column for itself
_ADVICE_TENSORS = 3  # two operands and a result
_MEMINFO, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def advice_columns(settings: CircuitSettings) -> int:
    """Advice columns: three tensors of `inner_columns`, folded where a column of 2^logrows is too short."""
    usable = (1 << settings.logrows) - _BLINDING_ROWS
    return _ADVICE_TENSORS * settings.inner_columns * -(-settings.rows // max(usable, 1))


def setup_bytes(settings: CircuitSettings) -> int:
    """Estimated peak resident memory of set-up and prove, in bytes."""
    elements = _BASE_ELEMENTS + _ELEMENTS_PER_ADVICE * advice_columns(settings)
    return _PROCESS_BYTES + _PEAK_PER_PK * _FIELD_BYTES * (elements << settings.logrows)


def available_bytes() -> int:
    """Memory that this process could still get: the machine's, or its control group's if that is less."""
    found = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if _MEMINFO.exists():  # counts the page cache that can be dropped
        found = _fields(_MEMINFO)["MemAvailable:"] << 10
    limit = _group_limit()
    return found if limit is None else min(found, max(0, limit - _group_use()))


def total_bytes() -> int:
    """Memory of this machine, or of its control group if that has less."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _group_limit()
    return found if limit is None else min(found, limit)


def _group_limit() -> int | None:
    """Limit of the control group (version 2); None if there is none."""
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else int(limit)


def _group_use() -> int:
    """What the control group holds on to: ``memory.current`` also counts files that were read once, a pk among them."""
    return int((_GROUP / "memory.current").read_text()) - _fields(_GROUP / "memory.stat")["inactive_file"]


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines()) if len(words) > 1}


def require_memory(settings: CircuitSettings) -> None:
    """Refuse a set-up that would not fit.

    Raises
    ------
    ResourceError
        With both numbers.
    """
    needed, available = setup_bytes(settings), available_bytes()
    if needed > available:
        raise ResourceError(
            f"set-up of this circuit takes about {needed >> 20} MiB, {available >> 20} MiB are free",
            hint=f"logrows {settings.logrows}, {advice_columns(settings)} advice columns: try a smaller profile",
        )
