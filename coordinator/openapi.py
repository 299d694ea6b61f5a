"""Write ``docs/openapi.json``, the API's description: ``python -m coordinator.openapi [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path

from coordinator.app import described_app
from rexis.web.openapi import write_or_check

PAGE = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or with ``--check`` compare it; returns the exit status."""
    return write_or_check(PAGE, described_app().openapi(), "coordinator.openapi", arguments)


if __name__ == "__main__":
    sys.exit(main())
