"""Small networks, losses and loops for tests of training under EE."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rexis.ee.training import EncryptedTraining, Loss, Step, steps_of, tensors_of
from tests.unit.ee.torch_networks import NETWORKS, Sequence, Tokens, block, conv1d, llama, mlp

SEED = bytes(range(32))


@dataclass(frozen=True)
class Case:
    """A network, the shape of its records, and its loss. Token ids, if `tokens` says so."""

    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    loss: Loss
    tokens: bool = False

    def module(self, dtype: torch.dtype) -> nn.Module:
        torch.manual_seed(1)
        return self.network().to(dtype)

    def data(self, module: nn.Module, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Records, and targets that a network could learn: another network's answers."""
        torch.manual_seed(2)
        ids = torch.randint(0, 20, (count, *self.shape)).to(dtype)
        records = ids if self.tokens else torch.randn(count, *self.shape, dtype=dtype)
        with torch.no_grad():
            outputs = self.network().to(dtype).eval()(records)
        targets = {
            Loss.CROSS_ENTROPY: lambda: outputs.argmax(-1),
            Loss.SQUARED: lambda: outputs + 1.0,
            Loss.BINARY: lambda: (outputs > outputs.median()).to(dtype),
        }[self.loss]()
        return records, targets


def layer_norm_mlp(*, affine: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Linear(9, 16), nn.LayerNorm(16, elementwise_affine=affine), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3)
    )


def bare_transformer() -> nn.Module:
    """A block whose normalisations have no parameters, so that the residual stream keeps dense keys."""
    network = Sequence(5, 7, 16, [block()], nn.LayerNorm(16))
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.LayerNorm):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, nn.LayerNorm(16, elementwise_affine=False))
    return network


class Tied(nn.Module):
    """One embedding reads the tokens and scores them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(20, 8), mlp(8, 16), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids.long())
        return self.head((x + self.inner(x)).mean(1))


CASES = {
    "mlp": Case(lambda: nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 3)), (9,), Loss.CROSS_ENTROPY),
    "regression": Case(lambda: mlp(9, 16), (9,), Loss.SQUARED),
    "several labels": Case(lambda: mlp(9, 16, nn.Tanh()), (9,), Loss.BINARY),
    "layer norm": Case(layer_norm_mlp, (9,), Loss.CROSS_ENTROPY),
    "layer norm without parameters": Case(lambda: layer_norm_mlp(affine=False), (9,), Loss.CROSS_ENTROPY),
    "transformer": Case(NETWORKS["transformer"][0], (7, 5), Loss.CROSS_ENTROPY),
    "transformer without gains": Case(bare_transformer, (7, 5), Loss.CROSS_ENTROPY),
    "llama": Case(llama, (7, 5), Loss.CROSS_ENTROPY),
    "tokens": Case(Tokens, (12,), Loss.CROSS_ENTROPY, tokens=True),
    "tied": Case(Tied, (6,), Loss.CROSS_ENTROPY, tokens=True),
    "residual CNN": Case(NETWORKS["residual CNN"][0], (2, 8, 8), Loss.CROSS_ENTROPY),
    "conv1d": Case(conv1d, (2, 32), Loss.CROSS_ENTROPY),
    "ViT": Case(NETWORKS["ViT"][0], (3, 16, 16), Loss.CROSS_ENTROPY),
}


@dataclass(frozen=True)
class Optimiser:
    """How to make one, and the norm that gradients are clipped to."""

    make: Callable[[Iterable[Tensor]], torch.optim.Optimizer]
    clip: float | None = None

    def steps(self) -> tuple[Step, ...]:
        found = steps_of(self.make([torch.zeros(1, requires_grad=True)]))
        return (*found, Step.CLIP_NORM) if self.clip else found


def _sgd(**options: Any) -> Callable[[Iterable[Tensor]], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, **options)


OPTIMISERS = {
    "SGD": Optimiser(_sgd(lr=0.1)),
    "momentum, weight decay, clipped": Optimiser(_sgd(lr=0.05, momentum=0.9, weight_decay=1e-2), clip=0.5),
    "Nesterov": Optimiser(_sgd(lr=0.05, momentum=0.9, nesterov=True)),
    "Adam": Optimiser(lambda parameters: torch.optim.Adam(parameters, lr=3e-3)),
    "AdamW, clipped": Optimiser(lambda parameters: torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.1), clip=0.5),
    "RMSprop": Optimiser(lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3)),
    "Adagrad": Optimiser(lambda parameters: torch.optim.Adagrad(parameters, lr=1e-2)),
}


def train(
    module: nn.Module, loss: Loss, records: Tensor, targets: Tensor, optimiser: Optimiser, count: int
) -> list[float]:
    """An ordinary loop over shuffled batches, the same order each time; returns the losses."""
    trained = [each for each in module.parameters() if each.requires_grad]
    steps = optimiser.make(trained)
    order = torch.Generator().manual_seed(7)
    losses = []
    module.train()
    for _ in range(count):
        rows = torch.randperm(len(records), generator=order)[:16]
        steps.zero_grad()
        value = loss.function(module(records[rows]), targets[rows])
        value.backward()
        if optimiser.clip:
            nn.utils.clip_grad_norm_(trained, optimiser.clip)
        steps.step()
        losses.append(float(value.detach()))
    return losses


@dataclass(frozen=True)
class Runs:
    """One network trained in the clear and under EE."""

    start: dict[str, Tensor]
    plain: dict[str, Tensor]
    decrypted: dict[str, Tensor]
    losses: tuple[list[float], list[float]]

    def error(self) -> float:
        """Distance of all decrypted weights from the plain ones, over the plain ones' norm."""
        return _norm(self.decrypted, self.plain) / _norm(self.plain)

    def moved(self) -> float:
        """How far training moved the weights, over their norm."""
        return _norm(self.plain, self.start) / _norm(self.start)

    def worst(self) -> float:
        """The same for the worst tensor."""
        found = (
            _norm({name: self.decrypted[name]}, {name: tensor}) / (_norm({name: tensor}) + 1e-6)
            for name, tensor in self.plain.items()
        )
        return max(found)

    def loss_error(self) -> float:
        return max(abs(a - b) / max(abs(a), 1e-3) for a, b in zip(*self.losses, strict=True))


def _norm(state: dict[str, Tensor], other: dict[str, Tensor] | None = None) -> float:
    differences = (tensor.double() - (other[name].double() if other else 0.0) for name, tensor in state.items())
    return sum(float(each.square().sum()) for each in differences) ** 0.5


def run_both(
    case: Case,
    training: EncryptedTraining,
    optimiser: Optimiser,
    *,
    dtype: torch.dtype = torch.float32,
    frozen: Iterable[str] = (),
    count: int = 20,
) -> Runs:
    module = case.module(dtype)
    for name in frozen:
        module.get_parameter(name).requires_grad_(requires_grad=False)
    records, targets = case.data(module, 64, dtype)
    start = copy.deepcopy(tensors_of(module))
    encrypted = training.encrypt_module(module)
    losses = train(module, case.loss, records, targets, optimiser, count)
    hidden = train(
        encrypted, case.loss, training.encrypt_inputs(records), training.encrypt_targets(targets), optimiser, count
    )
    return Runs(
        _floats(start), _floats(tensors_of(module)), _floats(training.decrypt_state(tensors_of(encrypted))),
        (losses, hidden),
    )  # fmt: skip


def _floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in state.items() if tensor.is_floating_point()}


def compiled(case: Case, optimiser: Optimiser) -> EncryptedTraining:
    module = case.module(torch.float32)
    records, _ = case.data(module, 4, torch.float32)
    return EncryptedTraining.compile(module, records, loss=case.loss, steps=optimiser.steps(), seed=SEED)
