"""Memory of this machine, and circuits that would not fit it."""

from __future__ import annotations

import os
from pathlib import Path

from circuits.cost import MAX_VKA_BYTES, RESERVED_ROWS, estimate_of, smaller, usable_rows
from circuits.settings import CircuitSettings
from rexis.protocol.errors import ResourceError

_SURELY = 1.1  # times the limit, by the estimate
_MEMINFO, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def needed_bytes(settings: CircuitSettings) -> int:
    """Estimated peak resident memory of set-up and proofs: see :mod:`circuits.cost`."""
    return estimate_of(settings).needed_bytes


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


def require_memory(settings: CircuitSettings, available: int | None = None) -> None:
    """Refuse a set-up that would not fit, or of so many columns that ezkl panics over the VKA after minutes of it.

    Parameters
    ----------
    available
        Bytes that it may take; by default what is free.

    Raises
    ------
    ResourceError
        With both numbers, and the nearest layout that fits.
    """
    needed, free = needed_bytes(settings), available_bytes() if available is None else available
    if needed <= free:
        _require_columns(settings)
        return
    other = smaller(settings, free)
    raise ResourceError(
        f"set-up of this circuit takes about {needed >> 20} MiB, {free >> 20} MiB are there",
        hint="no layout of this model fits: cut it into segments (`rexis circuits cut`), or find a larger machine"
        if other is None
        else f"logrows {other.columns.logrows} with {other.columns.inner} inner columns takes about "
        f"{other.needed_bytes >> 20} MiB and {other.cpu_seconds:.1f} s of processor time a proof",
    )


def _require_columns(settings: CircuitSettings) -> None:
    if settings.unfolded_rows > usable_rows(settings.logrows):
        raise ResourceError(
            f"{settings.unfolded_rows} rows of a hash or a table must fit into one column, which has "
            f"{usable_rows(settings.logrows)}",
            hint=f"logrows {(settings.unfolded_rows + RESERVED_ROWS - 1).bit_length()} has enough",
        )
    cost = estimate_of(settings)
    if cost.has_vka or cost.vka_bytes < _SURELY * MAX_VKA_BYTES:
        return
    other = smaller(settings, total_bytes())
    raise ResourceError(
        f"the contract's verifier would need about {cost.vka_bytes >> 10} KiB for the circuit's "
        f"{cost.columns.advice} advice columns, and can address {(MAX_VKA_BYTES + 1) >> 10}",
        hint="no layout of this model has so few columns: `rexis circuits cut` cuts it into segments"
        if other is None
        else f"logrows {other.columns.logrows} with {other.columns.inner} inner columns has {other.columns.advice}",
    )
