"""The compiler: a plain ONNX model and a seed become an encrypted model and its key.

1. Read the graph and check it (:mod:`rexis.ee.graph`).
2. Plan: each operator's rule says which axes share a key and which groups commute (:mod:`rexis.ee.plan`).
3. Go backwards and find the values that may carry an offset.
4. Draw the keys and fold them into the constants, operator by operator (:mod:`rexis.ee.rules`).
5. Exchange the constants: nodes, names, shapes and dtypes stay, so that the encrypted model runs at plain speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from rexis.ee.graph import Graph
from rexis.ee.keys import DATA_SECRET_BYTES, EEKey
from rexis.ee.plan import Plan
from rexis.ee.rules import Folding, rule_for
from rexis.ee.stream import SEED_BYTES, SecretStream, fresh_seed
from rexis.protocol.digests import Digest, sha256
from rexis.protocol.errors import EncryptionError


@dataclass(frozen=True, eq=False)
class EncryptedModel:
    """An encrypted model (ONNX bytes, public) and its key (secret)."""

    model: bytes = field(repr=False)
    key: EEKey

    @property
    def digest(self) -> Digest:
        """SHA-256 of the encrypted model's bytes."""
        return self.key.model_digest


def encrypt_model(model: onnx.ModelProto | bytes, *, epoch: int, seed: bytes | None = None) -> EncryptedModel:
    """Fold a fresh EE key into a model's constants.

    The encrypted model maps encrypted records (:func:`rexis.ee.records.encrypt_records`) to encrypted outputs
    (:func:`rexis.ee.records.decrypt_outputs`). What that hides, and what not, stands in :mod:`rexis.ee`.

    Parameters
    ----------
    model
        Float32 ONNX, input ``[batch, d]``, output ``[batch, m]``, weights inside the file. Not changed.
    epoch
        Key epoch, 1 or more.
    seed
        32 secret bytes that determine the key; by default fresh from the operating system. Give one to repeat a
        compilation. Never use a seed for two models: they would share keys. The same seed gives the same key on
        every machine up to rounding in linear algebra (about 1e-15), so the encrypted model's bytes may differ in
        last bits between machines: keep the key file, do not rely on the seed.

    Raises
    ------
    MalformedError
        Not a valid ONNX model.
    EncryptionError
        An operator, shape or constant that no rule can transform; the message names the node and the reason.
    """
    if epoch < 1:
        raise EncryptionError("a key epoch is 1 or more", field="epoch")
    graph = Graph(model)
    plan = _planned(graph)
    root = SecretStream(seed if seed is not None else fresh_seed(), f"epoch/{epoch}").take(SEED_BYTES)
    folding = Folding(plan, _accepting_offsets(graph), root)
    folding.settle(graph.input, folding.fresh_offset(graph.input))
    for node in graph.computing:
        rule_for(node).fold(node, folding)
    for name in graph.roots():
        if name not in folding.folded:
            raise EncryptionError(
                f"constant {name!r} is used by no operator and would stay readable",
                field=name,
                hint="remove unused initializers",
            )
    encrypted = graph.exchanged(folding.folded)
    hidden = {name: key for name, key in folding.keys.items() if name not in (graph.input, graph.output)}
    key = EEKey(
        key_id=SecretStream(root, "key id").take(16).hex(),
        epoch=epoch,
        model_digest=sha256(encrypted),
        input=folding.keys[graph.input],
        output=folding.keys[graph.output],
        hidden=hidden,
        data_secret=SecretStream(root, "data secret").take(DATA_SECRET_BYTES),
    )
    return EncryptedModel(encrypted, key)


def _planned(graph: Graph) -> Plan:
    """Constraints of all operators; also refuses what has no rule, and constants that are not finite float32."""
    plan = Plan(graph)
    for node in graph.computing:
        for name in node.inputs:
            constant = graph.constant(name)
            if constant is None:
                continue
            if graph.dtype(constant.root) != "float32":
                raise node.refuse(f"constant {constant.root!r} is {graph.dtype(constant.root)}, not float32")
            if not bool(np.isfinite(constant.value).all()):
                raise node.refuse(f"constant {constant.root!r} holds NaN or infinity")
        rule = rule_for(node)
        if all(graph.constant(name) is not None for name in node.inputs):
            raise node.refuse("it computes a constant", hint="export with constant folding")
        rule.plan(node, plan)
    return plan


def _accepting_offsets(graph: Graph) -> dict[str, bool]:
    """For each computed value, whether every reader accepts an offset on it. A model's output is read by its owner."""
    accepts: dict[str, bool] = {}
    for name in (*(node.output for node in reversed(graph.computing)), graph.input):
        accepts[name] = all(
            rule_for(reader).absorbs(reader, graph, accepts[reader.output]) for reader in graph.consumers(name)
        )
    return accepts
