"""How far honest re-execution of a training segment may lie from what was committed, beside what cheating does.

``python -m bench.training_rounding`` prints a table and writes ``bench/out/training/rounding.json``. From the same
committed states, each segment is taken again on two threads instead of one (another order of sums, as another machine
has), and in float64 (as if all rounding were gone, which is more than two machines differ by); and by a cheat whose
learning rate is 1 % too high. All are measured as a verifier does (:func:`rexis.protocol.transcript.deviations`):
relative to the segment's own way, and to the length of the vector. The reasons stand in ``docs/training.md``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bench._finetuning import OPTIMISERS, Work, clear_work
from models.zoo import names
from rexis.protocol.transcript import State, deviations
from rexis.training.session import Trainer

DEFAULT_OUT = Path(__file__).parent / "out" / "training" / "rounding.json"
SEGMENTS = 4


@dataclass(frozen=True)
class Row:
    """Largest deviations of honest re-executions over some segments, the smallest of a cheat's; relative, absolute.

    Attributes
    ----------
    frozen
        Weights left out because their gradient is rounding errors alone.
    way
        Of the weights in a segment, against their size (the smallest).
    """

    model: str
    optimiser: str
    interval: int
    frozen: int
    way: float
    threads: tuple[float, float]
    float64: tuple[float, float]
    cheat: tuple[float, float]


def measure(name: str, kind: str, interval: int) -> Row:
    """One model under one optimiser."""
    every = clear_work(name, OPTIMISERS[kind], steps=SEGMENTS * interval, interval=interval)
    work = clear_work(name, OPTIMISERS[kind], steps=SEGMENTS * interval, interval=interval, freeze=True)
    rate = OPTIMISERS[kind].learning_rate_e9 * 101 // 100
    faster = work.plan.model_copy(update={"optimiser": OPTIMISERS[kind].model_copy(update={"learning_rate_e9": rate})})
    honest = work.trainer()
    others = (
        work.trainer(threads=2),
        work.trainer(floats=torch.float64),
        Work(work.model, faster, work.records).trainer(),
    )
    found, ways = [], []
    for segment in range(SEGMENTS):
        before = honest.state()
        after = _advanced(honest, segment, before)
        found.append([_worst(before, _advanced(each, segment, before), after) for each in others])
        ways.append(_way(before, after))
    table = np.array(found)
    pairs = [*(table[:, place].max(axis=0) for place in (0, 1)), table[:, 2].min(axis=0)]
    threads, float64, cheat = ((float(each[0]), float(each[1])) for each in pairs)
    frozen = len(every.plan.trainable) - len(work.plan.trainable)
    return Row(name, kind, interval, frozen, min(ways), threads, float64, cheat)


def _advanced(trainer: Trainer, segment: int, before: State) -> State:
    interval = trainer.plan.checkpoint_interval
    trainer.load(segment * interval, before)
    trainer.advance(interval)
    return {name: value.astype(np.float32) for name, value in trainer.state().items()}


def _worst(before: State, committed: State, again: State) -> np.ndarray:
    """Relative, absolute: the largest of all slots."""
    return np.array(list(deviations(before, committed, again).values())).max(axis=0)


def _way(before: State, after: State) -> float:
    weights = [name for name in after if name.startswith("weight/")]
    gone, size = (
        sum(float(np.square(each, dtype=np.float64).sum()) for each in parts)
        for parts in ([after[name] - before[name] for name in weights], [after[name] for name in weights])
    )
    return float(np.sqrt(gone / size))


def table_of(rows: list[Row]) -> list[str]:
    """The rows for a terminal."""
    head = f"{'model':<14} {'optimiser':<9} {'steps':>5} {'frozen':>6} {'way':>8}  "
    lines = [f"{head}{'2 threads':<17}  {'float64':<17}  rate + 1 % (relative/absolute)"]
    for row in rows:
        pairs = "  ".join(f"{each[0]:.1e}/{each[1]:.1e}" for each in (row.threads, row.float64, row.cheat))
        lines.append(f"{row.model:<14} {row.optimiser:<9} {row.interval:>5} {row.frozen:>6} {row.way:>8.1e}  {pairs}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="a zoo model; by default all")
    parser.add_argument("--interval", type=int, action="append", help="steps of a segment; by default 10 and 50")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.model or names():
        for kind in OPTIMISERS:
            for interval in arguments.interval or (10, 50):
                rows.append(measure(name, kind, interval))
                print("\n".join(table_of(rows)[len(rows) > 1 :][-1:] if len(rows) > 1 else table_of(rows)), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
