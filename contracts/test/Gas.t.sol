// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {CertifierBase} from "./support/CertifierBase.sol";

/// @title What each transaction costs, kept in contracts/snapshots/gas.json.
/// @dev Isolated: every call is a transaction of its own, with its intrinsic and calldata cost.
/// forge-config: default.isolate = true
contract GasTest is CertifierBase {
    address private constant _NEXT = address(0xA11CE);

    function test_gas_ofEveryTransaction() public {
        registry.register(MODEL, EPOCH, circuit);
        vm.snapshotGasLastCall("gas", "ModelRegistry.register");
        log.commit(keccak256("task"), keccak256("digest"));
        vm.snapshotGasLastCall("gas", "EvidenceLog.commit");
        halo2.registerVka(vka);
        vm.snapshotGasLastCall("gas", "Halo2VerifierReusable.registerVka (tiny)");

        Call memory c = prepared(1);
        seal(c);
        log.anchor(keccak256("root"), 5);
        vm.snapshotGasLastCall("gas", "EvidenceLog.anchor");
        certify(c);
        vm.snapshotGasLastCall("gas", "Certifier.certifyRecord (tiny, first)");
        Call memory next = prepared(2);
        (next.signature, next.anchor) = (c.signature, c.anchor);
        certify(next);
        vm.snapshotGasLastCall("gas", "Certifier.certifyRecord (tiny, next)");

        registry.proposeOwner(MODEL, _NEXT);
        vm.snapshotGasLastCall("gas", "ModelRegistry.proposeOwner");
        vm.prank(_NEXT);
        registry.acceptOwnership(MODEL);
        vm.snapshotGasLastCall("gas", "ModelRegistry.acceptOwnership");
        vm.prank(_NEXT);
        registry.revoke(MODEL, EPOCH);
        vm.snapshotGasLastCall("gas", "ModelRegistry.revoke");
    }
}
