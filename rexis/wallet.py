"""Wallets: one Ethereum account in a keystore file (Web3 Secret Storage, version 3), readable by its owner only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from rexis.derivation import checked_parameters
from rexis.files import read_file, require_absent, require_private, write_file
from rexis.protocol.errors import KeyFileError, MalformedError
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account

_MAX_BYTES = 64 << 10
_WHAT = "wallet"


def create_wallet(path: Path, passphrase: str) -> Address:
    """Make a fresh account and write it, encrypted, to a new file with mode 0600.

    Raises
    ------
    ConflictError
        The file exists.
    KeyFileError
        The passphrase is empty.
    """
    require_absent(path)
    if not passphrase:
        raise KeyFileError("the passphrase is empty")
    account = new_account()
    write_file(path, json.dumps(account.encrypt(passphrase)).encode() + b"\n", private=True)
    return address_of(account)


def load_wallet(path: Path, passphrase: str) -> LocalAccount:
    """Open a wallet.

    Raises
    ------
    NotFoundError, KeyFileError
        No such file; readable by others; not a keystore; one that takes too much to open; wrong passphrase; a key of
        another address than it says.
    """
    keystore = _read(path)
    checked = {"version": 3, "crypto": _checked_crypto(keystore["crypto"], path)}
    try:
        raw = Account.decrypt(checked, passphrase)
    except ValueError:
        raise KeyFileError(f"wrong passphrase for {path}") from None
    except (KeyError, TypeError, AssertionError, NotImplementedError):
        raise _not_a_keystore(path) from None
    account: LocalAccount = Account.from_key(raw)
    if address_of(account) != _address(keystore, path):
        raise KeyFileError(f"{path} says it is of {_address(keystore, path)}, but its key is of {address_of(account)}")
    return account


def wallet_address(path: Path) -> Address:
    """The address that a wallet file names; needs no passphrase."""
    return _address(_read(path), path)


def _read(path: Path) -> dict[str, Any]:
    require_private(path, _WHAT)
    try:
        keystore = json.loads(read_file(path, _WHAT, max_bytes=_MAX_BYTES))
    except (ValueError, RecursionError):
        raise _not_a_keystore(path) from None
    if not isinstance(keystore, dict) or keystore.get("version") != 3 or "crypto" not in keystore:
        raise _not_a_keystore(path)
    return keystore


def _checked_crypto(crypto: Any, path: Path) -> dict[str, Any]:
    """The ``crypto`` section with known fields only: see :func:`checked_parameters`."""
    try:
        derivation = checked_parameters(crypto["kdf"], crypto["kdfparams"], path)
        rest = {name: crypto[name] for name in ("kdf", "cipher", "ciphertext", "mac")}
        return rest | {"cipherparams": {"iv": crypto["cipherparams"]["iv"]}, "kdfparams": derivation}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise _not_a_keystore(path) from None


def _address(keystore: dict[str, Any], path: Path) -> Address:
    try:
        return Address.from_bytes(bytes.fromhex(str(keystore.get("address", "")).removeprefix("0x")))
    except (ValueError, MalformedError):
        raise _not_a_keystore(path) from None


def _not_a_keystore(path: Path) -> KeyFileError:
    return KeyFileError(f"{path} is not an Ethereum keystore (version 3)", hint="make one with `rexis wallet new`")
