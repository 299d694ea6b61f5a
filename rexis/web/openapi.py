"""The file in the repository that describes an API: written by a command, compared by ``make check``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def write_or_check(page: Path, document: dict[str, Any], module: str, arguments: list[str] | None) -> int:
    """Write the file, or with ``--check`` compare it; returns the exit status.

    Parameters
    ----------
    document
        The OpenAPI document.
    module
        What ``python -m`` runs to write it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=f"Write docs/{page.name}.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the file is not up to date")
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not parser.parse_args(arguments).check:
        page.write_text(text, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == text:
        return 0
    print(f"{page.name} is not up to date; run: python -m {module}", file=sys.stderr)
    return 1
