from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexis.protocol.digests import Digest
from rexis.protocol.errors import MerkleError
from rexis.protocol.merkle import MerkleTree, check_inclusion


def rfc6962_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word: the oracle."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + rfc6962_root(leaves[:k]) + rfc6962_root(leaves[k:])).digest()


def test_known_root_of_certificate_transparency() -> None:
    """The test vectors of the Certificate Transparency reference implementation."""
    leaves = [
        bytes.fromhex(text)
        for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    ]
    tree = MerkleTree(leaves)
    assert tree.root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert MerkleTree(leaves[:3]).root.hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_root_equals_the_recursive_definition(leaves: list[bytes]) -> None:
    assert MerkleTree(leaves).root == rfc6962_root(leaves)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_paths_check_and_any_change_is_refused(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = tree.path(index)
    check_inclusion(tree.root, len(leaves), index, leaves[index], path)
    with pytest.raises(MerkleError):
        check_inclusion(tree.root, len(leaves), index, leaves[index] + b"x", path)
    with pytest.raises(MerkleError):
        check_inclusion(tree.root, len(leaves), index, leaves[index], [*path, Digest(bytes(32))])
    for position in range(len(path)):
        bent = [*path]
        bent[position] = Digest(bytes([bent[position][0] ^ 1]) + bent[position][1:])
        with pytest.raises(MerkleError):
            check_inclusion(tree.root, len(leaves), index, leaves[index], bent)
        with pytest.raises(MerkleError):
            check_inclusion(tree.root, len(leaves), index, leaves[index], path[:position])


def test_empty_tree_and_outside_index() -> None:
    with pytest.raises(MerkleError):
        MerkleTree([])
    with pytest.raises(MerkleError):
        MerkleTree([b"a"]).path(1)
    with pytest.raises(MerkleError):
        check_inclusion(MerkleTree([b"a"]).root, 1, -1, b"a", [])
