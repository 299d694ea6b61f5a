"""The compiler: a plain ONNX model and a seed become an encrypted model and its key.

1. Read the graph and check it (:mod:`rexis.ee.graph`).
2. Plan: each operator's rule says which axes share a key and which groups commute (:mod:`rexis.ee.plan`).
3. Refuse what would stay readable, unless the caller allows it.
4. Draw the keys and fold them into the constants (:mod:`rexis.ee.rules`).
5. Exchange the constants: nodes, names, shapes and dtypes stay, so that the encrypted model runs at plain speed.

Decoys (:mod:`rexis.ee.decoys`) are put in before the first step, where they are asked for; they change shapes.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rexis.ee.container import Constant, ConstantsFile, Model
from rexis.ee.decoys import Decoys, Widening, widen
from rexis.ee.graph import Graph, Node
from rexis.ee.groups import FREE, Power
from rexis.ee.keys import DATA_SECRET_BYTES, EEKey, KeyPart, TensorKey
from rexis.ee.plan import Plan
from rexis.ee.rules import Acceptance, Carried, Folding, OffsetMisfit, rule_for
from rexis.ee.rules.backwards import fold_back
from rexis.ee.rules.select import leads_to_lookups
from rexis.ee.stacks import Stacks
from rexis.ee.stream import SEED_BYTES, Floats, SecretStream, fresh_seed
from rexis.ee.turns import Turning
from rexis.protocol.digests import Digest
from rexis.protocol.errors import EncryptionError

MAX_EPOCH = (1 << 53) - 1  # JSON documents, a key file among them, hold no larger integer


@dataclass(frozen=True, eq=False)
class EncryptedModel:
    """An encrypted model (ONNX bytes, public), its key (secret), and the plan that says what is hidden how.

    Attributes
    ----------
    model
        The whole model; or without its large constants, where the compiler was given a file for them.
    allowed_clear
        Axes that the caller allowed to stay readable.
    widening
        The decoys that were put in before; None without any.
    """

    model: bytes = field(repr=False)
    key: EEKey
    plan: Plan = field(repr=False)
    allowed_clear: tuple[str, ...] = ()
    widening: Widening | None = field(default=None, repr=False)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the encrypted model: see :func:`rexis.ee.container.model_digest`."""
        return self.key.model_digest


@dataclass(frozen=True)
class Training:
    """What a training that some constants take part in asks of keys. All others are free to be as in inference.

    Attributes
    ----------
    trained
        Names of the constants.
    powers
        What the optimiser commutes with: :mod:`rexis.ee.exactness`.
    output
        What the loss is the same under.
    loss
        Its name, for messages.
    """

    trained: frozenset[str]
    powers: Power
    output: Power
    loss: str


def encrypt_model(
    model: Model,
    *,
    epoch: int,
    seed: bytes | None = None,
    allow_clear: Collection[str] = (),
    strongest: Power = FREE,
    decoys: Decoys | None = None,
    file: ConstantsFile | None = None,
) -> EncryptedModel:
    """Fold a fresh EE key into a model's constants.

    The encrypted model maps encrypted records (:func:`rexis.ee.records.encrypt_records`) to encrypted outputs
    (:func:`rexis.ee.records.decrypt_outputs`). What that hides, and what not, stands in :mod:`rexis.ee`.

    Parameters
    ----------
    model
        Float32 ONNX, inputs and one output ``[batch, …]``. Not changed. An input may also be token ids (integers that
        only look tables up), or other integers and booleans, such as a mask: those are permuted at most, so that their
        values stay readable. Weights may lie in files of their own (external data) beside a model that is given by its
        path.
    epoch
        Key epoch, 1 or more.
    seed
        32 secret bytes that determine the key; by default fresh from the operating system. Give one to repeat a
        compilation. Never use a seed for two models: they would share keys. The same seed gives the same key on
        every machine up to rounding in linear algebra (about 1e-15), so the encrypted model's bytes may differ in
        last bits between machines: keep the key file, do not rely on the seed.
    allow_clear
        Axes (``value/axis``) that may stay readable although a key was expected for them.
    strongest
        Caps every variable's powers: no key may do more.
    decoys
        Makes the model wider first (:mod:`rexis.ee.decoys`), in memory. Shapes change then, and with them the time that
        it takes.
    file
        Where the encrypted model's large constants go as they are made, instead of into memory and the model.

    Raises
    ------
    MalformedError
        Not a valid ONNX model.
    EncryptionError
        An operator, shape or constant that no rule can transform, or an axis that would stay readable; the message
        names the node and the reason.
    """
    root = _root(epoch, seed)
    widening = None
    if decoys is not None:
        model, widening = widen(model, decoys, SecretStream(root, "decoys"))

    def attempt(*, offsets: bool, gains: bool) -> EncryptedModel:
        if file is not None:
            file.restart()
        graph = Graph(model, file)  # an attempt that fails leaves some constants exchanged
        accepts = Acceptance(graph, offsets=offsets, gains=gains)
        return _encrypted(planned(graph, accepts, strongest), epoch, root, allow_clear, accepts, widening)

    with suppress(OffsetMisfit):
        return attempt(offsets=True, gains=True)
    with suppress(OffsetMisfit):
        return attempt(offsets=False, gains=True)
    return attempt(offsets=False, gains=False)


def encrypt_trainable(
    model: Model,
    *,
    epoch: int,
    seed: bytes | None = None,
    allow_clear: Collection[str] = (),
    strongest: Power = FREE,
    fixed: Collection[str] = (),
    training: Training | None = None,
) -> EncryptedModel:
    """Like :func:`encrypt_model`, but linear in every constant, whatever its value: it commutes with training.

    No offsets, and no gain is folded into another weight: every stored constant is its plain value with the keys of
    its own layout acting on it.

    Parameters
    ----------
    strongest
        Caps every variable's powers. What an optimiser commutes with: :mod:`rexis.ee.exactness`.
    fixed
        Names of constants that stay as they are, since the trained model's code makes them.
    training
        Which constants are trained, and how: restricts the keys that they and the loss meet, and no others.

    Raises
    ------
    MalformedError, EncryptionError
        As in :func:`encrypt_model`.
    """
    graph, root = Graph(model), _root(epoch, seed)
    accepts = Acceptance(graph, offsets=False, gains=False)
    return _encrypted(planned(graph, accepts, strongest, fixed, training), epoch, root, allow_clear, accepts)


def _root(epoch: int, seed: bytes | None) -> bytes:
    """The secret that everything of one key epoch is drawn from."""
    if epoch < 1:
        raise EncryptionError("a key epoch is 1 or more", field="epoch")
    if epoch > MAX_EPOCH:
        raise EncryptionError(f"a key epoch is {MAX_EPOCH} at most", field="epoch", hint="count epochs from 1")
    return SecretStream(seed if seed is not None else fresh_seed(), f"epoch/{epoch}").take(SEED_BYTES)


def _encrypted(
    plan: Plan,
    epoch: int,
    root: bytes,
    allow_clear: Collection[str],
    accepts: Acceptance,
    widening: Widening | None = None,
) -> EncryptedModel:
    graph = plan.graph
    _require_hidden(plan, allow_clear)
    fold_back(plan)
    keyring = plan.keyring(root)
    folding = Folding(plan, accepts, keyring, root)
    for name in graph.inputs:
        folding.settle(name, Carried(offset=folding.fresh_offset(name)))
    for node in graph.computing:
        rule = rule_for(node)
        for name in node.outputs:
            folding.note_magnitude(name, rule.magnitude(node, folding))
        rule.fold(node, folding)
    layouts = {name: plan.layout(name) for name in graph.roots()}
    for name, layout in layouts.items():
        if name not in folding.exchanged:
            value = folding.folded.pop(name, None)
            graph.exchange(name, _rounded(folding.encrypt(graph.raw(name), layout), name) if value is None else value)
    encrypted = graph.encoded()
    key = EEKey(
        key_id=SecretStream(root, "key id").take(16).hex(),
        epoch=epoch,
        model_digest=graph.digest(encrypted),
        part=KeyPart.FULL,
        inputs={
            name: replace(_tensor_key(folding, name), decoys=None if widening is None else widening.padding)
            for name in graph.inputs
        },
        output=_tensor_key(folding, graph.output),
        keyring=keyring,
        layouts=layouts,
        data_secret=SecretStream(root, "data secret").take(DATA_SECRET_BYTES),
    )
    return EncryptedModel(encrypted, key, plan, tuple(allow_clear), widening)


def planned(
    graph: Graph,
    accepts: Acceptance,
    strongest: Power = FREE,
    fixed: Collection[str] = (),
    training: Training | None = None,
) -> Plan:
    """Constraints of all operators; also refuses what has no rule, and constants that are not finite."""
    plan = Plan(graph, strongest)
    for name in graph.inputs:
        if leads_to_lookups(graph, name):
            plan.tokens[name] = name
        # What is looked up, counted or true and false keeps its values: a key may move it and nothing else.
        powers = FREE if graph.is_float(name) and name not in plan.tokens else Power.PERMUTE
        plan.layouts[name] = (plan.batch, *(plan.fresh(size or 1, powers) for size in (graph.shape(name) or ())[1:]))
    for name in graph.roots():
        value = graph.raw(name)
        infinite = bool(np.isneginf(value).any())  # a mask: it may be moved, and nothing more
        if not bool((np.isfinite(value) | np.isneginf(value)).all()) and not _masks(graph, name, value):
            raise EncryptionError(f"constant {name!r} holds NaN or infinity", field=name)
        if name in fixed:
            plan.pin(name, value.shape)
        elif infinite:
            plan.layouts[name] = tuple(plan.fresh(size, Power.PERMUTE) for size in value.shape)
        else:
            powers = training.powers if training is not None and name in training.trained else FREE
            plan.layouts[name] = tuple(plan.fresh(size, powers) for size in value.shape)
    graph.require_used()
    turning = Turning(plan)
    stacks = Stacks(plan, turning.starts)
    for node in graph.computing:
        if node.inputs[0] in plan.tokens and node.op in ("Cast", "Identity"):
            plan.tokens[node.output] = plan.tokens[node.inputs[0]]
        if not stacks.plans(node) and not turning.plans(node):
            rule_for(node).plan(node, plan, accepts)
    if plan.layout(graph.output)[0] != plan.batch:
        raise EncryptionError("the first axis of the output does not count records", field="output")
    if training is not None:
        loss = Node("loss", training.loss, (graph.output,), (), {})
        plan.restrict(plan.layout(graph.output)[1:], training.output, loss)
    return plan


def _masks(graph: Graph, name: str, value: Constant) -> bool:
    """Whether a constant is the one infinity that Where puts in the place of masked scores: nothing scales it."""
    readers = graph.consumers(name)
    return value.size == 1 and not bool(np.isnan(value).any()) and all(node.op == "Where" for node in readers)


def _require_hidden(plan: Plan, allow_clear: Collection[str]) -> None:
    for axis in plan.clear_axes():
        if not axis.inherent and axis.where not in allow_clear:
            raise EncryptionError(
                f"axis {axis.where} ({axis.size} elements) would stay readable: no key commutes with {axis.reason}",
                field=axis.where,
                hint=f"change the model, or accept it with --allow-clear {axis.where}",
            )


def _tensor_key(folding: Folding, name: str) -> TensorKey:
    plan, carried = folding.plan, folding.of(name)
    layout = plan.layout(name)
    vocabulary = plan.vocabulary(name)
    axes = (*layout, vocabulary) if vocabulary is not None else layout
    shape = plan.graph.shape(name) or ()
    return TensorKey(
        shape=tuple(size or 1 for size in shape[1:]),
        layout=layout,
        keyring=folding.keyring.only(factor.variable for factor in plan.leaves(axes)),
        offset=carried.offset,
        shift=carried.shift,
        vocabulary=vocabulary,
        element=plan.graph.element(name),
    )


def _rounded(values: Floats, name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not np.array_equal(np.isfinite(rounded), np.isfinite(values)):
        raise EncryptionError(f"constant {name!r} would overflow float32", field=name)
    return rounded
