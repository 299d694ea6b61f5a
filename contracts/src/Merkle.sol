// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title RFC 6962 Merkle trees: SHA-256, leaf prefix 0x00, node prefix 0x01.
/// @dev OpenZeppelin's MerkleProof hashes pairs in sorted order, which loses the position of a leaf; records have positions.
library Merkle {
    /// @notice SHA-256(0x00 ‖ data), RFC 6962 §2.1.
    function leafHash(bytes memory data) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x00), data));
    }

    /// @notice SHA-256(0x01 ‖ left ‖ right), RFC 6962 §2.1.
    function nodeHash(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x01), left, right));
    }

    /// @notice Whether `leaf` (a leaf hash) is leaf `index` of the tree of `size` leaves with `root`.
    /// @dev The steps are those of RFC 9162 §2.1.3.2. False for an index outside the tree, and for a path that is too
    /// short, too long or leads elsewhere.
    function includes(bytes32 root, uint64 size, uint64 index, bytes32 leaf, bytes32[] calldata path)
        internal
        pure
        returns (bool)
    {
        // 1. The index lies in the tree.
        if (index >= size) return false;
        // 2. fn is the leaf's index, sn the last one's; 3. r is the hash so far.
        uint64 fn = index;
        uint64 sn = size - 1;
        bytes32 r = leaf;
        // 4. Climb.
        for (uint256 i = 0; i < path.length; ++i) {
            if (sn == 0) return false; // the path is too long
            if (fn & 1 == 1 || fn == sn) {
                r = nodeHash(path[i], r);
                while (fn & 1 == 0 && fn != 0) {
                    fn >>= 1;
                    sn >>= 1;
                }
            } else {
                r = nodeHash(r, path[i]);
            }
            fn >>= 1;
            sn >>= 1;
        }
        // 5. The whole tree was climbed (else the path is too short), and to the right root.
        return sn == 0 && r == root;
    }
}
