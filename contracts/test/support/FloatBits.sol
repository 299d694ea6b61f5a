// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title float32 values as records hold them: little-endian.
library FloatBits {
    /// @notice The float with these bits.
    function fromBits(uint32 bits) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(bits), uint8(bits >> 8), uint8(bits >> 16), uint8(bits >> 24));
    }

    /// @notice value · 2^−scale, for |value| < 2^24.
    function fromFixed(int256 value, uint8 scale) internal pure returns (bytes memory) {
        return fromBits(bitsOf(value, scale));
    }

    /// @notice Its bits, as a number: the next one up is the next float away from zero.
    function bitsOf(int256 value, uint8 scale) internal pure returns (uint32) {
        if (value == 0) return 0;
        uint256 magnitude = uint256(value < 0 ? -value : value);
        uint256 exponent = 150 - uint256(scale);
        for (; magnitude < 1 << 23; magnitude <<= 1) {
            --exponent;
        }
        return uint32((value < 0 ? 1 << 31 : 0) | exponent << 23 | (magnitude & 0x7fffff));
    }
}
