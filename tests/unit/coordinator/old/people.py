"""Who took part in the old database: accounts with known keys, so that they can go on."""

from __future__ import annotations

from eth_account import Account

COORDINATOR, OWNER, REQUESTER, *WORKERS = (Account.from_key(number.to_bytes(32, "big")) for number in range(1, 6))
