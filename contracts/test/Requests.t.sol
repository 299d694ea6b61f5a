// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {JobRequest, Requests} from "../src/accountability/Requests.sol";
import {Statements} from "../src/Statements.sol";
import {Test} from "./support/Test.sol";

contract RequestsTest is Test {
    function test_vectors_requests() public {
        string memory json = vm.readFile(string.concat(VECTORS, "requests.json"));
        uint256 count = 0;
        for (; vm.keyExistsJson(json, item(".cases", count, "")); ++count) {
            JobRequest memory r = abi.decode(vm.parseJsonBytes(json, item(".cases", count, ".abi")), (JobRequest));
            vm.chainId(vm.parseJsonUint(json, item(".cases", count, ".chainId")));
            bytes32 separator =
                Statements.domainSeparator(vm.parseJsonAddress(json, item(".cases", count, ".verifyingContract")));
            vm.assertEq(
                Requests.hash(r.policy),
                vm.parseJsonBytes32(json, item(".cases", count, ".policyDigest")),
                "policy digest"
            );
            vm.assertEq(
                Requests.jobId(r, separator), vm.parseJsonBytes32(json, item(".cases", count, ".jobId")), "job id"
            );
        }
        vm.assertTrue(count > 0, "no requests in the vectors");
    }
}
