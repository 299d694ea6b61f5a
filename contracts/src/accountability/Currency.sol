// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title Taking and giving an ERC-20 token, or the chain's own coin, which is written as the token at address zero.
/// @dev A token that takes a fee of a transfer is refused: what is owed could not be paid out. One that changes balances
/// by itself (rebasing) cannot be told from others, and must not be used.
library Currency {
    using SafeERC20 for IERC20;

    error WrongValue(uint256 expected, uint256 sent);
    error TokenTookFee(IERC20 token, uint256 expected, uint256 received);

    /// @notice Take exactly `amount` from the caller: with the call, or by the allowance that it gave.
    function take(IERC20 token, uint256 amount) internal {
        if (address(token) == address(0)) {
            if (msg.value != amount) revert WrongValue(amount, msg.value);
            return;
        }
        if (msg.value != 0) revert WrongValue(0, msg.value);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert TokenTookFee(token, amount, received);
    }

    /// @notice Give `amount`. The caller has guarded itself against being entered again.
    function give(IERC20 token, address to, uint256 amount) internal {
        if (address(token) == address(0)) Address.sendValue(payable(to), amount);
        else token.safeTransfer(to, amount);
    }
}
