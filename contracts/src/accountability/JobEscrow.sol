// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Certifier} from "../Certifier.sol";
import {AnchorProof, Evidence} from "../Evidence.sol";
import {EvidenceLog} from "../EvidenceLog.sol";
import {ModelRegistry} from "../ModelRegistry.sol";
import {Statement, Statements} from "../Statements.sol";
import {Currency} from "./Currency.sol";
import {Disputes} from "./Disputes.sol";
import {Governed} from "./Governed.sol";
import {Payments} from "./Payments.sol";
import {JobRequest, Requests} from "./Requests.sol";
import {Standing} from "./Standing.sol";
import {WorkerRegistry} from "./WorkerRegistry.sol";

/// @title Payment of jobs, task by task.
/// @notice Somebody pays a job in. A task's payment is claimed with its statement, once, and is the worker's as soon as the
/// Certifier has certified the statement, or when nobody can challenge it any more and no dispute about it was lost. What
/// nobody claimed by the deadline goes back.
contract JobEscrow is Governed, Payments {
    /// @param price Per record.
    /// @param minStake What a worker has to have at stake, at least, when its statement claims a payment.
    /// @param deadline Last block for claims.
    struct Offer {
        IERC20 token;
        uint128 price;
        uint128 minStake;
        uint64 deadline;
    }

    /// @param free What no claim has reserved.
    /// @param terms Hash of what the request fixes of each of its statements.
    struct Job {
        Offer offer;
        uint256 free;
        address coordinator;
        uint64 recordStart;
        uint64 recordCount;
        uint32 shardSize;
        bytes32 terms;
    }

    enum State {
        None,
        Claimed,
        Paid
    }

    struct Claim {
        address worker;
        uint64 challengeableUntil;
        State state;
        bytes32 statementDigest;
        uint256 amount;
    }

    event Funded(bytes32 indexed jobId, address indexed payer, IERC20 indexed token, uint256 amount, uint64 deadline);
    event Claimed(bytes32 indexed jobId, address indexed payer, uint64 indexed task, bytes32 statementDigest);
    event Released(bytes32 indexed jobId, address indexed payer, uint64 indexed task, address worker, uint256 amount);
    event ClaimFailed(bytes32 indexed jobId, address indexed payer, uint64 indexed task, bytes32 statementDigest);
    event Refunded(bytes32 indexed jobId, address indexed payer, uint256 amount);

    error BadOffer();
    error AlreadyFunded(bytes32 jobId, address payer);
    error NotFunded(bytes32 jobId, address payer);
    error TooLate(uint256 blockNumber, uint64 deadline);
    error TooEarly(uint256 blockNumber, uint64 deadline);
    error NotOfThisJob(bytes32 statementDigest);
    error NotATask(uint64 recordStart, uint64 recordCount);
    error NotByCoordinator(uint256 anchorId, address submitter);
    error StakeTooSmall(address worker, uint256 active, uint128 wanted);
    error TaskTaken(bytes32 jobId, address payer, uint64 task);
    error StatementFaulted(bytes32 statementDigest);
    error NotClaimed(bytes32 jobId, address payer, uint64 task);
    error NotDue(bytes32 statementDigest);
    error NothingToRefund(bytes32 jobId, address payer);

    /// @notice Whose verdict releases at once.
    Certifier public immutable certifier;
    /// @notice The log whose domain, anchors and registry count.
    EvidenceLog public immutable log;
    /// @notice The log's registry.
    ModelRegistry public immutable registry;
    /// @notice Whose disputes hold a payment back.
    Disputes public immutable disputes;
    /// @notice Whose stakes count.
    WorkerRegistry public immutable workers;

    mapping(bytes32 jobId => mapping(address payer => Job)) private _jobs;
    mapping(bytes32 jobId => mapping(address payer => mapping(uint64 task => Claim))) private _claims;

    constructor(address governance, Certifier certifier_, Disputes disputes_) Governed(governance) {
        certifier = certifier_;
        log = certifier_.log();
        registry = certifier_.registry();
        disputes = disputes_;
        workers = disputes_.workers();
    }

    /// @notice Pay a job in: its price per record, for all its records. Anybody may, each for itself.
    /// @dev Kept by (job, payer): nobody can be in the way of another.
    function fund(JobRequest calldata request, Offer calldata offer)
        external
        payable
        nonReentrant
        whenNotPaused
        returns (bytes32 jobId)
    {
        if (
            offer.price == 0 || offer.deadline <= block.number || request.recordCount == 0
                || request.policy.shardSize == 0 || request.recordStart > type(uint64).max - request.recordCount
        ) revert BadOffer();
        jobId = Requests.jobId(request, log.domainSeparator());
        Job storage job = _jobs[jobId][msg.sender];
        if (job.offer.price != 0) revert AlreadyFunded(jobId, msg.sender);
        uint256 amount = uint256(offer.price) * request.recordCount;
        job.offer = offer;
        job.free = amount;
        job.coordinator = request.coordinator;
        job.recordStart = request.recordStart;
        job.recordCount = request.recordCount;
        job.shardSize = request.policy.shardSize;
        job.terms = _terms(request);
        emit Funded(jobId, msg.sender, offer.token, amount, offer.deadline);
        Currency.take(offer.token, amount);
    }

    /// @notice Claim a task's payment for the worker of its statement. Anybody may.
    /// @dev Steps: 1 a job that was paid in, in time; 2 a statement of it; 3 about one of its tasks; 4 signed by its worker;
    /// 5 anchored by the job's coordinator, 6 while the model was active; 7 no dispute about it was lost; 8 the worker has
    /// enough at stake; 9 nobody claimed the task before.
    function claim(
        address payer,
        Statement calldata statement,
        bytes calldata workerSignature,
        AnchorProof calldata anchorProof
    ) external nonReentrant {
        Job storage job = _requireFunded(statement.jobId, payer); // 1
        if (block.number > job.offer.deadline) revert TooLate(block.number, job.offer.deadline);
        bytes32 digest = Statements.digest(statement, log.domainSeparator());
        if (statement.version != Statements.VERSION || _terms(statement) != job.terms) revert NotOfThisJob(digest); // 2
        uint64 task = _taskOf(job, statement); // 3
        Evidence.requireSigned(digest, statement.worker, workerSignature); // 4
        uint256 anchoredAt = _requireAnchored(job, anchorProof, digest); // 5
        Standing.requireActive(registry, statement, anchoredAt); // 6
        if (disputes.tallyOf(digest).faulted != 0) revert StatementFaulted(digest); // 7
        uint256 active = workers.activeStake(statement.worker); // 8
        if (active < job.offer.minStake) revert StakeTooSmall(statement.worker, active, job.offer.minStake);
        Claim storage made = _claims[statement.jobId][payer][task];
        if (made.state != State.None) revert TaskTaken(statement.jobId, payer, task); // 9

        made.state = State.Claimed;
        made.worker = statement.worker;
        made.statementDigest = digest;
        made.challengeableUntil = uint64(disputes.challengeableUntil(anchoredAt));
        made.amount = uint256(job.offer.price) * statement.recordCount;
        job.free -= made.amount;
        emit Claimed(statement.jobId, payer, task, digest);
    }

    /// @notice Release a claimed payment that is due, or take back one whose statement lost a dispute: then the task can
    /// be claimed again until the deadline. Anybody may.
    function settle(bytes32 jobId, address payer, uint64 task) external nonReentrant {
        Claim storage made = _claims[jobId][payer][task];
        if (made.state != State.Claimed) revert NotClaimed(jobId, payer, task);
        Job storage job = _jobs[jobId][payer];
        Disputes.Tally memory tally = disputes.tallyOf(made.statementDigest);
        if (tally.faulted != 0) {
            emit ClaimFailed(jobId, payer, task, made.statementDigest);
            job.free += made.amount;
            delete _claims[jobId][payer][task];
        } else if (_isDue(made, tally)) {
            made.state = State.Paid;
            emit Released(jobId, payer, task, made.worker, made.amount);
            _credit(job.offer.token, made.worker, made.amount);
        } else {
            revert NotDue(made.statementDigest);
        }
    }

    /// @notice After the deadline, give back what no claim holds. Anybody may; again, if a claim failed since.
    function refund(bytes32 jobId, address payer) external nonReentrant {
        Job storage job = _requireFunded(jobId, payer);
        if (block.number <= job.offer.deadline) revert TooEarly(block.number, job.offer.deadline);
        uint256 amount = job.free;
        if (amount == 0) revert NothingToRefund(jobId, payer);
        job.free = 0;
        emit Refunded(jobId, payer, amount);
        _credit(job.offer.token, payer, amount);
    }

    /// @notice A job that somebody paid in; all zero if there is none.
    function jobOf(bytes32 jobId, address payer) external view returns (Job memory) {
        return _jobs[jobId][payer];
    }

    /// @notice The claim on a task's payment.
    function claimOf(bytes32 jobId, address payer, uint64 task) external view returns (Claim memory) {
        return _claims[jobId][payer][task];
    }

    function _isDue(Claim storage made, Disputes.Tally memory tally) private view returns (bool) {
        if (certifier.isCertified(made.statementDigest)) return true;
        return block.number > made.challengeableUntil && tally.open == 0;
    }

    function _requireFunded(bytes32 jobId, address payer) private view returns (Job storage job) {
        job = _jobs[jobId][payer];
        if (job.offer.price == 0) revert NotFunded(jobId, payer);
    }

    function _requireAnchored(Job storage job, AnchorProof calldata proof, bytes32 digest)
        private
        view
        returns (uint256)
    {
        EvidenceLog.Anchor memory found = Standing.requireAnchored(log, proof, digest);
        if (found.submitter != job.coordinator) revert NotByCoordinator(proof.anchorId, found.submitter);
        return found.blockNumber;
    }

    /// @dev Tasks are the job's records, cut every `shardSize`; the last may be shorter.
    function _taskOf(Job storage job, Statement calldata s) private view returns (uint64 task) {
        if (s.recordStart >= job.recordStart && s.recordStart - job.recordStart < job.recordCount) {
            uint64 offset = s.recordStart - job.recordStart;
            uint64 left = job.recordCount - offset;
            uint64 count = left < job.shardSize ? left : job.shardSize;
            if (
                offset % job.shardSize == 0 && s.recordCount == count
                    && s.taskId == Statements.taskId(s.jobId, s.recordStart, s.recordCount)
            ) return offset / job.shardSize;
        }
        revert NotATask(s.recordStart, s.recordCount);
    }

    function _terms(JobRequest calldata r) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                r.kind,
                r.modelDigest,
                r.keyEpoch,
                Statements.hash(r.circuit),
                r.inputRoot,
                r.inputSize,
                r.policy.tier,
                Requests.hash(r.policy)
            )
        );
    }

    function _terms(Statement calldata s) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                s.kind,
                s.modelDigest,
                s.keyEpoch,
                Statements.hash(s.circuit),
                s.inputRoot,
                s.inputSize,
                s.tier,
                s.policyDigest
            )
        );
    }
}
