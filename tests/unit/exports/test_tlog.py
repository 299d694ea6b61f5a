"""Checkpoints and tlog-proofs, against those that Go's ``sumdb/note`` and ``sumdb/tlog`` made (tests/vectors/tlog)."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rexis.exports.anchor_log import log_entry
from rexis.exports.note import NoteKey, sign_note
from rexis.exports.tlog import LogProof, TreeHead
from rexis.protocol.digests import sha256
from rexis.protocol.errors import MalformedError, MerkleError, RexisError, SignatureError
from rexis.protocol.merkle import GrowingTree, MerkleTree

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/tlog/vectors.json").read_text())
KEY = NoteKey.parse(VECTORS["key"])
PRIVATE = Ed25519PrivateKey.from_private_bytes(b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:])
ENTRIES = [bytes.fromhex(entry) for entry in VECTORS["entries"]]
SIZES = range(len(ENTRIES) + 1)


def checkpoint(size: int) -> str:
    tree = GrowingTree()
    tree.extend(ENTRIES[:size])
    return sign_note(TreeHead(KEY.name, size, tree.root).text(), KEY.name, PRIVATE)


def test_entries_are_what_the_vectors_have() -> None:
    assert [log_entry(sha256(bytes([size])), size) for size in SIZES[1:]] == ENTRIES


@pytest.mark.parametrize("size", SIZES)
def test_the_field_makes_the_same_bytes(size: int) -> None:
    head = VECTORS["heads"][size]
    assert checkpoint(size) == head["checkpoint"]
    tree = MerkleTree(ENTRIES[:size]) if size else None
    ours = [LogProof(index, tree.path(index), checkpoint(size)).text() for index in range(size) if tree]
    assert ours == head["proofs"]


@pytest.mark.parametrize("size", SIZES)
def test_what_the_field_makes_is_read_and_checked(size: int) -> None:
    head = TreeHead.opened(VECTORS["heads"][size]["checkpoint"], KEY)
    assert (head.origin, head.size) == (KEY.name, size)
    for index, text in enumerate(VECTORS["heads"][size]["proofs"]):
        assert LogProof.parse(text).check(ENTRIES[index], KEY) == head
        for other in range(size):
            if other != index:
                with pytest.raises(MerkleError):
                    LogProof.parse(text).check(ENTRIES[other], KEY)


@pytest.mark.parametrize("size", SIZES)
def test_a_growing_tree_goes_on_where_it_was(size: int) -> None:
    begun = GrowingTree()
    begun.extend(ENTRIES[:size])
    again = GrowingTree(begun.size, begun.peaks)
    again.extend(ENTRIES[size:])
    assert again.root == MerkleTree(ENTRIES).root
    with pytest.raises(MerkleError):
        GrowingTree(size + 1, [*begun.peaks] * 2 + [bytes(32)] * 5)


PROOF = VECTORS["heads"][7]["proofs"][2]


def test_extra_data_is_passed_over() -> None:
    assert LogProof.parse(PROOF.replace("\n", "\nextra AAAA\n", 1)) == LogProof.parse(PROOF)


@pytest.mark.parametrize(
    "text",
    [
        "",
        PROOF.replace("@v1", "@v2"),
        PROOF.replace("index 2", "index 02"),
        PROOF.replace("index 2", "index -2"),
        PROOF.replace("index 2\n", ""),
        PROOF.replace("\n\n", "\n"),
        PROOF.replace("index 2\n", "index 2\nAAAA\n"),
        PROOF.replace("index 2\n", "index 2\n" + (PROOF.split("\n")[2] + "\n") * 65),
        "x" * (1 << 18),
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        LogProof.parse(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (PROOF.replace("index 2", "index 3"), MerkleError),
        (PROOF.replace("index 2", "index 7"), MerkleError),
        ("\n".join(PROOF.split("\n")[:2] + PROOF.split("\n")[3:]), MerkleError),
        (PROOF.replace("PeterNeumann\n7\n", "PeterNeumann\n8\n"), SignatureError),
        (PROOF.replace("PeterNeumann\n7\n", "somebody\n7\n"), SignatureError),
    ],
)
def test_a_proof_of_something_else_is_refused(text: str, error: type[RexisError]) -> None:
    with pytest.raises(error):
        LogProof.parse(text).check(ENTRIES[2], KEY)


@pytest.mark.parametrize(
    "text",
    [
        f"another log\n1\n{'A' * 43}=\n",
        "PeterNeumann\n1\n",
        f"PeterNeumann\n01\n{'A' * 43}=\n",
        "PeterNeumann\n1\nAAAA\n",
        f"PeterNeumann\n1\n\n{'A' * 43}=\n",
    ],
)
def test_a_note_that_is_no_checkpoint_of_the_log_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        TreeHead.opened(sign_note(text, KEY.name, PRIVATE), KEY)
