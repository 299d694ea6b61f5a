"""Write the shared vectors of the protocol; ``--check`` fails if they differ from what is committed."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from eth_abi import encode
from eth_account import Account

from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.merkle import MerkleTree, leaf_hash
from rexis.protocol.parsing import Address, to_hex
from rexis.protocol.policy import Tier
from rexis.protocol.records import Encoding, LeafFormat, Side, output_salt
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import Kind, Statement, task_id
from rexis.protocol.typed_data import Domain, Struct

HERE = Path(__file__).parent
BN254_R = 21888242871839275222246405745257275088548364400416034343698204186575808495617


def struct_types(kind: type[Struct]) -> str:
    """ABI tuple type of a struct, nested structs as tuples."""
    members = kind._own_type().split("(", 1)[1][:-1].split(",")
    return "(" + ",".join(struct_types(Circuit) if m.startswith("Circuit ") else m.split(" ")[0] for m in members) + ")"


def struct_values(struct: Struct) -> tuple[Any, ...]:
    """Values in ABI order."""
    values: list[Any] = []
    for name in type(struct).model_fields:
        value = getattr(struct, name)
        if isinstance(value, Struct):
            values.append(struct_values(value))
        elif isinstance(value, Address):
            values.append(str(value))
        elif isinstance(value, bytes):
            values.append(bytes(value))
        else:
            values.append(int(value))
    return tuple(values)


def statements(rng: random.Random) -> dict[str, Any]:
    cases = []
    for number in range(6):
        tier = (Tier.ZK, Tier.COMMIT, Tier.SAMPLED)[number % 3]
        circuit = (
            NO_CIRCUIT
            if tier == Tier.COMMIT
            else Circuit(
                vk_digest=sha256(rng.randbytes(8)),
                vka_digest=sha256(rng.randbytes(8)),
                srs_digest=sha256(rng.randbytes(8)),
                settings_digest=sha256(rng.randbytes(8)),
                visibility=Visibility.PUBLIC,
                input_scale=7,
                output_scale=14,
                input_length=30,
                output_length=2,
            )
        )
        account = Account.from_key(sha256(b"vector worker", bytes([number])))
        domain = Domain(
            chain_id=(1, 31337, 11155111)[number % 3],
            verifying_contract=Address.from_bytes(rng.randbytes(20)),
        )
        job = sha256(rng.randbytes(8))
        start, count = rng.randrange(2**40), rng.randrange(1, 2**20)
        statement = Statement(
            version=1,
            job_id=job,
            task_id=task_id(job, start, count),
            kind=Kind.EVALUATION,
            model_digest=sha256(rng.randbytes(8)),
            key_epoch=rng.randrange(1, 2**50),
            circuit=circuit,
            input_root=sha256(rng.randbytes(8)),
            input_size=start + count,
            output_root=sha256(rng.randbytes(8)),
            record_start=start,
            record_count=count,
            tier=tier,
            policy_digest=sha256(rng.randbytes(8)),
            worker=address_of(account),
            nonce=sha256(rng.randbytes(8)),
        )
        digest = domain.digest(statement)
        cases.append(
            {
                "chainId": domain.chain_id,
                "verifyingContract": domain.verifying_contract,
                "domainSeparator": to_hex(domain.separator()),
                "statement": statement.to_object(),
                "abi": to_hex(encode([struct_types(Statement)], [struct_values(statement)])),
                "circuitHash": to_hex(circuit.hash_struct()),
                "structHash": to_hex(statement.hash_struct()),
                "digest": str(digest),
                "taskId": str(statement.task_id),
                "worker": str(statement.worker),
                "signature": to_hex(sign_digest(account, digest)),
            }
        )
    return {"cases": cases}


def merkle(rng: random.Random) -> dict[str, Any]:
    trees, bad = [], []
    for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17):
        leaves = [rng.randbytes(rng.randrange(0, 40)) for _ in range(size)]
        tree = MerkleTree(leaves)
        paths = [[str(node) for node in tree.path(i)] for i in range(size)]
        trees.append({"size": size, "leaves": [to_hex(x) for x in leaves], "root": str(tree.root), "paths": paths})
        if size < 3:
            continue
        index = size - 1
        good = {
            "root": str(tree.root),
            "size": size,
            "index": index,
            "leaf": to_hex(leaves[index]),
            "path": paths[index],
        }
        flipped = Digest(bytes([bytes(tree.path(index)[0])[0] ^ 1]) + bytes(tree.path(index)[0])[1:])
        bad += [
            {**good, "leaf": to_hex(leaves[index] + b"!"), "why": "another leaf"},
            {**good, "index": 0, "why": "another index"},
            {**good, "index": size, "why": "index outside the tree"},
            {**good, "path": paths[index][:-1], "why": "path too short"},
            {**good, "path": [*paths[index], str(sha256(b"extra"))], "why": "path too long"},
            {**good, "path": [str(flipped), *paths[index][1:]], "why": "flipped bit in the path"},
            {**good, "root": str(sha256(b"root")), "why": "another root"},
            {**good, "size": size * 2 + 1, "why": "another size"},
        ]
    # Second preimage: an inner node offered as a leaf must fail, which the prefixes see to.
    leaves = [bytes([i]) * 32 for i in range(4)]
    tree = MerkleTree(leaves)
    inner = leaf_hash(leaves[0]) + leaf_hash(leaves[1])
    bad.append(
        {
            "root": str(tree.root),
            "size": 2,
            "index": 0,
            "leaf": to_hex(inner),
            "path": [str(tree.path(0)[1])],
            "why": "inner node as leaf",
        }
    )
    return {"trees": trees, "bad": bad}


def records(rng: random.Random) -> dict[str, Any]:
    cases = []
    for side in (Side.INPUT, Side.OUTPUT):
        for integers in ([0], [1, -1], [2**52, -(2**52)], [rng.randrange(-(2**40), 2**40) for _ in range(30)]):
            scale = 7 if side == Side.INPUT else 14
            salt = sha256(rng.randbytes(8))
            leaf = LeafFormat(side=side, encoding=Encoding.FIXED, scale=scale)
            payload = leaf.payload(np.array(integers, dtype=np.int64))
            data = leaf.leaf(salt, payload)
            cases.append(
                {
                    "side": int(side),
                    "encoding": int(Encoding.FIXED),
                    "scale": scale,
                    "salt": str(salt),
                    "integers": [str(x) for x in integers],
                    "instances": ["0x" + (x % BN254_R).to_bytes(32, "big").hex() for x in integers],
                    "payload": to_hex(payload),
                    "leafData": to_hex(data),
                    "leafHash": to_hex(leaf_hash(data)),
                    "outputSalt": to_hex(output_salt(salt)),
                }
            )
    return {"cases": cases}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    stale = []
    for name, make in (("statements", statements), ("merkle", merkle), ("records", records)):
        text = json.dumps(make(random.Random(f"rexis {name}")), indent=1, sort_keys=True) + "\n"
        path = HERE / f"{name}.json"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text)
    if stale:
        print(f"stale vectors: {', '.join(stale)}; run {sys.argv[0]}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
