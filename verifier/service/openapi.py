"""Write ``docs/verifier-openapi.json``, the service's description: ``python -m verifier.service.openapi [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path

from rexis.web.openapi import write_or_check
from verifier.service.app import create_app
from verifier.service.settings import ServiceSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verifier-openapi.json"


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or with ``--check`` compare it; returns the exit status."""
    return write_or_check(PAGE, create_app(ServiceSettings()).openapi(), "verifier.service.openapi", arguments)


if __name__ == "__main__":
    sys.exit(main())
