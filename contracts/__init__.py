"""The Solidity contracts of rexis and their Python bindings.

``src/`` and ``test/`` hold Solidity (Foundry), ``abi/`` what an installed package needs of it (written by
``python -m contracts.export``), :mod:`contracts.chain` the typed access, :mod:`contracts.devchain` a development chain.
"""
