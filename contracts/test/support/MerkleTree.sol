// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Merkle trees by the recursive definition of RFC 6962 §2.1: slow, and unlike the code under test.
library MerkleTree {
    /// @notice MTH(leaves[lo:hi]), of leaf hashes.
    function root(bytes32[] memory leaves, uint256 lo, uint256 hi) internal pure returns (bytes32) {
        if (hi - lo == 1) return leaves[lo];
        uint256 k = _split(hi - lo);
        return sha256(abi.encodePacked(bytes1(0x01), root(leaves, lo, lo + k), root(leaves, lo + k, hi)));
    }

    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        return root(leaves, 0, leaves.length);
    }

    /// @notice PATH(m, leaves), from the leaf up.
    function path(bytes32[] memory leaves, uint256 m) internal pure returns (bytes32[] memory found) {
        found = new bytes32[](_depth(m, leaves.length));
        uint256 lo = 0;
        uint256 hi = leaves.length;
        for (uint256 i = found.length; i > 0; --i) {
            uint256 k = _split(hi - lo);
            if (m < lo + k) {
                found[i - 1] = root(leaves, lo + k, hi);
                hi = lo + k;
            } else {
                found[i - 1] = root(leaves, lo, lo + k);
                lo += k;
            }
        }
    }

    function _depth(uint256 m, uint256 n) private pure returns (uint256 depth) {
        for (; n > 1; ++depth) {
            uint256 k = _split(n);
            if (m < k) {
                n = k;
            } else {
                m -= k;
                n -= k;
            }
        }
    }

    /// @dev The largest power of two below n.
    function _split(uint256 n) private pure returns (uint256 k) {
        for (k = 1; k * 2 < n; k *= 2) {}
    }
}
