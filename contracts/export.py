"""Write ``contracts/abi`` and the size snapshot from forge's build: ``python -m contracts.export [--check]``.

The files are in the tree so that an installed package deploys and decodes without Node; ``--check`` fails when they
are not what the build in ``contracts/out`` gives.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from contracts.artefacts import CONTRACTS, ContractName

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
ABI = HERE / "abi"
SIZES = HERE / "snapshots" / "sizes.json"
# EIP-170: code that is longer is refused.
MAX_CODE = 24_576


def rendered(out: Path = OUT) -> dict[Path, str]:
    """The files as they should be, by path.

    Raises
    ------
    FileNotFoundError
        The contracts have not been built.
    """
    built = {name: _built(out, name) for name in CONTRACTS}
    files = {ABI / f"{name}.json": _json(_artefact(contract)) for name, contract in built.items()}
    files[SIZES] = _json({name: _sizes(contract) for name, contract in built.items()})
    return files


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` compare them; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m contracts.export", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is not up to date")
    check = parser.parse_args(arguments).check
    try:
        files = rendered()
    except FileNotFoundError as error:
        print(f"contracts.export: {error.filename} is missing; run: make setup", file=sys.stderr)
        return 2
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"contracts.export: {path.name} is not up to date; run: python -m contracts.export", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
            print(f"wrote {path.relative_to(HERE.parent)}")
    return 1 if check and stale else 0


def _built(out: Path, name: ContractName) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{name}.sol" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _artefact(built: dict[str, Any]) -> dict[str, Any]:
    settings = built["metadata"]["settings"]
    return {
        "abi": built["abi"],
        "bytecode": built["bytecode"]["object"],
        "compiler": {
            "solc": built["metadata"]["compiler"]["version"],
            "evmVersion": settings["evmVersion"],
            "optimizer": settings["optimizer"],
        },
    }


def _sizes(built: dict[str, Any]) -> dict[str, int]:
    parts = {"bytecode": built["bytecode"], "runtime": built["deployedBytecode"]}
    sizes = {part: (len(code["object"]) - 2) // 2 for part, code in parts.items()}
    return {**sizes, "margin": MAX_CODE - sizes["runtime"]}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
