// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Bls} from "../src/accountability/Bls.sol";
import {Test} from "./support/Test.sol";

/// @dev `expectRevert` sees calls, and a library has none.
contract BlsCaller {
    function verify(bytes memory publicKey, bytes memory message, bytes memory signature) external view returns (bool) {
        return Bls.verify(publicKey, message, signature, Bls.SIGNATURE_DST);
    }
}

/// @title Against vectors that arkworks made, and py-ecc and RFC 9380 confirm (tests/unit/protocol/test_bls.py).
/// forge-config: default.evm_version = "prague"
contract BlsTest is Test {
    BlsCaller private _bls;
    string private _json;
    bytes private _key;
    bytes private _message;
    bytes private _signature;

    function setUp() public {
        _bls = new BlsCaller();
        _json = vm.readFile(string.concat(VECTORS, "bls.json"));
        _key = vm.parseJsonBytes(_json, ".validators[0].publicKey");
        _message = vm.parseJsonBytes(_json, ".verdicts[0].message");
        _signature = vm.parseJsonBytes(_json, ".verdicts[0].signatures[0]");
    }

    function test_vectors_hashToG2() public view {
        uint256 count = 0;
        for (; vm.keyExistsJson(_json, item(".hashes", count, "")); ++count) {
            bytes memory found = Bls.hashToG2(
                vm.parseJsonBytes(_json, item(".hashes", count, ".message")),
                bytes(vm.parseJsonString(_json, item(".hashes", count, ".dst")))
            );
            vm.assertEq(found, vm.parseJsonBytes(_json, item(".hashes", count, ".point")), "point");
        }
        vm.assertTrue(count > 0, "no hashes in the vectors");
    }

    function test_vectors_verify() public view {
        for (uint256 i = 0; i < 4; ++i) {
            bytes memory publicKey = vm.parseJsonBytes(_json, item(".validators", i, ".publicKey"));
            bytes memory signature = vm.parseJsonBytes(_json, item(".verdicts[0].signatures", i, ""));
            vm.assertTrue(_bls.verify(publicKey, _message, signature), "its own");
            vm.assertTrue(_bls.verify(publicKey, _message, _signature) == (i == 0), "the first one's");
        }
    }

    function testFuzz_verify_falseForAnotherMessage(bytes memory message) public view {
        vm.assume(keccak256(message) != keccak256(_message));
        vm.assertFalse(_bls.verify(_key, message, _signature), "another message");
    }

    function test_verify_falseInAnotherDomain() public view {
        vm.assertFalse(Bls.verify(_key, _message, _signature, Bls.POSSESSION_DST), "as a proof of possession");
    }

    /// @dev e(−G, 0)·e(0, H) is 1: nobody's signature of everything.
    function test_verify_falseForInfinity() public view {
        vm.assertFalse(_bls.verify(new bytes(128), _message, new bytes(256)), "both");
        vm.assertFalse(_bls.verify(_key, _message, new bytes(256)), "signature");
        vm.assertFalse(_bls.verify(new bytes(128), _message, _signature), "key");
    }

    function test_verify_revertsIfOutsideTheSubgroup() public {
        bytes memory outside = vm.parseJsonBytes(_json, ".wrongSubgroup.publicKey");
        bytes memory reason = abi.encodeWithSelector(Bls.PrecompileFailed.selector, 0x0f);
        Bls.add(outside, outside); // on the curve: only the pairing looks further
        vm.expectRevert(reason);
        _bls.verify(outside, _message, _signature);
        outside = vm.parseJsonBytes(_json, ".wrongSubgroup.signature");
        vm.expectRevert(reason);
        _bls.verify(_key, _message, outside);
    }

    function test_verify_revertsIfNoPoint() public {
        bytes memory broken = bytes.concat(_key);
        broken[127] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(Bls.PrecompileFailed.selector, 0x0f));
        _bls.verify(broken, _message, _signature);
        vm.expectRevert(abi.encodeWithSelector(Bls.BadLength.selector, 128, 129));
        _bls.verify(bytes.concat(_key, hex"00"), _message, _signature);
        vm.expectRevert(abi.encodeWithSelector(Bls.BadLength.selector, 256, 0));
        _bls.verify(_key, _message, "");
    }
}

/// @title On a chain without EIP-2537.
contract BlsWithoutPrecompilesTest is Test {
    function test_hashToG2_revertsIfChainHasNoPrecompiles() public {
        BlsCaller bls = new BlsCaller();
        bytes memory point = new bytes(128);
        point[127] = 0x01;
        bytes memory signature = new bytes(256);
        signature[255] = 0x01;
        vm.expectRevert(abi.encodeWithSelector(Bls.PrecompileFailed.selector, 0x11));
        bls.verify(point, "message", signature);
    }
}
