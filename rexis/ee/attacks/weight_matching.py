"""Weight matching: hidden keys read off by comparing the encrypted weights with a public base model."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from sklearn.linear_model import Ridge

from rexis.ee.attacks.neurons import hidden_neurons, match_neurons, values_of
from rexis.ee.attacks.places import Blocks, blocks_of
from rexis.ee.attacks.target import NotApplicableError, Result, Target, observe, r_squared
from rexis.ee.graph import Graph
from rexis.ee.groups import FREE, Power
from rexis.ee.records import encrypt_records
from rexis.ee.stream import Floats

DISTANCES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
_SAME = 1e-5
_RIDGE = 1.0
_DEAD = 1e-4  # a neuron with a smaller share of the largest spread says nothing
HEADLINE = 0.1  # what a fine-tune may move the weights by


def weight_matching(target: Target) -> Result:
    """Match hidden neurons against a public base at a relative weight distance ε.

    The attacker encrypts the base with a key of its own, so that both models went through the same foldings, and
    compares features that no key changes (:mod:`rexis.ee.attacks.neurons`). With ``target.base`` that model is the
    base; without, the plain weights plus Gaussian noise of relative size ε, for each ε of :data:`DISTANCES`.

    Knows: the encrypted model, a public base. Metric: share of hidden neurons whose plain place is found. Ceiling: 1,
    neurons of a plain model stand where they stand. Floor: a random assignment, which gets one right for each axis.
    Applies to models with hidden axes that carry permutations (with or without signs and scales); dense residual keys
    have no neurons to match, but ``detail.spectrum`` shows that singular values name the base all the same.

    Sources: S. Ainsworth et al., Git Re-Basin, ICLR 2023; for encrypted weights `facts.md` of this project.
    """
    neurons = hidden_neurons(target.encrypted)
    if not neurons:
        raise NotApplicableError("no hidden axis carries a permutation, so there are no neurons to match")
    keyring = target.encrypted.key.keyring
    assert keyring is not None  # noqa: S101
    blocks, powers = blocks_of(target), {each.variable: each.powers for each in neurons}
    total = sum(each.size for each in neurons)
    curve: dict[str, float] = {}
    read: dict[str, float] = {}
    bases = {"given": target.base} if target.base is not None else {f"{eps:g}": None for eps in DISTANCES}
    compared = 0
    for label, given in bases.items():
        base = given if given is not None else perturbed(target, float(label))
        known = target.another(f"base {label}", base)
        assert known.key.keyring is not None  # noqa: S101
        right, compared = 0, 0
        matches: dict[int, NDArray[np.int64]] = {}
        for each in neurons:
            found = match_neurons(each, target.encrypted, known)
            if found is None:
                continue
            compared += each.size
            guess = each.order(known.key.keyring)[found]
            matches[each.variable] = guess
            right += int((guess == each.order(keyring)).sum())
        curve[label] = right / total
        plain_signs = {v: m for v, m in matches.items() if Power.SIGN not in powers[v]}
        opened = _records_read(target, base, blocks, plain_signs) if label in ("given", "0", f"{HEADLINE:g}") else None
        if opened is not None:
            read[label] = opened
    label = "given" if target.base is not None else f"{HEADLINE:g}"
    distance = relative_distance(target.base, target.plain) if target.base is not None else HEADLINE
    says = f"With a public model {distance:.0%} away, {curve[label]:.0%} of the hidden neurons are identified"
    score = "of the tokens" if target.is_tokens else "of the records' variance"
    says += f", and {read[label]:.0%} {score} is read through them." if label in read else "."
    return Result(
        name="weight_matching",
        metric="share of hidden neurons identified",
        value=curve[label],
        ceiling=1.0,
        floor=len(neurons) / total,
        attacker_knows=f"the encrypted model and a public base at relative weight distance {distance:.2g}",
        says=says,
        detail={
            "by_distance": curve,
            "records_read_by_distance": read,
            "neurons": total,
            "neurons_with_features": compared,
            "spectrum": _spectrum(target),
        },
    )


def weights_of(graph: Graph) -> list[str]:
    """Stored matrices and kernels that multiply values, and tables that are looked up."""
    found: dict[str, None] = {}
    for node in graph.computing:
        operands = {"Gather": node.inputs[:1]}.get(node.op, node.inputs[1:2])
        if node.op in ("MatMul", "Gemm", "Conv", "ConvTranspose", "Gather"):
            for name in operands:
                view = graph.view(name)
                if view is not None and graph.stored(view.root).ndim > 1:
                    found[view.root] = None
    return list(found)


def perturbed(target: Target, distance: float) -> bytes:
    """The plain model with weights moved by Gaussian noise of relative Frobenius size `distance`."""
    random = target.random(f"base {distance}")
    model = onnx.load_model_from_string(target.plain)
    names = set(weights_of(target.graph))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    stored |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and node.output[0] in names
    }
    for name in sorted(names):
        weight = numpy_helper.to_array(stored[name])
        if weight.shape[-1] == 1 and np.abs(weight).max() > 1e3:
            continue  # a mask's table
        noise = random.normal(size=weight.shape)
        moved = weight + noise * distance * np.linalg.norm(weight) / np.linalg.norm(noise)
        stored[name].CopyFrom(numpy_helper.from_array(moved.astype(np.float32), stored[name].name))
    made: bytes = model.SerializeToString()
    return made


def relative_distance(base: bytes, plain: bytes) -> float:
    """``‖W − W₀‖ / ‖W₀‖`` over all weights."""
    graphs = [Graph(base), Graph(plain)]
    a, b = (np.concatenate([graph.stored(name).ravel() for name in weights_of(graphs[1])]) for graph in graphs)
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def _records_read(target: Target, base: bytes, blocks: Blocks, matches: dict[int, NDArray[np.int64]]) -> float | None:
    """How much of the private records follows from the values of named neurons.

    A ridge regression from the base's neurons to the blocks of public records is applied to the values that the worker
    sees, once their neurons are named and their spread is set to the base's. For tokens the share that is read right,
    for numbers R². None if no value holds the neurons of each place.
    """
    values = values_of(target.encrypted, matches, blocks.places)
    if not values:
        return None
    names = list(values)
    plain = observe(base, target.public_inputs, names)
    seen = observe(target.encrypted.model, encrypt_records(target.encrypted.key, target.private_inputs), names)
    known, read = [], []
    for name, clear, hidden in zip(names, plain, seen, strict=True):
        axis, variable = values[name]
        a, b = (np.moveaxis(each, axis, -1).reshape(len(each), blocks.places, -1) for each in (clear, hidden))
        named = np.empty_like(b)
        named[..., matches[variable]] = b
        spread = [each.std(axis=(0, 1)) for each in (a, named)]
        alive = np.minimum(*spread) > _DEAD * max(each.max() for each in spread)
        known.append(((a - a.mean(axis=(0, 1))) / spread[0])[..., alive])
        read.append(((named - named.mean(axis=(0, 1))) / spread[1])[..., alive])
    into, truth = blocks.of(target.public), blocks.aligned(target.records)
    if target.is_tokens:
        into = np.eye(target.key.tokens or 0)[into[..., 0].astype(np.int64)]
    model = Ridge(alpha=_RIDGE).fit(_samples(np.concatenate(known, axis=2)), _samples(into))
    guess = model.predict(_samples(np.concatenate(read, axis=2)))
    if target.is_tokens:
        return float((guess.argmax(axis=1) == _samples(truth)[:, 0]).mean())
    return r_squared(_samples(truth), guess)


def _samples(values: Floats) -> Floats:
    return values.reshape(-1, values.shape[-1])


def _spectrum(target: Target) -> str:
    """How many weights have the same singular values under two keys: those name the base they come from."""
    plan, other = target.encrypted.plan, target.another("spectrum")
    kept = [
        name
        for name in weights_of(target.graph)
        if target.graph.stored(name).ndim == 2
        and all(Power.SCALE not in plan.powers(axis) and plan.powers(axis) != FREE for axis in plan.layout(name))
    ]
    same = 0
    for name in kept:
        first, second = (
            np.linalg.svd(Graph(each.model).stored(name), compute_uv=False) for each in (target.encrypted, other)
        )
        same += bool(np.linalg.norm(first - second) < _SAME * np.linalg.norm(second))
    return f"{same} of {len(weights_of(target.graph))} weights keep their singular values under every key"
