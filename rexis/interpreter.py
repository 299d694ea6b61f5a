"""How this package starts Python again: nothing but what is installed, or named in full, can be imported.

``python -m`` and ``python -c`` put the current folder first on the module path, and an empty or relative entry of
``PYTHONPATH`` means it too. Whoever can put a file beside the one that a person works on (an ``ezkl.py`` next to a
certificate) would then run code in that person's name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parent.parent


def python(*arguments: str) -> list[str]:
    """Command line of this interpreter, without the current folder on its module path (``-P``)."""
    return [sys.executable, "-P", *arguments]


def python_environment(inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment for :func:`python`: finds our packages, and nothing by way of the current folder."""
    environment = dict(os.environ if inherited is None else inherited)
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if Path(entry).is_absolute()]
    environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE_ROOT), *kept])
    environment["PYTHONSAFEPATH"] = "1"  # for whatever that process starts
    return environment
