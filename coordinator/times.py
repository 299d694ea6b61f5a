"""Clocks: milliseconds since 1970 in the database, RFC 3339 outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Milliseconds since 1970, UTC."""


def wall_clock() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000_000


def milliseconds_of(text: str) -> int:
    """What :func:`rfc3339` wrote, or somebody else in the same form.

    Raises
    ------
    ValueError
        There is no such time.
    """
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * 1000


def rfc3339(milliseconds: int) -> str:
    """UTC, whole seconds, ``Z``."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
