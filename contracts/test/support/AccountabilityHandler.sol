// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Disputes} from "../../src/accountability/Disputes.sol";
import {JobEscrow} from "../../src/accountability/JobEscrow.sol";
import {JobRequest} from "../../src/accountability/Requests.sol";
import {StakePool} from "../../src/accountability/StakePool.sol";
import {AnchorProof} from "../../src/Evidence.sol";
import {Merkle} from "../../src/Merkle.sol";
import {Statements} from "../../src/Statements.sol";
import {CommitBase} from "./CommitBase.sol";

/// @title What the fuzzer does: a worker's statements of two tiers, its warranty, a challenger, a payer, the model's owner and the clock.
/// @notice Every step may fail. What must hold is counted beside the contracts.
contract AccountabilityHandler is CommitBase {
    uint256 private constant _STATEMENTS = 5;

    Call[] private _calls;
    uint256[] private _anchoredAt;
    AnchorProof[] private _first;
    CommitCall[] private _commits;
    uint256[] private _commitAnchoredAt;
    uint256 private _warrantedFrom;
    uint256 private _warrantedUntil;
    uint256 private _revokedAt;
    uint256 private _askedAt;

    bytes32 public job;
    /// @notice Bonds of the disputes that are open.
    uint256 public openBonds;
    /// @notice What the disputes that were lost had locked.
    uint256 public faultedLocks;
    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public paidTasks;
    /// @notice Something that must not happen did.
    string public broken;
    /// @notice How often each kind of step went through.
    mapping(bytes32 step => uint256) public done;

    function setUp() public override {
        super.setUp();
        deposited = STAKE;
        beside[1] = 99; // the commit statements' record 2 is false
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        JobEscrow.Offer memory offer = JobEscrow.Offer(token, PRICE, 0, uint64(block.number) + 5 * PERIOD);
        vm.prank(PAYER);
        job = escrow.fund(r, offer);
    }

    function wait(uint64 blocks) external {
        vm.roll(block.number + bound(blocks, 1, WINDOW + 1));
        done["wait"]++;
    }

    function state() external {
        if (_calls.length == _STATEMENTS) return;
        Call memory c = prepared(1);
        c.statement.tier = Statements.TIER_SAMPLED;
        c.statement.nonce = bytes32(_calls.length);
        submit(c);
        _calls.push(c);
        _anchoredAt.push(block.number);
        _first.push(c.anchor);
    }

    /// @dev Anybody can, at any time: from then on challenges show the new anchor.
    function anchorAgain(uint256 which, uint8 chance) external {
        if (_calls.length == 0 || chance > 40) return;
        which %= _calls.length;
        bytes32 root = Merkle.leafHash(abi.encodePacked(log.digestOf(_calls[which].statement)));
        _calls[which].anchor = AnchorProof(log.anchor(root, 1), 0, new bytes32[](0));
    }

    function revoke(uint8 chance) external {
        if (_revokedAt != 0 || chance > 40) return;
        registry.revoke(MODEL, EPOCH);
        _revokedAt = block.number;
    }

    function deposit(uint128 amount) external {
        amount = uint128(bound(amount, 1, STAKE));
        provide(worker, address(workers), amount);
        vm.prank(worker);
        workers.deposit(amount);
        deposited += amount;
    }

    function ask(uint128 amount) external {
        vm.prank(worker);
        try workers.requestWithdrawal(uint128(bound(amount, 1, STAKE))) {
            _askedAt = block.number;
        } catch {}
    }

    function withdraw() external {
        vm.prank(worker);
        try workers.withdraw() returns (uint128 amount) {
            withdrawn += amount;
            done["withdraw"]++;
            if (block.number <= _askedAt + PERIOD) broken = "stake left early";
        } catch {}
    }

    function dispute(uint256 which, uint64 record) external {
        if (_calls.length == 0) return;
        (Call memory c, uint256 anchoredAt) = _of(which, record);
        Disputes.InputOpening memory input = inputOf(c);
        vm.prank(CHALLENGER);
        try disputes.challenge(c.statement, c.signature, c.anchor, input) {
            openBonds += BOND;
            done["challenge"]++;
            if (_revokedAt != 0 && anchoredAt >= _revokedAt) broken = "a revoked model was disputed";
        } catch {}
    }

    /// @dev Record 3 has no right answer, and half of the others are spoilt.
    function reply(uint256 which, uint64 record, bool spoilt) external {
        if (_calls.length == 0) return;
        (Call memory c,) = _of(which, record);
        if (spoilt) c.record.proof[9] ^= 0x04;
        try disputes.answer(c.statement, c.record, c.vka) {
            openBonds -= BOND;
            done["answer"]++;
            if (spoilt || c.record.recordIndex == 3) broken = "a wrong answer was taken";
        } catch {}
    }

    function dismiss(uint256 which, uint64 record) external {
        if (_calls.length == 0) return;
        (Call memory c, uint256 anchoredAt) = _of(which, record);
        bytes32 digest = log.digestOf(c.statement);
        Disputes.Dispute memory was = disputes.disputeOf(digest, c.record.recordIndex);
        try disputes.dismiss(digest, c.record.recordIndex, _first[which % _calls.length]) {
            openBonds -= BOND;
            done["dismiss"]++;
            if (was.answerUntil - WINDOW <= anchoredAt + PERIOD) broken = "a dispute in time was dismissed";
        } catch {}
    }

    function close(uint256 which, uint64 record) external {
        if (_calls.length == 0) return;
        (Call memory c,) = _of(which, record);
        bytes32 digest = log.digestOf(c.statement);
        Disputes.Dispute memory was = disputes.disputeOf(digest, c.record.recordIndex);
        try disputes.close(digest, c.record.recordIndex) {
            openBonds -= BOND;
            faultedLocks += was.locked;
            done["close"]++;
            if (was.state != Disputes.State.Open || block.number <= was.answerUntil) broken = "slashed without fault";
        } catch {}
    }

    function giveWarranty(uint8 chance) external {
        if (chance > 120) return;
        vm.prank(worker);
        try disputes.warrant(MODEL, Statements.hash(circuit), TOLERANCE) {
            _warrantedFrom = block.number + 1;
            done["warrant"]++;
        } catch {}
    }

    function endWarranty(uint8 chance) external {
        if (chance > 20) return;
        vm.prank(worker);
        try disputes.endWarranty(MODEL, Statements.hash(circuit)) {
            _warrantedUntil = block.number;
        } catch {}
    }

    function stateCommit() external {
        if (_commits.length == _STATEMENTS) return;
        CommitCall memory c = stated(1);
        c.statement.nonce = bytes32(_commits.length);
        seal(c);
        _commits.push();
        CommitCall storage kept = _commits[_commits.length - 1];
        (kept.statement, kept.signature, kept.anchor) = (c.statement, c.signature, c.anchor);
        _commitAnchoredAt.push(block.number);
    }

    /// @dev Of record 3 there is no proof.
    function disputeCommit(uint256 which, uint64 record) external {
        if (_commits.length == 0) return;
        CommitCall memory c = _commitOf(which, record);
        vm.prank(CHALLENGER);
        try disputes.challengeCommit(c.statement, c.signature, c.anchor, c.record) {
            openBonds += BOND;
            done["challenge commit"]++;
            uint256 anchoredAt = _commitAnchoredAt[which % _commits.length];
            bool covered = _warrantedFrom != 0 && anchoredAt >= _warrantedFrom
                && (_warrantedUntil == 0 || anchoredAt <= _warrantedUntil);
            if (!covered || c.record.recordIndex == 3) broken = "disputed without a warranty or a proof";
            if (_revokedAt != 0 && anchoredAt >= _revokedAt) broken = "a revoked model was disputed";
        } catch {}
    }

    function replyCommit(uint256 which, uint64 record) external {
        if (_commits.length == 0) return;
        CommitCall memory c = _commitOf(which, record);
        try disputes.answerCommit(c.statement, c.record.recordIndex, c.proven, c.outputs, c.outputPath) {
            openBonds -= BOND;
            done["answer commit"]++;
            if (c.record.recordIndex != 1) broken = "an output outside the tolerance was taken";
        } catch {}
    }

    function closeCommit(uint256 which, uint64 record) external {
        if (_commits.length == 0) return;
        CommitCall memory c = _commitOf(which, record);
        bytes32 digest = log.digestOf(c.statement);
        Disputes.Dispute memory was = disputes.disputeOf(digest, c.record.recordIndex);
        try disputes.close(digest, c.record.recordIndex) {
            openBonds -= BOND;
            faultedLocks += was.locked;
            done["close commit"]++;
            if (was.state != Disputes.State.Open || block.number <= was.answerUntil) broken = "slashed without fault";
        } catch {}
    }

    function claim(uint256 which) external {
        if (_calls.length == 0) return;
        (Call memory c, uint256 anchoredAt) = _of(which, 1);
        try escrow.claim(PAYER, c.statement, c.signature, c.anchor) {
            done["claim"]++;
            if (_revokedAt != 0 && anchoredAt >= _revokedAt) broken = "a revoked model earned something new";
        } catch {}
    }

    function settle() external {
        uint256 before = escrow.owed(token, worker);
        bytes32 digest = escrow.claimOf(job, PAYER, 0).statementDigest;
        try escrow.settle(job, PAYER, 0) {
            if (escrow.owed(token, worker) == before) return;
            ++paidTasks;
            done["paid"]++;
            if (disputes.tallyOf(digest).faulted != 0) broken = "a lost statement was paid";
        } catch {}
    }

    function refund() external {
        try escrow.refund(job, PAYER) {} catch {}
    }

    function collect(uint8 who) external {
        address[4] memory all = [worker, CHALLENGER, PAYER, TREASURY];
        vm.prank(all[who % 4]);
        try escrow.collect(token) {
            done["collect"]++;
        } catch {}
        vm.prank(all[who % 4]);
        try disputes.collect(token) {
            done["collect"]++;
        } catch {}
    }

    function certifyRevoked(uint256 which) external {
        if (_calls.length == 0 || _revokedAt == 0) return;
        (Call memory c,) = _of(which, 1);
        c.statement.tier = Statements.TIER_ZK;
        submit(c);
        try certifier.certifyRecord(c.statement, c.signature, c.anchor, c.record, c.vka) {
            broken = "a revoked model certified something new";
        } catch {}
    }

    /// @notice What a contract holds less what it owes; both sides of the books.
    function books() external view returns (uint256[6] memory found) {
        address[4] memory all = [worker, CHALLENGER, PAYER, TREASURY];
        found[0] = token.balanceOf(address(escrow));
        JobEscrow.Claim memory made = escrow.claimOf(job, PAYER, 0);
        found[1] = escrow.jobOf(job, PAYER).free + (made.state == JobEscrow.State.Claimed ? made.amount : 0);
        found[2] = token.balanceOf(address(disputes));
        found[3] = openBonds;
        for (uint256 i = 0; i < all.length; ++i) {
            found[1] += escrow.owed(token, all[i]);
            found[3] += disputes.owed(token, all[i]);
        }
        found[4] = token.balanceOf(address(workers));
        found[5] = deposited - withdrawn - faultedLocks;
    }

    function stake() external view returns (StakePool.Stake memory) {
        return workers.stakeOf(worker);
    }

    function _commitOf(uint256 which, uint64 record) private view returns (CommitCall memory c) {
        CommitCall storage kept = _commits[which % _commits.length];
        (c.statement, c.signature, c.anchor) = (kept.statement, kept.signature, kept.anchor);
        about(c, START + record % COUNT);
    }

    function _of(uint256 which, uint64 record) private view returns (Call memory c, uint256 anchoredAt) {
        which %= _calls.length;
        c = prepared(START + record % COUNT);
        (c.statement, c.signature, c.anchor) = (_calls[which].statement, _calls[which].signature, _calls[which].anchor);
        anchoredAt = _anchoredAt[which];
    }
}
