"""``python -m tests.fuzz.fuzz_certificates [libFuzzer's options] [corpus]``: certificates under atheris.

Without a corpus, the certificates of the test vectors are the beginning.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rexis.protocol", "verifier"]):
    from tests.fuzz.certificates import check, seeds


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    if all(argument.startswith("-") for argument in arguments):
        corpus = Path(tempfile.mkdtemp(prefix="certificates-"))
        for number, data in enumerate(seeds()[::8]):
            (corpus / str(number)).write_bytes(data)
        arguments = [*arguments, str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
