"""An MLP with squares under CKKS, in TenSEAL: a client with the secret key, a server with the public keys.

Two layouts, because they trade latency for throughput:

- :class:`OneRecord`: a record in one ciphertext; layers are ``mm`` (diagonal method, one rotation per row), which
  needs Galois keys.
- :class:`ManyRecords`: one ciphertext per feature, with as many records as there are slots; no rotation, no Galois key.

``CKKSVector.mm`` reads the slots beyond the vector and expects the vector repeated there. Encrypting repeats it, and
``mm`` and ``square`` keep it so; but adding a *plain* vector fills the first slots only, and the next ``mm`` is then
wrong (TenSEAL issue #462). So the biases are added encrypted, under the public key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tenseal as ts
from numpy.typing import NDArray

from bench._square_mlp import Floats, Layer

# Largest total bits of the coefficient modulus for 128 bits of (classical) security with a ternary secret.
# Homomorphic Encryption Standard (Albrecht et al., 2018, eprint 2019/939), table 1.
MAX_MODULUS_BITS = {8192: 218, 16384: 438}


@dataclass(frozen=True)
class Parameters:
    """Ring degree, bits of the moduli (first, one per level, special), and log2 of the scale."""

    degree: int
    modulus_bits: tuple[int, ...]
    scale_bits: int

    def __post_init__(self) -> None:
        limit = MAX_MODULUS_BITS[self.degree]
        if sum(self.modulus_bits) > limit:
            raise ValueError(f"a modulus of {sum(self.modulus_bits)} bits: degree {self.degree} allows {limit}")

    @property
    def slots(self) -> int:
        """Numbers that one ciphertext holds."""
        return self.degree // 2


# Five levels: three matrix products and two squares.
PRECISE = Parameters(16384, (60, 40, 40, 40, 40, 40, 60), 40)
FAST = Parameters(8192, (38, 30, 30, 30, 30, 30, 30), 30)


class _Mlp:
    """What both layouts share: the client's context and the server's, which holds no secret key."""

    def __init__(self, parameters: Parameters, *, rotations: bool) -> None:
        self.parameters = parameters
        self.client = ts.context(
            ts.SCHEME_TYPE.CKKS,
            parameters.degree,
            coeff_mod_bit_sizes=list(parameters.modulus_bits),
            n_threads=1,
        )
        self.client.global_scale = 2**parameters.scale_bits
        if rotations:
            self.client.generate_galois_keys()
        keys = {"save_secret_key": False, "save_relin_keys": True, "save_galois_keys": rotations}
        self.evaluation_key_bytes = len(self.client.serialize(save_public_key=False, **keys))
        self.server = ts.context_from(self.client.serialize(save_public_key=True, **keys), n_threads=1)
        if self.server.has_secret_key():
            raise AssertionError("the server's context holds the secret key")


class OneRecord(_Mlp):
    """A record a ciphertext. Every step goes from and to the bytes that travel."""

    def __init__(self, layers: tuple[Layer, ...], parameters: Parameters) -> None:
        super().__init__(parameters, rotations=True)
        self._weights = [weights.astype(np.float64).tolist() for weights, _ in layers]
        self._biases = [ts.ckks_vector(self.server, bias.astype(np.float64).tolist()) for _, bias in layers]

    def encrypt(self, records: Floats) -> bytes:
        """Encrypt ``[1, d]``."""
        encrypted: bytes = ts.ckks_vector(self.client, records[0].astype(np.float64).tolist()).serialize()
        return encrypted

    def evaluate(self, encrypted: bytes) -> bytes:
        """Run all layers on the server."""
        vector = ts.ckks_vector_from(self.server, encrypted)
        for index, (weights, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            if index:
                vector = vector.square()
            vector = vector.mm(weights) + bias
        evaluated: bytes = vector.serialize()
        return evaluated

    def decrypt(self, evaluated: bytes) -> NDArray[np.float64]:
        """Outputs ``[1, outputs]``."""
        return np.array([ts.ckks_vector_from(self.client, evaluated).decrypt()])


class ManyRecords(_Mlp):
    """Up to ``parameters.slots`` records at once, for the same time and bytes however many they are."""

    def __init__(self, layers: tuple[Layer, ...], parameters: Parameters) -> None:
        super().__init__(parameters, rotations=False)
        self._layers = [
            (weights.astype(np.float64).tolist(), [bias.astype(np.float64).tolist()]) for weights, bias in layers
        ]

    def encrypt(self, records: Floats) -> bytes:
        """Encrypt ``[n, d]``."""
        plain = ts.plain_tensor(records.astype(np.float64).ravel().tolist(), list(records.shape))
        encrypted: bytes = ts.ckks_tensor(self.client, plain, batch=True).serialize()
        return encrypted

    def evaluate(self, encrypted: bytes) -> bytes:
        """Run all layers on the server."""
        tensor = ts.ckks_tensor_from(self.server, encrypted)
        tensor = tensor.reshape([1, *tensor.shape])
        for index, (weights, bias) in enumerate(self._layers):
            if index:
                tensor = tensor.square()
            tensor = tensor.mm(weights) + bias
        evaluated: bytes = tensor.serialize()
        return evaluated

    def decrypt(self, evaluated: bytes) -> NDArray[np.float64]:
        """Outputs ``[n, outputs]``."""
        outputs = np.array(ts.ckks_tensor_from(self.client, evaluated).decrypt().tolist())
        return outputs.reshape(len(outputs), -1)
