// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ModelRegistry} from "../src/ModelRegistry.sol";
import {Circuit, Statements} from "../src/Statements.sol";
import {Test} from "./support/Test.sol";

contract ModelRegistryTest is Test {
    address private constant _OWNER = address(0xA11CE);
    address private constant _OTHER = address(0xB0B);
    bytes32 private constant _MODEL = keccak256("model");

    ModelRegistry private _registry;

    function setUp() public {
        _registry = new ModelRegistry();
        vm.roll(100);
    }

    function test_register_storesTheRegistration() public {
        Circuit memory circuit = _circuit();
        bytes32 circuitHash = Statements.hash(circuit);
        vm.expectEmit();
        emit ModelRegistry.ModelRegistered(_MODEL, 3, _OWNER, circuitHash, circuit.vkaDigest, circuit.srsDigest);
        vm.prank(_OWNER);
        _registry.register(_MODEL, 3, circuit);

        ModelRegistry.Registration memory entry = _registry.get(_MODEL, 3);
        vm.assertEq(entry.registrant, _OWNER, "registrant");
        vm.assertEq(entry.registeredAt, 100, "registeredAt");
        vm.assertEq(entry.revokedAt, 0, "revokedAt");
        vm.assertEq(entry.circuitHash, circuitHash, "circuitHash");
        vm.assertEq(entry.vkaDigest, circuit.vkaDigest, "vkaDigest");
        vm.assertEq(entry.srsDigest, circuit.srsDigest, "srsDigest");
        vm.assertTrue(_registry.isActive(_MODEL, 3), "active");
        vm.assertEq(_registry.ownerOf(_MODEL), _OWNER, "ownerOf");
    }

    function test_register_takesAModelWithoutCircuit() public {
        Circuit memory none;
        _registry.register(_MODEL, 1, none);
        vm.assertEq(_registry.get(_MODEL, 1).circuitHash, Statements.hash(none), "circuitHash");
    }

    function test_register_takesALaterEpochOfTheSameOwner() public {
        vm.prank(_OWNER);
        _registry.register(_MODEL, 1, _circuit());
        vm.prank(_OWNER);
        _registry.register(_MODEL, 2, _circuit());
        vm.assertTrue(_registry.isActive(_MODEL, 1) && _registry.isActive(_MODEL, 2), "both active");
    }

    function test_register_revertsIfModelDigestIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.ZeroModelDigest.selector));
        _registry.register(0, 1, _circuit());
    }

    function test_register_revertsIfKeyEpochIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.ZeroKeyEpoch.selector));
        _registry.register(_MODEL, 0, _circuit());
    }

    function test_register_revertsIfAlreadyRegistered() public {
        _registry.register(_MODEL, 1, _circuit());
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.AlreadyRegistered.selector, _MODEL, 1));
        _registry.register(_MODEL, 1, _circuit());
    }

    function test_register_revertsIfModelBelongsToAnother() public {
        vm.prank(_OWNER);
        _registry.register(_MODEL, 1, _circuit());
        for (uint64 epoch = 1; epoch <= 2; ++epoch) {
            vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, _OWNER));
            vm.prank(_OTHER);
            _registry.register(_MODEL, epoch, _circuit());
        }
    }

    function test_register_revertsIfCircuitIsInconsistent() public {
        Circuit memory hidden; // fields set, but visibility none
        hidden.outputScale = 1;
        Circuit memory unknown = _circuit();
        unknown.visibility = 3;
        Circuit memory noInput = _circuit();
        noInput.inputLength = 0;
        Circuit memory noOutput = _circuit();
        noOutput.outputLength = 0;
        Circuit[4] memory bad = [hidden, unknown, noInput, noOutput];
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ModelRegistry.InconsistentCircuit.selector));
            _registry.register(_MODEL, 1, bad[i]);
        }
    }

    function test_register_takesHashedInputs() public {
        Circuit memory hashed = _circuit();
        hashed.visibility = Statements.VISIBILITY_HASHED;
        vm.prank(_OWNER);
        _registry.register(_MODEL, 1, hashed);
        vm.assertEq(_registry.get(_MODEL, 1).circuitHash, Statements.hash(hashed), "circuitHash");
    }

    function test_revoke_endsTheEpochOnly() public {
        vm.prank(_OWNER);
        _registry.register(_MODEL, 1, _circuit());
        vm.prank(_OWNER);
        _registry.register(_MODEL, 2, _circuit());
        vm.roll(120);
        vm.expectEmit();
        emit ModelRegistry.ModelRevoked(_MODEL, 1, _OWNER);
        vm.prank(_OWNER);
        _registry.revoke(_MODEL, 1);
        vm.assertFalse(_registry.isActive(_MODEL, 1), "still active");
        vm.assertTrue(_registry.isActive(_MODEL, 2), "the other epoch fell too");
        vm.assertEq(_registry.get(_MODEL, 1).revokedAt, 120, "revokedAt");
    }

    function test_register_revertsIfEpochWasRevoked() public {
        _registry.register(_MODEL, 1, _circuit());
        _registry.revoke(_MODEL, 1);
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.AlreadyRegistered.selector, _MODEL, 1));
        _registry.register(_MODEL, 1, _circuit());
    }

    function test_revoke_revertsIfNotRegistered() public {
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotRegistered.selector, _MODEL, 1));
        _registry.revoke(_MODEL, 1);
    }

    function test_revoke_revertsIfCallerIsNotTheOwner() public {
        vm.prank(_OWNER);
        _registry.register(_MODEL, 1, _circuit());
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, _OWNER));
        vm.prank(_OTHER);
        _registry.revoke(_MODEL, 1);
    }

    function test_revoke_revertsIfAlreadyRevoked() public {
        _registry.register(_MODEL, 1, _circuit());
        _registry.revoke(_MODEL, 1);
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.AlreadyRevoked.selector, _MODEL, 1));
        _registry.revoke(_MODEL, 1);
    }

    function test_proposeOwner_changesNothingYet() public {
        _handOver(false);
        vm.assertEq(_registry.ownerOf(_MODEL), _OWNER, "ownerOf");
        vm.assertEq(_registry.proposedOwnerOf(_MODEL), _OTHER, "proposed");
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, _OWNER));
        vm.prank(_OTHER);
        _registry.revoke(_MODEL, 1);
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, _OWNER));
        vm.prank(_OTHER);
        _registry.register(_MODEL, 2, _circuit());
    }

    function test_proposeOwner_revertsIfCallerIsNotTheOwner() public {
        _handOver(true);
        address[2] memory others = [_OWNER, address(this)]; // the former owner is a stranger too
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, _OTHER));
            vm.prank(others[i]);
            _registry.proposeOwner(_MODEL, others[i]);
        }
    }

    function test_proposeOwner_revertsIfModelIsFree() public {
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, address(0)));
        _registry.proposeOwner(_MODEL, _OTHER);
    }

    function test_proposeOwner_revertsIfProposedIsNobodyElse() public {
        _registerAs(_OWNER, 1);
        address[2] memory bad = [address(0), _OWNER];
        for (uint256 i = 0; i < bad.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ModelRegistry.BadProposal.selector, _MODEL, bad[i]));
            vm.prank(_OWNER);
            _registry.proposeOwner(_MODEL, bad[i]);
        }
    }

    function test_proposeOwner_replacesWhomWasProposedBefore() public {
        _handOver(false);
        vm.prank(_OWNER);
        _registry.proposeOwner(_MODEL, address(this));
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotProposed.selector, _MODEL, address(this)));
        vm.prank(_OTHER);
        _registry.acceptOwnership(_MODEL);
    }

    function test_withdrawProposal_leavesNothingToAccept() public {
        _handOver(false);
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, _OWNER));
        vm.prank(_OTHER);
        _registry.withdrawProposal(_MODEL);

        vm.expectEmit();
        emit ModelRegistry.ProposalWithdrawn(_MODEL, _OWNER, _OTHER);
        vm.prank(_OWNER);
        _registry.withdrawProposal(_MODEL);
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotProposed.selector, _MODEL, address(0)));
        vm.prank(_OTHER);
        _registry.acceptOwnership(_MODEL);
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NothingProposed.selector, _MODEL));
        vm.prank(_OWNER);
        _registry.withdrawProposal(_MODEL);
    }

    function test_acceptOwnership_handsAllEpochsOver() public {
        _registerAs(_OWNER, 2);
        _handOver(true);
        vm.assertEq(_registry.ownerOf(_MODEL), _OTHER, "ownerOf");
        vm.assertEq(_registry.proposedOwnerOf(_MODEL), address(0), "proposed");
        for (uint64 epoch = 1; epoch <= 2; ++epoch) {
            vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotModelOwner.selector, _MODEL, _OTHER));
            vm.prank(_OWNER);
            _registry.revoke(_MODEL, epoch);
            vm.prank(_OTHER);
            _registry.revoke(_MODEL, epoch);
            vm.assertEq(_registry.get(_MODEL, epoch).registrant, _OWNER, "whose word an epoch was stays");
        }
        _registerAs(_OTHER, 3);
        vm.assertEq(_registry.get(_MODEL, 3).registrant, _OTHER, "registrant");
    }

    function test_acceptOwnership_revertsIfAcceptedBefore() public {
        _handOver(true);
        vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotProposed.selector, _MODEL, address(0)));
        vm.prank(_OTHER);
        _registry.acceptOwnership(_MODEL);
    }

    function test_acceptOwnership_isOfOneModel() public {
        bytes32 another = keccak256("another");
        vm.prank(_OWNER);
        _registry.register(another, 1, _circuit());
        _handOver(true);
        vm.assertEq(_registry.ownerOf(another), _OWNER, "ownerOf");
    }

    function test_ownerAt_answersForEveryBlock() public {
        _registerAs(_OWNER, 1); // in block 100
        vm.roll(110);
        _handOver(true);
        vm.roll(120);
        vm.prank(_OTHER);
        _registry.proposeOwner(_MODEL, _OWNER);
        vm.prank(_OWNER);
        _registry.acceptOwnership(_MODEL);
        vm.roll(130);
        uint8[6] memory blocks = [99, 100, 109, 110, 119, 120];
        address[6] memory owners = [address(0), _OWNER, _OWNER, _OTHER, _OTHER, _OWNER];
        for (uint256 i = 0; i < blocks.length; ++i) {
            vm.assertEq(_registry.ownerAt(_MODEL, blocks[i]), owners[i], "ownerAt");
        }
        vm.assertEq(_registry.ownerAt(_MODEL, 130), _OWNER, "now");
    }

    function test_ownerAt_revertsIfBlockIsInTheFuture() public {
        uint256[2] memory blocks = [uint256(101), uint256(1) << 96 | 100]; // the second one would be 100, cut
        for (uint256 i = 0; i < blocks.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ModelRegistry.FutureBlock.selector, blocks[i]));
            _registry.ownerAt(_MODEL, blocks[i]);
        }
    }

    function testFuzz_acceptOwnership_takesNobodyElse(address proposed, address caller) public {
        _registerAs(_OWNER, 1);
        if (proposed == address(0) || proposed == _OWNER) proposed = _OTHER;
        vm.prank(_OWNER);
        _registry.proposeOwner(_MODEL, proposed);
        if (caller != proposed) {
            vm.expectRevert(abi.encodeWithSelector(ModelRegistry.NotProposed.selector, _MODEL, proposed));
        }
        vm.prank(caller);
        _registry.acceptOwnership(_MODEL);
        vm.assertEq(_registry.ownerOf(_MODEL), caller == proposed ? proposed : _OWNER, "ownerOf");
    }

    function testFuzz_isActive_falseIfUnknown(bytes32 model, uint64 epoch) public view {
        vm.assertFalse(_registry.isActive(model, epoch), "active");
        vm.assertEq(_registry.get(model, epoch).registrant, address(0), "registrant");
    }

    function _registerAs(address owner, uint64 epoch) private {
        vm.prank(owner);
        _registry.register(_MODEL, epoch, _circuit());
    }

    /// @dev The model is proposed to _OTHER, which accepts, or does not yet.
    function _handOver(bool accepted) private {
        if (!_registry.isActive(_MODEL, 1)) _registerAs(_OWNER, 1);
        vm.expectEmit();
        emit ModelRegistry.OwnerProposed(_MODEL, _OWNER, _OTHER);
        vm.prank(_OWNER);
        _registry.proposeOwner(_MODEL, _OTHER);
        if (!accepted) return;
        vm.expectEmit();
        emit ModelRegistry.OwnershipTransferred(_MODEL, _OWNER, _OTHER);
        vm.prank(_OTHER);
        _registry.acceptOwnership(_MODEL);
    }

    function _circuit() private pure returns (Circuit memory) {
        return Circuit({
            vkDigest: keccak256("vk"),
            vkaDigest: keccak256("vka"),
            srsDigest: keccak256("srs"),
            settingsDigest: keccak256("settings"),
            visibility: 1,
            inputScale: 7,
            outputScale: 7,
            inputLength: 30,
            outputLength: 2
        });
    }
}
