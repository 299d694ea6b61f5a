// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Currency} from "../src/accountability/Currency.sol";
import {Disputes} from "../src/accountability/Disputes.sol";
import {StakePool} from "../src/accountability/StakePool.sol";
import {WorkerRegistry} from "../src/accountability/WorkerRegistry.sol";
import {AccountabilityBase} from "./support/AccountabilityBase.sol";
import {FeeToken, Reentrant} from "./support/Tokens.sol";

contract WorkerRegistryTest is AccountabilityBase {
    function test_withdraw_paysAfterTheDelay() public {
        vm.startPrank(worker);
        uint64 leavesAt = uint64(block.number) + PERIOD + 1;
        vm.expectEmit();
        emit StakePool.WithdrawalRequested(worker, 500, leavesAt);
        workers.requestWithdrawal(500);
        vm.assertEq(workers.activeStake(worker), STAKE - 500, "active");
        vm.roll(leavesAt - 1);
        vm.expectRevert(abi.encodeWithSelector(StakePool.NotYet.selector, leavesAt));
        workers.withdraw();
        vm.roll(leavesAt);
        vm.assertEq(workers.withdraw(), 500, "withdrawn");
        vm.assertEq(token.balanceOf(worker), 500, "balance");
        vm.expectRevert(abi.encodeWithSelector(StakePool.NothingToWithdraw.selector, worker));
        workers.withdraw();
        vm.stopPrank();
    }

    /// @dev A second request makes the first one wait too: else a small old one would carry a large new one out.
    function test_requestWithdrawal_startsTheDelayAgain() public {
        vm.startPrank(worker);
        workers.requestWithdrawal(1);
        vm.roll(block.number + PERIOD + 1);
        workers.requestWithdrawal(STAKE - 1);
        vm.expectRevert(abi.encodeWithSelector(StakePool.NotYet.selector, block.number + PERIOD + 1));
        workers.withdraw();
        vm.stopPrank();
    }

    function test_requestWithdrawal_revertsIfMoreThanActive() public {
        vm.startPrank(worker);
        workers.requestWithdrawal(STAKE);
        vm.expectRevert(abi.encodeWithSelector(StakePool.ActiveStakeTooSmall.selector, worker, 0, 1));
        workers.requestWithdrawal(1);
        vm.expectRevert(abi.encodeWithSelector(StakePool.ZeroAmount.selector));
        workers.requestWithdrawal(0);
        vm.stopPrank();
    }

    /// @dev Stake that was active at the anchor is there until the last challenge of it is decided.
    function test_withdraw_cannotOutrunAChallenge() public {
        Call memory c = anchored(3);
        vm.prank(worker);
        workers.requestWithdrawal(STAKE);
        vm.roll(block.number + PERIOD); // the last block for a challenge
        challenge(c);
        vm.roll(block.number + 1); // the first block for the withdrawal
        vm.prank(worker);
        vm.assertEq(workers.withdraw(), STAKE - PENALTY, "locked stake left");
        vm.expectRevert(abi.encodeWithSelector(StakePool.NothingToWithdraw.selector, worker));
        vm.prank(worker);
        workers.withdraw();
        vm.roll(block.number + WINDOW);
        disputes.close(log.digestOf(c.statement), 3);
        vm.assertEq(workers.stakeOf(worker).amount, 0, "not slashed");
        vm.assertEq(workers.stakeOf(worker).leaving, 0, "leaving");
    }

    function test_withdraw_paysWhatADisputeReleased() public {
        Call memory c = anchored(1);
        challenge(c);
        vm.prank(worker);
        workers.requestWithdrawal(STAKE);
        answer(c);
        vm.roll(block.number + PERIOD + 1);
        vm.prank(worker);
        vm.assertEq(workers.withdraw(), STAKE, "withdrawn");
    }

    function test_pause_stopsDepositsOnly() public {
        vm.prank(GOVERNANCE);
        workers.pause();
        token.mint(worker, 5);
        vm.startPrank(worker);
        vm.expectRevert(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        workers.deposit(5);
        workers.requestWithdrawal(STAKE);
        vm.roll(block.number + PERIOD + 1);
        workers.withdraw();
        vm.stopPrank();
    }

    function test_slasher_isDisputesAlone() public {
        address[3] memory others = [GOVERNANCE, worker, address(this)];
        for (uint256 i = 0; i < others.length; ++i) {
            bytes memory reason = abi.encodeWithSelector(WorkerRegistry.NotDisputes.selector, others[i]);
            vm.startPrank(others[i]);
            vm.expectRevert(reason);
            workers.slash(worker, 1);
            vm.expectRevert(reason);
            workers.lock(worker, 1);
            vm.expectRevert(reason);
            workers.vindicate(worker, 0);
            vm.stopPrank();
        }
        vm.assertEq(workers.disputes(), address(disputes), "disputes");
    }

    function test_countCertified_countsEachTaskOnce() public {
        Call memory c = prepared(1);
        c.statement.recordCount = 1;
        c.statement.outputRoot = outputLeaves()[0];
        c.record.outputPath = new bytes32[](0);
        submit(c);
        bytes32 digest = log.digestOf(c.statement);
        vm.expectRevert(abi.encodeWithSelector(WorkerRegistry.NotCertified.selector, digest));
        workers.countCertified(c.statement);
        certify(c);
        vm.expectEmit();
        emit WorkerRegistry.CertifiedCounted(worker, digest, c.statement.jobId);
        workers.countCertified(c.statement);
        vm.assertEq(workers.reputationOf(worker).certified, 1, "certified");
        vm.expectRevert(abi.encodeWithSelector(WorkerRegistry.AlreadyCounted.selector, digest));
        workers.countCertified(c.statement);
    }

    function test_deposit_revertsIfTokenTakesAFee() public {
        FeeToken fee = new FeeToken();
        WorkerRegistry other = new Disputes(GOVERNANCE, fee, certifier, _terms()).workers();
        fee.mint(address(this), 100);
        fee.approve(address(other), 100);
        vm.expectRevert(abi.encodeWithSelector(Currency.TokenTookFee.selector, fee, 100, 99));
        other.deposit(100);
    }

    function test_deposit_revertsIfCoinsAreSentWithAToken() public {
        vm.deal(worker, 1);
        vm.expectRevert(abi.encodeWithSelector(Currency.WrongValue.selector, 0, 1));
        vm.prank(worker);
        workers.deposit{value: 1}(1);
    }

    function testFuzz_stake_isNeverMoreThanWasPaidInAndNeverEarly(uint128 asked, uint64 waited) public {
        asked = uint128(bound(asked, 1, STAKE));
        waited = uint64(bound(waited, 0, 2 * PERIOD));
        vm.startPrank(worker);
        workers.requestWithdrawal(asked);
        vm.roll(block.number + waited);
        if (waited <= PERIOD) vm.expectPartialRevert(StakePool.NotYet.selector);
        workers.withdraw();
        vm.stopPrank();
        vm.assertEq(token.balanceOf(worker), waited <= PERIOD ? 0 : asked, "balance");
        vm.assertEq(token.balanceOf(address(workers)), workers.stakeOf(worker).amount, "backed");
    }
}

/// @title The same in the chain's own coin.
contract NativeStakeTest is AccountabilityBase {
    function test_coins_goTheWholeWay() public {
        Disputes native = new Disputes(GOVERNANCE, IERC20(address(0)), certifier, _terms());
        native.admitCircuit(instances, proof, vka);
        WorkerRegistry stakes = native.workers();
        vm.deal(worker, STAKE);
        vm.prank(worker);
        stakes.deposit{value: STAKE}(STAKE);
        Call memory c = anchored(3);
        vm.deal(CHALLENGER, BOND);
        Disputes.InputOpening memory input = inputOf(c);
        vm.prank(CHALLENGER);
        native.challenge{value: BOND}(c.statement, c.signature, c.anchor, input);
        vm.roll(block.number + WINDOW + 1);
        native.close(log.digestOf(c.statement), 3);
        vm.prank(CHALLENGER);
        native.collect(IERC20(address(0)));
        uint256 reward = uint256(PENALTY) * REWARD_BPS / 10_000;
        vm.assertEq(CHALLENGER.balance, BOND + reward, "challenger");
        vm.assertEq(address(native).balance, PENALTY - reward, "treasury's");
        vm.assertEq(address(stakes).balance, STAKE - PENALTY, "stakes");
    }

    function test_deposit_revertsIfCoinsAreNotTheAmount() public {
        WorkerRegistry stakes = new Disputes(GOVERNANCE, IERC20(address(0)), certifier, _terms()).workers();
        vm.deal(worker, 5);
        vm.expectRevert(abi.encodeWithSelector(Currency.WrongValue.selector, 5, 4));
        vm.prank(worker);
        stakes.deposit{value: 4}(5);
    }

    function test_receive_revertsIfNotTheStakes() public {
        vm.deal(address(this), 1);
        (bool success,) = address(disputes).call{value: 1}("");
        vm.assertFalse(success, "coins were taken");
    }

    function test_withdraw_isNotEnteredTwice() public {
        WorkerRegistry stakes = new Disputes(GOVERNANCE, IERC20(address(0)), certifier, _terms()).workers();
        Reentrant thief = new Reentrant(address(stakes));
        vm.deal(address(thief), 10);
        vm.deal(address(this), 10);
        stakes.deposit{value: 10}(10); // somebody else's
        vm.startPrank(address(thief));
        stakes.deposit{value: 10}(10);
        stakes.requestWithdrawal(10);
        vm.stopPrank();
        vm.roll(block.number + PERIOD + 1);
        vm.assertTrue(thief.attack(abi.encodeWithSelector(StakePool.withdraw.selector)), "the first");
        vm.assertFalse(thief.entered(), "the second");
        vm.assertEq(address(thief).balance, 10, "balance");
    }
}
