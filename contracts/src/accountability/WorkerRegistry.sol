// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Certifier} from "../Certifier.sol";
import {Statement, Statements} from "../Statements.sol";
import {Currency} from "./Currency.sol";
import {Governed} from "./Governed.sol";
import {StakePool} from "./StakePool.sol";

/// @title Workers' stakes and record.
/// @notice One contract may lock and slash, the one that made this: it has no other slasher, and governance cannot name one.
contract WorkerRegistry is StakePool {
    /// @notice What the chain saw of a worker.
    /// @dev Anybody can have a model, a job and a worker: `certified` tells that proofs were right, not for whom.
    /// @param certified Tasks that the Certifier certified whole.
    /// @param vindicated Disputes won.
    /// @param faulted Disputes lost.
    struct Reputation {
        uint64 certified;
        uint64 vindicated;
        uint64 faulted;
    }

    event CertifiedCounted(address indexed worker, bytes32 indexed statementDigest, bytes32 indexed jobId);

    error NotDisputes(address caller);
    error NotCertified(bytes32 statementDigest);
    error AlreadyCounted(bytes32 statementDigest);

    /// @notice The contract that locks and slashes.
    address public immutable disputes;
    /// @notice Whose certifications count.
    Certifier public immutable certifier;

    mapping(address worker => Reputation) private _reputations;
    mapping(bytes32 statementDigest => bool) private _counted;

    modifier onlyDisputes() {
        if (msg.sender != disputes) revert NotDisputes(msg.sender);
        _;
    }

    constructor(address governance, IERC20 token_, uint64 withdrawalDelay_, Certifier certifier_)
        Governed(governance)
        StakePool(token_, withdrawalDelay_)
    {
        disputes = msg.sender;
        certifier = certifier_;
    }

    /// @notice Count a certified task for its worker, once. Anybody may.
    function countCertified(Statement calldata statement) external {
        bytes32 digest = Statements.digest(statement, certifier.log().domainSeparator());
        if (!certifier.isCertified(digest)) revert NotCertified(digest);
        if (_counted[digest]) revert AlreadyCounted(digest);
        _counted[digest] = true;
        ++_reputations[statement.worker].certified;
        emit CertifiedCounted(statement.worker, digest, statement.jobId);
    }

    /// @notice What the chain saw of a worker.
    function reputationOf(address worker) external view returns (Reputation memory) {
        return _reputations[worker];
    }

    /// @notice Lock up to `wanted` of a worker's stake for a dispute.
    /// @return amount What was locked: less if there is less.
    function lock(address worker, uint128 wanted) external onlyDisputes returns (uint128 amount) {
        return _lock(worker, wanted);
    }

    /// @notice The worker won.
    function vindicate(address worker, uint128 locked) external onlyDisputes {
        ++_reputations[worker].vindicated;
        _unlock(worker, locked);
    }

    /// @notice The worker lost. What was locked goes to the caller, which shares it out.
    function slash(address worker, uint128 locked) external nonReentrant onlyDisputes {
        ++_reputations[worker].faulted;
        _slash(worker, locked);
        if (locked != 0) Currency.give(token, msg.sender, locked);
    }
}
