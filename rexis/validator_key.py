"""Validators' keys: a BLS12-381 secret in an EIP-2335 keystore, the format that staking tools use.

The passphrase goes through scrypt; the file is readable by its owner only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rexis.derivation import checked_parameters
from rexis.files import read_file, require_absent, require_private, write_file
from rexis.protocol.bls import BlsKey, new_bls_key
from rexis.protocol.errors import KeyFileError, MalformedError

_MAX_BYTES = 64 << 10
_WHAT = "validator's key"
_BYTES = 32


def create_validator_key(path: Path, passphrase: str, *, work: int | None = None) -> bytes:
    """Make a fresh key and write it, encrypted, to a new file with mode 0600; returns the public key, 128 bytes.

    Parameters
    ----------
    work
        scrypt's n; for tests. Default: 2¹⁸.

    Raises
    ------
    ConflictError
        The file exists.
    KeyFileError
        The passphrase is empty.
    """
    from eth_keyfile.keyfile import create_keyfile_json

    require_absent(path)
    if not passphrase:
        raise KeyFileError("the passphrase is empty")
    key = new_bls_key()
    raw = key.secret.to_bytes(_BYTES, "big")
    keystore = create_keyfile_json(raw, passphrase.encode(), version=4, kdf="scrypt", iterations=work)
    write_file(path, json.dumps(keystore).encode() + b"\n", private=True)
    return key.public_key


def load_validator_key(path: Path, passphrase: str) -> BlsKey:
    """Open a key.

    Raises
    ------
    NotFoundError, KeyFileError
        No such file; readable by others; not an EIP-2335 keystore; one that takes too much to open; wrong passphrase.
    """
    from eth_keyfile.keyfile import decode_keyfile_json

    keystore = _read(path)
    try:
        raw = decode_keyfile_json(keystore, passphrase.encode())
    except ValueError:
        raise KeyFileError(f"wrong passphrase for {path}") from None
    except (KeyError, TypeError, AssertionError, NotImplementedError):
        raise _not_a_keystore(path) from None
    try:
        return BlsKey(int.from_bytes(raw, "big"))
    except MalformedError:
        raise _not_a_keystore(path) from None


def _read(path: Path) -> dict[str, Any]:
    """The file's keystore, with known fields only: see :func:`checked_parameters`."""
    require_private(path, _WHAT)
    try:
        keystore = json.loads(read_file(path, _WHAT, max_bytes=_MAX_BYTES))
        given = keystore["crypto"]
        function = given["kdf"]["function"]
        crypto = {
            "kdf": {"function": function, "params": checked_parameters(function, given["kdf"]["params"], path)},
            "checksum": {"message": given["checksum"]["message"]},
            "cipher": {"message": given["cipher"]["message"], "params": {"iv": given["cipher"]["params"]["iv"]}},
        }
        if keystore["version"] != 4:
            raise _not_a_keystore(path)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise _not_a_keystore(path) from None
    return {"version": 4, "crypto": crypto}


def _not_a_keystore(path: Path) -> KeyFileError:
    return KeyFileError(f"{path} is no BLS keystore (EIP-2335)", hint="make one with `rexis validator key`")
