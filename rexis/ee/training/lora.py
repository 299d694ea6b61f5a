"""Low-rank adapters (Hu et al. 2021) for a module whose base weights are already encrypted.

``y = W x + (α/r) B A x``. The factor A ``[r, in]`` reads what W reads and B ``[out, r]`` writes what W writes, so they
carry the keys of W's axes; the rank axis between them has a key of its own::

    A' = K_r A K_x⁻¹        B' = K_y B K_r⁻¹

The base weights stay as they were sent, and many adapters can be trained on one encrypted base, each with its own rank
key. Training the factors is exact under the same rules as training W: :mod:`rexis.ee.exactness`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from rexis.ee.exactness import Step, largest, powers_along, require_exact
from rexis.ee.groups import Power, draw
from rexis.ee.layout import DUAL, SELF, Element, Factor, Keyring, Layout
from rexis.ee.stream import SecretStream, fresh_seed
from rexis.ee.training.encrypted import EncryptedTraining, State, as_floats, as_tensor
from rexis.protocol.errors import EncryptionError


class AdaptedLinear(nn.Linear):
    """A linear layer with a low-rank adapter. Its own weight and bias keep their names, and are frozen.

    Parameters
    ----------
    base
        The layer that is adapted. Its tensors are used, not copied.
    rank
        r, 1 or more.
    alpha
        α: the adapter is scaled with α/r.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias, self.scale = base.weight, base.bias, alpha / rank
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        bound = 1 / math.sqrt(base.in_features)
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features, **like).uniform_(-bound, bound))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, **like))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * nn.functional.linear(nn.functional.linear(x, self.lora_a), self.lora_b)


def add_adapters(module: nn.Module, layers: Collection[str], rank: int, alpha: float) -> None:
    """Freeze a module, plain or encrypted, and give some of its linear layers fresh adapters, in place.

    Raises
    ------
    EncryptionError
        A layer is not an ``nn.Linear``.
    """
    module.requires_grad_(requires_grad=False)
    for name in layers:
        base = module.get_submodule(name)
        if type(base) is not nn.Linear:
            raise EncryptionError(f"layer {name!r} is not an nn.Linear", field=name)
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, AdaptedLinear(base, rank, alpha))


def adapters_of(module: nn.Module) -> dict[str, Tensor]:
    """The adapters' factors, by name: ``<layer>.lora_a`` and ``<layer>.lora_b``."""
    return {name: each for name, each in module.named_parameters() if name.endswith((".lora_a", ".lora_b"))}


@dataclass(frozen=True, eq=False)
class AdapterKeys:
    """Keys of one set of adapters: those of the base's axes, and one for each rank axis.

    Attributes
    ----------
    keyring
        All keys. Secret.
    layouts
        How each factor is encrypted.
    powers
        What the factors' keys do, taken together.
    """

    keyring: Keyring = field(repr=False)
    layouts: dict[str, Layout] = field(repr=False)
    powers: Power

    @classmethod
    def draw(
        cls,
        training: EncryptedTraining,
        layers: Iterable[str],
        rank: int,
        *,
        steps: Iterable[Step],
        seed: bytes | None = None,
    ) -> AdapterKeys:
        """Keys for adapters of linear layers of an encrypted module.

        Parameters
        ----------
        training
            The base's.
        steps
            What the optimiser will do.
        seed
            32 secret bytes that determine the rank keys, by default fresh. Never use one for two sets of adapters.

        Raises
        ------
        EncryptionError
            A layer that the base lacks, or `steps` are not exact under the base's keys.
        """
        steps = tuple(steps)
        stream_seed = seed if seed is not None else fresh_seed()
        keyring = training.key.keyring
        assert keyring is not None  # noqa: S101
        sizes, elements = dict(keyring.sizes), list(keyring.elements)
        layouts: dict[str, Layout] = {}
        for name in layers:
            weight = training.layouts.get(f"{name}.weight")
            if weight is None or len(weight) != 2:
                raise EncryptionError(f"the module has no linear layer {name!r}", field=name)
            out, into = weight
            variable = max(sizes) + 1
            sizes[variable] = rank
            key = draw(largest(steps), SecretStream(stream_seed, f"rank/{name}"), rank)
            elements.append(Element((variable,), (SELF,), (), (key,)))
            layouts[f"{name}.lora_a"] = ((Factor(variable, SELF),), into)
            layouts[f"{name}.lora_b"] = (out, (Factor(variable, DUAL),))
        extended = replace(keyring, sizes=sizes, elements=tuple(elements))
        powers = powers_along(extended, (axis for layout in layouts.values() for axis in layout))
        require_exact(steps, powers)
        return cls(extended, layouts, powers)

    def encrypt(self, factors: State) -> dict[str, Tensor]:
        """Encrypt adapters' factors by name; dtypes and devices stay."""
        return {name: self._turned(name, factor, invert=False) for name, factor in factors.items()}

    def decrypt(self, factors: State) -> dict[str, Tensor]:
        """Undo :meth:`encrypt`."""
        return {name: self._turned(name, factor, invert=True) for name, factor in factors.items()}

    def _turned(self, name: str, factor: Tensor, *, invert: bool) -> Tensor:
        if name not in self.layouts:
            raise EncryptionError(f"there is no adapter {name!r}", field=name)
        return as_tensor(self.keyring.apply(as_floats(factor), self.layouts[name], invert=invert), factor)
