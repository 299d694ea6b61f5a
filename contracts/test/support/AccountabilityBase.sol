// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Disputes} from "../../src/accountability/Disputes.sol";
import {JobEscrow} from "../../src/accountability/JobEscrow.sol";
import {JobRequest, Policy, Requests} from "../../src/accountability/Requests.sol";
import {WorkerRegistry} from "../../src/accountability/WorkerRegistry.sol";
import {Statements} from "../../src/Statements.sol";
import {CertifierBase} from "./CertifierBase.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Token} from "./Tokens.sol";

/// @title Disputes, stakes and escrow, over the contracts of CertifierBase.
abstract contract AccountabilityBase is CertifierBase {
    uint128 internal constant BOND = 10;
    uint128 internal constant PENALTY = 1000;
    uint16 internal constant REWARD_BPS = 4000;
    uint64 internal constant PERIOD = 100;
    uint64 internal constant WINDOW = 30;
    uint128 internal constant STAKE = 2500;
    uint128 internal constant PRICE = 7;
    address internal constant GOVERNANCE = address(0x60E);
    address internal constant TREASURY = address(0x7EA);
    address internal constant CHALLENGER = address(0xC4A);
    address internal constant PAYER = address(0x9A9);
    address internal constant COORDINATOR = address(0xC00);

    Token internal token;
    Disputes internal disputes;
    WorkerRegistry internal workers;
    JobEscrow internal escrow;
    address internal worker;

    function setUp() public virtual override {
        super.setUp();
        vm.roll(1000);
        worker = vm.addr(WORKER_KEY);
        token = newToken();
        disputes = new Disputes(GOVERNANCE, token, certifier, _terms());
        workers = disputes.workers();
        escrow = new JobEscrow(GOVERNANCE, certifier, disputes);
        provide(worker, address(workers), STAKE);
        provide(CHALLENGER, address(disputes), 100 * uint256(BOND));
        provide(PAYER, address(escrow), 1000 * uint256(PRICE));
        vm.prank(worker);
        workers.deposit(STAKE);
        register();
        halo2.registerVka(vka);
        disputes.admitCircuit(instances, proof, vka);
    }

    function newToken() internal virtual returns (Token) {
        return new Token();
    }

    function provide(address account, address spender, uint256 amount) internal {
        token.mint(account, amount);
        vm.prank(account);
        token.approve(spender, type(uint256).max);
    }

    /// @dev A statement of tier `sampled` on the job of `request`, signed, and anchored by the coordinator.
    function anchored(uint64 index) internal returns (Call memory c) {
        c = prepared(index);
        c.statement.tier = Statements.TIER_SAMPLED;
        submit(c);
    }

    /// @dev Make it a statement of `request`'s job, sign and anchor it.
    function submit(Call memory c) internal {
        JobRequest memory r = request(c.statement.tier);
        c.statement.jobId = Requests.jobId(r, log.domainSeparator());
        c.statement.policyDigest = Requests.hash(r.policy);
        c.statement.taskId = Statements.taskId(c.statement.jobId, c.statement.recordStart, c.statement.recordCount);
        vm.startPrank(COORDINATOR);
        seal(c);
        vm.stopPrank();
    }

    /// @dev A job of two tasks, of which the first is the one over records 1, 2 and 3.
    function request(uint8 tier) internal view returns (JobRequest memory r) {
        r.kind = Statements.KIND_EVALUATION;
        r.modelDigest = MODEL;
        r.keyEpoch = EPOCH;
        r.circuit = circuit;
        r.inputRoot = MerkleTree.root(inputLeaves());
        r.inputSize = SIZE;
        r.recordStart = START;
        r.recordCount = SIZE - START;
        r.policy = Policy(tier, tier == Statements.TIER_SAMPLED ? 1 : 0, uint32(COUNT), 3, 0, 0, 1, 0, false);
        r.requester = PAYER;
        r.coordinator = COORDINATOR;
        r.nonce = keccak256("request");
    }

    function challenge(Call memory c) internal {
        vm.prank(CHALLENGER);
        disputes.challenge(c.statement, c.signature, c.anchor, inputOf(c));
    }

    function inputOf(Call memory c) internal view returns (Disputes.InputOpening memory input) {
        input.recordIndex = c.record.recordIndex;
        input.salt = c.record.inputSalt;
        input.path = c.record.inputPath;
        input.values = new uint256[](circuit.inputLength);
        for (uint256 i = 0; i < input.values.length; ++i) {
            input.values[i] = c.record.instances[i];
        }
    }

    function answer(Call memory c) internal {
        disputes.answer(c.statement, c.record, c.vka);
    }

    /// @dev Challenge a record and let the window pass.
    function lose(Call memory c) internal {
        challenge(c);
        vm.roll(block.number + WINDOW + 1);
        disputes.close(log.digestOf(c.statement), c.record.recordIndex);
    }

    function owedTo(address account) internal view returns (uint256) {
        return disputes.owed(token, account);
    }

    function _terms() internal pure returns (Disputes.Terms memory) {
        return Disputes.Terms(BOND, PENALTY, REWARD_BPS, TREASURY, PERIOD, WINDOW);
    }
}
