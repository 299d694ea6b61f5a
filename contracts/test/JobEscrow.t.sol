// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Currency} from "../src/accountability/Currency.sol";
import {JobEscrow} from "../src/accountability/JobEscrow.sol";
import {Payments} from "../src/accountability/Payments.sol";
import {JobRequest, Requests} from "../src/accountability/Requests.sol";
import {Standing} from "../src/accountability/Standing.sol";
import {Evidence} from "../src/Evidence.sol";
import {Statements} from "../src/Statements.sol";
import {AccountabilityBase} from "./support/AccountabilityBase.sol";
import {FeeToken, HookedToken, Token} from "./support/Tokens.sol";

contract JobEscrowTest is AccountabilityBase {
    uint256 private constant _TOTAL = uint256(PRICE) * (SIZE - START);
    uint256 private constant _FIRST = uint256(PRICE) * COUNT;

    function newToken() internal override returns (Token) {
        return new HookedToken();
    }

    // --- the whole way

    function test_settle_paysOnceNobodyCanChallenge() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        vm.expectEmit();
        emit JobEscrow.Claimed(job, PAYER, 0, digest);
        _claim(c);
        vm.roll(block.number + PERIOD);
        vm.expectRevert(abi.encodeWithSelector(JobEscrow.NotDue.selector, digest));
        escrow.settle(job, PAYER, 0);
        vm.roll(block.number + 1);
        vm.expectEmit();
        emit JobEscrow.Released(job, PAYER, 0, worker, _FIRST);
        escrow.settle(job, PAYER, 0);
        vm.assertEq(escrow.owed(token, worker), _FIRST, "owed");
        vm.expectRevert(abi.encodeWithSelector(JobEscrow.NotClaimed.selector, job, PAYER, 0));
        escrow.settle(job, PAYER, 0);
        vm.prank(worker);
        escrow.collect(token);
        vm.assertEq(token.balanceOf(worker), _FIRST, "collected");
        vm.expectRevert(abi.encodeWithSelector(Payments.NothingOwed.selector, token, worker));
        vm.prank(worker);
        escrow.collect(token);
    }

    function test_settle_paysACertifiedStatementAtOnce() public {
        instances = values(1);
        Call memory c = prepared(1);
        c.statement.recordCount = 1;
        c.statement.outputRoot = outputLeaves()[0];
        c.record.outputPath = new bytes32[](0);
        JobRequest memory r = request(Statements.TIER_ZK);
        r.policy.shardSize = 1;
        c.statement.jobId = Requests.jobId(r, log.domainSeparator());
        c.statement.policyDigest = Requests.hash(r.policy);
        c.statement.taskId = Statements.taskId(c.statement.jobId, START, 1);
        vm.startPrank(COORDINATOR);
        seal(c);
        vm.stopPrank();
        vm.prank(PAYER);
        bytes32 job = escrow.fund(r, _offer());
        _claim(c);
        certify(c);
        escrow.settle(job, PAYER, 0);
        vm.assertEq(escrow.owed(token, worker), PRICE, "owed");
    }

    function test_settle_waitsForAnOpenDispute() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(1);
        _claim(c);
        vm.roll(block.number + PERIOD);
        challenge(c);
        vm.roll(block.number + 1);
        vm.expectRevert(abi.encodeWithSelector(JobEscrow.NotDue.selector, log.digestOf(c.statement)));
        escrow.settle(job, PAYER, 0);
        answer(c);
        escrow.settle(job, PAYER, 0);
        vm.assertEq(escrow.owed(token, worker), _FIRST, "owed");
    }

    function test_settle_takesAPaymentBackFromALostStatement() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(3);
        bytes32 digest = log.digestOf(c.statement);
        _claim(c);
        lose(c);
        vm.expectEmit();
        emit JobEscrow.ClaimFailed(job, PAYER, 0, digest);
        escrow.settle(job, PAYER, 0);
        vm.assertEq(escrow.jobOf(job, PAYER).free, _TOTAL, "free");
        vm.assertEq(escrow.owed(token, worker), 0, "owed");
        _expectClaim(abi.encodeWithSelector(JobEscrow.StatementFaulted.selector, digest), c);

        Call memory other = prepared(1); // another statement may claim the task
        other.statement.tier = Statements.TIER_SAMPLED;
        other.statement.nonce = keccak256("another lease");
        submit(other);
        _claim(other);
        vm.roll(block.number + PERIOD + 1);
        escrow.settle(job, PAYER, 0);
        vm.assertEq(escrow.owed(token, worker), _FIRST, "owed");
    }

    function test_refund_givesBackWhatNoClaimHolds() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(3);
        _claim(c);
        uint64 deadline = _offer().deadline;
        vm.expectRevert(abi.encodeWithSelector(JobEscrow.TooEarly.selector, block.number, deadline));
        escrow.refund(job, PAYER);
        challenge(c);
        vm.roll(deadline + 1);
        escrow.refund(job, PAYER);
        vm.assertEq(escrow.owed(token, PAYER), _TOTAL - _FIRST, "owed");
        vm.expectRevert(abi.encodeWithSelector(JobEscrow.NothingToRefund.selector, job, PAYER));
        escrow.refund(job, PAYER);
        disputes.close(log.digestOf(c.statement), 3);
        escrow.settle(job, PAYER, 0); // the claim fails after the first refund
        escrow.refund(job, PAYER);
        vm.prank(PAYER);
        escrow.collect(token);
        vm.assertEq(token.balanceOf(address(escrow)), 0, "left");
    }

    // --- 1. jobs

    function test_fund_revertsIfOfferIsBad() public {
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        JobEscrow.Offer memory offer = _offer();
        offer.price = 0;
        _expectFund(r, offer);
        offer = _offer();
        offer.deadline = uint64(block.number);
        _expectFund(r, offer);
        r.policy.shardSize = 0;
        _expectFund(r, _offer());
        r.policy.shardSize = 1;
        r.recordCount = 0;
        _expectFund(r, _offer());
        (r.recordStart, r.recordCount) = (type(uint64).max, 1);
        _expectFund(r, _offer());
    }

    function test_fund_revertsIfFundedAlready() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        vm.expectRevert(abi.encodeWithSelector(JobEscrow.AlreadyFunded.selector, job, PAYER));
        vm.prank(PAYER);
        escrow.fund(r, _offer());
    }

    /// @dev A stranger's offer is in nobody's way.
    function test_fund_takesSeveralPayers() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        provide(CHALLENGER, address(escrow), _TOTAL);
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        vm.prank(CHALLENGER);
        vm.assertEq(escrow.fund(r, _offer()), job, "job");
        Call memory c = anchored(1);
        _claim(c);
        escrow.claim(CHALLENGER, c.statement, c.signature, c.anchor);
        vm.roll(block.number + PERIOD + 1);
        escrow.settle(job, PAYER, 0);
        escrow.settle(job, CHALLENGER, 0);
        vm.assertEq(escrow.owed(token, worker), 2 * _FIRST, "owed");
    }

    function test_fund_revertsIfTokenTakesAFee() public {
        FeeToken fee = new FeeToken();
        fee.mint(PAYER, 10_000);
        JobEscrow.Offer memory offer = _offer();
        (offer.token, offer.price) = (fee, 100);
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        vm.startPrank(PAYER);
        fee.approve(address(escrow), 10_000);
        vm.expectRevert(abi.encodeWithSelector(Currency.TokenTookFee.selector, fee, 400, 396));
        escrow.fund(r, offer);
        vm.stopPrank();
    }

    function test_fund_takesCoins() public {
        JobEscrow.Offer memory offer = _offer();
        offer.token = IERC20(address(0));
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        vm.deal(PAYER, _TOTAL);
        vm.expectRevert(abi.encodeWithSelector(Currency.WrongValue.selector, _TOTAL, 1));
        vm.prank(PAYER);
        escrow.fund{value: 1}(r, offer);
        vm.prank(PAYER);
        bytes32 job = escrow.fund{value: _TOTAL}(r, offer);
        vm.roll(offer.deadline + 1);
        escrow.refund(job, PAYER);
        vm.prank(PAYER);
        escrow.collect(offer.token);
        vm.assertEq(PAYER.balance, _TOTAL, "refunded");
    }

    function test_fund_isNotEnteredByAToken() public {
        provide(address(this), address(escrow), _TOTAL);
        bytes32 job = _hookRefundOfAnother();
        JobRequest memory r = request(Statements.TIER_ZK);
        JobEscrow.Offer memory offer = _offer();
        offer.deadline = uint64(block.number) + 1;
        escrow.fund(r, offer);
        _expectNotEntered(job);
    }

    function test_pause_stopsFundingOnly() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        vm.prank(GOVERNANCE);
        escrow.pause();
        JobRequest memory r = request(Statements.TIER_ZK);
        vm.expectRevert(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        vm.prank(PAYER);
        escrow.fund(r, _offer());
        _claim(anchored(1));
        vm.roll(_offer().deadline + 1);
        escrow.settle(job, PAYER, 0);
        escrow.refund(job, PAYER);
        vm.prank(PAYER);
        escrow.collect(token);
        vm.prank(worker);
        escrow.collect(token);
        vm.assertEq(token.balanceOf(address(escrow)), 0, "left");
    }

    function test_claim_revertsIfNotFundedOrTooLate() public {
        Call memory c = anchored(1);
        _expectClaim(abi.encodeWithSelector(JobEscrow.NotFunded.selector, c.statement.jobId, PAYER), c);
        _fund(Statements.TIER_SAMPLED);
        uint64 deadline = _offer().deadline;
        vm.roll(deadline + 1);
        _expectClaim(abi.encodeWithSelector(JobEscrow.TooLate.selector, deadline + 1, deadline), c);
    }

    // --- 2, 3. statements

    function test_claim_revertsIfStatementIsOfOtherTerms() public {
        _fund(Statements.TIER_SAMPLED);
        for (uint256 i = 0; i < 8; ++i) {
            Call memory c = anchored(1);
            if (i == 0) c.statement.kind = 2;
            if (i == 1) c.statement.modelDigest = ~MODEL;
            if (i == 2) c.statement.keyEpoch = EPOCH + 1;
            if (i == 3) c.statement.circuit.vkDigest = 0;
            if (i == 4) c.statement.inputRoot = 0;
            if (i == 5) c.statement.tier = Statements.TIER_COMMIT;
            if (i == 6) c.statement.policyDigest = 0;
            if (i == 7) c.statement.version = 2;
            _expectClaim(abi.encodeWithSelector(JobEscrow.NotOfThisJob.selector, log.digestOf(c.statement)), c);
        }
    }

    function test_claim_revertsIfRangeIsNoTask() public {
        _fund(Statements.TIER_SAMPLED);
        uint64[2][6] memory ranges =
            [[uint64(1), 2], [uint64(2), 3], [uint64(4), 2], [uint64(0), 3], [uint64(5), 1], [type(uint64).max, 1]];
        for (uint256 i = 0; i < ranges.length; ++i) {
            Call memory c = anchored(1);
            (c.statement.recordStart, c.statement.recordCount) = (ranges[i][0], ranges[i][1]);
            c.statement.taskId = Statements.taskId(c.statement.jobId, ranges[i][0], ranges[i][1]);
            _expectClaim(abi.encodeWithSelector(JobEscrow.NotATask.selector, ranges[i][0], ranges[i][1]), c);
        }
    }

    // --- 4 … 9

    function test_claim_revertsIfNotSigned() public {
        _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(1);
        bytes32 digest = log.digestOf(c.statement);
        c.signature = sign(1, digest);
        _expectClaim(abi.encodeWithSelector(Evidence.WrongSigner.selector, digest, worker), c);
    }

    function test_claim_revertsIfNotAnchoredByTheCoordinator() public {
        _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(1);
        seal(c); // by somebody else
        _expectClaim(abi.encodeWithSelector(JobEscrow.NotByCoordinator.selector, 1, address(this)), c);
        c.anchor.leafIndex = 0;
        _expectClaim(abi.encodeWithSelector(Standing.NotAnchored.selector, 1, log.digestOf(c.statement)), c);
    }

    /// @dev A revoked model earns nothing new, and loses nothing of what was anchored before.
    function test_claim_asksWhetherTheModelWasActiveThen() public {
        _fund(Statements.TIER_SAMPLED);
        Call memory before = anchored(1);
        vm.roll(block.number + 1);
        registry.revoke(MODEL, EPOCH);
        Call memory later = anchored(1);
        _expectClaim(abi.encodeWithSelector(Standing.ModelNotActiveThen.selector, MODEL, EPOCH, block.number), later);
        _claim(before);
    }

    function test_claim_revertsIfStakeIsTooSmall() public {
        _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(1);
        vm.prank(worker);
        workers.requestWithdrawal(STAKE - PENALTY + 1);
        _expectClaim(abi.encodeWithSelector(JobEscrow.StakeTooSmall.selector, worker, PENALTY - 1, PENALTY), c);
    }

    function test_claim_revertsIfTaskIsTaken() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        Call memory c = anchored(1);
        _claim(c);
        bytes memory reason = abi.encodeWithSelector(JobEscrow.TaskTaken.selector, job, PAYER, 0);
        _expectClaim(reason, c);
        vm.roll(block.number + PERIOD + 1);
        escrow.settle(job, PAYER, 0);
        _expectClaim(reason, c);
    }

    function test_collect_revertsIfNothingIsOwed() public {
        vm.expectRevert(abi.encodeWithSelector(Payments.NothingOwed.selector, token, address(this)));
        escrow.collect(token);
    }

    function test_collect_isNotEnteredByAToken() public {
        bytes32 job = _fund(Statements.TIER_SAMPLED);
        _hookRefundOfAnother();
        escrow.refund(job, PAYER);
        vm.prank(PAYER);
        escrow.collect(token);
        _expectNotEntered(job);
    }

    /// @dev From now on each transfer of the token tries a refund that is due: another payer's, of the same job.
    function _hookRefundOfAnother() private returns (bytes32 job) {
        provide(CHALLENGER, address(escrow), _TOTAL);
        JobRequest memory r = request(Statements.TIER_SAMPLED);
        vm.prank(CHALLENGER);
        job = escrow.fund(r, _offer());
        vm.roll(_offer().deadline + 1);
        HookedToken(address(token)).hook(address(escrow), abi.encodeCall(JobEscrow.refund, (job, CHALLENGER)));
    }

    function _expectNotEntered(bytes32 job) private {
        vm.assertFalse(HookedToken(address(token)).entered(), "entered");
        escrow.refund(job, CHALLENGER); // which goes well from outside
    }

    function _offer() private view returns (JobEscrow.Offer memory) {
        return JobEscrow.Offer(token, PRICE, PENALTY, 2000);
    }

    function _fund(uint8 tier) private returns (bytes32) {
        JobRequest memory r = request(tier);
        vm.prank(PAYER);
        return escrow.fund(r, _offer());
    }

    function _claim(Call memory c) private {
        escrow.claim(PAYER, c.statement, c.signature, c.anchor);
    }

    function _expectClaim(bytes memory reason, Call memory c) private {
        vm.expectRevert(reason);
        _claim(c);
    }

    function _expectFund(JobRequest memory r, JobEscrow.Offer memory offer) private {
        vm.expectRevert(abi.encodeWithSelector(JobEscrow.BadOffer.selector));
        vm.prank(PAYER);
        escrow.fund(r, offer);
    }
}
