// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Certifier} from "../Certifier.sol";
import {AnchorProof, Evidence, RecordProof} from "../Evidence.sol";
import {EvidenceLog} from "../EvidenceLog.sol";
import {Merkle} from "../Merkle.sol";
import {ModelRegistry} from "../ModelRegistry.sol";
import {Records} from "../Records.sol";
import {Circuit, Statement, Statements} from "../Statements.sol";
import {IHalo2VerifierReusable} from "../vendor/IHalo2VerifierReusable.sol";
import {Currency} from "./Currency.sol";
import {Floats} from "./Floats.sol";
import {Governed} from "./Governed.sol";
import {Payments} from "./Payments.sol";
import {Standing} from "./Standing.sol";
import {Warranties} from "./Warranties.sol";
import {WorkerRegistry} from "./WorkerRegistry.sol";

/// @title Disputes about single records of anchored statements, with a zk proof as the referee.
/// @notice Who holds a record challenges it with a bond. The worker, or anybody for it, answers with the record's opening
/// and a proof: then the bond is the worker's. No answer within the window: a part of its stake is lost. Challenge and
/// answer are public for ever: the record's salt and its encrypted values. docs/disputes.md weighs what it costs.
/// Of tier `commit` it is the challenger who proves the record, and only where the worker has given a warranty; the answer
/// is the committed output, near what was proved.
contract Disputes is Governed, Payments, Warranties {
    /// @param bond What a challenge costs if the worker was right. It has to cover a proof and an answer's gas.
    /// @param penalty What a worker loses for a record at most.
    /// @param rewardBps Share of the penalty that the challenger gets, in 1/10,000. Below all of it: else a worker that was
    /// found out challenges itself.
    /// @param treasury Gets the rest.
    /// @param challengePeriod Blocks after an anchor in which its statements can be challenged.
    /// @param responseWindow Blocks for the answer.
    struct Terms {
        uint128 bond;
        uint128 penalty;
        uint16 rewardBps;
        address treasury;
        uint64 challengePeriod;
        uint64 responseWindow;
    }

    /// @notice The input side of a record: what its owner holds, and what the challenge is about.
    struct InputOpening {
        uint64 recordIndex;
        bytes32 salt;
        bytes32[] path;
        uint256[] values;
    }

    /// @notice A record of tier `commit` and what its model's circuit gives of it: what its challenge is about.
    /// @param circuit The one that the model is registered with.
    /// @param values The input leaf's floats.
    /// @param instances The proof's public instances: the circuit's inputs, then its outputs.
    struct ProvenRecord {
        uint64 recordIndex;
        bytes32 salt;
        bytes32[] path;
        bytes values;
        Circuit circuit;
        uint256[] instances;
        bytes proof;
        bytes32[] vka;
    }

    /// @notice What the committed output of a challenged record of tier `commit` has to be near.
    /// @param outputSalt Of the output leaf.
    /// @param outputs Proven, in units of 2^−outputScale, as the tolerance is.
    struct Proven {
        bytes32 outputSalt;
        uint8 outputScale;
        uint64 tolerance;
        int64[] outputs;
    }

    enum State {
        None,
        Open,
        Proved,
        Faulted,
        Dismissed
    }

    /// @param warrantedFrom Tier `commit`: the first block whose anchors the worker's warranty covers.
    /// @param proven Tier `commit`: hash of what the output has to be near.
    struct Dispute {
        address challenger;
        uint64 answerUntil;
        State state;
        address worker;
        uint64 warrantedFrom;
        uint128 locked;
        bytes32 proven;
    }

    /// @notice Disputes about one statement.
    struct Tally {
        uint64 open;
        uint64 faulted;
    }

    event CircuitAdmitted(bytes32 indexed vkaDigest);
    event Challenged(
        bytes32 indexed statementDigest,
        uint64 indexed recordIndex,
        address indexed worker,
        address challenger,
        uint64 answerUntil,
        uint128 locked
    );
    event ChallengedByProof(bytes32 indexed statementDigest, uint64 indexed recordIndex, Proven proven);
    event Proved(bytes32 indexed statementDigest, uint64 indexed recordIndex, address indexed worker);
    event Dismissed(bytes32 indexed statementDigest, uint64 indexed recordIndex, address indexed worker);
    event Faulted(bytes32 indexed statementDigest, uint64 indexed recordIndex, address indexed worker, uint128 slashed);

    error BadTerms();
    error NotAPublicEvaluation(uint16 version, uint8 kind, uint8 visibility);
    error TierNotDisputable(uint8 tier);
    error NamesACircuit(bytes32 circuitHash);
    error BadRecordRange(uint64 recordStart, uint64 recordCount, uint64 inputSize);
    error WrongTaskId(bytes32 expected, bytes32 taskId);
    error TooLate(uint256 blockNumber, uint256 last);
    error TooEarly(uint256 blockNumber, uint256 first);
    error CircuitNotRegistered(bytes32 registered, bytes32 circuitHash);
    error CircuitNotAdmitted(bytes32 vkaDigest);
    error RecordOutOfRange(uint64 recordIndex);
    error WrongInputCount(uint256 expected, uint256 found);
    error WrongOutputCount(uint256 expected, uint256 found);
    error NotTheInput(uint256 position, int64 committed, int64 proven);
    error NotWhatWasProven(bytes32 expected, bytes32 found);
    error OutsideTolerance(uint256 position);
    error AlreadyCertified(bytes32 statementDigest, uint64 recordIndex);
    error AlreadyDisputed(bytes32 statementDigest, uint64 recordIndex);
    error NotOpen(bytes32 statementDigest, uint64 recordIndex);
    error VkaNotRegistered(bytes32 vkaDigest);
    error ProofRejected(bytes32 vkaDigest);

    uint16 private constant _BPS = 10_000;

    /// @notice Whose certificates settle a record without a dispute.
    Certifier public immutable certifier;
    /// @notice The log whose domain, anchors and registry count.
    EvidenceLog public immutable log;
    /// @notice The log's registry.
    ModelRegistry public immutable registry;
    /// @notice The referee.
    IHalo2VerifierReusable public immutable halo2;
    /// @notice The stakes, of which this contract alone disposes.
    WorkerRegistry public immutable workers;
    /// @notice What bonds and stakes are in; zero: the chain's coin.
    IERC20 public immutable token;

    Terms private _terms;

    /// @notice Circuits of which this chain has seen a proof, by VKA digest.
    mapping(bytes32 vkaDigest => bool) public admitted;
    mapping(bytes32 statementDigest => mapping(uint64 recordIndex => Dispute)) private _disputes;
    mapping(bytes32 statementDigest => Tally) private _tallies;

    constructor(address governance, IERC20 token_, Certifier certifier_, Terms memory terms_) Governed(governance) {
        if (
            terms_.bond == 0 || terms_.penalty == 0 || terms_.rewardBps >= _BPS || terms_.treasury == address(0)
                || terms_.challengePeriod == 0 || terms_.responseWindow == 0
        ) revert BadTerms();
        certifier = certifier_;
        log = certifier_.log();
        registry = certifier_.registry();
        halo2 = certifier_.halo2();
        token = token_;
        _terms = terms_;
        // A stake that was active when a statement was anchored is here as long as the statement can be challenged.
        workers = new WorkerRegistry(governance, token_, terms_.challengePeriod + 1, certifier_);
    }

    /// @dev The registry pays slashed coins in.
    receive() external payable {
        if (msg.sender != address(workers)) revert Currency.WrongValue(0, msg.value);
    }

    /// @notice Show that this chain's verifier takes proofs of a circuit. Anybody may, once, with any proof.
    /// @dev Without it a circuit of several segments, or one whose proofs need more gas than a block has, could be
    /// challenged, and no honest worker could answer.
    function admitCircuit(uint256[] calldata instances, bytes calldata proof, bytes32[] calldata vka) external {
        bytes32 vkaDigest = keccak256(abi.encodePacked(vka));
        _requireProved(vkaDigest, instances, proof, vka);
        admitted[vkaDigest] = true;
        emit CircuitAdmitted(vkaDigest);
    }

    /// @notice Challenge a record of an anchored statement.
    /// @dev Steps: 1 a statement that can be disputed; 2 signed by its worker; 3 anchored, not too long ago; 4 its model
    /// was active then, with this very circuit; 5 whose proofs can be checked here; 6 a record of it, whose input the
    /// challenger holds; 7 that the Certifier did not certify, and that was not disputed before.
    function challenge(
        Statement calldata statement,
        bytes calldata workerSignature,
        AnchorProof calldata anchorProof,
        InputOpening calldata input
    ) external payable nonReentrant whenNotPaused {
        if (statement.tier != Statements.TIER_SAMPLED && statement.tier != Statements.TIER_ZK) {
            revert TierNotDisputable(statement.tier); // 1
        }
        _requireDisputable(statement, statement.circuit.visibility);
        bytes32 digest = Statements.digest(statement, log.domainSeparator());
        Evidence.requireSigned(digest, statement.worker, workerSignature); // 2
        uint256 anchoredAt = Standing.requireAnchored(log, anchorProof, digest).blockNumber; // 3
        _requireTime(anchoredAt + _terms.challengePeriod);
        _requireRegistered(statement, statement.circuit, anchoredAt); // 4
        if (!admitted[statement.circuit.vkaDigest]) revert CircuitNotAdmitted(statement.circuit.vkaDigest); // 5
        _requireHeld(statement, input); // 6
        if (certifier.isRecordCertified(digest, input.recordIndex - statement.recordStart)) {
            revert AlreadyCertified(digest, input.recordIndex); // 7
        }
        _open(digest, input.recordIndex, statement.worker);
        Currency.take(token, _terms.bond);
    }

    /// @notice Challenge a record of an anchored statement of tier `commit`, with a proof of what the model's circuit gives
    /// of it.
    /// @dev Steps: 1 a statement that can be disputed, which names no circuit; 2 signed by its worker; 3 anchored, not too
    /// long ago; 4 its model was active then, and is registered with the circuit that is shown; 5 about which the worker has
    /// given a warranty that covers that anchor; 6 a record of the statement, whose input the challenger holds; 7 the proof
    /// is of this very input; 8 and holds; 9 the record was not disputed before.
    /// No worker that keeps what it warrants can lose: what the circuit cannot prove is not challenged, and an answer takes
    /// no proof. Step 4 is what makes the warranty the only one that can ever be about the statement.
    function challengeCommit(
        Statement calldata statement,
        bytes calldata workerSignature,
        AnchorProof calldata anchorProof,
        ProvenRecord calldata record
    ) external payable nonReentrant whenNotPaused {
        if (statement.tier != Statements.TIER_COMMIT) {
            revert TierNotDisputable(statement.tier); // 1
        }
        _requireDisputable(statement, record.circuit.visibility);
        _requireNoCircuit(statement);
        bytes32 digest = Statements.digest(statement, log.domainSeparator());
        Evidence.requireSigned(digest, statement.worker, workerSignature); // 2
        uint256 anchoredAt = Standing.requireAnchored(log, anchorProof, digest).blockNumber; // 3
        _requireTime(anchoredAt + _terms.challengePeriod);
        bytes32 circuitHash = _requireRegistered(statement, record.circuit, anchoredAt); // 4
        Warranty memory warranty = _requireWarranted(statement.worker, statement.modelDigest, circuitHash, anchoredAt); // 5
        _requireHeld(statement, record); // 6
        Proven memory proven = _provenBy(record, warranty.tolerance); // 7
        _requireProved(record.circuit.vkaDigest, record.instances, record.proof, record.vka); // 8
        Dispute storage dispute = _open(digest, record.recordIndex, statement.worker); // 9
        dispute.warrantedFrom = warranty.from;
        dispute.proven = keccak256(abi.encode(proven));
        emit ChallengedByProof(digest, record.recordIndex, proven);
        Currency.take(token, _terms.bond);
    }

    /// @notice Answer a challenge. Anybody may; the bond goes to the worker. A wrong answer is refused and changes nothing:
    /// with no right one in time it is worth as much as silence.
    function answer(Statement calldata statement, RecordProof calldata record, bytes32[] calldata vka) external {
        bytes32 digest = Statements.digest(statement, log.domainSeparator());
        Dispute storage dispute = _requireOpen(digest, record.recordIndex);
        _requireTime(dispute.answerUntil);
        Evidence.requireCommitted(statement, record);
        dispute.state = State.Proved;
        _requireProved(statement.circuit.vkaDigest, record.instances, record.proof, vka);
        _acquit(digest, dispute);
        emit Proved(digest, record.recordIndex, dispute.worker);
    }

    /// @notice Answer a challenge of tier `commit`, with the committed output. Anybody may; the bond goes to the worker.
    /// @param proven As the challenge's event has it.
    /// @param values The output leaf's floats.
    function answerCommit(
        Statement calldata statement,
        uint64 recordIndex,
        Proven calldata proven,
        bytes calldata values,
        bytes32[] calldata path
    ) external {
        bytes32 digest = Statements.digest(statement, log.domainSeparator());
        Dispute storage dispute = _requireOpen(digest, recordIndex);
        _requireTime(dispute.answerUntil);
        bytes32 found = keccak256(abi.encode(proven));
        if (found != dispute.proven) revert NotWhatWasProven(dispute.proven, found);
        _requireNear(statement, recordIndex, proven, values, path);
        dispute.state = State.Proved;
        _acquit(digest, dispute);
        emit Proved(digest, recordIndex, dispute.worker);
    }

    /// @notice End a dispute about a statement that was out of time: anchored before, and so long ago that nobody could
    /// challenge it any more when this challenge was made; or before the worker's warranty, which does not cover it then.
    /// Anybody may show that; the bond goes to the worker.
    /// @dev Anybody can anchor any digest again, at any time, and a challenge has to show one anchor only. Without this a
    /// worker would have to keep every record that it ever answered for, and could never begin to give a warranty.
    function dismiss(bytes32 statementDigest, uint64 recordIndex, AnchorProof calldata earlier) external {
        Dispute storage dispute = _requireOpen(statementDigest, recordIndex);
        _requireTime(dispute.answerUntil);
        uint256 anchoredAt = Standing.requireAnchored(log, earlier, statementDigest).blockNumber;
        uint256 last = anchoredAt + _terms.challengePeriod;
        uint256 madeIn = dispute.answerUntil - _terms.responseWindow;
        if (anchoredAt >= dispute.warrantedFrom && madeIn <= last) revert TooEarly(madeIn, last + 1);
        dispute.state = State.Dismissed;
        _acquit(statementDigest, dispute);
        emit Dismissed(statementDigest, recordIndex, dispute.worker);
    }

    /// @notice Close a dispute that nobody answered in time. Anybody may.
    function close(bytes32 statementDigest, uint64 recordIndex) external nonReentrant {
        Dispute storage dispute = _requireOpen(statementDigest, recordIndex);
        if (block.number <= dispute.answerUntil) revert TooEarly(block.number, uint256(dispute.answerUntil) + 1);
        dispute.state = State.Faulted;
        Tally storage tally = _tallies[statementDigest];
        --tally.open;
        ++tally.faulted;
        uint128 slashed = dispute.locked;
        uint256 reward = uint256(slashed) * _terms.rewardBps / _BPS;
        _credit(token, dispute.challenger, _terms.bond + reward);
        _credit(token, _terms.treasury, slashed - reward);
        emit Faulted(statementDigest, recordIndex, dispute.worker, slashed);
        workers.slash(dispute.worker, slashed);
    }

    /// @notice What a dispute is about money and time.
    function terms() external view returns (Terms memory) {
        return _terms;
    }

    /// @notice A dispute; state None if there is none.
    function disputeOf(bytes32 statementDigest, uint64 recordIndex) external view returns (Dispute memory) {
        return _disputes[statementDigest][recordIndex];
    }

    /// @notice How many disputes about a statement are open, and how many it lost.
    function tallyOf(bytes32 statementDigest) external view returns (Tally memory) {
        return _tallies[statementDigest];
    }

    /// @notice The last block in which a statement that was anchored in block `anchoredAt` can be challenged.
    function challengeableUntil(uint256 anchoredAt) external view returns (uint256) {
        return anchoredAt + _terms.challengePeriod;
    }

    /// @param visibility Of the circuit that settles the dispute.
    function _requireDisputable(Statement calldata s, uint8 visibility) private pure {
        if (
            s.version != Statements.VERSION || s.kind != Statements.KIND_EVALUATION
                || visibility != Statements.VISIBILITY_PUBLIC
        ) revert NotAPublicEvaluation(s.version, s.kind, visibility);
        if (s.recordCount == 0 || s.recordCount > s.inputSize || s.recordStart > s.inputSize - s.recordCount) {
            revert BadRecordRange(s.recordStart, s.recordCount, s.inputSize);
        }
        bytes32 taskId = Statements.taskId(s.jobId, s.recordStart, s.recordCount);
        if (s.taskId != taskId) revert WrongTaskId(taskId, s.taskId);
    }

    function _requireTime(uint256 last) private view {
        if (block.number > last) revert TooLate(block.number, last);
    }

    function _requireNoCircuit(Statement calldata s) private pure {
        Circuit memory none;
        bytes32 circuitHash = Statements.hash(s.circuit);
        if (circuitHash != Statements.hash(none)) revert NamesACircuit(circuitHash);
    }

    function _requireRegistered(Statement calldata s, Circuit calldata circuit, uint256 anchoredAt)
        private
        view
        returns (bytes32 circuitHash)
    {
        bytes32 registered = Standing.requireActive(registry, s, anchoredAt).circuitHash;
        circuitHash = Statements.hash(circuit);
        if (registered != circuitHash) revert CircuitNotRegistered(registered, circuitHash);
    }

    function _requireOfStatement(Statement calldata s, uint64 recordIndex) private pure {
        if (recordIndex < s.recordStart || recordIndex - s.recordStart >= s.recordCount) {
            revert RecordOutOfRange(recordIndex);
        }
    }

    function _requireHeld(Statement calldata s, InputOpening calldata input) private pure {
        _requireOfStatement(s, input.recordIndex);
        uint32 length = s.circuit.inputLength;
        if (input.values.length != length) revert WrongInputCount(length, input.values.length);
        bytes32 leaf = Merkle.leafHash(
            Records.leafData(Records.SIDE_INPUT, s.circuit.inputScale, input.salt, input.values, 0, length)
        );
        if (!Merkle.includes(s.inputRoot, s.inputSize, input.recordIndex, leaf, input.path)) {
            revert Evidence.InputNotInTree(input.recordIndex);
        }
    }

    function _requireHeld(Statement calldata s, ProvenRecord calldata record) private pure {
        _requireOfStatement(s, record.recordIndex);
        uint256 expected = Floats.BYTES * record.circuit.inputLength;
        if (record.values.length != expected) revert WrongInputCount(expected, record.values.length);
        bytes32 leaf = Merkle.leafHash(Floats.leafData(Records.SIDE_INPUT, record.salt, record.values));
        if (!Merkle.includes(s.inputRoot, s.inputSize, record.recordIndex, leaf, record.path)) {
            revert Evidence.InputNotInTree(record.recordIndex);
        }
    }

    /// @dev That the proof's inputs are the record's in fixed point, and what its outputs are.
    function _provenBy(ProvenRecord calldata record, uint64 tolerance) private pure returns (Proven memory proven) {
        Circuit calldata circuit = record.circuit;
        Floats.requireScale(circuit.inputScale);
        Floats.requireScale(circuit.outputScale);
        uint256 inputs = circuit.inputLength;
        uint256 expected = inputs + circuit.outputLength;
        if (record.instances.length != expected) {
            revert Evidence.WrongInstanceCount(expected, record.instances.length);
        }
        for (uint256 i = 0; i < inputs; ++i) {
            int64 committed = Floats.quantise(record.values, i, circuit.inputScale);
            int64 instance = Records.toInt64(record.instances[i], i);
            if (committed != instance) revert NotTheInput(i, committed, instance);
        }
        proven.outputSalt = Records.outputSalt(record.salt);
        proven.outputScale = circuit.outputScale;
        proven.tolerance = tolerance;
        proven.outputs = new int64[](circuit.outputLength);
        for (uint256 i = inputs; i < expected; ++i) {
            proven.outputs[i - inputs] = Records.toInt64(record.instances[i], i);
        }
    }

    function _requireNear(
        Statement calldata s,
        uint64 recordIndex,
        Proven calldata proven,
        bytes calldata values,
        bytes32[] calldata path
    ) private pure {
        uint256 expected = Floats.BYTES * proven.outputs.length;
        if (values.length != expected) revert WrongOutputCount(expected, values.length);
        bytes32 leaf = Merkle.leafHash(Floats.leafData(Records.SIDE_OUTPUT, proven.outputSalt, values));
        if (!Merkle.includes(s.outputRoot, s.recordCount, recordIndex - s.recordStart, leaf, path)) {
            revert Evidence.OutputNotInTree(recordIndex);
        }
        int64[] calldata outputs = proven.outputs;
        (uint8 scale, uint64 tolerance) = (proven.outputScale, proven.tolerance);
        for (uint256 i = 0; i < outputs.length; ++i) {
            if (!Floats.isNear(values, i, scale, outputs[i], tolerance)) revert OutsideTolerance(i);
        }
    }

    function _open(bytes32 digest, uint64 recordIndex, address worker) private returns (Dispute storage dispute) {
        dispute = _disputes[digest][recordIndex];
        if (dispute.state != State.None) revert AlreadyDisputed(digest, recordIndex);
        dispute.challenger = msg.sender;
        dispute.answerUntil = uint64(block.number) + _terms.responseWindow;
        dispute.state = State.Open;
        dispute.worker = worker;
        ++_tallies[digest].open;
        dispute.locked = workers.lock(worker, _terms.penalty);
        emit Challenged(digest, recordIndex, worker, msg.sender, dispute.answerUntil, dispute.locked);
    }

    /// @dev The worker was right: its stake is free again, and the bond is its own.
    function _acquit(bytes32 digest, Dispute storage dispute) private {
        --_tallies[digest].open;
        workers.vindicate(dispute.worker, dispute.locked);
        _credit(token, dispute.worker, _terms.bond);
    }

    function _requireOpen(bytes32 digest, uint64 recordIndex) private view returns (Dispute storage dispute) {
        dispute = _disputes[digest][recordIndex];
        if (dispute.state != State.Open) revert NotOpen(digest, recordIndex);
    }

    function _requireProved(
        bytes32 vkaDigest,
        uint256[] calldata instances,
        bytes calldata proof,
        bytes32[] calldata vka
    ) private {
        try halo2.verifyProof(proof, instances, vka) returns (bool success, bytes32 used) {
            if (success && used == vkaDigest) return;
        } catch Error(string memory) {
            revert VkaNotRegistered(vkaDigest); // the one reason that the verifier gives
        } catch {}
        revert ProofRejected(vkaDigest);
    }
}
