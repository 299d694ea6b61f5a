"""What an attack is run on, what it may look at, and what it reports.

Each attack is a function from a :class:`Target` to a :class:`Result`. It plays the attacker with what its docstring
grants, and only then opens the key to score itself. All randomness comes from the target's seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.decoys import Decoys
from rexis.ee.graph import Graph
from rexis.ee.groups import FREE, Power
from rexis.ee.records import encrypt_records
from rexis.ee.stream import SEED_BYTES, Floats
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EncryptionError, UnavailableError

try:
    import onnxruntime
except ImportError as error:
    raise UnavailableError("attacks run models in onnxruntime", hint="pip install 'rexis[models]'") from error

_CHUNK = 256


class NotApplicableError(EncryptionError):
    """The attack has nothing to attack in this model; the message says why."""


@dataclass(frozen=True)
class Result:
    """What one attack got.

    Attributes
    ----------
    name, metric
        The attack, and what its value counts. Higher is worse for the data owner.
    value
        What it got under EE.
    ceiling, floor
        What the same attack gets without EE, and what guessing gets.
    attacker_knows
        What was granted.
    says
        One sentence for somebody who decides.
    detail
        Curves and by-products, JSON-ready.
    """

    name: str
    metric: str
    value: float
    ceiling: float
    floor: float
    attacker_knows: str
    says: str
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Where the value lies between floor (0) and ceiling (1)."""
        span = self.ceiling - self.floor
        return min(max((self.value - self.floor) / span, 0.0), 1.0) if span > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Target:
    """A plain model, its encrypted form, private records, and what the attacker may have beside the ciphertexts.

    Attributes
    ----------
    plain
        The plain ONNX model. Attacks use it to score, or as a public base where their docstring says so.
    encrypted
        The encrypted model with its key. Attackers see ``encrypted.model`` and what the graph implies of the groups.
    records
        Private, ``float32 [n, …]``; the attacker sees their ciphertexts.
    public
        Other records of the same population, in the clear.
    labels, public_labels
        Of both, where there are any.
    base
        A public model of the same architecture that the plain one was tuned from; None to simulate it by noise.
    strongest, decoys
        How the model was encrypted, as anybody sees from its shapes and operators.
    cleaned
        What the attacker does to each ciphertext first (:mod:`~rexis.ee.attacks.undecoyed`).
    """

    plain: bytes = field(repr=False)
    encrypted: EncryptedModel
    records: NDArray[np.float32] = field(repr=False)
    public: NDArray[np.float32] = field(repr=False)
    labels: NDArray[Any] | None = field(default=None, repr=False)
    public_labels: NDArray[Any] | None = field(default=None, repr=False)
    base: bytes | None = field(default=None, repr=False)
    strongest: Power = FREE
    decoys: Decoys | None = None
    seed: int = 0
    cleaned: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = field(default=None, repr=False)

    @classmethod
    def compiled(
        cls, plain: bytes, records: NDArray[np.float32], public: NDArray[np.float32], *, seed: int = 0, **more: Any
    ) -> Target:
        """A target whose key is drawn from `seed`, so that an attack can be repeated."""
        how = {"strongest": more.get("strongest", FREE), "decoys": more.get("decoys")}
        encrypted = encrypt_model(plain, epoch=1, seed=derived_seed(seed, "victim"), **how)
        return cls(plain, encrypted, records, public, seed=seed, **more)

    @cached_property
    def graph(self) -> Graph:
        """The plain model's graph; the encrypted model's is the same, with decoys but for widths."""
        return Graph(self.plain)

    @cached_property
    def ciphertexts(self) -> NDArray[np.float32]:
        """The private records as the worker gets them."""
        return self.encrypt(self.records, "private")

    def encrypt(
        self, records: NDArray[np.float32], purpose: str, by: EncryptedModel | None = None
    ) -> NDArray[np.float32]:
        """Records as the worker gets them (and cleans them), under the victim's key or another one.

        Decoy noise follows from `purpose` and the seed: a purpose each, or records would share noise.
        """
        key = (by or self.encrypted).key
        found = encrypt_records(key, records, seed=derived_seed(self.seed, f"noise for {purpose}"))
        return found if self.cleaned is None or by is not None else self.cleaned(found)

    @property
    def is_tokens(self) -> bool:
        """Whether records are token ids."""
        return self.encrypted.plan.vocabulary is not None

    def random(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def another(self, purpose: str, model: bytes | None = None) -> EncryptedModel:
        """The model (or another of its architecture) under a key that `purpose` and the seed determine."""
        seed = derived_seed(self.seed, purpose)
        return encrypt_model(model or self.plain, epoch=2, seed=seed, strongest=self.strongest, decoys=self.decoys)


def derived_seed(seed: int, purpose: str) -> bytes:
    """32 bytes for one purpose. Known to anybody, so for measurements only."""
    return bytes.fromhex(str(sha256(f"rexis attack {seed} {purpose}".encode())).removeprefix("0x"))[:SEED_BYTES]


def observe(model: bytes, records: NDArray[np.float32], names: Sequence[str]) -> list[NDArray[np.float32]]:
    """Values inside a model on records: what the worker that runs it sees.

    Parameters
    ----------
    names
        Of values in the graph.
    """
    proto = onnx.load_model_from_string(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    parts = [session.run(None, {feed: records[i : i + _CHUNK]}) for i in range(0, len(records), _CHUNK)]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def r_squared(truth: Floats, guess: Floats) -> float:
    """Share of the variance (about each column's mean) that a guess explains. At least 0: the mean can be guessed."""
    spread = float(((truth - truth.mean(axis=0)) ** 2).sum())
    return max(0.0, 1.0 - float(((truth - guess) ** 2).sum()) / spread) if spread else 0.0
