// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Merkle} from "../src/Merkle.sol";
import {MerkleTree} from "./support/MerkleTree.sol";
import {Test} from "./support/Test.sol";

contract MerkleHarness {
    function includes(bytes32 root, uint64 size, uint64 index, bytes32 leaf, bytes32[] calldata path)
        external
        pure
        returns (bool)
    {
        return Merkle.includes(root, size, index, leaf, path);
    }
}

contract MerkleTest is Test {
    MerkleHarness private immutable _merkle = new MerkleHarness();

    function test_includes_everyLeafOfSmallTrees() public view {
        for (uint64 size = 1; size <= 20; ++size) {
            bytes32[] memory leaves = _leaves(size, 7);
            bytes32 root = MerkleTree.root(leaves);
            for (uint64 i = 0; i < size; ++i) {
                vm.assertTrue(_merkle.includes(root, size, i, leaves[i], MerkleTree.path(leaves, i)), "leaf refused");
            }
        }
    }

    function testFuzz_includes_leafOfRandomTree(uint64 size, uint64 index, uint256 seed) public view {
        size = uint64(bound(size, 1, 130));
        index = uint64(bound(index, 0, size - 1));
        bytes32[] memory leaves = _leaves(size, seed);
        bytes32[] memory path = MerkleTree.path(leaves, index);
        vm.assertTrue(_merkle.includes(MerkleTree.root(leaves), size, index, leaves[index], path), "leaf refused");
    }

    function testFuzz_includes_falseIfPathIsMutated(uint64 size, uint64 index, uint256 seed, uint8 bit) public view {
        size = uint64(bound(size, 2, 130));
        index = uint64(bound(index, 0, size - 1));
        bytes32[] memory leaves = _leaves(size, seed);
        bytes32 root = MerkleTree.root(leaves);
        bytes32[] memory path = MerkleTree.path(leaves, index);
        path[seed % path.length] ^= bytes32(uint256(1) << bit);
        vm.assertFalse(_merkle.includes(root, size, index, leaves[index], path), "mutated path taken");
    }

    function testFuzz_includes_falseIfPositionIsAnother(uint64 size, uint64 index, uint64 other, uint256 seed)
        public
        view
    {
        size = uint64(bound(size, 1, 130));
        index = uint64(bound(index, 0, size - 1));
        vm.assume(other != index);
        bytes32[] memory leaves = _leaves(size, seed);
        bytes32[] memory path = MerkleTree.path(leaves, index);
        bytes32 root = MerkleTree.root(leaves);
        vm.assertFalse(_merkle.includes(root, size, other, leaves[index], path), "another index taken");
        vm.assertFalse(
            _merkle.includes(root, size, uint64(bound(other, 0, size)), ~leaves[index], path), "another leaf taken"
        );
    }

    function testFuzz_includes_falseIfPathHasAnotherLength(uint64 size, uint64 index, uint256 seed) public view {
        size = uint64(bound(size, 2, 130));
        index = uint64(bound(index, 0, size - 1));
        bytes32[] memory leaves = _leaves(size, seed);
        bytes32 root = MerkleTree.root(leaves);
        bytes32[] memory path = MerkleTree.path(leaves, index);
        bytes32[] memory longer = new bytes32[](path.length + 1);
        bytes32[] memory shorter = new bytes32[](path.length - 1);
        for (uint256 i = 0; i < path.length; ++i) {
            longer[i] = path[i];
            if (i < shorter.length) shorter[i] = path[i];
        }
        vm.assertFalse(_merkle.includes(root, size, index, leaves[index], longer), "longer path taken");
        vm.assertFalse(_merkle.includes(root, size, index, leaves[index], shorter), "shorter path taken");
    }

    function test_includes_falseIfTreeIsEmpty() public view {
        vm.assertFalse(_merkle.includes(0, 0, 0, 0, new bytes32[](0)), "a leaf of an empty tree");
    }

    function test_includes_largestTree() public view {
        // Index and size at the edge of uint64: nothing overflows, the path is merely wrong.
        vm.assertFalse(
            _merkle.includes(0, type(uint64).max, type(uint64).max - 1, 0, new bytes32[](64)), "zero path taken"
        );
    }

    function test_vectors_trees() public view {
        string memory json = vm.readFile(string.concat(VECTORS, "merkle.json"));
        uint256 count = 0;
        for (; vm.keyExistsJson(json, item(".trees", count, "")); ++count) {
            uint64 size = uint64(vm.parseJsonUint(json, item(".trees", count, ".size")));
            bytes32 root = vm.parseJsonBytes32(json, item(".trees", count, ".root"));
            bytes[] memory data = vm.parseJsonBytesArray(json, item(".trees", count, ".leaves"));
            vm.assertEq(data.length, uint256(size), "leaves");
            bytes32[] memory leaves = new bytes32[](size);
            for (uint64 i = 0; i < size; ++i) {
                leaves[i] = Merkle.leafHash(data[i]);
            }
            vm.assertEq(MerkleTree.root(leaves), root, "root");
            for (uint64 i = 0; i < size; ++i) {
                bytes32[] memory path = vm.parseJsonBytes32Array(json, item(item(".trees", count, ".paths"), i, ""));
                vm.assertTrue(_merkle.includes(root, size, i, leaves[i], path), "leaf refused");
            }
        }
        vm.assertTrue(count > 0, "no trees in the vectors");
    }

    function test_vectors_bad() public view {
        string memory json = vm.readFile(string.concat(VECTORS, "merkle.json"));
        uint256 count = 0;
        for (; vm.keyExistsJson(json, item(".bad", count, "")); ++count) {
            bool taken = _merkle.includes(
                vm.parseJsonBytes32(json, item(".bad", count, ".root")),
                uint64(vm.parseJsonUint(json, item(".bad", count, ".size"))),
                uint64(vm.parseJsonUint(json, item(".bad", count, ".index"))),
                Merkle.leafHash(vm.parseJsonBytes(json, item(".bad", count, ".leaf"))),
                vm.parseJsonBytes32Array(json, item(".bad", count, ".path"))
            );
            vm.assertFalse(taken, vm.parseJsonString(json, item(".bad", count, ".why")));
        }
        vm.assertTrue(count > 0, "no bad cases in the vectors");
    }

    function _leaves(uint64 size, uint256 seed) private pure returns (bytes32[] memory leaves) {
        leaves = new bytes32[](size);
        for (uint256 i = 0; i < size; ++i) {
            leaves[i] = Merkle.leafHash(abi.encode(seed, i));
        }
    }
}
