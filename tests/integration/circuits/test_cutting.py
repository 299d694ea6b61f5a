"""Where a model is cut, with ezkl's own counts of rows and without keys."""

import pytest
from onnx import TensorProto, helper

from circuits.cutting import choose_cuts
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.segments import cut_model
from models.zoo import load_model_bytes
from rexis.ee.compiler import encrypt_model
from rexis.protocol.errors import CircuitError, ResourceError
from tests.integration.circuits.tiny_circuit import TINY, mlp

WIDE = CircuitProfile(
    input_scale=7,
    param_scale=7,
    decomposition_base=8184,
    decomposition_legs=2,
    inner_columns=1,
    logrows=15,
    disable_freivalds=True,
)
MEMORY = 5 << 30


def test_a_model_too_large_for_one_circuit_is_cut_into_segments_that_fit(ezkl: EzklProcess) -> None:
    """The patch CNN needs 1.4 million rows, and more memory than that as one circuit."""
    plain = load_model_bytes("patch_cnn")
    found = choose_cuts(plain, WIDE, ezkl, memory_bytes=MEMORY)
    assert found.profile.cuts
    assert len(found.settings.segments) == len(found.estimates) == len(found.profile.cuts) + 1
    assert found.total.needed_bytes <= MEMORY
    rows = sum(segment.rows for segment in found.settings.segments) * found.profile.inner_columns
    assert 1_000_000 < rows < 2_000_000
    encrypted = encrypt_model(plain, epoch=1).model
    assert len(cut_model(encrypted, found.profile.cuts)) == len(found.estimates)


def test_a_small_model_stays_whole(ezkl: EzklProcess) -> None:
    assert choose_cuts(mlp(0), TINY, ezkl).profile.cuts == ()


def test_what_does_not_fit_at_all_is_refused(ezkl: EzklProcess) -> None:
    with pytest.raises(ResourceError, match="1 MiB"):
        choose_cuts(mlp(0), TINY, ezkl, memory_bytes=1 << 20)


def test_segments_of_more_vka_words_than_a_certificate_holds_are_no_choice(
    ezkl: EzklProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = choose_cuts(mlp(0), TINY, ezkl).estimates[0].vka_words
    monkeypatch.setattr("circuits.cutting.MAX_VKA_WORDS", one)
    assert choose_cuts(mlp(0), TINY, ezkl).profile.cuts == ()
    monkeypatch.setattr("circuits.cutting.MAX_VKA_WORDS", 50)
    with pytest.raises(ResourceError, match="50 words together"):
        choose_cuts(mlp(0), TINY, ezkl)


def test_a_piece_that_ezkl_refuses_is_named(ezkl: EzklProcess) -> None:
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("in", "out")]
    nodes = [helper.make_node("Relu", ["in"], ["a"]), helper.make_node("LpNormalization", ["a"], ["out"])]
    graph = helper.make_graph(nodes, "refused", sides[:1], sides[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(CircuitError, match=r"nodes 1 to 1 \(LpNormalization\)"):
        choose_cuts(model.SerializeToString(), TINY, ezkl)
