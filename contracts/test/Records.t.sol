// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Merkle} from "../src/Merkle.sol";
import {Records} from "../src/Records.sol";
import {Test} from "./support/Test.sol";

contract RecordsHarness {
    function toInt64(uint256 instance, uint256 position) external pure returns (int64) {
        return Records.toInt64(instance, position);
    }

    function leafData(uint8 side, uint8 scale, bytes32 salt, uint256[] calldata instances, uint256 from, uint32 length)
        external
        pure
        returns (bytes memory)
    {
        return Records.leafData(side, scale, salt, instances, from, length);
    }
}

contract RecordsTest is Test {
    RecordsHarness private immutable _records = new RecordsHarness();

    function testFuzz_toInt64_invertsTheField(int64 value) public view {
        vm.assertEq(int256(_records.toInt64(_field(value), 0)), int256(value), "another integer");
    }

    function test_toInt64_edges() public view {
        int64[5] memory edges = [int64(0), 1, -1, type(int64).max, type(int64).min];
        for (uint256 i = 0; i < edges.length; ++i) {
            vm.assertEq(int256(_records.toInt64(_field(edges[i]), 0)), int256(edges[i]), "edge");
        }
    }

    function testFuzz_toInt64_revertsIfOutOfRange(uint256 instance, uint256 position) public {
        vm.assume(instance >= Records.FIELD || (instance >= 1 << 63 && instance < Records.FIELD - (1 << 63)));
        _expectOutOfRange(position, instance);
        _records.toInt64(instance, position);
    }

    function test_toInt64_revertsIfJustOutOfRange() public {
        uint256[4] memory beyond = [uint256(1 << 63), Records.FIELD - (1 << 63) - 1, Records.FIELD, type(uint256).max];
        for (uint256 i = 0; i < beyond.length; ++i) {
            _expectOutOfRange(i, beyond[i]);
            _records.toInt64(beyond[i], i);
        }
    }

    function test_toInt64_revertsIfNotReduced() public {
        // FIELD + 1 is another way to write 1: one leaf must have one form.
        _expectOutOfRange(0, Records.FIELD + 1);
        _records.toInt64(Records.FIELD + 1, 0);
    }

    function testFuzz_leafData_isTheSpecified(int64[] memory values, bytes32 salt, uint8 scale, uint256 cut)
        public
        view
    {
        uint256[] memory instances = new uint256[](values.length);
        for (uint256 i = 0; i < values.length; ++i) {
            instances[i] = _field(values[i]);
        }
        cut = bound(cut, 0, values.length);
        bytes memory found = _records.leafData(1, scale, salt, instances, cut, uint32(values.length - cut));
        vm.assertEq(found, _specified(values, salt, scale, cut), "leaf data");
    }

    function test_leafData_revertsIfInstanceIsOutOfRange() public {
        uint256[] memory instances = new uint256[](3);
        instances[2] = 1 << 63;
        _expectOutOfRange(2, 1 << 63);
        _records.leafData(0, 7, 0, instances, 1, 2);
    }

    function test_vectors_records() public view {
        string memory json = vm.readFile(string.concat(VECTORS, "records.json"));
        uint256 count = 0;
        uint256 rebuilt = 0;
        for (; vm.keyExistsJson(json, item(".cases", count, "")); ++count) {
            bytes32 salt = vm.parseJsonBytes32(json, item(".cases", count, ".salt"));
            bytes memory expected = vm.parseJsonBytes(json, item(".cases", count, ".leafData"));
            vm.assertEq(
                Merkle.leafHash(expected), vm.parseJsonBytes32(json, item(".cases", count, ".leafHash")), "leaf hash"
            );
            vm.assertEq(
                Records.outputSalt(salt), vm.parseJsonBytes32(json, item(".cases", count, ".outputSalt")), "output salt"
            );
            if (vm.parseJsonUint(json, item(".cases", count, ".encoding")) != Records.ENCODING_FIXED) continue;
            vm.assertEq(_rebuild(json, count, salt), expected, "leaf data");
            ++rebuilt;
        }
        vm.assertTrue(rebuilt > 0, "no fixed-point cases in the vectors");
    }

    function _specified(int64[] memory values, bytes32 salt, uint8 scale, uint256 cut)
        private
        pure
        returns (bytes memory data)
    {
        data = abi.encodePacked("rexis.record.v1", uint8(0), uint8(1), uint8(1), scale, salt);
        data = bytes.concat(data, abi.encodePacked(uint32(values.length - cut)));
        for (uint256 i = cut; i < values.length; ++i) {
            data = bytes.concat(data, abi.encodePacked(values[i]));
        }
    }

    function _rebuild(string memory json, uint256 i, bytes32 salt) private view returns (bytes memory) {
        bytes32[] memory words = vm.parseJsonBytes32Array(json, item(".cases", i, ".instances"));
        string[] memory integers = vm.parseJsonStringArray(json, item(".cases", i, ".integers"));
        uint256[] memory instances = new uint256[](words.length);
        for (uint256 j = 0; j < words.length; ++j) {
            instances[j] = uint256(words[j]);
            vm.assertEq(int256(_records.toInt64(instances[j], j)), vm.parseInt(integers[j]), "integer");
        }
        return _records.leafData(
            uint8(vm.parseJsonUint(json, item(".cases", i, ".side"))),
            uint8(vm.parseJsonUint(json, item(".cases", i, ".scale"))),
            salt,
            instances,
            0,
            uint32(instances.length)
        );
    }

    function _field(int64 value) private pure returns (uint256) {
        return value >= 0 ? uint256(int256(value)) : Records.FIELD - uint256(-int256(value));
    }

    function _expectOutOfRange(uint256 position, uint256 instance) private {
        vm.expectRevert(abi.encodeWithSelector(Records.InstanceOutOfRange.selector, position, instance));
    }
}
