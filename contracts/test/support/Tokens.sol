// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A plain token; everybody mints.
contract Token is ERC20("Token", "TKN") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @title A token that burns a hundredth of each transfer.
contract FeeToken is Token {
    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (from != address(0) && to != address(0)) super._update(to, address(0), value / 100);
    }
}

/// @title A token that hands the control to somebody in the middle of each transfer.
contract HookedToken is Token {
    address private _target;
    bytes private _call;
    /// @notice Whether the call inside the last transfer went through.
    bool public entered;

    function hook(address target, bytes calldata call_) external {
        (_target, _call) = (target, call_);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (_target != address(0)) (entered,) = _target.call(_call);
    }
}

/// @title An account that enters the contract that pays it again, each time that it gets coins.
contract Reentrant {
    address private immutable _target;
    bytes private _call;
    bool public entered;

    constructor(address target) payable {
        _target = target;
    }

    function attack(bytes calldata call_) external returns (bool success) {
        _call = call_;
        (success,) = _target.call(call_);
    }

    receive() external payable {
        (bool again,) = _target.call(_call);
        entered = entered || again;
    }
}
