"""Step 12 on models that mean no good, and on processes that do not come back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rexis.protocol.errors import EvidenceError, TensorError, UnavailableError
from rexis.protocol.policy import Tier
from rexis.protocol.records import Floats
from rexis.protocol.signing import new_account
from rexis.protocol.statement import JobRequest
from tests.unit.provers.fakes import make_dataset, make_lease
from tests.vectors.certificates.issuer import endless_network, log_network
from verifier import reexecute
from verifier.opened import OpenedRecord
from verifier.reexecute import check_reexecution


def affine(batch: int | str = "batch", factor: float = 1.0) -> bytes:
    """Each record times a factor."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["input", "factor"], ["output"])],
        "affine",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(np.array(factor, np.float32), "factor")],
    )
    return _bytes(graph)


def filling(count: int) -> bytes:
    """A model that wants to fill memory: `count` ones, and their sum."""
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["size"], ["many"], value=helper.make_tensor("v", 1, [1], [1.0])),
            helper.make_node("ReduceSum", ["many"], ["sum"], keepdims=0),
            helper.make_node("Add", ["input", "sum"], ["output"]),
        ],
        "filling",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.array([count], np.int64), "size")],
    )
    return _bytes(graph)


def _bytes(graph: onnx.GraphProto) -> bytes:
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


@pytest.fixture
def request_() -> JobRequest:
    request = make_lease(Tier.COMMIT, make_dataset(4), new_account()).request
    policy = request.policy.model_copy(update={"abs_tolerance_e9": 1000, "rel_tolerance_e9": 0})
    return request.model_copy(update={"policy": policy})


def opened(inputs: Floats, outputs: Floats | None = None) -> list[list[OpenedRecord]]:
    made = inputs if outputs is None else outputs
    return [[OpenedRecord(index, *pair) for index, pair in enumerate(zip(inputs, made, strict=True))]]


RECORDS = np.arange(1, 13, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("batch", ["batch", 1, 2, 8])
def test_honest_records_agree(request_: JobRequest, batch: int | str) -> None:
    assert check_reexecution(request_, affine(batch), opened(RECORDS), 9).startswith("3 records agree")


def test_a_wrong_output_is_named(request_: JobRequest) -> None:
    wrong = RECORDS.copy()
    wrong[1, 2] += 1
    with pytest.raises(EvidenceError, match="record 1 differs by 1"):
        check_reexecution(request_, affine(), opened(RECORDS, wrong), 9)


@pytest.mark.parametrize("factor", [np.inf, -np.inf, np.nan])
def test_a_result_that_is_not_finite_agrees_with_nothing(request_: JobRequest, factor: float) -> None:
    relative = request_.policy.model_copy(update={"rel_tolerance_e9": 10**9})
    with pytest.raises(EvidenceError, match="record 0 is not finite"):
        check_reexecution(request_.model_copy(update={"policy": relative}), affine(factor=factor), opened(RECORDS), 9)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_ragged_records_are_refused(request_: JobRequest, side: str) -> None:
    records = opened(RECORDS)[0]
    short = {"inputs": RECORDS[0], "outputs": RECORDS[0], side: RECORDS[0][:2]}
    with pytest.raises(EvidenceError, match=f"{side} of different lengths"):
        check_reexecution(request_, affine(), [[*records, OpenedRecord(3, **short)]], 9)


def test_a_loop_is_not_run(request_: JobRequest) -> None:
    with pytest.raises(TensorError, match="control flow"):
        check_reexecution(request_, endless_network(), opened(RECORDS), 9)


@pytest.mark.parametrize("model", [b"", b"no model", log_network()[:-9]])
def test_what_is_no_model_is_refused(request_: JobRequest, model: bytes) -> None:
    with pytest.raises(TensorError):
        check_reexecution(request_, model, opened(RECORDS), 9)


def test_a_model_that_fills_memory_leaves_it_undecided(request_: JobRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reexecute, "_MEMORY_LIMIT", 4 << 30)
    with pytest.raises(UnavailableError):
        check_reexecution(request_, filling(1 << 34), opened(RECORDS), 9)


def test_a_model_that_takes_too_long_leaves_it_undecided(request_: JobRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reexecute, "_SECONDS", 0.05)
    with pytest.raises(UnavailableError, match="did not finish"):
        check_reexecution(request_, affine(), opened(RECORDS), 9)
