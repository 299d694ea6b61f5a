// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ModelRegistry} from "../src/ModelRegistry.sol";
import {RegistryHandler} from "./support/RegistryHandler.sol";
import {Test} from "./support/Test.sol";

/// @title What holds of the registry after any sequence of steps: a model changes hands by the accepted step alone.
contract ModelRegistryInvariants is Test {
    RegistryHandler private _handler;
    ModelRegistry private _registry;

    function setUp() public {
        _handler = new RegistryHandler();
        _registry = _handler.registry();
    }

    function targetContracts() public view returns (address[] memory found) {
        found = new address[](1);
        found[0] = address(_handler);
    }

    function invariant_ownersAreThoseOfTheAcceptedSteps() public view {
        for (uint256 i = 0; i < 2; ++i) {
            bytes32 model = _handler.models(i);
            vm.assertEq(_registry.ownerOf(model), _handler.owner(model), "ownerOf");
            vm.assertEq(_registry.proposedOwnerOf(model), _handler.proposed(model), "proposedOwnerOf");
            for (uint256 at = _handler.FIRST_BLOCK() - 1; at < block.number; ++at) {
                vm.assertEq(_registry.ownerAt(model, at), _handler.ownedAt(model, at), "ownerAt");
            }
            vm.assertEq(_registry.ownerAt(model, block.number), _handler.owner(model), "ownerAt now");
            for (uint64 epoch = 1; epoch <= _handler.EPOCHS(); ++epoch) {
                vm.assertEq(_registry.get(model, epoch).registrant, _handler.registrant(model, epoch), "registrant");
            }
        }
    }

    function invariant_onlyTheOwnerActs() public view {
        vm.assertEq(bytes(_handler.broken()), "", "broken");
    }

    /// @dev That the steps can go through at all: the invariants would hold of a handler that does nothing.
    function test_steps_reachTheirEnds() public {
        _handler.register(0, 0, 0);
        _handler.register(1, 0, 1);
        _handler.wait(2);
        _handler.accept(1, 0);
        _handler.propose(1, 0, 1);
        _handler.propose(0, 0, 1);
        _handler.withdraw(1, 0);
        _handler.withdraw(0, 0);
        _handler.propose(0, 0, 2);
        _handler.accept(1, 0);
        _handler.accept(2, 0);
        _handler.wait(2);
        _handler.revoke(0, 0, 0);
        _handler.revoke(2, 0, 0);
        string[5] memory steps = ["register", "propose", "withdraw", "accept", "revoke"];
        uint8[5] memory expected = [1, 2, 1, 1, 1];
        for (uint256 i = 0; i < steps.length; ++i) {
            vm.assertEq(_handler.done(bytes32(bytes(steps[i]))), expected[i], steps[i]);
        }
        invariant_ownersAreThoseOfTheAcceptedSteps();
        invariant_onlyTheOwnerActs();
    }
}
