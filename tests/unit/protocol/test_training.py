"""Plans, orders of records, states and transcripts."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from rexis.protocol.digests import ZERO_DIGEST, sha256, tensor_digest
from rexis.protocol.errors import EvidenceError, MalformedError, SignatureError, TensorError
from rexis.protocol.merkle import merkle_root
from rexis.protocol.parsing import ZERO_ADDRESS
from rexis.protocol.signing import address_of, new_account, sign_digest
from rexis.protocol.training import TrainingPlan, TrainingRequest, batch_records, epoch_order, read_request
from rexis.protocol.transcript import (
    Checkpoint,
    SignedCheckpoint,
    check_transcript,
    deviations,
    hand_overs,
    initial_state,
    pack_state,
    state_root_of,
    transcript_tree,
    unpack_state,
)
from rexis.protocol.typed_data import Domain

SEED = sha256(b"seed")
DOMAIN = Domain(chain_id=31337, verifying_contract=ZERO_ADDRESS)
TASK = sha256(b"task")


def document(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "format": "rexis-training-plan-v1",
        "loss": "cross-entropy",
        "optimiser": {
            "kind": "adamw",
            "learningRateE9": 1_000_000,
            "beta1E9": 900_000_000,
            "beta2E9": 999_000_000,
            "epsilonE12": 10_000,
        },
        "schedule": {"kind": "cosine", "warmupSteps": 2, "finalE9": 100_000},
        "inputShape": [3],
        "targetShape": [],
        "steps": 10,
        "batchSize": 4,
        "checkpointInterval": 4,
        "orderSeed": str(SEED),
        "trainable": ["a", "b"],
        "powers": ["permute"],
    }
    return found | changes


def plan(**changes: Any) -> TrainingPlan:
    return TrainingPlan.from_object(document(**changes))


def test_a_plan_has_one_form() -> None:
    once = plan()
    assert TrainingPlan.from_json(once.to_json()) == once
    assert once.digest == sha256(once.to_json())
    assert (once.segments, [once.step_of(index) for index in range(4)]) == (3, [0, 4, 8, 10])
    assert once.row_length == 4


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"trainable": ["b", "a"]}, "sorted"),
        ({"trainable": ["a", "a"]}, "sorted"),
        ({"steps": 1 << 23, "checkpointInterval": 1}, "interval"),
        ({"schedule": {"kind": "linear", "warmupSteps": 11}}, "warms up"),
        ({"schedule": {"kind": "linear", "finalE9": 2_000_000}}, "last learning rate"),
        ({"optimiser": {"kind": "sgd", "learningRateE9": 1, "beta1E9": 1}}, "adam's"),
        ({"optimiser": {"kind": "sgd", "learningRateE9": 1, "nesterov": True}}, "momentum"),
        ({"optimiser": {"kind": "adam", "learningRateE9": 1, "momentumE9": 1, "epsilonE12": 1}}, "sgd's"),
        ({"optimiser": {"kind": "adam", "learningRateE9": 1}}, "epsilon"),
        ({"powers": ["rotate"]}, "powers"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_a_plan_cannot_say(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(MalformedError) as raised:
        plan(**changes)
    assert word in str(raised.value) + str(raised.value.field)


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [plan().learning_rate(step) for step in range(10)]
    assert rates[:3] == [0.0005, 0.001, 0.001]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] > 0.0001
    assert plan(schedule={"kind": "constant"}).learning_rate(9) == 0.001


def test_the_order_is_that_of_the_shake_numbers() -> None:
    drawn = hashlib.shake_256(b"rexis.order.v1\0" + SEED + (3).to_bytes(8, "big")).digest(8 * 50)
    numbers = [int.from_bytes(drawn[8 * i : 8 * i + 8], "big") for i in range(50)]
    assert epoch_order(SEED, 50, 3).tolist() == sorted(range(50), key=numbers.__getitem__)


@pytest.mark.parametrize("batch", [1, 4, 7, 23])
def test_batches_use_each_record_once_an_epoch(batch: int) -> None:
    chosen = plan(batchSize=batch)
    used = np.concatenate([batch_records(chosen, 7, step) for step in range(14)])
    assert len(used) == 14 * batch
    for start in range(0, len(used) - 6, 7):
        assert sorted(used[start : start + 7]) == list(range(7))


def states(chosen: TrainingPlan, count: int) -> list[dict[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(2, 3)).astype(np.float32), "b": rng.normal(size=2).astype(np.float32)}
    found = [initial_state(chosen, weights)]
    for _ in range(count):
        found.append({name: value + np.float32(0.5) for name, value in found[-1].items()})
    return found


def test_a_state_has_one_root_and_comes_back_from_its_blob() -> None:
    chosen = plan()
    (first,) = states(chosen, 0)
    assert sorted(first) == [f"{slot}/{name}" for slot in ("exp_avg", "exp_avg_sq", "weight") for name in "ab"]
    back = unpack_state(pack_state(first), chosen)
    assert state_root_of(0, 0, back) == state_root_of(0, 0, first)
    head = b"rexis.state.v1\0" + bytes(16)
    leaves = [b"rexis.state-tensor.v1\0" + tensor_digest(first[name]) + name.encode() for name in sorted(first)]
    assert state_root_of(0, 0, first) == merkle_root([head, *leaves])
    others = [
        state_root_of(1, 0, first),
        state_root_of(0, 1, first),
        state_root_of(0, 0, {**first, "weight/c": back["weight/b"]}),
    ]
    assert len({state_root_of(0, 0, first), *others}) == 4
    with pytest.raises(TensorError):
        unpack_state(pack_state({**first, "weight/c": first["weight/b"]}), chosen)
    with pytest.raises(TensorError):
        unpack_state(pack_state({**first, "weight/b": np.array([np.nan, 1], np.float32)}), chosen)


ALICE, BOB = new_account(), new_account()


def transcript(chosen: TrainingPlan, **changes: Any) -> list[SignedCheckpoint]:
    """Two workers, the second from checkpoint 2 on; `changes` are to checkpoint 2."""
    found: list[SignedCheckpoint] = []
    for index, state in enumerate(states(chosen, chosen.segments)):
        account = ALICE if index < 2 else BOB
        step = chosen.step_of(index)
        losses = np.full(step - chosen.step_of(index - 1) if index else 0, 0.7, "<f4").tobytes()
        said: dict[str, Any] = {
            "task_id": TASK,
            "index": index,
            "step": step,
            "cursor": step * chosen.batch_size,
            "state_root": state_root_of(step, step * chosen.batch_size, state),
            "losses_digest": sha256(losses),
            "model_digest": sha256(b"model") if index == chosen.segments else ZERO_DIGEST,
            "previous": found[-1].checkpoint.digest if found else ZERO_DIGEST,
            "worker": address_of(account),
        }
        said |= changes if index == 2 else {}
        checkpoint = Checkpoint(**said)
        found.append(
            SignedCheckpoint(
                checkpoint=checkpoint,
                losses=losses,
                state_digest=sha256(pack_state(state)),
                signature=sign_digest(account, DOMAIN.digest(checkpoint)),
            )
        )
    return found


def test_a_transcript_of_two_workers_has_a_root_and_a_hand_over() -> None:
    chosen = plan()
    whole = transcript(chosen)
    root = check_transcript(whole, chosen, TASK, DOMAIN)
    assert root == transcript_tree([signed.checkpoint for signed in whole]).root
    assert hand_overs(whole) == [(0, address_of(ALICE)), (2, address_of(BOB))]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task_id": sha256(b"other")}, "checkpoint.taskId"),
        ({"index": 3}, "checkpoint.index"),
        ({"step": 9}, "checkpoint.step"),
        ({"cursor": 33}, "checkpoint.cursor"),
        ({"previous": ZERO_DIGEST}, "checkpoint.previous"),
        ({"model_digest": sha256(b"early")}, "checkpoint.modelDigest"),
        ({"losses_digest": sha256(b"")}, "losses"),
    ],
)
def test_a_checkpoint_that_does_not_follow(changes: dict[str, Any], field: str) -> None:
    chosen = plan()
    with pytest.raises(EvidenceError) as raised:
        check_transcript(transcript(chosen, **changes), chosen, TASK, DOMAIN)
    assert raised.value.field == field


def test_checkpoints_cannot_be_left_out_swapped_or_signed_for_another() -> None:
    chosen = plan()
    whole = transcript(chosen)
    for wrong in (whole[:-1], [*whole, whole[-1]], whole[1:], [whole[0], whole[2], whole[1], whole[3]]):
        with pytest.raises(EvidenceError):
            check_transcript(wrong, chosen, TASK, DOMAIN)
    with pytest.raises(SignatureError):
        check_transcript(transcript(chosen, worker=address_of(ALICE)), chosen, TASK, DOMAIN)
    short = whole[1].model_copy(update={"losses": whole[1].losses[:-4]})
    with pytest.raises(EvidenceError):
        check_transcript([whole[0], short, *whole[2:]], chosen, TASK, DOMAIN)


def test_a_deviation_is_against_the_way_of_its_own_slot() -> None:
    before = {"weight/a": np.zeros(3, np.float32), "exp_avg/a": np.zeros(3, np.float32)}
    again = {"weight/a": np.full(3, 0.01, np.float32), "exp_avg/a": np.full(3, 100, np.float32)}
    assert set(deviations(before, again, again).values()) == {(0.0, 0.0)}
    committed = {**again, "weight/a": again["weight/a"] * np.float32(1.01)}
    found = deviations(before, committed, again)
    assert found["exp_avg"] == (0.0, 0.0)
    assert found["weight"] == (pytest.approx(0.01, rel=1e-3), pytest.approx(0.01, rel=1e-3))
    assert deviations(before, again, before)["weight"][0] == np.inf


def request_document() -> dict[str, Any]:
    zero = str(ZERO_DIGEST)
    return {
        "kind": "training",
        "modelDigest": str(sha256(b"model")),
        "keyEpoch": 1,
        "circuit": {
            "vkDigest": zero,
            "vkaDigest": zero,
            "srsDigest": zero,
            "settingsDigest": zero,
            "visibility": "none",
            "inputScale": 0,
            "outputScale": 0,
            "inputLength": 0,
            "outputLength": 0,
        },
        "datasetDigest": str(sha256(b"data")),
        "inputRoot": str(sha256(b"root")),
        "inputSize": 50,
        "recordStart": 0,
        "recordCount": 50,
        "policy": {
            "tier": "sampled",
            "sampleSize": 2,
            "shardSize": 1,
            "maxAttempts": 1,
            "absToleranceE9": 0,
            "relToleranceE9": 1000,
            "rung": "ee-outsourced",
            "validators": 0,
            "certifyOnChain": False,
        },
        "requester": str(address_of(ALICE)),
        "coordinator": str(address_of(BOB)),
        "nonce": str(sha256(b"nonce")),
        "planDigest": str(plan().digest),
    }


def test_a_training_request_is_one_task_and_reads_back_as_its_kind() -> None:
    request = TrainingRequest.from_object(request_document())
    assert request.shards() == [(0, 50)]
    assert read_request(request.to_json()) == request
    other = TrainingRequest.from_object(request_document() | {"planDigest": str(ZERO_DIGEST)})
    assert request.job_id(DOMAIN) != other.job_id(DOMAIN)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kind": "evaluation"}, "training"),
        ({"recordCount": 49}, "whole dataset"),
        ({"policy": request_document()["policy"] | {"tier": "zk", "sampleSize": 0}}, "commit and sampled"),
        ({"policy": request_document()["policy"] | {"relToleranceE9": 10**9}}, "took no step"),
        ({"policy": request_document()["policy"] | {"absToleranceE9": 10**9}}, "took no step"),
    ],
)
def test_what_a_training_request_cannot_say(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(MalformedError, match=word):
        TrainingRequest.from_object(request_document() | changes)
