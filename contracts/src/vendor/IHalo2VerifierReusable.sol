// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title What rexis calls of ezkl's generated, circuit-independent verifier.
interface IHalo2VerifierReusable {
    /// @notice Remember a verification key artefact. Anybody may: a caller must pin the digest it wants.
    /// @return vkaDigest keccak256 of the concatenated words.
    function registerVka(bytes32[] memory vka) external returns (bytes32 vkaDigest);

    /// @notice Verify a proof. Reverts without a reason on a bad proof, with "VKA not registered" on an unknown VKA.
    /// @dev The contract also returns rescaled instances, but writes their length where the ABI has an offset, so a
    /// decoder of `int256[]` reads rubbish or reverts. They are left out here: a decoder ignores what follows the
    /// values it was told of.
    function verifyProof(bytes calldata proof, uint256[] calldata instances, bytes32[] memory vka)
        external
        returns (bool success, bytes32 vkaDigest);
}
