"""Strangers' models: each becomes a circuit without hand-work, or is refused by the name of what is in the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from circuits.artefacts import CircuitCache
from circuits.boundary import vocabulary_of
from circuits.build import build_circuit, rebuilt
from circuits.diagnosis import require_circuit
from circuits.fidelity import other_function
from circuits.guess import guessed
from circuits.process import EzklProcess
from circuits.proving import Prover
from circuits.srs import ensure_development_srs
from rexis.cli._calibration import drawn, outputs_of
from rexis.cli._tuning import plain_side
from rexis.protocol.errors import CircuitError, ResourceError, TensorError
from rexis.protocol.records import dequantise, quantise
from tests.integration.circuits import foreign_models, foreign_torch

_NO_OPERATOR = "ezkl puts it into no circuit: Unimplemented"
_UNSUPPORTED = "ezkl puts it into no circuit: unsupported operation in graph"
_FLOAT32_INPUT = "jobs run models with a float32 input, since records are committed as such; 'x' is"

REFUSED = {
    "bitshift": f"{_FLOAT32_INPUT} uint8",
    "bitwise_and": f"{_FLOAT32_INPUT} int32",
    "bool_input": f"{_FLOAT32_INPUT} bool",
    "double_input": f"{_FLOAT32_INPUT} double",
    "token_ids": f"{_FLOAT32_INPUT} int64",
    "two_inputs": "this one has 2: x, z",
    "two_outputs": "this one has 2: y, z",
    "bool_output": "'y' of node '/Less_0' (Less) is bool",
    "int_output": "'y' of node '/ArgMax_0' (ArgMax) is int64",
    "open_sequence": "axis 1 of input 'x' has no size, only the name 'seq_len'",
    "only_sequence_open": "axis 1 of input 'x' has no size, only the name 'seq_len'",
    "control_flow": "control flow (If): node '/If_3'",
    "unknown_operator": f"node '/Frobnicate_0' (Frobnicate): {_NO_OPERATOR}",
    "det": f"node '/Det_0' (Det): {_NO_OPERATOR}",
    "gelu": f"node '/Gelu_0' (Gelu): {_NO_OPERATOR}",
    "gelu_tanh": f"node '/Gelu_0' (Gelu): {_NO_OPERATOR}",
    "mish": f"node '/Mish_0' (Mish): {_NO_OPERATOR}",
    "group_norm": f"node '/GroupNormalization_0' (GroupNormalization): {_NO_OPERATOR}",
    "lp_pool": f"node '/LpPool_0' (LpPool): {_NO_OPERATOR}",
    "grid_sample": f"node '/GridSample_0' (GridSample): {_NO_OPERATOR}",
    "unique": f"node '/Unique_0' (Unique): {_NO_OPERATOR}",
    "reverse_sequence": f"node '/ReverseSequence_1' (ReverseSequence): {_NO_OPERATOR}",
    "dynamic_quantize": "node '/DequantizeLinear_1' (DequantizeLinear)",
    "isnan": f"node '/IsNaN_0' (IsNaN): {_UNSUPPORTED}",
    "lrn": f"node '/LRN_0' (LRN): {_UNSUPPORTED}",
    "remainder": f"node '/Mod_1' (Mod): {_UNSUPPORTED}",
    "tile_inside": f"node '/Tile_3' (Tile): {_UNSUPPORTED}",
    "tile": f"node '/Tile_1' (Tile): {_UNSUPPORTED}",
    "nonzero": "node '/NonZero_0' (NonZero): ezkl puts it into no circuit: Undetermined symbol",
    "max": "node '/Max_0' (Max): ezkl puts it into no circuit: invalid dimensions",
    "pow_of_activations": "node '/Pow_1' (Pow): ezkl puts it into no circuit: invalid dimensions",
    "conv_no_strides": "node '/Conv_0' (Conv): ezkl puts it into no circuit: a node is missing required params: stride",
    "conv_dilated": "node '/Conv_0' (Conv): ezkl puts it into no circuit: a node has misformed params: non unit",
    "average_pool_ceil": "node '/AveragePool_0' (AveragePool): ezkl puts it into no circuit: dimensionality error",
    "max_pool_no_strides": "node '/MaxPool_0' (MaxPool): ezkl puts it into no circuit: a node is missing required",
    "resize_nearest_down": "node '/Resize_1' (Resize): ezkl puts it into no circuit: dimensionality error",
    "cumsum_reverse": "node '/CumSum_1' (CumSum): ezkl puts it into no circuit: it panics: capacity overflow",
    "topk_indices": "node '/Cast_2' (Cast): ezkl puts it into no circuit: it panics: index out of bounds",
    "pad_with_a_number": "node '/Pad_2' (Pad): ezkl puts it into no circuit: a node has misformed params: pad mode",
    "pad_reflect": "node '/Pad_1' (Pad): ezkl puts it into no circuit: a node has misformed params: pad mode",
    "resize_linear": "node '/Resize_1' (Resize): ezkl puts it into no circuit: only nearest neighbor",
    "scatter_elements": "node '/ScatterElements_2' (ScatterElements): ezkl puts it into no circuit: it panics",
    "scatter_nd": "node '/ScatterND_2' (ScatterND): ezkl puts it into no circuit: it panics",
}
"""What is said of the models that become no circuit. All others do."""

ASTRAY = {
    "average_pool_padded": "node '/AveragePool_0' (AveragePool)",
    "celu": "node '/Celu_0' (Celu)",
    "cumsum_exclusive": "node '/CumSum_1' (CumSum)",
    "equal": "node '/Equal_1' (Equal)",
    "gather_from_the_end": "node '/Gather_1' (Gather)",
    "pow_negative": "node '/Pow_2' (Pow)",
    "torch_decision_tree": "node '/Equal' (Equal)",
    "torch_interpolate": "node '/Resize' (Resize)",
}
"""What ezkl makes a circuit of another function of, from this node on. All others compute what ONNX Runtime does."""


@pytest.mark.parametrize("name", foreign_models.names())
def test_a_written_model_is_taken_or_refused_by_name(name: str, ezkl: EzklProcess) -> None:
    _taken_or_refused(name, foreign_models.foreign(name), ezkl)


@pytest.mark.parametrize("name", sorted(foreign_torch.MODULES))
def test_an_exported_model_is_taken(name: str, ezkl: EzklProcess) -> None:
    _taken_or_refused(name, foreign_torch.exported(name), ezkl)


def _taken_or_refused(name: str, model: bytes, ezkl: EzklProcess) -> None:
    if name in REFUSED:
        with pytest.raises((CircuitError, TensorError)) as caught:
            require_circuit(model, ezkl)
        assert REFUSED[name] in caught.value.message
        assert caught.value.hint
        noise = ("PanicException", "RUST_BACKTRACE", "[graph]", "synthesis")
        assert not any(word in str(caught.value) for word in noise)
        return
    settings = require_circuit(model, ezkl)
    assert (settings.rows > 0, settings.input_length > 0) == (True, True)
    ids = vocabulary_of(model) is not None
    found = other_function(model, drawn(model, 4, 0).records, outputs_of, ezkl, ids=ids)
    if name in ASTRAY:
        assert found is not None
        assert found.startswith(f"{ASTRAY[name]}: ezkl's circuit computes something else than ONNX says")
    else:
        assert found is None


def test_a_node_without_a_name_goes_by_its_output(ezkl: EzklProcess) -> None:
    proto = onnx.load_from_string(foreign_models.foreign("tile_inside"))
    for node in proto.graph.node:
        node.name = ""
    with pytest.raises(CircuitError, match=r"node 't' \(Tile\): ezkl puts it into no circuit: unsupported operation"):
        require_circuit(proto.SerializeToString(), ezkl)


def test_a_file_that_is_no_valid_model_is_called_that(ezkl: EzklProcess) -> None:
    proto = onnx.load_from_string(foreign_models.foreign("relu"))
    proto.graph.node[0].input[0] = "nowhere"
    with pytest.raises(CircuitError, match=r"it is not valid ONNX: .*nowhere"):
        require_circuit(proto.SerializeToString(), ezkl)


@pytest.mark.parametrize("name", ["linear_fixed_batch", "gather_by_record", "max_pool", "where", "topk"])
def test_from_a_stranger_to_a_proof(name: str, work: Path, ezkl: EzklProcess) -> None:
    """A guessed profile gives a circuit, the same again elsewhere, and a proof of what ONNX Runtime computes."""
    model = foreign_models.foreign(name)
    calibration = drawn(model, 4, 1)
    ids = vocabulary_of(model) is not None
    wide = require_circuit(model, ezkl)
    profile = guessed(plain_side(model, calibration.records), wide, ezkl, ids=ids).profile
    srs = ensure_development_srs(profile.logrows, work)
    circuit = build_circuit(model, profile, srs, CircuitCache(work / f"{name}-owner"), ezkl)
    again = rebuilt(model, circuit.artefacts.settings, srs, CircuitCache(work / f"{name}-auditor"), ezkl)
    assert again.artefacts == circuit.artefacts
    settings = circuit.artefacts.parsed
    made = Prover(circuit, ezkl).prove(quantise(calibration.check[0], settings.input_scale).reshape(-1))
    outputs = dequantise(np.array(made.outputs), settings.output_scale)
    np.testing.assert_allclose(outputs, outputs_of(model, calibration.check)[0].reshape(-1), atol=0.05)


def test_a_model_beyond_every_circuit_is_refused(ezkl: EzklProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    model = foreign_models.foreign("linear")
    wide = replace(require_circuit(model, ezkl), rows=1 << 20)
    side = plain_side(model, drawn(model, 2, 0).records)
    coarse = guessed(side, wide, ezkl, ids=False)
    assert (coarse.profile.decomposition_base, coarse.profile.decomposition_legs) == (512, 2)
    assert coarse.profile.lookup_high == 2
    monkeypatch.setattr("circuits.guess.smaller", lambda settings, memory: None)
    with pytest.raises(ResourceError, match="more than any circuit here has"):
        guessed(side, wide, ezkl, ids=False)
