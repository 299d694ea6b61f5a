// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Circuit, Statement, Statements} from "../src/Statements.sol";
import {Test} from "./support/Test.sol";

contract StatementsTest is Test {
    // Number of 32-byte words of `abi.encode(Statement)`: 15 fields and the 9 of its circuit.
    uint256 private constant _WORDS = 24;

    function test_typeStrings_areTheSpecified() public pure {
        vm.assertEq(
            bytes(Statements.CIRCUIT_TYPE),
            "Circuit(bytes32 vkDigest,bytes32 vkaDigest,bytes32 srsDigest,bytes32 settingsDigest,uint8 visibility,uint8 inputScale,uint8 outputScale,uint32 inputLength,uint32 outputLength)",
            "Circuit"
        );
        vm.assertEq(
            bytes(Statements.STATEMENT_TYPE),
            "Statement(uint16 version,bytes32 jobId,bytes32 taskId,uint8 kind,bytes32 modelDigest,uint64 keyEpoch,Circuit circuit,bytes32 inputRoot,uint64 inputSize,bytes32 outputRoot,uint64 recordStart,uint64 recordCount,uint8 tier,bytes32 policyDigest,address worker,bytes32 nonce)",
            "Statement"
        );
    }

    /// @dev A change of any field changes the digest: each word of the encoding is flipped in a bit that its type has.
    function testFuzz_digest_dependsOnEveryField(Statement memory s, bytes32 separator, uint8 bit) public pure {
        bytes32 digest = Statements.digest(s, separator);
        bytes memory encoded = abi.encode(s);
        vm.assertEq(encoded.length, 32 * _WORDS, "words");
        for (uint256 i = 0; i < _WORDS; ++i) {
            bytes memory changed = bytes.concat(encoded);
            changed[32 * i + 31] ^= bytes1(uint8(1 << (bit % 8)));
            vm.assertTrue(
                Statements.digest(abi.decode(changed, (Statement)), separator) != digest, "a field does not count"
            );
        }
        vm.assertTrue(Statements.digest(s, ~separator) != digest, "the domain does not count");
    }

    function testFuzz_domainSeparator_dependsOnChainAndLog(uint64 chain, address log) public {
        bytes32 here = Statements.domainSeparator(log);
        vm.assertTrue(here != Statements.domainSeparator(address(uint160(log) ^ 1)), "the log does not count");
        vm.assume(chain != 0 && chain != block.chainid);
        vm.chainId(chain);
        vm.assertTrue(here != Statements.domainSeparator(log), "the chain does not count");
    }

    function test_vectors_statements() public {
        string memory json = vm.readFile(string.concat(VECTORS, "statements.json"));
        uint256 count = 0;
        for (; vm.keyExistsJson(json, item(".cases", count, "")); ++count) {
            _checkVector(json, count);
        }
        vm.assertTrue(count > 0, "no statements in the vectors");
    }

    function _checkVector(string memory json, uint256 i) private {
        Statement memory s = abi.decode(vm.parseJsonBytes(json, item(".cases", i, ".abi")), (Statement));
        vm.chainId(vm.parseJsonUint(json, item(".cases", i, ".chainId")));
        bytes32 separator =
            Statements.domainSeparator(vm.parseJsonAddress(json, item(".cases", i, ".verifyingContract")));
        bytes32 digest = Statements.digest(s, separator);
        vm.assertEq(separator, vm.parseJsonBytes32(json, item(".cases", i, ".domainSeparator")), "domain separator");
        vm.assertEq(
            Statements.hash(s.circuit), vm.parseJsonBytes32(json, item(".cases", i, ".circuitHash")), "circuit hash"
        );
        vm.assertEq(Statements.hash(s), vm.parseJsonBytes32(json, item(".cases", i, ".structHash")), "struct hash");
        vm.assertEq(digest, vm.parseJsonBytes32(json, item(".cases", i, ".digest")), "digest");
        vm.assertEq(
            Statements.taskId(s.jobId, s.recordStart, s.recordCount),
            vm.parseJsonBytes32(json, item(".cases", i, ".taskId")),
            "task id"
        );
        address worker = vm.parseJsonAddress(json, item(".cases", i, ".worker"));
        vm.assertEq(s.worker, worker, "worker");
        vm.assertEq(
            ECDSA.recover(digest, vm.parseJsonBytes(json, item(".cases", i, ".signature"))), worker, "signature"
        );
    }
}
