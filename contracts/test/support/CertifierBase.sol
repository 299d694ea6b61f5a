// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Certifier} from "../../src/Certifier.sol";
import {AnchorProof, RecordProof} from "../../src/Evidence.sol";
import {EvidenceLog} from "../../src/EvidenceLog.sol";
import {Merkle} from "../../src/Merkle.sol";
import {ModelRegistry} from "../../src/ModelRegistry.sol";
import {Records} from "../../src/Records.sol";
import {Circuit, Statement, Statements} from "../../src/Statements.sol";
import {IHalo2VerifierReusable} from "../../src/vendor/IHalo2VerifierReusable.sol";
import {Halo2VerifierReusable} from "../../src/vendor/Halo2VerifierReusable.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Test} from "./Test.sol";

/// @title The contracts, deployed, and an honest worker with a real proof.
/// @notice A dataset of five records with a task over its records 1, 2 and 3. Records 1 and 2 hold the values of the
/// proof in halo2_tiny.json (with salts of their own), all others hold other values.
abstract contract CertifierBase is Test {
    uint64 internal constant SIZE = 5;
    uint64 internal constant START = 1;
    uint64 internal constant COUNT = 3;
    uint256 internal constant WORKER_KEY = 0x5eed;
    uint64 internal constant EPOCH = 4;
    bytes32 internal constant MODEL = keccak256("encrypted model");

    /// @dev All that `certifyRecord` takes.
    struct Call {
        Statement statement;
        bytes signature;
        AnchorProof anchor;
        RecordProof record;
        bytes32[] vka;
    }

    ModelRegistry internal registry;
    EvidenceLog internal log;
    Certifier internal certifier;
    IHalo2VerifierReusable internal halo2;

    bytes internal proof;
    bytes32[] internal vka;
    uint256[] internal instances;
    Circuit internal circuit;

    function setUp() public virtual {
        registry = new ModelRegistry();
        log = new EvidenceLog(registry);
        halo2 = IHalo2VerifierReusable(address(new Halo2VerifierReusable()));
        certifier = new Certifier(log, halo2);

        string memory json = vm.readFile(string.concat(VECTORS, "halo2_tiny.json"));
        proof = vm.parseJsonBytes(json, ".proof");
        vka = vm.parseJsonBytes32Array(json, ".vka");
        bytes32[] memory words = vm.parseJsonBytes32Array(json, ".instances");
        for (uint256 i = 0; i < words.length; ++i) {
            instances.push(uint256(words[i]));
        }
        circuit = Circuit({
            vkDigest: keccak256("vk"),
            vkaDigest: keccak256(abi.encodePacked(vka)),
            srsDigest: keccak256("srs"),
            settingsDigest: keccak256("settings"),
            visibility: Statements.VISIBILITY_PUBLIC,
            inputScale: uint8(vm.parseJsonUint(json, ".inputScale")),
            outputScale: uint8(vm.parseJsonUint(json, ".outputScale")),
            inputLength: uint32(vm.parseJsonStringArray(json, ".inputs").length),
            outputLength: uint32(vm.parseJsonStringArray(json, ".outputs").length)
        });
    }

    /// @dev An honest call for record `index`, its model registered, its VKA too, its statement anchored.
    function honest(uint64 index) internal returns (Call memory c) {
        register();
        halo2.registerVka(vka);
        c = prepared(index);
        seal(c);
    }

    function register() internal {
        if (!registry.isActive(MODEL, EPOCH)) registry.register(MODEL, EPOCH, circuit);
    }

    /// @dev Statement and opening of record `index`; neither signed nor anchored.
    function prepared(uint64 index) internal view returns (Call memory c) {
        c.statement = statement();
        c.record.recordIndex = index;
        c.record.inputSalt = salt(index);
        c.record.inputPath = MerkleTree.path(inputLeaves(), index);
        c.record.outputPath = MerkleTree.path(outputLeaves(), index - START);
        c.record.instances = values(index);
        c.record.proof = proof;
        c.vka = vka;
    }

    /// @dev Sign the statement as it stands and anchor it, between two others.
    function seal(Call memory c) internal {
        bytes32 digest = log.digestOf(c.statement);
        c.signature = sign(WORKER_KEY, digest);
        bytes32[] memory leaves = new bytes32[](3);
        leaves[0] = Merkle.leafHash("another");
        leaves[1] = Merkle.leafHash(abi.encodePacked(digest));
        leaves[2] = Merkle.leafHash("a third");
        c.anchor.anchorId = log.anchor(MerkleTree.root(leaves), 3);
        c.anchor.leafIndex = 1;
        c.anchor.path = MerkleTree.path(leaves, 1);
    }

    function certify(Call memory c) internal returns (uint64) {
        return certifier.certifyRecord(c.statement, c.signature, c.anchor, c.record, c.vka);
    }

    /// @dev Put a verifier in ezkl's place that gives one answer to everything. ezkl's own reverts instead of saying no.
    function answerAlways(bool success, bytes32 vkaDigest) internal {
        // PUSH1 success, PUSH1 0, MSTORE; PUSH32 digest, PUSH1 32, MSTORE; PUSH1 64, PUSH1 0, RETURN.
        vm.etch(address(halo2), abi.encodePacked(hex"60", success, hex"6000527f", vkaDigest, hex"60205260406000f3"));
    }

    function statement() internal view returns (Statement memory) {
        bytes32 job = keccak256("job");
        return Statement({
            version: 1,
            jobId: job,
            taskId: Statements.taskId(job, START, COUNT),
            kind: Statements.KIND_EVALUATION,
            modelDigest: MODEL,
            keyEpoch: EPOCH,
            circuit: circuit,
            inputRoot: MerkleTree.root(inputLeaves()),
            inputSize: SIZE,
            outputRoot: MerkleTree.root(outputLeaves()),
            recordStart: START,
            recordCount: COUNT,
            tier: Statements.TIER_ZK,
            policyDigest: keccak256("policy"),
            worker: vm.addr(WORKER_KEY),
            nonce: keccak256("lease")
        });
    }

    function salt(uint64 index) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", index));
    }

    /// @dev Inputs and outputs of a record.
    function values(uint64 index) internal view virtual returns (uint256[] memory found) {
        found = instances;
        if (index != 1 && index != 2) found[0] = 1000 + index;
    }

    function inputLeaves() internal view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](SIZE);
        for (uint64 i = 0; i < SIZE; ++i) {
            leaves[i] = leaf(0, salt(i), values(i), 0, circuit.inputLength);
        }
    }

    function outputLeaves() internal view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](COUNT);
        for (uint64 i = 0; i < COUNT; ++i) {
            bytes32 outputSalt = Records.outputSalt(salt(START + i));
            leaves[i] = leaf(1, outputSalt, values(START + i), circuit.inputLength, circuit.outputLength);
        }
    }

    /// @dev A leaf by the text of docs/protocol.md §3; both scales of the circuit are the same.
    function leaf(uint8 side, bytes32 salt_, uint256[] memory from, uint256 first, uint32 length)
        internal
        view
        returns (bytes32)
    {
        bytes memory data = abi.encodePacked("rexis.record.v1", uint8(0), side, uint8(1), circuit.inputScale);
        data = bytes.concat(data, abi.encodePacked(salt_, length));
        for (uint256 i = first; i < first + length; ++i) {
            data = bytes.concat(data, abi.encodePacked(Records.toInt64(from[i], i)));
        }
        return Merkle.leafHash(data);
    }
}
