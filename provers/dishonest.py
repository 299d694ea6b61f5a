"""Faults for tests and the demo: each wraps an honest prover, so that the lie is all that differs."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from eth_account.signers.local import LocalAccount

from provers.task import Task
from provers.tiers import TierProver
from provers.tiers.computed import Computed
from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError
from rexis.protocol.evidence import Evidence
from rexis.protocol.records import Floats, Integers
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import statement_for
from rexis.protocol.training import TrainingPlan


@dataclass
class Dishonest:
    """An honest prover under another name; the faults override what they fake."""

    task: Task
    honest: TierProver

    def prepare(self) -> None:
        """See :class:`~provers.tiers.TierProver`."""
        self.honest.prepare()

    def compute(self) -> Computed:
        """See :class:`~provers.tiers.TierProver`."""
        return self.honest.compute()

    def evidence(self, computed: Computed) -> Evidence:
        """See :class:`~provers.tiers.TierProver`."""
        return self.honest.evidence(computed)


@dataclass
class AlterOutputs(Dishonest):
    """Computes honestly, then alters some records' outputs and commits to those.

    It can prove what the circuit said only, so a proof of an altered record does not fit its opening.

    Attributes
    ----------
    share
        Below 1 a fraction of the task's records (at least one is altered), else their number.
    """

    share: float

    def rows(self) -> list[int]:
        """Which rows of the task are altered; the same ones for the same lease."""
        count = self.task.lease.count
        number = max(1, round(self.share * count)) if self.share < 1 else min(int(self.share), count)
        return sorted(random.Random(self.task.lease.nonce).sample(range(count), number))  # noqa: S311

    def compute(self) -> Computed:
        """The honest outputs with 1.0 added to each value of some rows."""
        computed = super().compute()
        return dataclasses.replace(computed, outputs=self._altered(computed.outputs))

    def _altered(self, outputs: Floats | Integers) -> Floats | Integers:
        altered = outputs.copy()
        one = 1 << self.task.request.circuit.output_scale  # scale 0 for float32
        altered[self.rows()] += np.asarray(one, dtype=outputs.dtype)
        return altered


@dataclass
class ForeignSignature(Dishonest):
    """Signs with a key that is not the worker's."""

    def evidence(self, computed: Computed) -> Evidence:
        """Honest evidence with another account's signature."""
        return _resigned(self.task, super().evidence(computed), new_account())


@dataclass
class WrongStatement(Dishonest):
    """Claims another job's task, properly signed."""

    def evidence(self, computed: Computed) -> Evidence:
        """Honest evidence, with the statement of a job that differs in its nonce."""
        evidence = super().evidence(computed)
        task, request = self.task, self.task.request
        other = statement_for(
            request.model_copy(update={"nonce": sha256(request.nonce)}),
            task.lease.domain,
            start=task.lease.start,
            count=task.lease.count,
            output_root=evidence.statement.output_root,
            worker=address_of(task.account),
            nonce=task.lease.nonce,
        )
        return _resigned(task, evidence.model_copy(update={"statement": other}), task.account)


@dataclass
class SwapProofs(Dishonest):
    """Hands each record the proof of another. With a single proof there is nothing to swap."""

    def evidence(self, computed: Computed) -> Evidence:
        """Honest evidence with its proofs rotated by one."""
        evidence = super().evidence(computed)
        given = [proof.proofs for proof in evidence.proofs]
        return _with_proofs(evidence, given[1:] + given[:1])


@dataclass
class GarbageProofs(Dishonest):
    """Hands in proofs with one bit flipped."""

    def evidence(self, computed: Computed) -> Evidence:
        """Honest evidence whose proofs do not verify."""
        evidence = super().evidence(computed)
        return _with_proofs(evidence, [[_flipped(proof) for proof in record.proofs] for record in evidence.proofs])


Fault = Callable[[Task, TierProver], TierProver]

PieceFault = Callable[[list[bytes]], list[bytes]]
"""What a dishonest helper hands in instead of its proofs of a piece."""

_PLAIN: dict[str, Fault] = {
    "foreign-signature": ForeignSignature,
    "wrong-statement": WrongStatement,
    "swap-proofs": SwapProofs,
    "garbage-proofs": GarbageProofs,
}
_ALTER = "alter-outputs"
_PIECES: dict[str, PieceFault] = {
    "swap-proofs": lambda proofs: proofs[1:] + proofs[:1],
    "garbage-proofs": lambda proofs: [_flipped(proof) for proof in proofs],
}

TrainingFault = Callable[[TrainingPlan], TrainingPlan]
"""What a dishonest worker trains by instead of the plan that was signed."""

_TRAININGS: dict[str, TrainingFault] = {
    "training-rate": lambda plan: _slower(plan),
    "training-order": lambda plan: plan.model_copy(update={"order_seed": sha256(plan.order_seed)}),
}


def parse_fault(text: str) -> Fault:
    """Read a fault's name.

    Parameters
    ----------
    text
        ``alter-outputs:0.25`` (a fraction), ``alter-outputs:3`` (records), ``foreign-signature``,
        ``wrong-statement``, ``swap-proofs`` or ``garbage-proofs``; of trainings ``training-rate`` (half of the plan's)
        or ``training-order``.

    Raises
    ------
    MalformedError
        None of these.
    """
    name, _, argument = text.partition(":")
    if name in _PLAIN and not argument:
        return _PLAIN[name]
    if name in _TRAININGS and not argument:
        return lambda _task, honest: honest
    if name == _ALTER:
        try:
            share = float(argument)
        except ValueError:
            share = 0.0
        if 0 < share < 1 or (share >= 1 and share.is_integer()):
            return lambda task, honest: AlterOutputs(task, honest, share)
    known = ", ".join((f"{_ALTER}:FRACTION", f"{_ALTER}:COUNT", *_PLAIN, *_TRAININGS))
    raise MalformedError(f"no fault {text!r}", field="dishonest", hint=f"one of {known}")


def piece_fault(text: str) -> PieceFault | None:
    """What a fault means for a piece; None where it is about statements or outputs, of which a helper has none."""
    return _PIECES.get(text)


def training_fault(text: str) -> TrainingFault | None:
    """What a fault means for a training; None where it is about evaluations."""
    return _TRAININGS.get(text)


def _slower(plan: TrainingPlan) -> TrainingPlan:
    rate = plan.optimiser.learning_rate_e9 // 2
    return plan.model_copy(update={"optimiser": plan.optimiser.model_copy(update={"learning_rate_e9": rate})})


def _resigned(task: Task, evidence: Evidence, account: LocalAccount) -> Evidence:
    signature = sign_digest(account, task.lease.domain.digest(evidence.statement))
    return evidence.model_copy(update={"signature": signature})


def _flipped(proof: bytes) -> bytes:
    at = len(proof) // 2
    return proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]


def _with_proofs(evidence: Evidence, proofs: list[list[bytes]]) -> Evidence:
    changed = [old.model_copy(update={"proofs": new}) for old, new in zip(evidence.proofs, proofs, strict=True)]
    return evidence.model_copy(update={"proofs": changed})
