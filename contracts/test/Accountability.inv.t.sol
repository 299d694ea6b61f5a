// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {StakePool} from "../src/accountability/StakePool.sol";
import {AccountabilityHandler} from "./support/AccountabilityHandler.sol";
import {Test} from "./support/Test.sol";

/// @title What holds after any sequence of steps.
contract AccountabilityInvariants is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    AccountabilityHandler private _handler;

    function setUp() public {
        _handler = new AccountabilityHandler();
        _handler.setUp();
    }

    function targetContracts() public view returns (address[] memory found) {
        found = new address[](1);
        found[0] = address(_handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory found) {
        bytes4[19] memory steps = [
            AccountabilityHandler.wait.selector,
            AccountabilityHandler.state.selector,
            AccountabilityHandler.revoke.selector,
            AccountabilityHandler.deposit.selector,
            AccountabilityHandler.ask.selector,
            AccountabilityHandler.withdraw.selector,
            AccountabilityHandler.dispute.selector,
            AccountabilityHandler.reply.selector,
            AccountabilityHandler.close.selector,
            AccountabilityHandler.giveWarranty.selector,
            AccountabilityHandler.endWarranty.selector,
            AccountabilityHandler.stateCommit.selector,
            AccountabilityHandler.disputeCommit.selector,
            AccountabilityHandler.replyCommit.selector,
            AccountabilityHandler.closeCommit.selector,
            AccountabilityHandler.claim.selector,
            AccountabilityHandler.settle.selector,
            AccountabilityHandler.refund.selector,
            AccountabilityHandler.collect.selector
        ];
        found = new FuzzSelector[](1);
        found[0].addr = address(_handler);
        found[0].selectors = new bytes4[](steps.length + 1);
        for (uint256 i = 0; i < steps.length; ++i) {
            found[0].selectors[i] = steps[i];
        }
        found[0].selectors[steps.length] = AccountabilityHandler.certifyRevoked.selector;
    }

    function invariant_contractsHoldWhatTheyOwe() public view {
        uint256[6] memory books = _handler.books();
        vm.assertEq(books[0], books[1], "escrow");
        vm.assertEq(books[2], books[3], "disputes");
        vm.assertEq(books[4], books[5], "stakes");
        StakePool.Stake memory stake = _handler.stake();
        vm.assertEq(stake.amount, books[5], "stake");
        vm.assertTrue(stake.locked <= stake.amount && stake.leaving <= stake.amount, "parts");
    }

    function invariant_nothingHappensThatMustNot() public view {
        vm.assertEq(bytes(_handler.broken()), "", "broken");
        vm.assertTrue(_handler.paidTasks() <= 1, "paid twice");
    }

    /// @dev As `test_steps_reachTheirEnds`, of tier `commit`.
    function test_steps_ofTierCommitReachTheirEnds() public {
        _handler.stateCommit();
        _handler.giveWarranty(0);
        _handler.wait(1);
        _handler.disputeCommit(0, 0); // before the warranty
        _handler.stateCommit();
        for (uint64 i = 0; i < 3; ++i) {
            _handler.disputeCommit(1, i);
            _handler.replyCommit(1, i);
        }
        _handler.endWarranty(0);
        _handler.wait(30);
        _handler.stateCommit();
        _handler.disputeCommit(2, 0); // after it
        _handler.closeCommit(1, 1);
        string[4] memory steps = ["warrant", "challenge commit", "answer commit", "close commit"];
        uint8[4] memory expected = [1, 2, 1, 1];
        for (uint256 i = 0; i < steps.length; ++i) {
            vm.assertEq(_handler.done(bytes32(bytes(steps[i]))), expected[i], steps[i]);
        }
        invariant_contractsHoldWhatTheyOwe();
        invariant_nothingHappensThatMustNot();
    }

    /// @dev That the steps can go through at all: the invariants would hold of a handler that does nothing.
    function test_steps_reachTheirEnds() public {
        _handler.state();
        _handler.dispute(0, 0);
        _handler.dispute(0, 2);
        _handler.reply(0, 0, true);
        _handler.reply(0, 0, false);
        _handler.reply(0, 2, false);
        _handler.wait(30);
        _handler.close(0, 2);
        _handler.state();
        _handler.claim(0);
        _handler.claim(1);
        _handler.ask(5);
        for (uint256 i = 0; i < 4; ++i) {
            _handler.wait(30);
        }
        _handler.anchorAgain(1, 0);
        _handler.dispute(1, 1);
        _handler.dismiss(1, 1);
        _handler.revoke(0);
        _handler.certifyRevoked(0);
        for (uint256 i = 0; i < 4; ++i) {
            _handler.wait(30);
        }
        _handler.settle();
        _handler.withdraw();
        for (uint8 i = 0; i < 8; ++i) {
            _handler.collect(i);
        }
        string[8] memory steps = ["challenge", "answer", "close", "claim", "paid", "withdraw", "dismiss", "collect"];
        uint8[8] memory expected = [3, 1, 1, 1, 1, 1, 1, 4];
        for (uint256 i = 0; i < steps.length; ++i) {
            vm.assertEq(_handler.done(bytes32(bytes(steps[i]))), expected[i], steps[i]);
        }
        invariant_contractsHoldWhatTheyOwe();
        invariant_nothingHappensThatMustNot();
    }
}
