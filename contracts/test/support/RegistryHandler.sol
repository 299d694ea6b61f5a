// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ModelRegistry} from "../../src/ModelRegistry.sol";
import {Circuit} from "../../src/Statements.sol";
import {Test} from "./Test.sol";

/// @title What the fuzzer does to two models: three accounts register, revoke, propose, withdraw and accept, in any order.
/// @notice Every step may fail. Who owns a model, and owned it at which block, is counted beside the contract.
contract RegistryHandler is Test {
    uint64 public constant FIRST_BLOCK = 100;
    uint64 public constant EPOCHS = 3;

    ModelRegistry public registry;
    bytes32[2] public models = [keccak256("model"), keccak256("another model")];
    /// @notice By model: the owner that the accepted steps left, and whom it proposed.
    mapping(bytes32 model => address) public owner;
    mapping(bytes32 model => address) public proposed;
    /// @notice By model and block: the owner when the block ended, filled in by `wait`.
    mapping(bytes32 model => mapping(uint256 blockNumber => address)) public ownedAt;
    mapping(bytes32 model => mapping(uint64 epoch => address)) public registrant;
    /// @notice Somebody did what only the owner, or the proposed one, may do.
    string public broken;
    /// @notice How often each kind of step went through.
    mapping(bytes32 step => uint256) public done;

    constructor() {
        registry = new ModelRegistry();
        vm.roll(FIRST_BLOCK);
    }

    function wait(uint8 blocks) external {
        uint256 last = block.number + bound(blocks, 1, 5);
        for (uint256 at = block.number; at < last; ++at) {
            for (uint256 i = 0; i < models.length; ++i) {
                ownedAt[models[i]][at] = owner[models[i]];
            }
        }
        vm.roll(last);
    }

    function register(uint8 who, uint8 which, uint64 epoch) external {
        (address caller, bytes32 model) = _of(who, which);
        epoch = uint64(bound(epoch, 1, EPOCHS));
        Circuit memory none;
        vm.prank(caller);
        try registry.register(model, epoch, none) {
            if (owner[model] == address(0)) owner[model] = caller;
            else if (owner[model] != caller) broken = "another registered";
            if (registrant[model][epoch] != address(0)) broken = "registered twice";
            registrant[model][epoch] = caller;
            done["register"]++;
        } catch {}
    }

    function revoke(uint8 who, uint8 which, uint64 epoch) external {
        (address caller, bytes32 model) = _of(who, which);
        vm.prank(caller);
        try registry.revoke(model, uint64(bound(epoch, 1, EPOCHS))) {
            if (owner[model] != caller) broken = "another revoked";
            done["revoke"]++;
        } catch {}
    }

    function propose(uint8 who, uint8 which, uint8 whom) external {
        (address caller, bytes32 model) = _of(who, which);
        (address next,) = _of(whom, which);
        vm.prank(caller);
        try registry.proposeOwner(model, next) {
            if (owner[model] != caller) broken = "another proposed";
            proposed[model] = next;
            done["propose"]++;
        } catch {}
    }

    function withdraw(uint8 who, uint8 which) external {
        (address caller, bytes32 model) = _of(who, which);
        vm.prank(caller);
        try registry.withdrawProposal(model) {
            if (owner[model] != caller) broken = "another withdrew";
            delete proposed[model];
            done["withdraw"]++;
        } catch {}
    }

    function accept(uint8 who, uint8 which) external {
        (address caller, bytes32 model) = _of(who, which);
        vm.prank(caller);
        try registry.acceptOwnership(model) {
            if (proposed[model] != caller) broken = "another accepted";
            owner[model] = caller;
            delete proposed[model];
            done["accept"]++;
        } catch {}
    }

    function _of(uint8 who, uint8 which) private view returns (address caller, bytes32 model) {
        return (address(uint160(0xAC0 + who % 3)), models[which % 2]);
    }
}
