"""What an attack is run on, what it may look at, and what it reports.

Each attack is a function from a :class:`Target` to a :class:`Result`. It plays the attacker with what its docstring
grants, and only then opens the key to score itself. All randomness comes from the target's seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rexis.ee.compiler import EncryptedModel, encrypt_model
from rexis.ee.graph import Graph
from rexis.ee.groups import FREE, Power
from rexis.ee.keys import TensorKey
from rexis.ee.records import encrypt_values, records_by_input
from rexis.ee.stream import SEED_BYTES, Floats
from rexis.protocol.digests import sha256
from rexis.protocol.errors import EncryptionError, UnavailableError

try:
    import onnxruntime
except ImportError as error:
    raise UnavailableError("attacks run models in onnxruntime", hint="pip install 'rexis[models]'") from error

_CHUNK = 256

Inputs = dict[str, NDArray[Any]]


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

    Of a model with several inputs, one is attacked; the others are there to run the model.

    Attributes
    ----------
    plain
        The plain ONNX model. Attacks use it to score, or as a public base where their docstring says so.
    encrypted
        The encrypted model with its key. Attackers see ``encrypted.model`` and what the graph implies of the groups.
    records
        Private, ``float32 [n, …]``, of the attacked input; the attacker sees their ciphertexts.
    public
        Other records of the same population, in the clear.
    attacked
        Name of the attacked input; None for the only one.
    beside, public_beside
        Private and public values of the other inputs, by name.
    labels, public_labels
        Of both, where there are any.
    base
        A public model of the same architecture that the plain one was tuned from; None to simulate it by noise.
    """

    plain: bytes = field(repr=False)
    encrypted: EncryptedModel
    records: NDArray[np.float32] = field(repr=False)
    public: NDArray[np.float32] = field(repr=False)
    labels: NDArray[Any] | None = field(default=None, repr=False)
    public_labels: NDArray[Any] | None = field(default=None, repr=False)
    base: bytes | None = field(default=None, repr=False)
    attacked: str | None = None
    beside: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    public_beside: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    strongest: Power = FREE
    seed: int = 0

    @classmethod
    def compiled(
        cls, plain: bytes, records: NDArray[np.float32], public: NDArray[np.float32], *, seed: int = 0, **more: Any
    ) -> Target:
        """A target whose key is drawn from `seed`, so that an attack can be repeated."""
        strongest = more.get("strongest", FREE)
        encrypted = encrypt_model(plain, epoch=1, seed=derived_seed(seed, "victim"), strongest=strongest)
        return cls(plain, encrypted, records, public, seed=seed, **more)

    @classmethod
    def of_inputs(
        cls,
        plain: bytes,
        records: Mapping[str, NDArray[Any]],
        public: Mapping[str, NDArray[Any]],
        *,
        base: bytes | None = None,
    ) -> dict[str, Target]:
        """A target for each input of a model; the key is the same.

        Raises
        ------
        TensorError
            As in :func:`rexis.ee.records.encrypt_records`.
        """
        encrypted = encrypt_model(plain, epoch=1, seed=derived_seed(0, "victim"))
        private, known = (records_by_input(encrypted.key, each) for each in (records, public))
        return {
            name: cls(
                plain,
                encrypted,
                private[name].astype(np.float32),
                known[name].astype(np.float32),
                base=base,
                attacked=name,
                beside={other: private[other] for other in private if other != name},
                public_beside={other: known[other] for other in known if other != name},
            )
            for name in encrypted.key.inputs
        }

    @cached_property
    def graph(self) -> Graph:
        """The plain model's graph; the encrypted model's is the same."""
        return Graph(self.plain)

    @cached_property
    def ciphertexts(self) -> NDArray[np.float32]:
        """The private records of the attacked input as the worker gets them."""
        return self.encrypt(self.records)

    @property
    def input(self) -> str:
        """Name of the attacked input."""
        return self.attacked or self.graph.inputs[0]

    @property
    def key(self) -> TensorKey:
        """The key of the attacked input. Secret: for scores only."""
        return self.encrypted.key.inputs[self.input]

    def encrypt(self, records: NDArray[Any]) -> NDArray[np.float32]:
        """Records of the attacked input as the worker would get them."""
        return encrypt_values(self.key, records)

    @cached_property
    def private_inputs(self) -> Inputs:
        """The private records of all inputs, plain, as the plain model takes them."""
        return self._taken({self.input: self.records, **self.beside})

    @cached_property
    def public_inputs(self) -> Inputs:
        """The public ones."""
        return self._taken({self.input: self.public, **self.public_beside})

    def _taken(self, values: Mapping[str, NDArray[Any]]) -> Inputs:
        keys = self.encrypted.key.inputs
        return {name: values[name].astype(keys[name].element) for name in keys}

    @property
    def is_tokens(self) -> bool:
        """Whether records are token ids."""
        return self.key.tokens is not None

    @property
    def is_discrete(self) -> bool:
        """Whether records are token ids, counts, or true and false."""
        return self.is_tokens or self.key.element != "float32"

    def random(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def another(self, purpose: str, model: bytes | None = None) -> EncryptedModel:
        """The model (or another of its architecture) under a key that `purpose` and the seed determine."""
        seed = derived_seed(self.seed, purpose)
        return encrypt_model(model or self.plain, epoch=2, seed=seed, strongest=self.strongest)


def derived_seed(seed: int, purpose: str) -> bytes:
    """32 bytes for one purpose. Known to anybody, so for measurements only."""
    return bytes.fromhex(str(sha256(f"rexis attack {seed} {purpose}".encode())).removeprefix("0x"))[:SEED_BYTES]


def observe(model: bytes, inputs: Mapping[str, NDArray[Any]], names: Sequence[str]) -> list[NDArray[np.float32]]:
    """Values inside a model on records: what the worker that runs it sees.

    Parameters
    ----------
    inputs
        Records for each input, as the model takes them.
    names
        Of values in the graph.
    """
    proto = onnx.load_model_from_string(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    count = len(next(iter(inputs.values())))
    parts = [
        session.run(None, {name: values[start : start + _CHUNK] for name, values in inputs.items()})
        for start in range(0, count, _CHUNK)
    ]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def r_squared(truth: Floats, guess: Floats) -> float:
    """Share of the variance (about each column's mean) that a guess explains. At least 0: the mean can be guessed."""
    spread = float(((truth - truth.mean(axis=0)) ** 2).sum())
    return max(0.0, 1.0 - float(((truth - guess) ** 2).sum()) / spread) if spread else 0.0
