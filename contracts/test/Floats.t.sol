// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Floats} from "../src/accountability/Floats.sol";
import {FloatBits} from "./support/FloatBits.sol";
import {Test} from "./support/Test.sol";

contract FloatsHarness {
    function leafData(uint8 side, bytes32 salt, bytes calldata values) external pure returns (bytes memory) {
        return Floats.leafData(side, salt, values);
    }

    function quantise(bytes calldata values, uint256 position, uint8 scale) external pure returns (int64) {
        return Floats.quantise(values, position, scale);
    }

    function isNear(bytes calldata values, uint256 position, uint8 scale, int64 fixedPoint, uint64 tolerance)
        external
        pure
        returns (bool)
    {
        return Floats.isNear(values, position, scale, fixedPoint, tolerance);
    }

    function requireScale(uint8 scale) external pure {
        Floats.requireScale(scale);
    }
}

contract FloatsTest is Test {
    FloatsHarness private immutable _floats = new FloatsHarness();

    /// @dev By Python's `quantise`, over numpy. 14 bytes a case: float, scale, int64, whether it is taken.
    function test_vectors_quantised() public view {
        bytes memory cases = vm.parseJsonBytes(vm.readFile(string.concat(VECTORS, "floats.json")), ".quantised");
        vm.assertTrue(cases.length > 400 * 14, "cases");
        for (uint256 offset = 0; offset < cases.length; offset += 14) {
            bool taken = cases[offset + 13] != 0;
            try _floats.quantise(_part(cases, offset, 4), 0, uint8(cases[offset + 4])) returns (int64 found) {
                vm.assertTrue(taken, "Python refuses it");
                vm.assertEq(int256(found), int256(int64(_number(cases, offset + 5))), vm.toString(offset));
            } catch {
                vm.assertFalse(taken, vm.toString(offset));
            }
        }
    }

    /// @dev By Python's `distance`. 22 bytes a case: float, scale, int64, the least tolerance, whether there is one.
    function test_vectors_distances() public view {
        bytes memory cases = vm.parseJsonBytes(vm.readFile(string.concat(VECTORS, "floats.json")), ".distances");
        vm.assertTrue(cases.length > 1000 * 22, "cases");
        for (uint256 offset = 0; offset < cases.length; offset += 22) {
            bytes memory raw = _part(cases, offset, 4);
            uint8 scale = uint8(cases[offset + 4]);
            int64 fixedPoint = int64(_number(cases, offset + 5));
            uint64 least = _number(cases, offset + 13);
            bool some = cases[offset + 21] != 0;
            vm.assertTrue(_floats.isNear(raw, 0, scale, fixedPoint, least) == some, "at it");
            if (least != 0) vm.assertFalse(_floats.isNear(raw, 0, scale, fixedPoint, least - 1), "below it");
        }
    }

    function test_vectors_leaves() public view {
        string memory json = vm.readFile(string.concat(VECTORS, "floats.json"));
        uint256 count = 0;
        for (; vm.keyExistsJson(json, item(".leaves", count, "")); ++count) {
            bytes memory found = _floats.leafData(
                uint8(vm.parseJsonUint(json, item(".leaves", count, ".side"))),
                vm.parseJsonBytes32(json, item(".leaves", count, ".salt")),
                vm.parseJsonBytes(json, item(".leaves", count, ".payload"))
            );
            vm.assertEq(found, vm.parseJsonBytes(json, item(".leaves", count, ".leafData")), "leaf data");
        }
        vm.assertEq(count, 6, "leaves");
    }

    function test_quantise_roundsHalvesAwayFromZero() public view {
        // 0.5, 1.5, 2.5, −0.5, −2.5; and the floats below and above a half.
        uint32[7] memory bits =
            [uint32(0x3f000000), 0x3fc00000, 0x40200000, 0xbf000000, 0xc0200000, 0x3effffff, 0x3f000001];
        int8[7] memory expected = [int8(1), 2, 3, -1, -3, 0, 1];
        for (uint256 i = 0; i < bits.length; ++i) {
            vm.assertEq(int256(_floats.quantise(FloatBits.fromBits(bits[i]), 0, 0)), int256(expected[i]), "rounded");
        }
    }

    function test_quantise_takesSubnormalsAndBothZeros() public view {
        uint32[5] memory bits = [uint32(0), 0x80000000, 1, 0x80000001, 0x007fffff];
        for (uint256 i = 0; i < bits.length; ++i) {
            vm.assertEq(int256(_floats.quantise(FloatBits.fromBits(bits[i]), 0, 32)), 0, "zero");
        }
    }

    function test_quantise_endsAt2To52() public {
        uint32 last = (127 + 52) << 23; // 2^52
        vm.assertEq(int256(_floats.quantise(FloatBits.fromBits(last), 0, 0)), 1 << 52, "2^52");
        vm.assertEq(int256(_floats.quantise(FloatBits.fromBits(last | 1 << 31), 0, 0)), -(1 << 52), "-2^52");
        vm.assertEq(int256(_floats.quantise(FloatBits.fromBits(last - (20 << 23)), 0, 20)), 1 << 52, "2^32 * 2^20");
        vm.expectRevert(abi.encodeWithSelector(Floats.TooLargeForFixedPoint.selector, 0));
        _floats.quantise(FloatBits.fromBits(last + 1), 0, 0);
        vm.expectRevert(abi.encodeWithSelector(Floats.TooLargeForFixedPoint.selector, 0));
        _floats.quantise(FloatBits.fromBits(0x7f7fffff), 0, 32);
    }

    function test_revertsIfNotFinite() public {
        uint32[4] memory bits = [uint32(0x7f800000), 0xff800000, 0x7fc00000, 0x7f800001];
        for (uint256 i = 0; i < bits.length; ++i) {
            bytes memory values = bytes.concat(FloatBits.fromBits(0), FloatBits.fromBits(bits[i]));
            vm.expectRevert(abi.encodeWithSelector(Floats.NotFinite.selector, 1));
            _floats.quantise(values, 1, 7);
            vm.expectRevert(abi.encodeWithSelector(Floats.NotFinite.selector, 1));
            _floats.isNear(values, 1, 7, 0, type(uint64).max);
        }
    }

    function test_requireScale_revertsIfTooLarge() public {
        _floats.requireScale(32);
        vm.expectRevert(abi.encodeWithSelector(Floats.ScaleTooLarge.selector, 33));
        _floats.requireScale(33);
    }

    /// @dev A float that is a whole number of units: itself in fixed point, and nothing else within 0.
    function testFuzz_quantise_givesWholeUnitsBack(int64 value, uint8 scale) public view {
        value = int64(value % (1 << 24));
        scale = uint8(bound(scale, 0, 32));
        bytes memory raw = FloatBits.fromFixed(value, scale);
        vm.assertEq(int256(_floats.quantise(raw, 0, scale)), int256(value), "another integer");
        vm.assertTrue(_floats.isNear(raw, 0, scale, value, 0), "itself");
        vm.assertFalse(_floats.isNear(raw, 0, scale, value + 1, 0), "the next");
    }

    function testFuzz_isNear_byWholeUnits(int32 value, int64 fixedPoint, uint64 tolerance) public view {
        value %= 1 << 24;
        uint256 apart = _apart(value, fixedPoint);
        vm.assertTrue(
            _floats.isNear(FloatBits.fromFixed(value, 14), 0, 14, fixedPoint, tolerance) == (apart <= tolerance), "near"
        );
    }

    /// @dev Where there is a fixed point at all, the float is within one unit of it, whatever its bits.
    function testFuzz_isNear_withinOneOfTheQuantised(uint32 bits, uint8 scale) public view {
        bytes memory raw = FloatBits.fromBits(bits);
        scale = uint8(bound(scale, 0, 32));
        try _floats.quantise(raw, 0, scale) returns (int64 found) {
            vm.assertTrue(_floats.isNear(raw, 0, scale, found, 1), "within one");
            vm.assertFalse(_floats.isNear(raw, 0, scale, found + 2, 1), "not two away");
        } catch {}
    }

    function _part(bytes memory data, uint256 from, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            part[i] = data[from + i];
        }
    }

    function _number(bytes memory data, uint256 from) private pure returns (uint64) {
        return uint64(bytes8(_part(data, from, 8)));
    }

    function _apart(int256 x, int256 y) private pure returns (uint256) {
        return uint256(x < y ? y - x : x - y);
    }
}
