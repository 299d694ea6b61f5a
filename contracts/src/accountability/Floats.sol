// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Records of tier `commit`: float32 values, their leaves, and their exact relation to fixed point.
/// @dev docs/protocol.md §3, encoding `float32`: little-endian IEEE 754 binary32, four bytes a value. A finite one is
/// ±mantissa · 2^exponent with mantissa < 2^24 and −149 ≤ exponent ≤ 104, so that all here is integer arithmetic.
library Floats {
    error NotFinite(uint256 position);
    error TooLargeForFixedPoint(uint256 position);
    error ScaleTooLarge(uint8 scale);

    /// @notice The largest scale that anything here takes; the same in Python.
    uint8 internal constant MAX_SCALE = 32;
    uint256 internal constant BYTES = 4;

    bytes16 private constant _RECORD_DOMAIN = "rexis.record.v1\x00";
    uint8 private constant _ENCODING_FLOAT32 = 0;
    uint8 private constant _SCALE_NONE = 0;
    uint256 private constant _MAX_QUANTISED = 1 << 52; // where Python stops: the sum with 1/2 is exact in binary64 up to it

    /// @notice Leaf data of one side of a record.
    /// @param values Four bytes a value; the caller has checked how many.
    function leafData(uint8 side, bytes32 salt, bytes calldata values) internal pure returns (bytes memory) {
        return abi.encodePacked(
            _RECORD_DOMAIN, side, _ENCODING_FLOAT32, _SCALE_NONE, salt, uint32(values.length / BYTES), values
        );
    }

    function requireScale(uint8 scale) internal pure {
        if (scale > MAX_SCALE) revert ScaleTooLarge(scale);
    }

    /// @notice The fixed-point value of the float at `position`: x · 2^scale, rounded half away from zero.
    /// @dev `quantise` of rexis/protocol/records.py, which says what ezkl does. `scale` is at most MAX_SCALE.
    function quantise(bytes calldata values, uint256 position, uint8 scale) internal pure returns (int64) {
        (bool negative, uint256 magnitude, int256 shift) = _decode(values, position, scale);
        if (shift >= 0) {
            magnitude <<= uint256(shift); // not a subnormal: at most 24 + 136 bits
            if (magnitude > _MAX_QUANTISED) revert TooLargeForFixedPoint(position);
        } else {
            uint256 down = uint256(-shift);
            // A mantissa is below 2^24: shifted by more than that it is below a half.
            magnitude = down > 24 ? 0 : (magnitude + (1 << (down - 1))) >> down;
        }
        return negative ? -int64(uint64(magnitude)) : int64(uint64(magnitude));
    }

    /// @notice Whether |x · 2^scale − fixedPoint| ≤ tolerance for the float x at `position`, exactly.
    /// @dev Cheap for a reason: an answer has to cost less than the challenge, else one might fit a block and the other not.
    function isNear(bytes calldata values, uint256 position, uint8 scale, int64 fixedPoint, uint64 tolerance)
        internal
        pure
        returns (bool)
    {
        (bool negative, uint256 magnitude, int256 shift) = _decode(values, position, scale);
        unchecked {
            // Both sides times 2^−shift if that is whole: at most 64 + 149 bits. Else x · 2^scale is whole: 24 + 136 bits.
            uint256 up = shift < 0 ? uint256(-shift) : 0;
            if (shift > 0) magnitude <<= uint256(shift);
            int256 x = negative ? -int256(magnitude) : int256(magnitude);
            int256 distance = x - int256(fixedPoint) * int256(1 << up);
            return uint256(distance < 0 ? -distance : distance) <= uint256(tolerance) << up;
        }
    }

    /// @dev x · 2^scale = ±magnitude · 2^shift. Of a NaN or an infinity there is none. The caller has checked the length.
    function _decode(bytes calldata values, uint256 position, uint8 scale)
        private
        pure
        returns (bool negative, uint256 magnitude, int256 shift)
    {
        unchecked {
            uint256 raw;
            assembly ("memory-safe") {
                raw := shr(224, calldataload(add(values.offset, shl(2, position))))
            }
            uint256 bits = raw >> 24 | (raw >> 8 & 0xff00) | (raw << 8 & 0xff0000) | (raw << 24 & 0xff000000);
            uint256 exponent = bits >> 23 & 0xff;
            if (exponent == 0xff) revert NotFinite(position);
            negative = bits >> 31 == 1;
            magnitude = bits & 0x7fffff;
            if (exponent == 0) exponent = 1; // subnormal
            else magnitude |= 1 << 23;
            shift = int256(exponent) - 150 + int256(uint256(scale));
        }
    }
}
