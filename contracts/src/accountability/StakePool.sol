// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {Currency} from "./Currency.sol";
import {Governed} from "./Governed.sol";

/// @title Stakes that can be lost, and that leave only after a delay.
/// @notice Stake that was asked back is no longer active: who relies on a stake counts the active part. Until it is
/// fetched it can still be locked and slashed.
abstract contract StakePool is Governed, ReentrancyGuard {
    /// @param amount All that is here; the other two are parts of it, and may overlap.
    /// @param locked Held for open disputes.
    /// @param leaving Asked back.
    /// @param leavesAt Block from which `leaving` may be fetched, as far as it is not locked.
    struct Stake {
        uint128 amount;
        uint128 locked;
        uint128 leaving;
        uint64 leavesAt;
    }

    event Deposited(address indexed account, uint256 amount);
    event WithdrawalRequested(address indexed account, uint256 amount, uint64 leavesAt);
    event Withdrawn(address indexed account, uint256 amount);
    event Slashed(address indexed account, uint256 amount);

    error ZeroAmount();
    error ActiveStakeTooSmall(address account, uint256 active, uint256 wanted);
    error NotYet(uint64 leavesAt);
    error NothingToWithdraw(address account);

    /// @notice What stakes are in; zero: the chain's coin.
    IERC20 public immutable token;
    /// @notice Blocks between asking and fetching.
    uint64 public immutable withdrawalDelay;

    mapping(address account => Stake) private _stakes;

    constructor(IERC20 token_, uint64 withdrawalDelay_) {
        token = token_;
        withdrawalDelay = withdrawalDelay_;
    }

    /// @notice Add to the caller's stake.
    function deposit(uint128 amount) external payable nonReentrant whenNotPaused {
        if (amount == 0) revert ZeroAmount();
        uint256 before = activeStake(msg.sender);
        _stakes[msg.sender].amount += amount;
        _activeChanged(msg.sender, before);
        emit Deposited(msg.sender, amount);
        Currency.take(token, amount);
    }

    /// @notice Ask a part of the active stake back. The delay of all that was asked for starts again.
    function requestWithdrawal(uint128 amount) external {
        if (amount == 0) revert ZeroAmount();
        uint256 active = activeStake(msg.sender);
        if (amount > active) revert ActiveStakeTooSmall(msg.sender, active, amount);
        Stake storage stake = _stakes[msg.sender];
        stake.leaving += amount;
        stake.leavesAt = uint64(block.number) + withdrawalDelay;
        _activeChanged(msg.sender, active);
        emit WithdrawalRequested(msg.sender, amount, stake.leavesAt);
    }

    /// @notice Fetch what was asked back, less what is locked.
    /// @return amount How much it was.
    function withdraw() external nonReentrant returns (uint128 amount) {
        Stake storage stake = _stakes[msg.sender];
        if (block.number < stake.leavesAt) revert NotYet(stake.leavesAt);
        uint128 free = stake.amount - stake.locked;
        amount = stake.leaving < free ? stake.leaving : free;
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        stake.amount -= amount;
        stake.leaving -= amount;
        emit Withdrawn(msg.sender, amount);
        Currency.give(token, msg.sender, amount);
    }

    /// @notice An account's stake.
    function stakeOf(address account) public view returns (Stake memory) {
        return _stakes[account];
    }

    /// @notice What an account has here and has not asked back.
    function activeStake(address account) public view returns (uint256) {
        Stake storage stake = _stakes[account];
        return stake.amount - stake.leaving;
    }

    /// @dev Lock up to `wanted` of what is not locked yet.
    function _lock(address account, uint128 wanted) internal returns (uint128 amount) {
        Stake storage stake = _stakes[account];
        uint128 free = stake.amount - stake.locked;
        amount = wanted < free ? wanted : free;
        stake.locked += amount;
    }

    function _unlock(address account, uint128 amount) internal {
        _stakes[account].locked -= amount;
    }

    /// @dev Take `amount` of the locked stake; the caller of this says where it goes. What is leaving is taken last.
    function _slash(address account, uint128 amount) internal {
        uint256 before = activeStake(account);
        Stake storage stake = _stakes[account];
        stake.locked -= amount;
        stake.amount -= amount;
        if (stake.leaving > stake.amount) stake.leaving = stake.amount;
        _activeChanged(account, before);
        emit Slashed(account, amount);
    }

    /// @dev Called after each change of an active stake.
    function _activeChanged(address account, uint256 before) internal virtual {}
}
