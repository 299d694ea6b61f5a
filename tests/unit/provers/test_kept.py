"""What a worker keeps: whole or not at all, openable, bounded, and gone when its time is over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provers.kept import Kept, KeptStatement, is_disputable
from rexis.protocol.circuit import NO_CIRCUIT, Circuit, Visibility
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import NotFoundError
from rexis.protocol.policy import Tier
from rexis.protocol.records import TaskTrees, check_opening, encode_inputs, input_format
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.statement import Kind, Statement, task_id
from rexis.protocol.tensors import Dataset, Shard
from rexis.protocol.typed_data import Domain
from tests.unit.provers.fakes import make_dataset

SIZE, START, COUNT = 6, 2, 3
DOMAIN = Domain(chain_id=31337, verifying_contract=address_of(new_account()))
ACCOUNT = new_account()
CIRCUIT = Circuit(
    vk_digest=sha256(b"vk"), vka_digest=sha256(b"vka"), srs_digest=sha256(b"srs"), settings_digest=sha256(b"settings"),
    visibility=Visibility.PUBLIC, input_scale=7, output_scale=7, input_length=3, output_length=2,
)  # fmt: skip


def _shard(data: Dataset) -> Shard:
    form = input_format(Tier.SAMPLED, CIRCUIT)
    tree = form.tree(encode_inputs(Tier.SAMPLED, CIRCUIT, data.records), data.salts)
    rows = slice(START, START + COUNT)
    return Shard(data.records[rows], data.salts[rows], START, SIZE, tree.around(START, COUNT))


def _kept(outputs: np.ndarray, nonce: bytes = b"lease") -> tuple[KeptStatement, Shard]:  # type: ignore[type-arg]
    data = make_dataset(SIZE)
    trees = TaskTrees(Tier.SAMPLED, CIRCUIT, data.records, data.salts, START, outputs)
    statement = Statement(
        version=1, job_id=sha256(b"job"), task_id=task_id(sha256(b"job"), START, COUNT), kind=Kind.EVALUATION,
        model_digest=sha256(b"model"), key_epoch=1, circuit=CIRCUIT, input_root=trees.input_root, input_size=SIZE,
        output_root=trees.output_root, record_start=START, record_count=COUNT, tier=Tier.SAMPLED,
        policy_digest=sha256(b"policy"), worker=address_of(ACCOUNT), nonce=sha256(nonce),
    )  # fmt: skip
    signature = sign_digest(ACCOUNT, DOMAIN.digest(statement))
    return KeptStatement(domain=DOMAIN, statement=statement, signature=signature, vka=[]), _shard(data)


@pytest.fixture
def blobs(tmp_path: Path) -> list[tuple[Digest, Path]]:
    found = []
    for name in (b"model", b"settings", b"srs"):
        path = tmp_path / name.decode()
        path.write_bytes(name)
        found.append((sha256(name), path))
    return found


def test_a_record_is_opened_as_it_was_committed(tmp_path: Path, blobs: list[tuple[Digest, Path]]) -> None:
    outputs = np.arange(COUNT * 2, dtype=np.int64).reshape(COUNT, 2)
    kept, shard = _kept(outputs)
    Kept(tmp_path, address_of(ACCOUNT), max_bytes=1 << 20).keep(kept, shard, outputs, blobs)
    store = Kept(tmp_path, address_of(ACCOUNT), max_bytes=1 << 20)  # after a restart
    assert list(store.with_records()) == [kept.digest]
    record = store.open(kept.digest, START + 1)
    given, claimed = check_opening(
        record.opening, tier=Tier.SAMPLED, circuit=CIRCUIT, input_root=kept.statement.input_root, input_size=SIZE,
        output_root=kept.statement.output_root, start=START, count=COUNT,
    )  # fmt: skip
    assert (given == record.inputs).all()
    assert (claimed == record.outputs).all()
    assert store.blob(sha256(b"srs")).read_bytes() == b"srs"
    for digest, index in ((kept.digest, START + COUNT), (sha256(b"another"), START)):
        with pytest.raises(NotFoundError):
            store.open(digest, index)


def test_what_is_over_goes_but_for_the_statement(tmp_path: Path, blobs: list[tuple[Digest, Path]]) -> None:
    outputs = np.zeros((COUNT, 2), dtype=np.int64)
    (old, shard), (young, _) = _kept(outputs), _kept(outputs, b"another lease")
    store = Kept(tmp_path, address_of(ACCOUNT), max_bytes=1 << 20)
    for kept in (old, young):
        store.keep(kept, shard, outputs, blobs)
    store.forget_records(old.digest)
    store.forget_unused_blobs()
    assert list(store.with_records()) == [young.digest]
    assert store.blob(sha256(b"model")).is_file()
    assert store.statement(old.digest) == old
    store.forget_records(young.digest)
    store.forget_unused_blobs()
    assert not store.blob(sha256(b"model")).exists()
    assert blobs[0][1].is_file()  # the cache's own name


def test_tier_commit_is_opened_as_float32_and_without_a_warranty_only_stated(tmp_path: Path) -> None:
    data = make_dataset(SIZE)
    outputs = np.linspace(-1, 1, COUNT * 2, dtype=np.float32).reshape(COUNT, 2)
    trees = TaskTrees(Tier.COMMIT, NO_CIRCUIT, data.records, data.salts, START, outputs)
    (kept, _), store = (
        _kept(np.zeros((COUNT, 2), dtype=np.int64)),
        Kept(tmp_path, address_of(ACCOUNT), max_bytes=1 << 20),
    )
    statements = [
        kept.statement.model_copy(
            update={
                "tier": Tier.COMMIT, "circuit": NO_CIRCUIT, "nonce": sha256(nonce),
                "input_root": trees.input_root, "output_root": trees.output_root,
            }
        )
        for nonce in (b"warranted", b"not")
    ]  # fmt: skip
    warranted, stated = (kept.model_copy(update={"statement": one}) for one in statements)
    tree = input_format(Tier.COMMIT, NO_CIRCUIT).tree(data.records, data.salts)
    rows = slice(START, START + COUNT)
    shard = Shard(data.records[rows], data.salts[rows], START, SIZE, tree.around(START, COUNT))
    store.keep(warranted, shard, outputs)
    store.keep(stated, None, outputs)
    assert list(store.with_records()) == [warranted.digest]
    assert sorted(store.not_anchored()) == sorted([warranted.digest, stated.digest])
    assert store.statement(stated.digest) == stated
    with pytest.raises(NotFoundError):
        store.open(stated.digest, START)
    record = store.open(warranted.digest, START + 2)
    given, claimed = check_opening(
        record.opening, tier=Tier.COMMIT, circuit=NO_CIRCUIT, input_root=trees.input_root, input_size=SIZE,
        output_root=trees.output_root, start=START, count=COUNT,
    )  # fmt: skip
    assert (given == record.inputs).all()
    assert (claimed == record.outputs).all()
    assert claimed.tolist() == outputs[2].tolist()


def test_a_full_place_says_so_and_throws_nothing_away(tmp_path: Path, blobs: list[tuple[Digest, Path]]) -> None:
    outputs = np.zeros((COUNT, 2), dtype=np.int64)
    kept, shard = _kept(outputs)
    store = Kept(tmp_path, address_of(ACCOUNT), max_bytes=100)
    assert not store.full()
    store.keep(kept, shard, outputs, blobs)
    assert Kept(tmp_path, address_of(ACCOUNT), max_bytes=100).full()
    assert store.open(kept.digest, START).opening.index == START


@pytest.mark.parametrize(
    ("change", "disputable"),
    [
        ({}, True),
        ({"tier": Tier.ZK}, True),
        ({"tier": Tier.COMMIT, "circuit": NO_CIRCUIT}, True),
        ({"kind": Kind.TRAINING}, False),
        ({"circuit": CIRCUIT.model_copy(update={"visibility": Visibility.HASHED})}, False),
    ],
)
def test_only_what_can_be_challenged_is_kept(change: dict[str, object], disputable: bool) -> None:
    kept, _ = _kept(np.zeros((COUNT, 2), dtype=np.int64))
    assert is_disputable(kept.statement.model_copy(update=change)) == disputable
