"""Which operator it is that ezkl cannot put into a circuit.

ezkl reads ONNX by way of tract, and its errors name a node of tract's graph, a Rust type, or an index that was out of
bounds. Here the same graph is tried without its last nodes: where the error goes away, the node that was left out last
is to blame.
"""

from __future__ import annotations

import re
from typing import Any

from circuits.boundary import boundary_of
from circuits.build import make_settings
from circuits.onnx_model import parsed, require_plain_model
from circuits.process import EzklProcess, ProcessGoneError
from circuits.profile import CircuitProfile
from circuits.settings import CircuitSettings
from circuits.subgraph import beginning, label
from rexis.protocol.errors import CircuitError

_TRIED = CircuitProfile(
    input_scale=7,
    param_scale=7,
    decomposition_base=1 << 14,
    decomposition_legs=4,
    inner_columns=2,
    logrows=18,
    disable_freivalds=True,
)
_NOISE = re.compile(
    r"ezkl failed at \w+: |RuntimeError: |Failed to generate settings: |General synthesis error|ToTypedTranslator"
    r"|\[(?:graph|tract|halo2|circuit|tensor)\] ?|\[note: [^\]]*\]|\[ONNX operator for your model is [^\]]*\]"
    r'|Translating node #\d+ "[^"]*"'
)
_NAMED = re.compile(r'node #\d+ "([^"]+)"')
_HINTS = (
    ("missing required params: stride", "write its strides down, also where they are 1"),
    ("non unit dilations", "ezkl knows convolutions and pools without dilation"),
    ("nearest neighbor interpolation", 'resize with mode "nearest", or with a fixed ConvTranspose'),
    ("pad mode or pad type", "pad with the constant 0"),
    ("constant exponents", "raise to a constant power"),
    ("Unimplemented(Gelu)", "export GELU as its parts (opset 17 and before: Erf)"),
    ("Unimplemented(Mish)", "export Mish as its parts (opset 17 and before: Softplus, Tanh, Mul)"),
)
_OTHERWISE = "export the model without it; or register it without a circuit, for tier commit, which re-executes records"


def require_circuit(model: bytes, ezkl: EzklProcess) -> CircuitSettings:
    """Refuse a model that ezkl makes no circuit of, whatever the profile. Returns settings under a wide one.

    Raises
    ------
    TensorError
        Inputs, outputs or axes that no circuit has; external data or control flow.
    CircuitError
        With the first node that ezkl refuses, its operator, and what ezkl said.
    """
    require_plain_model(model)
    boundary_of(model)
    try:
        return make_settings(model, _TRIED, ezkl)
    except ProcessGoneError:
        raise
    except CircuitError as error:
        raise _blaming(model, error, ezkl) from error


def _blaming(model: bytes, error: CircuitError, ezkl: EzklProcess) -> CircuitError:
    said = _said(error)
    node = _culprit(parsed(model), error, ezkl)
    hint = next((hint for words, hint in _HINTS if words in said), _OTHERWISE)
    if node is None:
        wrong = _invalid(model)
        return CircuitError(f"ezkl makes no circuit of this model: {wrong or said}", field="model", hint=hint)
    return CircuitError(
        f"{label(node)}: ezkl puts it into no circuit: {said}", field=node.name or node.output[0], hint=hint
    )


def _culprit(proto: Any, error: CircuitError, ezkl: EzklProcess) -> Any | None:
    """The node that the error names; else the last of the shortest beginning of the graph that gives the same error."""
    found = _NAMED.search(error.message)
    nodes = proto.graph.node
    if found:
        exact = [node for node in nodes if found[1] in (node.name, *node.output)]
        if exact:
            return exact[0]
    sought = _without_numbers(_said(error))
    fails, passes = len(nodes), 0
    while fails - passes > 1:
        middle = (fails + passes) // 2
        if _error_of(beginning(proto, middle), ezkl) == sought:
            fails = middle
        else:
            passes = middle
    if fails == len(nodes) and _error_of(beginning(proto, fails), ezkl) != sought:
        return None
    return nodes[fails - 1]


def _invalid(model: bytes) -> str | None:
    """What is wrong with a file that no ONNX runtime would take; None if nothing is."""
    import onnx

    try:
        onnx.checker.check_model(parsed(model))
    except onnx.checker.ValidationError as error:
        return f"it is not valid ONNX: {' '.join(str(error).split())[:300]}"
    return None


def _error_of(model: bytes | None, ezkl: EzklProcess) -> str | None:
    """What ezkl says to a beginning of the model; None if it takes it."""
    if model is None:
        return None
    try:
        make_settings(model, _TRIED, ezkl)
    except ProcessGoneError:
        raise
    except CircuitError as error:
        return _without_numbers(_said(error))
    return None


def _said(error: CircuitError) -> str:
    """ezkl's words without its layers of prefixes, in one line."""
    text = " ".join(_NOISE.sub(" ", error.message).split())
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return text.replace("PanicException:", "it panics:") or "no reason given"


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "", text)
