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
        vm.assertEq(entry.owner, _OWNER, "owner");
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

    function testFuzz_isActive_falseIfUnknown(bytes32 model, uint64 epoch) public view {
        vm.assertFalse(_registry.isActive(model, epoch), "active");
        vm.assertEq(_registry.get(model, epoch).owner, address(0), "owner");
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
