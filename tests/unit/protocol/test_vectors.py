"""The Python side of the shared vectors; contracts/test reads the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rexis.protocol.digests import Digest
from rexis.protocol.errors import MerkleError
from rexis.protocol.merkle import MerkleTree, check_inclusion, leaf_hash
from rexis.protocol.parsing import Address, parse_hex, to_hex
from rexis.protocol.records import Encoding, LeafFormat, Side, output_salt
from rexis.protocol.signing import recover
from rexis.protocol.statement import Statement
from rexis.protocol.typed_data import Domain

VECTORS = Path(__file__).parents[2] / "vectors" / "protocol"


def load(name: str) -> dict:
    return json.loads((VECTORS / f"{name}.json").read_text())


def test_vectors_are_what_the_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, VECTORS / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", load("statements")["cases"], ids=lambda c: c["digest"][:10])
def test_statement_digest_and_signature(case: dict) -> None:
    domain = Domain(chain_id=case["chainId"], verifying_contract=Address.parse(case["verifyingContract"]))
    statement = Statement.from_object(case["statement"])
    assert to_hex(domain.separator()) == case["domainSeparator"]
    assert to_hex(statement.hash_struct()) == case["structHash"]
    assert str(domain.digest(statement)) == case["digest"]
    assert recover(Digest.parse(case["digest"]), parse_hex(case["signature"])) == case["worker"]


def test_merkle_trees() -> None:
    for tree in load("merkle")["trees"]:
        leaves = [parse_hex(leaf) for leaf in tree["leaves"]]
        built = MerkleTree(leaves)
        assert str(built.root) == tree["root"]
        for index, path in enumerate(tree["paths"]):
            nodes = [Digest.parse(node) for node in path]
            assert built.path(index) == nodes
            check_inclusion(built.root, tree["size"], index, leaves[index], nodes)


@pytest.mark.parametrize("bad", load("merkle")["bad"], ids=lambda b: f"{b['why']} of {b['size']}")
def test_merkle_refuses(bad: dict) -> None:
    path = [Digest.parse(node) for node in bad["path"]]
    with pytest.raises(MerkleError):
        check_inclusion(Digest.parse(bad["root"]), bad["size"], bad["index"], parse_hex(bad["leaf"]), path)


def test_record_leaves() -> None:
    for case in load("records")["cases"]:
        leaf = LeafFormat(side=Side(case["side"]), encoding=Encoding(case["encoding"]), scale=case["scale"])
        integers = np.array([int(x) for x in case["integers"]], dtype=np.int64)
        payload = leaf.payload(integers)
        assert to_hex(payload) == case["payload"]
        salt = Digest.parse(case["salt"])
        data = leaf.leaf(salt, payload)
        assert to_hex(data) == case["leafData"]
        assert to_hex(leaf_hash(data)) == case["leafHash"]
        assert to_hex(output_salt(salt)) == case["outputSalt"]
        assert np.array_equal(leaf.values(payload), integers)
