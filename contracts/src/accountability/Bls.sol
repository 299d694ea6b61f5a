// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title BLS signatures over BLS12-381 with the precompiles of EIP-2537: public keys in G1, signatures in G2.
/// @notice Ciphersuite BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_ (draft-irtf-cfrg-bls-signature), hash to curve by
/// RFC 9380 §8.8.2. Points are as EIP-2537 writes them: coordinates of 64 bytes, 16 zero bytes first.
/// @dev The additions look whether a point is on the curve, and only the pairing whether it is in the subgroup: every
/// key and signature goes through a pairing before anything rests on it.
library Bls {
    error BadLength(uint256 expected, uint256 found);
    error PrecompileFailed(uint160 precompile);

    uint256 internal constant G1_LENGTH = 128;
    uint256 internal constant G2_LENGTH = 256;

    bytes internal constant SIGNATURE_DST = "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
    bytes internal constant POSSESSION_DST = "BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

    uint160 private constant _MODEXP = 0x05;
    uint160 private constant _G1ADD = 0x0b;
    uint160 private constant _G2ADD = 0x0d;
    uint160 private constant _PAIRING = 0x0f;
    uint160 private constant _MAP_FP2_TO_G2 = 0x11;

    /// @dev The field's modulus, 48 bytes.
    bytes private constant _MODULUS =
        hex"1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";
    /// @dev The generator of G1, its y negated.
    bytes private constant _NEGATED_G1 =
        hex"0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb00000000000000000000000000000000114d1d6855d545a8aa7d76c8cf2e21f267816aef1db507c96655b9d5caac42364e6f38ba0ecb751bad54dcd6b939c2ca";

    /// @notice Whether `signature` is that of `publicKey` (or of the keys that it is the sum of) over `message`.
    /// @dev Reverts if one of them is no point of its subgroup. The point at infinity is no public key and signs nothing.
    function verify(bytes memory publicKey, bytes memory message, bytes memory signature, bytes memory dst)
        internal
        view
        returns (bool)
    {
        _requireLength(publicKey, G1_LENGTH);
        _requireLength(signature, G2_LENGTH);
        if (isInfinity(publicKey) || isInfinity(signature)) return false;
        bytes memory pairs = bytes.concat(_NEGATED_G1, signature, publicKey, hashToG2(message, dst));
        return abi.decode(_call(_PAIRING, pairs, 32), (uint256)) == 1;
    }

    /// @notice The sum of two points of G1.
    function add(bytes memory left, bytes memory right) internal view returns (bytes memory) {
        return _call(_G1ADD, bytes.concat(left, right), G1_LENGTH);
    }

    /// @notice Whether a point is the one at infinity, which is written as zeros.
    function isInfinity(bytes memory point) internal pure returns (bool) {
        return keccak256(point) == keccak256(new bytes(point.length));
    }

    /// @notice hash_to_curve of RFC 9380 §3. MAP_FP2_TO_G2 clears the cofactor.
    function hashToG2(bytes memory message, bytes memory dst) internal view returns (bytes memory) {
        bytes memory uniform = expand(message, dst);
        bytes memory u0 = bytes.concat(_reduced(uniform, 0), _reduced(uniform, 64));
        bytes memory u1 = bytes.concat(_reduced(uniform, 128), _reduced(uniform, 192));
        bytes memory q0 = _call(_MAP_FP2_TO_G2, u0, G2_LENGTH);
        bytes memory q1 = _call(_MAP_FP2_TO_G2, u1, G2_LENGTH);
        return _call(_G2ADD, bytes.concat(q0, q1), G2_LENGTH);
    }

    /// @notice expand_message_xmd of RFC 9380 §5.3.1 with SHA-256, to 256 bytes. `dst` has at most 255 bytes.
    function expand(bytes memory message, bytes memory dst) internal pure returns (bytes memory uniform) {
        bytes memory suffix = abi.encodePacked(dst, uint8(dst.length));
        bytes32 b0 = sha256(abi.encodePacked(new bytes(64), message, uint16(256), uint8(0), suffix));
        bytes32 b = 0;
        for (uint8 i = 1; i <= 8; ++i) {
            b = sha256(abi.encodePacked(b0 ^ b, i, suffix));
            uniform = abi.encodePacked(uniform, b);
        }
    }

    /// @dev OS2IP of 64 bytes modulo the field's modulus, in 64 bytes.
    function _reduced(bytes memory uniform, uint256 from) private view returns (bytes memory) {
        (uint256 high, uint256 low) = (0, 0);
        assembly ("memory-safe") {
            high := mload(add(add(uniform, 0x20), from))
            low := mload(add(add(uniform, 0x40), from))
        }
        // EIP-198: lengths of base, exponent and modulus, then these.
        bytes memory input = abi.encodePacked(uint256(64), uint256(1), uint256(48), high, low, uint8(1), _MODULUS);
        return bytes.concat(bytes16(0), _call(_MODEXP, input, 48));
    }

    function _call(uint160 precompile, bytes memory input, uint256 length) private view returns (bytes memory output) {
        bool success;
        (success, output) = address(precompile).staticcall(input);
        if (!success || output.length != length) revert PrecompileFailed(precompile);
    }

    function _requireLength(bytes memory point, uint256 expected) private pure {
        if (point.length != expected) revert BadLength(expected, point.length);
    }
}
