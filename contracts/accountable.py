"""Typed access to stakes, disputes, escrow and validators' verdicts, beside the log (:mod:`contracts.chain`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast, get_args

from web3.types import Wei

from contracts.accountability import Accountability, Terms
from contracts.artefacts import AccountabilityName
from contracts.chain import AnchorProof, Chain, anchor_argument, record_argument, solidity
from contracts.node import Transaction, as_transaction, checksummed
from contracts.onchain import public_instances, residues
from contracts.tokens import COIN_DECIMALS, ERC20, Token
from contracts.warranties import GivenWarranty, Proven, ProvenRecord, Warranty
from rexis.protocol.digests import Digest
from rexis.protocol.errors import ChainError, NotFoundError, UnavailableError
from rexis.protocol.keccak import keccak
from rexis.protocol.parsing import ZERO_ADDRESS, Address
from rexis.protocol.policy import MAX_VALIDATORS
from rexis.protocol.records import Encoding, InputOpening, Opening
from rexis.protocol.statement import JobRequest, Statement
from rexis.protocol.validation import Finding

# Nodes refuse to search many blocks at once; many refuse more than 1,000.
_BLOCKS_AT_ONCE = 1000
# Storage slot of ValidatorQuorum's mapping `_slotPlusOne` (Solidity's layout of mappings).
_SLOTS = 7


class DisputeState(IntEnum):
    """How a dispute stands."""

    NONE = 0
    OPEN = 1
    PROVED = 2
    FAULTED = 3
    DISMISSED = 4


@dataclass(frozen=True)
class Dispute:
    """A dispute about one record.

    Attributes
    ----------
    locked
        How much of the worker's stake is in it.
    warranted_from
        Tier ``commit``: the first block whose anchors the worker's warranty covers; else 0.
    """

    challenger: Address
    answer_until: int
    state: DisputeState
    worker: Address
    locked: int
    warranted_from: int = 0


@dataclass(frozen=True)
class Challenge:
    """That somebody challenged a record, as the chain's event log has it. `made_in`: a block."""

    statement_digest: Digest
    record_index: int
    worker: Address
    challenger: Address
    made_in: int
    answer_until: int


@dataclass(frozen=True)
class Tally:
    """Disputes about one statement: how many are open, how many it lost."""

    open: int
    faulted: int


@dataclass(frozen=True)
class Stake:
    """An account's stake; `locked` and `leaving` are parts of `amount`. `leaves_at`: a block."""

    amount: int
    locked: int
    leaving: int
    leaves_at: int

    @property
    def active(self) -> int:
        """What has not been asked back: who relies on a stake counts this."""
        return self.amount - self.leaving

    @property
    def free(self) -> int:
        """What another dispute could lock."""
        return self.amount - self.locked


@dataclass(frozen=True)
class Reputation:
    """What the chain saw of a worker: tasks certified, disputes won, disputes lost."""

    certified: int
    vindicated: int
    faulted: int


@dataclass(frozen=True)
class Funding:
    """What a payer paid in for a job.

    Attributes
    ----------
    price
        For each record.
    min_stake
        What a worker has to have at stake to claim.
    deadline
        Last block for claims.
    free
        What no claim has reserved.
    """

    token: Address
    price: int
    min_stake: int
    deadline: int
    free: int
    coordinator: Address
    record_start: int
    record_count: int
    shard_size: int

    @property
    def tasks(self) -> int:
        """How many payments it is cut into."""
        return -(-self.record_count // self.shard_size)

    def task_of(self, record_start: int) -> int:
        """The number of the task whose first record this is."""
        return (record_start - self.record_start) // self.shard_size


class ClaimState(IntEnum):
    """How the payment of a task stands."""

    NONE = 0
    CLAIMED = 1
    PAID = 2


@dataclass(frozen=True)
class Claim:
    """A claim on the payment of one task. `challengeable_until`: a block."""

    worker: Address
    challengeable_until: int
    state: ClaimState
    statement_digest: Digest
    amount: int


@dataclass(frozen=True)
class Validator:
    """Who holds a slot of the ValidatorQuorum. `public_key`: 128 bytes; `active`: stake that was not asked back."""

    account: Address
    public_key: bytes
    active: int


@dataclass(frozen=True)
class RecordedVerdict:
    """What a ValidatorQuorum wrote down of a statement.

    Attributes
    ----------
    slots
        Of the validators who signed it.
    stake, active
        What these had at stake then, and what all validators had.
    """

    finding: Finding
    slots: tuple[int, ...]
    stake: int
    active: int
    block: int
    transaction: Digest


class AccountableChain(Chain):
    """A node, the log on it, and one deployment around that log.

    Connect, attach to the log, then :meth:`deploy_accountability` or :meth:`attach_accountability`. Of a token that is
    not the chain's coin, whoever pays first allows the contract to take as much as it is about to (ERC-20 ``approve``).
    """

    _accountability: Accountability | None = None

    def deploy_accountability(self, terms: Terms) -> Accountability:
        """Deploy on these terms what is not there yet, and attach. Whoever comes later finds the same contracts."""
        for code in terms.init_codes().values():
            self._create(code)
        found = Accountability.on(self.chain_id, terms)
        self.attach_accountability(found)
        return found

    def attach_accountability(self, manifest: Accountability) -> None:
        """Use a deployment, after checking that it is on this chain. Which code is there follows from the addresses.

        Raises
        ------
        ChainError
            It is not.
        """
        self._attach_to(manifest, *get_args(AccountabilityName))

    def attach_quorum(self, manifest: Accountability) -> None:
        """Use a deployment's ValidatorQuorum, which refers to none of the others: they need not be there.

        Raises
        ------
        ChainError
            It is not on this chain.
        """
        self._attach_to(manifest, "ValidatorQuorum")

    def _attach_to(self, manifest: Accountability, *names: AccountabilityName) -> None:
        if manifest.chain_id != self.chain_id:
            raise ChainError(
                f"the deployment is on chain {manifest.chain_id}, this node is on chain {self.chain_id}",
                field="chainId",
            )
        everywhere = manifest.terms.addresses()
        at: dict[AccountabilityName, Address] = {name: everywhere[name] for name in names}
        for name, address in at.items():
            if not self._has_code(address):
                raise ChainError(f"no {name} at {address} on chain {self.chain_id}", hint="deployed on other terms?")
        self._contracts |= {name: self._at(name, address) for name, address in at.items()}
        self._accountability = manifest

    @property
    def accountability(self) -> Accountability:
        """The deployment in use."""
        if self._accountability is None:
            raise ChainError("no contracts for disputes", hint="deploy them, or attach to a manifest")
        return self._accountability

    # --- stakes -------------------------------------------------------------------------------------------------

    def stake(self, amount: int) -> Transaction:
        """Add to the account's stake as a worker."""
        return self._pay("WorkerRegistry", "deposit", amount, self._terms.token, amount)

    def request_withdrawal(self, amount: int) -> Transaction:
        """Ask a part of the active stake back."""
        return self._do("WorkerRegistry", "requestWithdrawal", amount)

    def withdraw(self) -> Transaction:
        """Fetch what was asked back, once it may leave."""
        return self._do("WorkerRegistry", "withdraw")

    def stake_of(self, worker: Address) -> Stake:
        """A worker's stake."""
        return Stake(*self._read(self._functions("WorkerRegistry").stakeOf(worker)))

    def reputation_of(self, worker: Address) -> Reputation:
        """What the chain saw of a worker."""
        return Reputation(*self._read(self._functions("WorkerRegistry").reputationOf(worker)))

    # --- disputes -----------------------------------------------------------------------------------------------

    def admit_circuit(self, opening: Opening, proof: bytes, vka: Sequence[Digest]) -> Transaction:
        """Show that this chain's verifier takes proofs of a circuit, with any of them. Its VKA must be registered."""
        instances = public_instances(opening.input, opening.output)
        return self._do("Disputes", "admitCircuit", instances, proof, [bytes(word) for word in vka])

    def is_admitted(self, vka_digest: Digest) -> bool:
        """Whether records of statements with this circuit can be challenged."""
        return bool(self._read(self._functions("Disputes").admitted(bytes(vka_digest))))

    def challenge(
        self, statement: Statement, signature: bytes, anchor: AnchorProof, opening: InputOpening
    ) -> Transaction:
        """Challenge a record whose input one holds, for the bond. The opening's input becomes public for ever."""
        arguments = _challenge_arguments(statement, signature, anchor, opening)
        return self._pay("Disputes", "challenge", self._terms.bond, self._terms.token, *arguments)

    def gas_of_challenge(
        self, statement: Statement, signature: bytes, anchor: AnchorProof, opening: InputOpening
    ) -> int | None:
        """Gas that a challenge would take now; None where the bond is in a token that has to be allowed first.

        Raises
        ------
        RevertError
            It would be refused.
        """
        if self._terms.token != ZERO_ADDRESS:
            return None
        call = self._functions("Disputes").challenge(*_challenge_arguments(statement, signature, anchor, opening))
        with self._translated(sending=True):
            return int(call.estimate_gas({"from": checksummed(self.address), "value": Wei(self._terms.bond)}))

    def answer(self, statement: Statement, opening: Opening, proof: bytes, vka: Sequence[Digest]) -> Transaction:
        """Answer a challenge with the record's opening and a proof; both become public for ever."""
        words = [bytes(word) for word in vka]
        return self._do("Disputes", "answer", solidity(statement), record_argument(opening, proof), words)

    def challenge_commit(
        self, statement: Statement, signature: bytes, anchor: AnchorProof, record: ProvenRecord
    ) -> Transaction:
        """Challenge a record of tier ``commit`` by a proof of it, for the bond. Its input becomes public for ever."""
        arguments = (solidity(statement), signature, anchor_argument(anchor), record.argument())
        return self._pay("Disputes", "challengeCommit", self._terms.bond, self._terms.token, *arguments)

    def gas_of_commit_challenge(
        self, statement: Statement, signature: bytes, anchor: AnchorProof, record: ProvenRecord
    ) -> int | None:
        """As :meth:`gas_of_challenge`, of :meth:`challenge_commit`."""
        if self._terms.token != ZERO_ADDRESS:
            return None
        arguments = (solidity(statement), signature, anchor_argument(anchor), record.argument())
        call = self._functions("Disputes").challengeCommit(*arguments)
        with self._translated(sending=True):
            return int(call.estimate_gas({"from": checksummed(self.address), "value": Wei(self._terms.bond)}))

    def answer_commit(self, statement: Statement, opening: Opening, proven: Proven) -> Transaction:
        """Answer a challenge of tier ``commit`` with the committed output, which becomes public for ever."""
        return self._do("Disputes", "answerCommit", *commit_answer_arguments(statement, opening, proven))

    def proven_of(self, statement_digest: Digest, record_index: int) -> Proven:
        """What the committed output of a challenged record of tier ``commit`` has to be near.

        Raises
        ------
        NotFoundError
            No such challenge, or of another tier.
        """
        dispute = self.dispute_of(statement_digest, record_index)
        made_in = dispute.answer_until - self._terms.response_window
        if dispute.warranted_from:
            wanted = {"statementDigest": bytes(statement_digest), "recordIndex": record_index}
            with self._translated():
                event = self._contracts["Disputes"].events["ChallengedByProof"]()
                for entry in event.get_logs(argument_filters=wanted, from_block=made_in, to_block=made_in):
                    return Proven.of(entry["args"]["proven"])
        raise NotFoundError(f"nothing was proved of record {record_index} of statement {statement_digest}")

    def dismiss(self, statement_digest: Digest, record_index: int, earlier: AnchorProof) -> Transaction:
        """End a dispute that came too late, or is about a statement of before the warranty, by an older anchor."""
        return self._do("Disputes", "dismiss", bytes(statement_digest), record_index, anchor_argument(earlier))

    def close(self, statement_digest: Digest, record_index: int) -> Transaction:
        """Close a dispute that nobody answered in time."""
        return self._do("Disputes", "close", bytes(statement_digest), record_index)

    def dispute_of(self, statement_digest: Digest, record_index: int) -> Dispute:
        """A dispute about a record; of state ``NONE`` if there is none."""
        found = self._read(self._functions("Disputes").disputeOf(bytes(statement_digest), record_index))
        challenger, answer_until, state, worker, warranted_from, locked, _ = found
        return Dispute(
            Address.parse(challenger),
            answer_until,
            DisputeState(state),
            Address.parse(worker),
            locked,
            warranted_from,
        )

    def tally_of(self, statement_digest: Digest) -> Tally:
        """How many disputes about a statement are open, and how many it lost."""
        return Tally(*self._read(self._functions("Disputes").tallyOf(bytes(statement_digest))))

    def challenges(self, first: int, last: int, worker: Address | None = None) -> Iterator[Challenge]:
        """Challenges of the blocks from `first` to `last`, both included: all, or those of one worker's statements."""
        wanted = {} if worker is None else {"worker": checksummed(worker)}
        for entry in self._logs("Challenged", first, last, wanted):
            given = entry["args"]
            yield Challenge(
                statement_digest=Digest(given["statementDigest"]),
                record_index=given["recordIndex"],
                worker=Address.parse(given["worker"]),
                challenger=Address.parse(given["challenger"]),
                made_in=entry["blockNumber"],
                answer_until=given["answerUntil"],
            )

    # --- warranties ---------------------------------------------------------------------------------------------

    def warrant(self, model_digest: Digest, circuit_hash: Digest, tolerance: int) -> Transaction:
        """Answer for statements of tier ``commit`` about a model that are anchored in later blocks; once, for good."""
        return self._do("Disputes", "warrant", bytes(model_digest), bytes(circuit_hash), tolerance)

    def end_warranty(self, model_digest: Digest, circuit_hash: Digest) -> Transaction:
        """Do not answer for what is anchored in later blocks; for good."""
        return self._do("Disputes", "endWarranty", bytes(model_digest), bytes(circuit_hash))

    def warranty_of(self, worker: Address, model_digest: Digest, circuit_hash: Digest) -> Warranty | None:
        """A worker's warranty for a model and its circuit; None if it never gave one."""
        call = self._functions("Disputes").warrantyOf(checksummed(worker), bytes(model_digest), bytes(circuit_hash))
        return Warranty.of(self._read(call))

    def warranties(
        self, first: int, last: int, worker: Address | None = None, model_digest: Digest | None = None
    ) -> Iterator[GivenWarranty]:
        """Warranties that were given in the blocks from `first` to `last`, both included."""
        wanted: dict[str, Any] = {} if worker is None else {"worker": checksummed(worker)}
        if model_digest is not None:
            wanted["modelDigest"] = bytes(model_digest)
        for entry in self._logs("Warranted", first, last, wanted):
            given = entry["args"]
            yield GivenWarranty(
                worker=Address.parse(given["worker"]),
                model_digest=Digest(given["modelDigest"]),
                circuit_hash=Digest(given["circuitHash"]),
                given_in=entry["blockNumber"],
            )

    # --- escrow -------------------------------------------------------------------------------------------------

    def fund(self, request: JobRequest, token: Address, price: int, min_stake: int, deadline: int) -> Transaction:
        """Pay a job in: `price` for each record, to be claimed until block `deadline`."""
        offer = (token, price, min_stake, deadline)
        return self._pay("JobEscrow", "fund", price * request.record_count, token, solidity(request), offer)

    def claim(self, payer: Address, statement: Statement, signature: bytes, anchor: AnchorProof) -> Transaction:
        """Claim a task's payment for the worker of its statement."""
        return self._do("JobEscrow", "claim", payer, solidity(statement), signature, anchor_argument(anchor))

    def settle(self, job_id: Digest, payer: Address, task: int) -> Transaction:
        """Release a claimed payment that is due, or take back one whose statement lost a dispute."""
        return self._do("JobEscrow", "settle", bytes(job_id), payer, task)

    def refund(self, job_id: Digest, payer: Address) -> Transaction:
        """After the deadline, give the payer back what no claim holds."""
        return self._do("JobEscrow", "refund", bytes(job_id), payer)

    def funding_of(self, job_id: Digest, payer: Address) -> Funding | None:
        """What a payer paid in for a job; None if nothing."""
        found = self._read(self._functions("JobEscrow").jobOf(bytes(job_id), payer))
        (token, price, min_stake, deadline), free, coordinator, start, count, shard_size, _ = found
        if price == 0:
            return None
        who = Address.parse(coordinator)
        return Funding(Address.parse(token), price, min_stake, deadline, free, who, start, count, shard_size)

    def claim_of(self, job_id: Digest, payer: Address, task: int) -> Claim:
        """The claim on a task's payment; of state ``NONE`` if there is none."""
        found = self._read(self._functions("JobEscrow").claimOf(bytes(job_id), payer, task))
        worker, until, state, digest, amount = found
        return Claim(Address.parse(worker), until, ClaimState(state), Digest(digest), amount)

    def is_due(self, claim: Claim) -> bool:
        """Whether a claimed payment can be settled now: released, or taken back since its statement lost a dispute."""
        tally = self.tally_of(claim.statement_digest)
        if tally.faulted or self.is_certified(claim.statement_digest):
            return True
        return self.block_number() > claim.challengeable_until and not tally.open

    def owed(self, name: AccountabilityName, token: Address, account: Address) -> int:
        """What ``Disputes``, ``JobEscrow`` or ``ValidatorQuorum`` owes an account."""
        return int(self._read(self._functions(name).owed(token, account)))

    def collect(self, name: AccountabilityName, token: Address) -> Transaction:
        """Fetch what that contract owes the account."""
        return self._do(name, "collect", token)

    # --- money --------------------------------------------------------------------------------------------------

    def token(self, address: Address) -> Token:
        """What an address is as a currency; the zero address is the chain's coin.

        Raises
        ------
        ChainError
            No ERC-20 token is there.
        """
        if address == ZERO_ADDRESS:
            return Token(address, "coins", COIN_DECIMALS)
        functions = self._erc20(address)
        try:
            return Token(address, self._read(functions.symbol()), self._read(functions.decimals()))
        except UnavailableError:
            if self._has_code(address):
                raise
            raise ChainError(f"no token at {address} on chain {self.chain_id}", field="token") from None

    def balance_of(self, token: Address, account: Address) -> int:
        """What an account has of a currency."""
        if token != ZERO_ADDRESS:
            return int(self._read(self._erc20(token).balanceOf(checksummed(account))))
        with self._translated():
            return int(self._web3.eth.get_balance(checksummed(account)))

    # --- validators ---------------------------------------------------------------------------------------------

    def join(self, stake: int, slot: int, public_key: bytes, possession: bytes) -> Transaction:
        """Stake as a validator, unless `stake` is 0, and join with a BLS key (:mod:`rexis.protocol.bls`)."""
        if stake:
            self._pay("ValidatorQuorum", "deposit", stake, self._terms.token, stake)
        return self._do("ValidatorQuorum", "join", slot, public_key, possession)

    def leave(self, amount: int) -> Transaction:
        """Ask a part of the account's active stake as a validator back."""
        return self._do("ValidatorQuorum", "requestWithdrawal", amount)

    def withdraw_validator_stake(self) -> Transaction:
        """Fetch what was asked back, once it may leave."""
        return self._do("ValidatorQuorum", "withdraw")

    def evict(self, slot: int) -> Transaction:
        """Free a slot whose holder's stake is gone."""
        return self._do("ValidatorQuorum", "evict", slot)

    def validator_stake_of(self, account: Address) -> Stake:
        """An account's stake as a validator."""
        return Stake(*self._read(self._functions("ValidatorQuorum").stakeOf(account)))

    def validator_in(self, slot: int) -> Validator | None:
        """Who holds a slot."""
        account, public_key = self._read(self._functions("ValidatorQuorum").validatorAt(slot))
        if account == ZERO_ADDRESS:
            return None
        found = Address.parse(account)
        stake = self.validator_stake_of(found)
        return Validator(found, bytes(public_key), stake.amount - stake.leaving)

    def slot_of(self, account: Address) -> int | None:
        """The slot that an account holds."""
        # The contract's mapping `_slotPlusOne` has no getter. Its place follows from the code, as the address does.
        place = int.from_bytes(keccak(account.raw().rjust(32, b"\0") + _SLOTS.to_bytes(32, "big")), "big")
        with self._translated():
            word = self._web3.eth.get_storage_at(self._contracts["ValidatorQuorum"].address, place)
        return int.from_bytes(word, "big") - 1 if any(word) else None

    def active_validator_stake(self) -> int:
        """What all validators have at stake and have not asked back."""
        return int(self._read(self._functions("ValidatorQuorum").activeTotal()))

    def record_verdict(self, digest: Digest, finding: Finding, slots: Sequence[int], signature: bytes) -> Transaction:
        """Write down a verdict with the sum of the signatures of the validators in these slots."""
        signers = sum(1 << slot for slot in set(slots))
        return self._do("ValidatorQuorum", "record", bytes(digest), int(finding), signers, signature)

    def verdict_on(self, digest: Digest) -> Finding | None:
        """The validators' verdict on a statement, if there is one."""
        found = self._read(self._functions("ValidatorQuorum").verdictOf(bytes(digest)))
        return Finding(found) if found else None

    def find_verdict(self, digest: Digest, since_block: int, confirmations: int = 0) -> RecordedVerdict | None:
        """The validators' verdict on a statement with who signed it, if it was written since a block.

        Parameters
        ----------
        confirmations
            Blocks that must follow the one that has it.
        """
        if self.verdict_on(digest) is None:
            return None
        event = self._contracts["ValidatorQuorum"].events["VerdictRecorded"]()
        newest = self.block_number() - confirmations
        for first in range(since_block, newest + 1, _BLOCKS_AT_ONCE):
            last = min(first + _BLOCKS_AT_ONCE - 1, newest)
            with self._translated():
                found = event.get_logs(
                    argument_filters={"statementDigest": bytes(digest)}, from_block=first, to_block=last
                )
            if found:
                return _verdict_of(found[0])
        return None

    # --- inside -------------------------------------------------------------------------------------------------

    @property
    def _terms(self) -> Terms:
        return self.accountability.terms

    def _logs(self, event: str, first: int, last: int, wanted: dict[str, Any]) -> Iterator[Any]:
        """Events of Disputes, some blocks at a time."""
        for start in range(max(first, 0), last + 1, _BLOCKS_AT_ONCE):
            end = min(start + _BLOCKS_AT_ONCE - 1, last)
            with self._translated():
                found = (
                    self._contracts["Disputes"]
                    .events[event]()
                    .get_logs(argument_filters=wanted, from_block=start, to_block=end)
                )
            yield from found

    def _do(self, name: AccountabilityName, function: str, *arguments: Any) -> Transaction:
        _ = self.accountability  # raises if nothing is attached
        return as_transaction(self._send(self._functions(name)[function](*arguments)))

    def _pay(
        self, name: AccountabilityName, function: str, amount: int, token: Address, *arguments: Any
    ) -> Transaction:
        """A call that takes `amount`: of the chain's coin with the call, of a token by the account's allowance."""
        call = self._functions(name)[function](*arguments)
        if token == ZERO_ADDRESS:
            return as_transaction(self._send(call, value=amount))
        at = self._contracts[name].address
        if self._read(self._erc20(token).allowance(checksummed(self.address), at)) < amount:
            self._send(self._erc20(token).approve(at, amount))
        return as_transaction(self._send(call))

    def _erc20(self, token: Address) -> Any:
        return self._web3.eth.contract(address=checksummed(token), abi=cast(Any, ERC20)).functions


def _challenge_arguments(
    statement: Statement, signature: bytes, anchor: AnchorProof, opening: InputOpening
) -> tuple[Any, ...]:
    held = (
        opening.index,
        bytes(opening.salt),
        [bytes(node) for node in opening.input_path],
        residues(opening.input, Encoding.FIXED),
    )
    return solidity(statement), signature, anchor_argument(anchor), held


def commit_answer_arguments(statement: Statement, opening: Opening, proven: Proven) -> tuple[Any, ...]:
    """What ``answerCommit`` takes."""
    path = [bytes(node) for node in opening.output_path]
    return solidity(statement), opening.index, proven.argument(), bytes(opening.output), path


def _verdict_of(event: Any) -> RecordedVerdict:
    given = event["args"]
    return RecordedVerdict(
        finding=Finding(given["verdict"]),
        slots=tuple(slot for slot in range(MAX_VALIDATORS) if given["signers"] >> slot & 1),
        stake=given["stake"],
        active=given["activeStake"],
        block=event["blockNumber"],
        transaction=Digest(bytes(event["transactionHash"])),
    )
