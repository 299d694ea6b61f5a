// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {Bls} from "../src/accountability/Bls.sol";
import {ValidatorQuorum} from "../src/accountability/ValidatorQuorum.sol";
import {EvidenceLog} from "../src/EvidenceLog.sol";
import {ModelRegistry} from "../src/ModelRegistry.sol";
import {Test} from "./support/Test.sol";
import {Token} from "./support/Tokens.sol";

/// @title Four validators of bls.json, with stakes of 100, 100, 100 and 200.
/// forge-config: default.evm_version = "prague"
contract ValidatorQuorumTest is Test {
    uint128 private constant _MIN_STAKE = 100;
    uint64 private constant _DELAY = 50;
    address private constant _GOVERNANCE = address(0x60E);

    string private _json;
    Token private _token;
    ValidatorQuorum private _quorum;
    bytes32 private _digest;
    uint128[4] private _stakes = [100, 100, 100, 200];

    function setUp() public {
        vm.roll(1000);
        _json = vm.readFile(string.concat(VECTORS, "bls.json"));
        vm.chainId(vm.parseJsonUint(_json, ".chainId"));
        // The log's code, at the address that the vectors were made for.
        EvidenceLog log = EvidenceLog(vm.parseJsonAddress(_json, ".verifyingContract"));
        vm.etch(address(log), address(new EvidenceLog(new ModelRegistry())).code);
        _token = new Token();
        _quorum = new ValidatorQuorum(_GOVERNANCE, _token, _DELAY, log, 6_666, _MIN_STAKE);
        _digest = vm.parseJsonBytes32(_json, ".statementDigest");
        for (uint256 i = 0; i < 4; ++i) {
            address account = _account(i);
            _token.mint(account, _stakes[i]);
            vm.startPrank(account);
            _token.approve(address(_quorum), _stakes[i]);
            _quorum.deposit(_stakes[i]);
            vm.stopPrank();
        }
    }

    // --- joining

    function test_join_takesAProofOfPossession() public {
        vm.expectEmit();
        emit ValidatorQuorum.ValidatorJoined(_account(0), 7, _key(0));
        _join(0, 7);
        vm.assertEq(_quorum.activeTotal(), 100, "total");
        vm.assertEq(_quorum.validatorAt(7).account, _account(0), "account");
        vm.assertEq(_quorum.validatorAt(7).publicKey, _key(0), "key");
    }

    /// @dev The sum of three honest keys and the rogue one is a key that the attacker holds: without proofs of possession
    /// its signature alone is everybody's.
    function test_join_revertsForARogueKey() public {
        bytes memory rogue = vm.parseJsonBytes(_json, ".rogue.publicKey");
        bytes memory sum = Bls.add(Bls.add(Bls.add(_key(0), _key(1)), _key(2)), rogue);
        bytes memory message = abi.encodePacked(_quorum.messageOf(_digest, 1));
        bytes memory signature = vm.parseJsonBytes(_json, ".rogue.aggregate");
        vm.assertTrue(Bls.verify(sum, message, signature, Bls.SIGNATURE_DST), "no attack");

        bytes memory possession = vm.parseJsonBytes(_json, ".rogue.possession");
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.NoPossession.selector, _account(3)));
        vm.prank(_account(3));
        _quorum.join(3, rogue, possession);
    }

    /// @dev Copied out of a pending transaction.
    function test_join_revertsForAnothersProof() public {
        (bytes memory key, bytes memory possession) = (_key(0), _possession(0));
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.NoPossession.selector, _account(1)));
        vm.prank(_account(1));
        _quorum.join(0, key, possession);
    }

    function test_join_revertsIfKeyIsOutsideTheSubgroup() public {
        bytes memory outside = vm.parseJsonBytes(_json, ".wrongSubgroup.publicKey");
        bytes memory possession = _possession(0);
        vm.expectRevert(abi.encodeWithSelector(Bls.PrecompileFailed.selector, 0x0f));
        vm.prank(_account(0));
        _quorum.join(0, outside, possession);
    }

    function test_join_revertsIfKeyIsInfinity() public {
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.NoPossession.selector, _account(0)));
        vm.prank(_account(0));
        _quorum.join(0, new bytes(128), new bytes(256));
    }

    function test_join_revertsIfJoinedTakenOrPoor() public {
        _join(0, 0);
        (bytes memory key, bytes memory possession) = (_key(0), _possession(0));
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.AlreadyJoined.selector, _account(0)));
        vm.prank(_account(0));
        _quorum.join(1, key, possession);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.SlotTaken.selector, 0));
        vm.prank(_account(1));
        _quorum.join(0, key, possession);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.KeyInUse.selector, keccak256(key)));
        vm.prank(_account(1));
        _quorum.join(1, key, possession);
        vm.startPrank(_account(1));
        _quorum.requestWithdrawal(1);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.StakeTooSmall.selector, 99, _MIN_STAKE));
        _quorum.join(1, key, possession);
        vm.stopPrank();
    }

    function test_pause_stopsJoiningOnly() public {
        _join(0, 0);
        vm.prank(_GOVERNANCE);
        _quorum.pause();
        (bytes memory key, bytes memory possession) = (_key(1), _possession(1));
        vm.expectRevert(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        vm.prank(_account(1));
        _quorum.join(1, key, possession);
        _quorum.record(_digest, 1, 1, _signature(0, 0));
    }

    // --- verdicts

    function test_record_takesMoreThanTheThreshold() public {
        _joinAll(); // 500 in all; more than 66.66 % of it are 334
        bytes memory three = vm.parseJsonBytes(_json, ".verdicts[0].firstThree");
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.NoQuorum.selector, 300, 500));
        _quorum.record(_digest, 1, 0x7, three);
        vm.prank(_account(3));
        _quorum.requestWithdrawal(100); // what leaves does not count
        vm.expectEmit();
        emit ValidatorQuorum.VerdictRecorded(_digest, 1, 0x7, 300, 400);
        _quorum.record(_digest, 1, 0x7, three);
        vm.assertEq(_quorum.verdictOf(_digest), 1, "verdict");
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.AlreadyRecorded.selector, _digest));
        _quorum.record(_digest, 1, 0x7, three);
    }

    function test_record_revertsIfSignersAreOthers() public {
        _joinAll();
        bytes memory three = vm.parseJsonBytes(_json, ".verdicts[0].firstThree");
        bytes memory reason = abi.encodeWithSelector(ValidatorQuorum.WrongSignature.selector, _digest, 1);
        vm.expectRevert(reason);
        _quorum.record(_digest, 1, 0xf, three);
        vm.expectRevert(reason);
        _quorum.record(_digest, 1, 0xd, three);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.WrongSignature.selector, ~_digest, 1));
        _quorum.record(~_digest, 1, 0xf, three);
    }

    function test_record_revertsIfVerdictIsAnother() public {
        _joinAll();
        vm.prank(_account(3));
        _quorum.requestWithdrawal(100);
        bytes memory three = vm.parseJsonBytes(_json, ".verdicts[0].firstThree");
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.WrongSignature.selector, _digest, 2));
        _quorum.record(_digest, 2, 0x7, three);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.UnknownVerdict.selector, 3));
        _quorum.record(_digest, 3, 0x7, three);
    }

    function test_record_revertsIfSignatureIsOutsideTheSubgroup() public {
        _join(0, 0);
        bytes memory outside = vm.parseJsonBytes(_json, ".wrongSubgroup.signature");
        vm.expectRevert(abi.encodeWithSelector(Bls.PrecompileFailed.selector, 0x0f));
        _quorum.record(_digest, 1, 1, outside);
    }

    function test_record_revertsIfNobodySigned() public {
        bytes memory zero = new bytes(256);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.NoQuorum.selector, 0, 0));
        _quorum.record(_digest, 1, 0, zero);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.EmptySlot.selector, 255));
        _quorum.record(_digest, 1, 1 << 255, zero);
    }

    // --- leaving, and signing both verdicts

    function test_evict_freesASlotOnceTheStakeIsGone() public {
        _join(0, 0);
        vm.prank(_account(0));
        _quorum.requestWithdrawal(100);
        vm.assertEq(_quorum.activeTotal(), 0, "total");
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.StillStaked.selector, _account(0)));
        _quorum.evict(0);
        vm.roll(block.number + _DELAY);
        vm.prank(_account(0));
        _quorum.withdraw();
        vm.expectEmit();
        emit ValidatorQuorum.ValidatorLeft(_account(0), 0);
        _quorum.evict(0);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.EmptySlot.selector, 0));
        _quorum.evict(0);
        _join(1, 0);
        vm.assertEq(_quorum.activeTotal(), 100, "total");
    }

    function test_reportEquivocation_takesTheStake() public {
        _joinAll();
        vm.prank(_account(3));
        _quorum.requestWithdrawal(200); // on its way out
        vm.expectEmit();
        emit ValidatorQuorum.Equivocated(_account(3), _digest, address(this));
        _quorum.reportEquivocation(3, _digest, _signature(0, 3), _signature(1, 3));
        vm.assertEq(_quorum.stakeOf(_account(3)).amount, 0, "stake");
        vm.assertEq(_quorum.owed(_token, address(this)), 100, "reporter");
        vm.assertEq(_quorum.owed(_token, _GOVERNANCE), 100, "governance");
        vm.assertEq(_quorum.activeTotal(), 300, "total");
        _quorum.collect(_token);
        vm.assertEq(_token.balanceOf(address(this)), 100, "collected");
        _quorum.evict(3);
    }

    function test_reportEquivocation_revertsIfItSignedOne() public {
        _joinAll();
        bytes memory valid = _signature(0, 0);
        bytes memory anothers = _signature(1, 1);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.WrongSignature.selector, _digest, 2));
        _quorum.reportEquivocation(0, _digest, valid, valid);
        vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.WrongSignature.selector, _digest, 2));
        _quorum.reportEquivocation(0, _digest, valid, anothers);
        vm.assertEq(_quorum.stakeOf(_account(0)).amount, 100, "stake");
    }

    function test_constructor_revertsIfThresholdIsBad() public {
        uint16[2] memory bad = [uint16(4_999), 10_000];
        EvidenceLog log = _quorum.log();
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ValidatorQuorum.BadThreshold.selector, bad[i]));
            new ValidatorQuorum(_GOVERNANCE, _token, _DELAY, log, bad[i], 1);
        }
    }

    function testFuzz_activeTotal_isTheSumOfTheActiveStakes(uint128[8] memory amounts, uint8 joined) public {
        for (uint256 i = 0; i < 4; ++i) {
            if (joined >> i & 1 == 1) _join(i, uint8(i));
        }
        for (uint256 i = 0; i < amounts.length; ++i) {
            address account = _account(i % 4);
            vm.startPrank(account);
            uint128 amount = uint128(bound(amounts[i], 1, 60));
            if (amounts[i] % 2 == 0) {
                _token.mint(account, amount);
                _token.approve(address(_quorum), amount);
                _quorum.deposit(amount);
            } else if (amount <= _quorum.activeStake(account)) {
                _quorum.requestWithdrawal(amount);
            }
            vm.stopPrank();
        }
        uint256 sum = 0;
        for (uint256 i = 0; i < 4; ++i) {
            if (joined >> i & 1 == 1) sum += _quorum.activeStake(_account(i));
        }
        vm.assertEq(_quorum.activeTotal(), sum, "total");
    }

    /// @dev Kept in contracts/snapshots/accountability.json.
    /// forge-config: default.isolate = true
    function test_gas_ofAVerdict() public {
        _join(0, 0);
        vm.snapshotGasLastCall("accountability", "ValidatorQuorum.join");
        bytes memory alone = _signature(0, 0);
        _quorum.record(_digest, 1, 0x1, alone);
        vm.snapshotGasLastCall("accountability", "ValidatorQuorum.record (1 signer)");
    }

    /// forge-config: default.isolate = true
    function test_gas_ofAVerdictOfThree() public {
        for (uint256 i = 0; i < 3; ++i) {
            _join(i, uint8(i));
        }
        bytes memory three = vm.parseJsonBytes(_json, ".verdicts[0].firstThree");
        _quorum.record(_digest, 1, 0x7, three);
        vm.snapshotGasLastCall("accountability", "ValidatorQuorum.record (3 signers)");
    }

    function _joinAll() private {
        for (uint256 i = 0; i < 4; ++i) {
            _join(i, uint8(i));
        }
    }

    function _join(uint256 i, uint8 slot) private {
        (bytes memory key, bytes memory possession) = (_key(i), _possession(i));
        vm.prank(_account(i));
        _quorum.join(slot, key, possession);
    }

    function _account(uint256 i) private view returns (address) {
        return vm.parseJsonAddress(_json, item(".validators", i, ".account"));
    }

    function _key(uint256 i) private view returns (bytes memory) {
        return vm.parseJsonBytes(_json, item(".validators", i, ".publicKey"));
    }

    function _possession(uint256 i) private view returns (bytes memory) {
        return vm.parseJsonBytes(_json, item(".validators", i, ".possession"));
    }

    function _signature(uint256 verdict, uint256 i) private view returns (bytes memory) {
        return vm.parseJsonBytes(_json, item(item(".verdicts", verdict, ".signatures"), i, ""));
    }
}
