// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {EvidenceLog} from "../EvidenceLog.sol";
import {Bls} from "./Bls.sol";
import {Governed} from "./Governed.sol";
import {Payments} from "./Payments.sol";
import {StakePool} from "./StakePool.sol";

/// @title Verdicts of validators who re-checked evidence, as one aggregate signature.
/// @notice Validators stake, show that they hold their key, and sign (statement digest, verdict). Whoever has signatures
/// of more than a threshold of the active stake writes the verdict here. Needs a chain with EIP-2537 (Prague).
/// @dev Proofs of possession keep out rogue keys: sums of others' keys whose secret nobody has. They also name the account,
/// so that nobody registers what was copied from a pending transaction.
contract ValidatorQuorum is StakePool, Payments {
    /// @param publicKey In G1, as EIP-2537 writes it.
    struct Validator {
        address account;
        bytes publicKey;
    }

    event ValidatorJoined(address indexed account, uint8 indexed slot, bytes publicKey);
    event ValidatorLeft(address indexed account, uint8 indexed slot);
    event VerdictRecorded(
        bytes32 indexed statementDigest, uint8 indexed verdict, uint256 signers, uint256 stake, uint256 activeStake
    );
    event Equivocated(address indexed account, bytes32 indexed statementDigest, address indexed reporter);

    error BadThreshold(uint16 thresholdBps);
    error StakeTooSmall(uint256 active, uint128 wanted);
    error AlreadyJoined(address account);
    error KeyInUse(bytes32 keyHash);
    error SlotTaken(uint8 slot);
    error EmptySlot(uint8 slot);
    error StillStaked(address account);
    error NoPossession(address account);
    error UnknownVerdict(uint8 verdict);
    error AlreadyRecorded(bytes32 statementDigest);
    error NoQuorum(uint256 stake, uint256 activeStake);
    error WrongSignature(bytes32 statementDigest, uint8 verdict);

    uint8 public constant VALID = 1;
    uint8 public constant INVALID = 2;

    uint16 private constant _BPS = 10_000;
    string private constant _VERDICT_TYPE = "ValidatorVerdict(bytes32 statementDigest,uint8 verdict)";
    bytes32 private constant _VERDICT_TYPEHASH = keccak256(bytes(_VERDICT_TYPE));

    /// @notice The log whose EIP-712 domain the signatures have.
    EvidenceLog public immutable log;
    /// @notice A verdict needs more than this share of the active stake, in 1/10,000.
    uint16 public immutable thresholdBps;
    /// @notice What a validator has to have at stake, at least.
    uint128 public immutable minStake;

    /// @notice Active stake of all validators.
    uint256 public activeTotal;
    /// @notice The verdict on a statement, and what was behind it; 0 if there is none.
    mapping(bytes32 statementDigest => uint8) public verdictOf;

    mapping(uint8 slot => Validator) private _validators;
    mapping(address account => uint16) private _slotPlusOne;
    mapping(bytes32 keyHash => bool) private _keys;

    constructor(
        address governance,
        IERC20 token_,
        uint64 withdrawalDelay_,
        EvidenceLog log_,
        uint16 thresholdBps_,
        uint128 minStake_
    ) Governed(governance) StakePool(token_, withdrawalDelay_) {
        // At two thirds, two contradicting verdicts need a third of the stake to sign both.
        if (thresholdBps_ < 5_000 || thresholdBps_ >= _BPS || minStake_ == 0) revert BadThreshold(thresholdBps_);
        log = log_;
        thresholdBps = thresholdBps_;
        minStake = minStake_;
    }

    /// @notice Join with a public key, in a free slot.
    /// @param possession Signature by the key over `possessionMessage`, in the domain of proofs of possession.
    function join(uint8 slot, bytes calldata publicKey, bytes calldata possession) external whenNotPaused {
        if (_slotPlusOne[msg.sender] != 0) revert AlreadyJoined(msg.sender);
        if (_validators[slot].account != address(0)) revert SlotTaken(slot);
        uint256 active = activeStake(msg.sender);
        if (active < minStake) revert StakeTooSmall(active, minStake);
        bytes32 keyHash = keccak256(publicKey);
        if (_keys[keyHash]) revert KeyInUse(keyHash);
        bytes memory message = possessionMessage(publicKey, msg.sender);
        if (!Bls.verify(publicKey, message, possession, Bls.POSSESSION_DST)) revert NoPossession(msg.sender);
        _keys[keyHash] = true;
        _validators[slot] = Validator(msg.sender, publicKey);
        _slotPlusOne[msg.sender] = uint16(slot) + 1;
        activeTotal += active;
        emit ValidatorJoined(msg.sender, slot, publicKey);
    }

    /// @notice Free a slot whose validator has less than the least stake here, also of what it asked back: until it has
    /// fetched that, it can be reported. Anybody may; its key cannot come back.
    function evict(uint8 slot) external {
        address account = _validators[slot].account;
        if (account == address(0)) revert EmptySlot(slot);
        if (stakeOf(account).amount >= minStake) revert StillStaked(account);
        activeTotal -= activeStake(account);
        delete _validators[slot];
        delete _slotPlusOne[account];
        emit ValidatorLeft(account, slot);
    }

    /// @notice Write down a verdict that more than the threshold signed, by active stake of now. Anybody may.
    /// @param signers Bit i: the validator in slot i.
    /// @param signature The sum of their signatures.
    function record(bytes32 statementDigest, uint8 verdict, uint256 signers, bytes calldata signature) external {
        if (verdict != VALID && verdict != INVALID) revert UnknownVerdict(verdict);
        if (verdictOf[statementDigest] != 0) revert AlreadyRecorded(statementDigest);
        (bytes memory publicKey, uint256 stake) = _sum(signers);
        if (stake * _BPS <= activeTotal * thresholdBps) revert NoQuorum(stake, activeTotal);
        _requireSigned(statementDigest, verdict, publicKey, signature);
        verdictOf[statementDigest] = verdict;
        emit VerdictRecorded(statementDigest, verdict, signers, stake, activeTotal);
    }

    /// @notice Show that a validator signed both verdicts on one statement. It loses its stake; half is the reporter's, the
    /// rest governance's.
    function reportEquivocation(uint8 slot, bytes32 statementDigest, bytes calldata valid, bytes calldata invalid)
        external
    {
        Validator storage validator = _validators[slot];
        address account = validator.account;
        if (account == address(0)) revert EmptySlot(slot);
        _requireSigned(statementDigest, VALID, validator.publicKey, valid);
        _requireSigned(statementDigest, INVALID, validator.publicKey, invalid);
        uint128 amount = _lock(account, type(uint128).max);
        emit Equivocated(account, statementDigest, msg.sender);
        if (amount == 0) return;
        _slash(account, amount);
        _credit(token, msg.sender, amount / 2);
        _credit(token, owner(), amount - amount / 2);
    }

    /// @notice The validator in a slot; all zero if it is free.
    function validatorAt(uint8 slot) external view returns (Validator memory) {
        return _validators[slot];
    }

    /// @notice What a validator signs about a statement: the EIP-712 digest, 32 bytes.
    function messageOf(bytes32 statementDigest, uint8 verdict) public view returns (bytes32) {
        bytes32 structHash = keccak256(abi.encode(_VERDICT_TYPEHASH, statementDigest, verdict));
        return keccak256(abi.encodePacked(bytes2(0x1901), log.domainSeparator(), structHash));
    }

    /// @notice What a validator signs to show that it holds its key.
    function possessionMessage(bytes memory publicKey, address account) public view returns (bytes memory) {
        return abi.encodePacked(publicKey, account, log.domainSeparator());
    }

    function _sum(uint256 signers) private view returns (bytes memory publicKey, uint256 stake) {
        publicKey = new bytes(Bls.G1_LENGTH);
        for (uint16 i = 0; i < 256; ++i) {
            if (signers >> i & 1 == 0) continue;
            Validator storage validator = _validators[uint8(i)];
            if (validator.account == address(0)) revert EmptySlot(uint8(i));
            publicKey = Bls.add(publicKey, validator.publicKey);
            stake += activeStake(validator.account);
        }
    }

    function _requireSigned(bytes32 statementDigest, uint8 verdict, bytes memory publicKey, bytes calldata signature)
        private
        view
    {
        bytes memory message = abi.encodePacked(messageOf(statementDigest, verdict));
        if (!Bls.verify(publicKey, message, signature, Bls.SIGNATURE_DST)) {
            revert WrongSignature(statementDigest, verdict);
        }
    }

    function _activeChanged(address account, uint256 before) internal override {
        if (_slotPlusOne[account] != 0) activeTotal = activeTotal - before + activeStake(account);
    }
}
