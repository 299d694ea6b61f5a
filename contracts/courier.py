"""One transaction at a time until it is mined, across restarts: what was signed lies in a file before any node sees it.

For a program without a database, such as a worker. A coordinator has its outbox.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from contracts.sending import Call, Fees, Receipt, Sender, Signed, dearer
from rexis.files import read_file, write_file
from rexis.locks import locked
from rexis.protocol.errors import ChainError, NotFoundError, UnavailableError
from rexis.protocol.parsing import DigestField, HexBytes, Strict, UInt64

_MAX_BYTES = 16 << 20
_POLL_S = 1.0
_RESEND_S = 10.0  # a node that was restarted has forgotten what it did not mine
STUCK_S = 60.0
_log = logging.getLogger(__name__)


class _Sent(Strict):
    """One signature: the first, or a dearer one with the same nonce. Fees in wei per gas, as text."""

    hash: DigestField
    raw: HexBytes
    most: str
    priority: str

    @classmethod
    def of(cls, signed: Signed) -> _Sent:
        return cls(hash=signed.hash, raw=signed.raw, most=str(signed.fees.most), priority=str(signed.fees.priority))

    @property
    def fees(self) -> Fees:
        return Fees(int(self.most), int(self.priority))


class _Letter(Strict):
    """A transaction under way: all that was ever signed for its nonce."""

    nonce: UInt64
    signed: Annotated[list[_Sent], Field(min_length=1)]


class Courier:
    """Sends one account's transactions; several processes with one folder take turns.

    Parameters
    ----------
    chain
        Connected with the account.
    folder
        Where letters lie until they are delivered; private.
    stuck_s
        A transaction that no block takes for so long is offered more for.
    """

    def __init__(self, chain: Sender, folder: Path, *, stuck_s: float = STUCK_S) -> None:
        self._chain, self._folder, self._stuck_s = chain, folder, stuck_s

    def send(self, name: str, call: Call, waiting: Callable[[], None]) -> Receipt:
        """Send a call and wait until it is mined. One that was sent under this name before is taken up again.

        Parameters
        ----------
        name
            A file name: what the call is for.
        waiting
            Called again and again; may raise, which ends the wait and leaves the letter for the next time.

        Raises
        ------
        RevertError
            The contract refuses it; nothing is under way any more.
        """
        path = self._folder / f"{name}.json"
        with locked(self._folder / ".lock", waiting):
            while True:
                letter = self._read(path) or self._write(path, call)
                receipt = self._deliver(path, letter, waiting)
                if receipt is None:
                    path.unlink()  # its nonce was used by another transaction: it can never be mined
                    continue
                path.unlink()
                if not receipt.succeeded:
                    raise self._chain.why_reverted(letter.signed[-1].raw, receipt.block)
                return receipt

    def forget(self, name: str) -> None:
        """Nothing more is to be sent under a name."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def _read(self, path: Path) -> _Letter | None:
        try:
            return _Letter.from_json(read_file(path, "letter", max_bytes=_MAX_BYTES))
        except NotFoundError:
            return None

    def _write(self, path: Path, call: Call) -> _Letter:
        chain = self._chain
        gas, (_, pending) = chain.gas(call), chain.nonces()
        letter = _Letter(nonce=pending, signed=[_Sent.of(chain.sign(call, gas, pending, chain.fees()))])
        write_file(path, letter.to_json(), private=True, overwrite=True)
        return letter

    def _deliver(self, path: Path, letter: _Letter, waiting: Callable[[], None]) -> Receipt | None:
        """Until one of its transactions is mined; None if none ever will be."""
        sent_at, signed_at = -_RESEND_S, time.monotonic()
        while True:
            waiting()
            try:
                if time.monotonic() >= sent_at + _RESEND_S:
                    sent_at = time.monotonic()
                    self._broadcast(letter)
                mined, _ = self._chain.nonces()
                for one in letter.signed if mined > letter.nonce else ():
                    if (receipt := self._chain.receipt(one.hash)) is not None:
                        return receipt
                if mined > letter.nonce:
                    return None
                if mined == letter.nonce and time.monotonic() >= signed_at + self._stuck_s:
                    signed_at, sent_at = time.monotonic(), -_RESEND_S
                    letter = self._offer_more(path, letter)
            except UnavailableError as error:
                _log.warning("%s; trying again", error)
            time.sleep(_POLL_S)

    def _broadcast(self, letter: _Letter) -> None:
        try:
            self._chain.broadcast(letter.signed[-1].raw)
        except UnavailableError:
            raise
        except ChainError as error:
            if "nonce too low" not in str(error):
                _log.warning("a transaction is not taken: %s", error)

    def _offer_more(self, path: Path, letter: _Letter) -> _Letter:
        last = letter.signed[-1]
        try:
            fees = dearer(last.fees, self._chain.fees(), self._chain.fee_cap)
        except ChainError as error:  # the cap
            _log.warning("%s", error)
            return letter
        again = _Letter(nonce=letter.nonce, signed=[*letter.signed, _Sent.of(self._chain.sign_again(last.raw, fees))])
        write_file(path, again.to_json(), private=True, overwrite=True)
        return again
