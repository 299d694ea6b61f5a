"""Tests that need an EVM: left out only where pyrevm has no wheel, so that nobody leaves them out unnoticed."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec

import pytest

# As the marker of the extra `dev` in pyproject.toml.
_HAS_A_WHEEL = sys.version_info < (3, 13) and (platform.machine() == "x86_64" or sys.platform == "darwin")

needs_evm = pytest.mark.skipif(
    not _HAS_A_WHEEL and find_spec("pyrevm") is None, reason="pyrevm has no wheel for this platform"
)
