"""``python -m bench``: every single benchmark, one after another; tables on the terminal, JSON in ``bench/out``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run each ``bench/*.py`` in a fresh interpreter; returns the number that failed."""
    failed = 0
    for script in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        print(f"\n== {script.stem}: {script.read_text().splitlines()[0].strip(chr(34))}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"bench.{script.stem}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
