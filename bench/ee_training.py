"""A training step in the clear against one under EE, in torch, side by side in one run.

``python -m bench.ee_training`` prints a table and writes JSON to ``bench/out/ee_training.json``. For each zoo model,
for SGD and AdamW: seconds per step (forward, backward, update) on the plain and on the
encrypted module, in alternating blocks, in random order within a pair; the ratio is taken pair by pair. Then both are
trained afresh for some steps in the same order, and the decrypted weights compared, in float32 and in float64. Idle
parameters (:attr:`rexis.ee.training.EncryptedTraining.idle`) are frozen for that.

The yardstick for float32 stands beside it: how far the clear run gets from itself when its first weights change by
their last bit. Where a ReLU network is large, some activation changes sides with any rounding, and runs drift apart.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import math
import platform
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.zoo import names, training_split
from rexis.ee.training import EncryptedTraining, Loss, steps_of, tensors_of

BATCH = 64
BLOCK_SECONDS = 0.02
DEFAULT_OUT = Path(__file__).parent / "out" / "ee_training.json"

Optimiser = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
OPTIMISERS: dict[str, Optimiser] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, weight_decay=1e-3),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
}


@dataclass(frozen=True)
class Row:
    """Times in milliseconds per step (median), and the paired ratio encrypted/plain with its spread."""

    model: str
    optimiser: str
    parameters: int
    pairs: int
    compile_s: float
    plain_ms: float
    encrypted_ms: float
    ratio_median: float
    ratio_p25: float
    ratio_p75: float
    steps: int
    weight_error: float
    weight_error_of_last_bit: float
    weight_error_float64: float


class Trainer:
    """An ordinary loop over one module."""

    def __init__(self, module: nn.Module, loss: Loss, optimiser: Optimiser, records: Tensor, targets: Tensor) -> None:
        self.module, self.loss, self.records, self.targets = module.train(), loss.function, records, targets
        self.optimiser = optimiser([each for each in module.parameters() if each.requires_grad])
        self._order = torch.Generator().manual_seed(0)

    def step(self) -> float:
        """One step; returns the loss."""
        rows = torch.randint(0, len(self.records), (BATCH,), generator=self._order)
        self.optimiser.zero_grad()
        value = self.loss(self.module(self.records[rows]), self.targets[rows])
        value.backward()
        self.optimiser.step()
        return float(value.detach())

    def block(self, count: int) -> float:
        """Seconds per step over `count` steps."""
        start = time.perf_counter()
        for _ in range(count):
            self.step()
        return (time.perf_counter() - start) / count


def network_and_data(name: str) -> tuple[nn.Module, Loss, Tensor, Tensor]:
    """A zoo model's network with fresh weights, and its training records as the network expects them."""
    source = importlib.import_module(f"models.{name}")
    records, labels = training_split(name)
    torch.manual_seed(0)
    network = source.RECIPE.network() if hasattr(source, "RECIPE") else source.build_network(0).float()
    if labels.dtype.kind == "f":
        scaled = (labels - labels.mean(axis=0)) / labels.std(axis=0)
        return network, Loss.SQUARED, torch.from_numpy(records), torch.from_numpy(scaled).float()
    return network, Loss.CROSS_ENTROPY, torch.from_numpy(records), torch.from_numpy(labels).long()


def last_bit_changed(module: nn.Module) -> nn.Module:
    """A copy whose weights are one float32 step larger."""
    found = copy.deepcopy(module)
    with torch.no_grad():
        for weight in found.parameters():
            weight.copy_(torch.nextafter(weight, weight + 1.0))
    return found


def distance(state: dict[str, Tensor], trainer: Trainer) -> float:
    """Of all weights from those of a trainer's module, over their norm."""
    ours = {name: tensor.detach() for name, tensor in trainer.module.named_parameters()}
    gap = sum(float((state[name].detach() - tensor).double().square().sum()) for name, tensor in ours.items())
    return math.sqrt(gap / sum(float(tensor.double().square().sum()) for tensor in ours.values()))


def measure(name: str, kind: str, pairs: int, steps: int) -> Row:
    """Compile one model for one optimiser, time it, and compare the trained weights."""
    module, loss, records, targets = network_and_data(name)
    optimiser = OPTIMISERS[kind]
    start = time.perf_counter()
    training = EncryptedTraining.compile(
        module, records[:8], loss=loss, steps=steps_of(optimiser(module.parameters())), seed=bytes(32)
    )
    compile_s = time.perf_counter() - start

    def trainers(start: nn.Module) -> tuple[Trainer, Trainer]:
        """In the clear and under EE, from the same start and in its dtype."""
        dtype = next(start.parameters()).dtype
        data = (records.to(dtype), targets.to(dtype) if targets.is_floating_point() else targets)
        hidden = (training.encrypt_inputs(data[0]), training.encrypt_targets(data[1]))
        encrypted = Trainer(training.encrypt_module(start), loss, optimiser, *hidden)
        return Trainer(copy.deepcopy(start), loss, optimiser, *data), encrypted

    both = trainers(module)
    calls = max(1, round(BLOCK_SECONDS / min(each.block(3) for each in both)))
    times = np.empty((pairs, 2))
    for pair in range(pairs):
        for side in random.sample((0, 1), 2):
            times[pair, side] = both[side].block(calls)
    low, median, high = np.percentile(times[:, 1] / times[:, 0], (25, 50, 75))

    for idle in training.idle:
        module.get_parameter(idle).requires_grad_(requires_grad=False)
    plain, encrypted = trainers(module)
    shaken = Trainer(last_bit_changed(module), loss, optimiser, records, targets)
    for trainer in (plain, encrypted, shaken):
        for _ in range(steps):
            trainer.step()
    exact, exact_encrypted = trainers(copy.deepcopy(module).double())
    for trainer in (exact, exact_encrypted):
        for _ in range(steps):
            trainer.step()
    return Row(
        model=name,
        optimiser=kind,
        parameters=sum(each.numel() for each in module.parameters()),
        pairs=pairs,
        compile_s=compile_s,
        plain_ms=float(np.median(times[:, 0]) * 1e3),
        encrypted_ms=float(np.median(times[:, 1]) * 1e3),
        ratio_median=float(median),
        ratio_p25=float(low),
        ratio_p75=float(high),
        steps=steps,
        weight_error=distance(training.decrypt_state(tensors_of(encrypted.module)), plain),
        weight_error_of_last_bit=distance(tensors_of(shaken.module), plain),
        weight_error_float64=distance(training.decrypt_state(tensors_of(exact_encrypted.module)), exact),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training in the clear against training under EE.")
    parser.add_argument("--pairs", type=int, default=40, help="pairs of timed blocks")
    parser.add_argument("--steps", type=int, default=100, help="steps after which weights are compared")
    parser.add_argument("--model", action="append", help="a zoo model; by default all")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = arguments.model or names()
    head = f"{'model':<14} {'optimiser':<9} {'weights':>8} {'compile s':>9} {'clear ms':>9} {'EE ms':>9} {'ratio':>6}"
    print(f"{head}  {'quartiles':<12} {'error':>8} {'last bit':>8} {'float64':>8}  after {arguments.steps} steps")
    rows = []
    for name in chosen:
        for kind in OPTIMISERS:
            row = measure(name, kind, arguments.pairs, arguments.steps)
            rows.append(row)
            print(
                f"{row.model:<14} {row.optimiser:<9} {row.parameters:>8} {row.compile_s:>9.2f} {row.plain_ms:>9.3f} "
                f"{row.encrypted_ms:>9.3f} {row.ratio_median:>6.3f}  {row.ratio_p25:.3f}–{row.ratio_p75:.3f} "
                f"{row.weight_error:>9.1e} {row.weight_error_of_last_bit:>8.1e} {row.weight_error_float64:>8.1e}",
                flush=True,
            )
    report = {
        "rows": [asdict(row) for row in rows],
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "torch": torch.__version__,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
