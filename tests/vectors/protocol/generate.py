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

from rexis.protocol.bls import (
    ORDER,
    POSSESSION_DST,
    BlsKey,
    aggregate_keys,
    aggregate_signatures,
    possession_message,
)
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import TensorError
from rexis.protocol.merkle import MerkleTree, leaf_hash
from rexis.protocol.parsing import Address, to_hex
from rexis.protocol.policy import Policy, Rung, Tier
from rexis.protocol.records import Encoding, LeafFormat, Side, distance, output_salt, quantise
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import JobRequest, Kind, Statement, policy_digest, task_id
from rexis.protocol.typed_data import Domain, Struct
from rexis.protocol.validation import Finding, ValidatorVerdict

HERE = Path(__file__).parent
RFC_9380_DST = b"QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_"
BLS12_381_P = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
BN254_R = 21888242871839275222246405745257275088548364400416034343698204186575808495617


def struct_types(kind: type[Struct]) -> str:
    """ABI tuple type of a struct, nested structs as tuples."""
    members = kind._own_type().split("(", 1)[1][:-1].split(",")
    nested = {"Circuit": Circuit, "Policy": Policy}
    kinds = [member.split(" ")[0] for member in members]
    return "(" + ",".join(struct_types(nested[kind]) if kind in nested else kind for kind in kinds) + ")"


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
        elif isinstance(value, bool):
            values.append(value)
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


def requests(rng: random.Random) -> dict[str, Any]:
    cases = []
    for number, tier in enumerate((Tier.ZK, Tier.COMMIT, Tier.SAMPLED)):
        domain = Domain(chain_id=31337 + number, verifying_contract=Address.from_bytes(rng.randbytes(20)))
        start, count = rng.randrange(2**40), rng.randrange(1, 2**20)
        request = JobRequest(
            kind=Kind.EVALUATION,
            model_digest=sha256(rng.randbytes(8)),
            key_epoch=rng.randrange(1, 2**50),
            circuit=NO_CIRCUIT if tier == Tier.COMMIT else _circuit(rng),
            dataset_digest=sha256(rng.randbytes(8)),
            input_root=sha256(rng.randbytes(8)),
            input_size=start + count,
            record_start=start,
            record_count=count,
            policy=Policy(
                tier=tier,
                sample_size=0 if tier == Tier.ZK else rng.randrange(1, 2**20),
                shard_size=rng.randrange(1, 2**20),
                max_attempts=rng.randrange(1, 100),
                abs_tolerance_e9=rng.randrange(2**50),
                rel_tolerance_e9=rng.randrange(2**50),
                rung=Rung.EE_PRIVATE_WEIGHTS,
                validators=0,
                certify_on_chain=tier == Tier.ZK,
            ),
            requester=Address.from_bytes(rng.randbytes(20)),
            coordinator=Address.from_bytes(rng.randbytes(20)),
            nonce=sha256(rng.randbytes(8)),
        )
        cases.append(
            {
                "chainId": domain.chain_id,
                "verifyingContract": domain.verifying_contract,
                "abi": to_hex(encode([struct_types(JobRequest)], [struct_values(request)])),
                "policyDigest": str(policy_digest(request.policy)),
                "jobId": str(request.job_id(domain)),
            }
        )
    return {"cases": cases}


def bls(rng: random.Random) -> dict[str, Any]:
    """Four validators and what they sign; keys and points that must be refused."""
    domain = Domain(chain_id=31337, verifying_contract=Address.from_bytes(rng.randbytes(20)))
    keys = [BlsKey(1 + rng.randrange(ORDER - 1)) for _ in range(4)]
    accounts = [Address.from_bytes(rng.randbytes(20)) for _ in keys]
    statement = sha256(rng.randbytes(8))
    verdicts = []
    for finding in Finding:
        message = domain.digest(ValidatorVerdict(statement_digest=statement, verdict=finding))
        signatures = [key.sign(message) for key in keys]
        verdicts.append(
            {
                "verdict": int(finding),
                "message": str(message),
                "signatures": [to_hex(x) for x in signatures],
                "firstThree": to_hex(aggregate_signatures(signatures[:3])),
            }
        )
    # A rogue key: its owner knows the secret of the sum of all keys and it, not its own.
    attacker = BlsKey(1 + rng.randrange(ORDER - 1))
    others = aggregate_keys([key.public_key for key in keys[:3]])
    rogue = aggregate_keys([attacker.public_key, _negated(others)])
    message = bytes(Digest.parse(verdicts[0]["message"]))
    return {
        "chainId": domain.chain_id,
        "verifyingContract": domain.verifying_contract,
        "validators": [
            {
                "secret": hex(key.secret),
                "account": account,
                "publicKey": to_hex(key.public_key),
                "possession": to_hex(key.prove_possession(account, domain)),
            }
            for key, account in zip(keys, accounts, strict=True)
        ],
        "statementDigest": str(statement),
        "verdicts": verdicts,
        "rogue": {
            "publicKey": to_hex(rogue),
            "possession": to_hex(attacker.sign(possession_message(rogue, accounts[3], domain), POSSESSION_DST)),
            "aggregate": to_hex(attacker.sign(message)),
        },
        "wrongSubgroup": {"publicKey": to_hex(_outside_g1()), "signature": to_hex(_outside_g2())},
        "hashes": [
            {"message": to_hex(text), "dst": RFC_9380_DST.decode(), "point": to_hex(BlsKey(1).sign(text, RFC_9380_DST))}
            for text in (b"", b"abc", b"q128_" + b"q" * 128)
        ],
    }


def _circuit(rng: random.Random) -> Circuit:
    digests = [sha256(rng.randbytes(8)) for _ in range(4)]
    return Circuit(
        vk_digest=digests[0],
        vka_digest=digests[1],
        srs_digest=digests[2],
        settings_digest=digests[3],
        visibility=Visibility.PUBLIC,
        input_scale=7,
        output_scale=14,
        input_length=30,
        output_length=2,
    )


def _negated(public_key: bytes) -> bytes:
    y = int.from_bytes(public_key[64:], "big")
    return public_key[:64] + (BLS12_381_P - y).to_bytes(64, "big")


def _outside_g1() -> bytes:
    """A point of the curve y² = x³ + 4 that is not of order ORDER: x = 4 (most are not)."""
    y = pow(4**3 + 4, (BLS12_381_P + 1) // 4, BLS12_381_P)
    return (4).to_bytes(64, "big") + y.to_bytes(64, "big")


def _outside_g2() -> bytes:
    """A point of the twist y² = x³ + 4(1 + u) that is not of order ORDER: the smallest whole x with one."""
    p = BLS12_381_P
    for x in range(1, 100):
        # A root of a + 4u by its norm: (c + du)² = a + 4u, c² = (a + √(a² + 16))/2, d = 2/c.
        a = x**3 + 4
        norm = pow(a * a + 16, (p + 1) // 4, p)
        for root in (norm, p - norm):
            c = pow((a + root) * pow(2, -1, p), (p + 1) // 4, p)
            d = 2 * pow(c, -1, p) % p
            if (c * c - d * d - a) % p == 0 and (2 * c * d - 4) % p == 0:
                return b"".join(value.to_bytes(64, "big") for value in (x, 0, c, d))
    raise AssertionError("no such point")


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


def floats(rng: random.Random) -> dict[str, Any]:
    """float32 values in fixed point, and how far each is from some integers; leaves of float32 records.

    ``quantised`` and ``distances`` are cases one after the other, without padding: forge reads many at once.
    """
    f32 = lambda x: int(np.float32(x).view(np.uint32))  # noqa: E731
    edges = [
        0,
        1 << 31,
        1,
        0x80000001,
        0x007FFFFF,
        0x00800000,
        0x7F7FFFFF,
        0xFF7FFFFF,
        0x7F800000,
        0xFF800000,
        0x7FC00000,
    ]
    edges += [0xFFC00000]
    # Halves that round, their neighbours, and where fixed point ends: 2^52 after scaling.
    edges += [
        f32(x) + ulp for x in (0.5, -0.5, 1.5, 2.5, -2.5, 0.00390625, 0.01171875, -0.01953125) for ulp in (-1, 0, 1)
    ]
    edges += [f32(2.0**k) + ulp for k in (19, 20, 38, 45, 51, 52, 53, 62, 63, 64) for ulp in (-1, 0, 1)]
    drawn = [rng.randrange(1 << 32) for _ in range(60)]
    edges += [bits for bits in drawn if bits >> 23 & 0xFF != 0xFF]
    edges += [f32(rng.uniform(-300, 300)) for _ in range(40)]
    cases, far = [], []
    for bits in edges:
        value = np.array([bits], dtype=np.uint32).view(np.float32)
        for scale in (0, 7, 32):
            raw = bits.to_bytes(4, "little")
            try:
                whole = int(quantise(value, scale)[0])
            except TensorError:
                cases.append(raw + bytes([scale]) + bytes(9))
                continue
            cases.append(raw + bytes([scale]) + whole.to_bytes(8, "big", signed=True) + b"\1")
            for other in {
                whole,
                whole + rng.randrange(-3, 4),
                rng.randrange(-(1 << 63), 1 << 63),
                (1 << 63) - 1,
                -(1 << 63),
            }:
                needed = distance(value, np.array([other], dtype=np.int64), scale)
                some, least = needed < 1 << 64, min(needed, (1 << 64) - 1)
                far.append(
                    raw
                    + bytes([scale])
                    + other.to_bytes(8, "big", signed=True)
                    + least.to_bytes(8, "big")
                    + bytes([some])
                )
    leaves = []
    for side in (Side.INPUT, Side.OUTPUT):
        for count in (1, 2, 30):
            leaf, salt = LeafFormat(side=side, encoding=Encoding.FLOAT32, scale=0), sha256(rng.randbytes(8))
            payload = leaf.payload(np.array([rng.uniform(-9, 9) for _ in range(count)], dtype=np.float32))
            leaves.append(
                {
                    "side": int(side),
                    "salt": str(salt),
                    "payload": to_hex(payload),
                    "leafData": to_hex(leaf.leaf(salt, payload)),
                }
            )
    return {
        "quantised": to_hex(b"".join(cases)),
        "distances": to_hex(b"".join(far)),
        "leaves": leaves,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    stale = []
    for make in (statements, requests, merkle, records, floats, bls):
        name = make.__name__
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
