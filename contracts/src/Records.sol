// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Record leaves, rebuilt from a proof's public instances.
/// @dev docs/protocol.md §3, encoding `fixed`: values are big-endian two's-complement int64.
library Records {
    /// @notice An instance that is not the residue of an int64: not reduced, or out of range.
    error InstanceOutOfRange(uint256 position, uint256 instance);

    /// @notice BN254's scalar field, over which the proofs are made.
    uint256 internal constant FIELD = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;

    uint8 internal constant SIDE_INPUT = 0;
    uint8 internal constant SIDE_OUTPUT = 1;
    uint8 internal constant ENCODING_FIXED = 1;

    bytes16 private constant _RECORD_DOMAIN = "rexis.record.v1\x00";
    bytes private constant _OUTPUT_SALT_DOMAIN = "rexis.output-salt.v1\x00";
    uint256 private constant _HEAD = 16 + 3 + 32 + 4;

    /// @notice The int64 that a field element stands for: x for x < 2^63, x − FIELD for x ≥ FIELD − 2^63.
    function toInt64(uint256 instance, uint256 position) internal pure returns (int64) {
        if (instance < 1 << 63) return int64(int256(instance));
        if (instance >= FIELD || instance < FIELD - (1 << 63)) revert InstanceOutOfRange(position, instance);
        return int64(int256(instance) - int256(FIELD));
    }

    /// @notice Leaf data of one side of a record.
    /// @param instances All public instances of the proof.
    /// @param from Position of the first one of this side.
    /// @param length How many there are. The caller has checked that they exist.
    function leafData(uint8 side, uint8 scale, bytes32 salt, uint256[] calldata instances, uint256 from, uint32 length)
        internal
        pure
        returns (bytes memory data)
    {
        bytes memory head = abi.encodePacked(_RECORD_DOMAIN, side, ENCODING_FIXED, scale, salt, length);
        // Each value is written as a whole word of which 24 bytes are padding: the next value overwrites them, and the
        // last ones lie beyond the data's length, in the slack that is allocated here and cut off below.
        data = bytes.concat(head, new bytes(8 * uint256(length) + 24));
        for (uint256 i = 0; i < length; ++i) {
            uint256 word = uint256(uint64(toInt64(instances[from + i], from + i))) << 192;
            uint256 offset = _HEAD + 8 * i;
            assembly ("memory-safe") {
                mstore(add(add(data, 0x20), offset), word)
            }
        }
        assembly ("memory-safe") {
            mstore(data, sub(mload(data), 24))
        }
    }

    /// @notice The salt of an output leaf, from that of its input leaf.
    function outputSalt(bytes32 inputSalt) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(_OUTPUT_SALT_DOMAIN, inputSalt));
    }
}
