"""Training as a worker does it: encrypted beside plain, what the transcript costs, and what verifying a segment does.

``rexis bench training`` (or ``python -m bench.training``) writes ``report.json``, ``report.md`` and ``ratios.png``:

- *encrypted/plain*: seconds of a step on the plain and on the encrypted model of the same network, in alternating
  blocks and in random order within a pair. The losses of both must be the same to rounding, or the run fails.
- *transcript*: seconds of an interval with a checkpoint of the state before it, committed in the other thread (hashed,
  written), against the same interval without; a transformer of 10.7 million weights under AdamW, whose state has
  three times as many numbers.
- *verifying*: from the state's blob to the verdict on its segment, against taking the steps and nothing else.

A wrong result ends it with 1; a slow one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench._finetuning import OPTIMISERS, Work, both_works, clear_work, large_work
from models.zoo import names
from rexis.protocol.digests import Digest
from rexis.protocol.transcript import pack_state, state_root_of, unpack_state
from rexis.training.checkpoints import Checkpoints, Committed
from rexis.training.platforms import this_platform
from rexis.training.rerun import Rerunner

DEFAULT_OUT = Path(__file__).parent / "out" / "training"
GOALS = {"encrypted/plain": 1.03, "transcript": 1.05, "verifying": 1.2}
_SAME = 1e-3  # losses, relative: float32 after a few steps
_BLOCK_SECONDS = 0.1
_PATIENCE_S = 600


@dataclass(frozen=True)
class Scope:
    """How much is measured.

    Attributes
    ----------
    pairs
        Pairs of timed blocks.
    interval
        Steps from a checkpoint to the next.
    blocks
        Of the large transformer.
    """

    models: tuple[str, ...]
    pairs: int = 30
    interval: int = 50
    intervals: int = 5
    blocks: int = 6
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Row:
    """One ratio: seconds with, seconds without, and the ratio's quartiles over the pairs.

    Attributes
    ----------
    checked
        What was compared, and whether it was as it should be.
    """

    what: str
    model: str
    optimiser: str
    weights: int
    interval: int
    base_s: float
    with_s: float
    ratio: float
    ratio_p25: float
    ratio_p75: float
    checked: str
    right: bool


def encrypted(name: str, kind: str, scope: Scope) -> Row:
    """A step on the encrypted model against one on the plain model."""
    works = both_works(name, kind, steps=1 << 20, interval=1 << 18)
    both = [each.trainer(device=scope.device, threads=scope.threads) for each in works]
    losses = [each.advance(8) for each in both]
    gap = float(np.abs(losses[0] - losses[1]).max() / np.abs(losses[0]).max())
    start = time.perf_counter()
    both[0].advance(3)
    calls = max(1, round(_BLOCK_SECONDS / (time.perf_counter() - start) * 3))
    times = _paired([partial(each.advance, calls) for each in both], scope.pairs) / calls
    return _row("encrypted/plain", name, kind, works[0], 1, times, f"losses differ by {gap:.1e}", gap <= _SAME)


def transcript(scope: Scope) -> Row:
    """An interval with a checkpoint on its way against one without."""
    work = large_work(steps=1 << 20, interval=1 << 18, blocks=scope.blocks)
    trainer = work.trainer(device=scope.device, threads=scope.threads)
    trainer.advance(2)
    found: list[tuple[int, Digest]] = []
    done = threading.Semaphore(0)

    def without() -> None:
        trainer.advance(scope.interval)

    def commit(made: Committed) -> None:
        found.append((made.step, made.root))
        done.release()

    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder), commit) as checkpoints,
    ):

        def beside() -> None:
            checkpoints.submit(trainer.snapshot(checkpoints.spare()), np.empty(0, np.float32))
            trainer.advance(scope.interval)
            done.acquire(timeout=_PATIENCE_S)  # it counts until it is committed

        times = _paired([without, beside], scope.intervals)
        expected = (trainer.step_count, trainer.root)
        checkpoints.submit(trainer.snapshot(), np.empty(0, np.float32))
    right = found[-1] == expected and len(found) == scope.intervals + 2
    return _row(
        "transcript", "transformer", "AdamW", work, scope.interval, times, "roots are those of the states", right
    )


def verifying(name: str, work: Work, scope: Scope) -> Row:
    """A segment's verdict, from the blobs on, against taking its steps."""
    interval = work.plan.checkpoint_interval
    trainer = work.trainer(device=scope.device, threads=scope.threads)
    first, blob = trainer.root, pack_state(trainer.state())
    trainer.advance(interval)
    last = trainer.root
    again = Rerunner(work.model, work.plan, work.records, device=scope.device, threads=scope.threads)
    before = unpack_state(blob, work.plan)
    verdicts = []

    def steps() -> None:
        trainer.load(0, before)
        trainer.advance(interval)

    def verdict() -> None:
        state = unpack_state(blob, work.plan)
        verdicts.append(state_root_of(0, 0, state) == first and again.run(0, state).root == last)

    times = _paired([steps, verdict], scope.intervals)
    return _row("verifying", name, "AdamW", work, interval, times, "the same bits", all(verdicts))


def measure(scope: Scope, at: Callable[[str, int, int], None]) -> list[Row]:
    """Everything, saying what is being done, how much is done and of how much."""
    work = partial(clear_work, optimiser=OPTIMISERS["AdamW"], steps=2 * scope.interval, interval=scope.interval)
    large = partial(large_work, steps=20, interval=min(scope.interval, 5), blocks=scope.blocks)
    tasks: list[tuple[str, Callable[[], Row]]] = [
        *(
            (f"encrypted beside plain: {name}, {kind}", partial(encrypted, name, kind, scope))
            for name in scope.models
            for kind in OPTIMISERS
        ),
        (f"transcript: {scope.intervals} pairs of {scope.interval} steps", partial(transcript, scope)),
        *((f"verifying: {name}", lambda name=name: verifying(name, work(name), scope)) for name in scope.models),
        ("verifying: transformer", lambda: verifying("transformer", large(), scope)),
    ]
    rows = []
    for place, (what, task) in enumerate(tasks):
        at(what, place, len(tasks))
        rows.append(task())
    return rows


def _paired(sides: Sequence[Callable[[], object]], pairs: int) -> np.ndarray:
    """Seconds ``[pairs, 2]`` of both sides, in random order within a pair, after one of each that is not counted."""
    for side in sides:
        side()
    times = np.empty((pairs, 2))
    for pair in range(pairs):
        for place in random.sample((0, 1), 2):
            start = time.perf_counter()
            sides[place]()
            times[pair, place] = time.perf_counter() - start
    return times


def _row(
    what: str, model: str, optimiser: str, work: Work, interval: int, times: np.ndarray, checked: str, right: bool
) -> Row:
    low, median, high = (float(each) for each in np.percentile(times[:, 1] / times[:, 0], (25, 50, 75)))
    base, with_it = (float(each) for each in np.median(times, axis=0))
    weights = sum(each.numel() for each in work.trainer().graph.weights.values())
    return Row(what, model, optimiser, weights, interval, base, with_it, median, low, high, checked, right)


def table_of(rows: Sequence[Row]) -> list[str]:
    """The rows as Markdown."""
    head = "| what | model | optimiser | weights | steps | without, ms | with, ms | ratio | quartiles | goal | result |"
    return [
        head,
        "|" + "---|" * (head.count("|") - 1),
        *(
            f"| {row.what} | {row.model} | {row.optimiser} | {row.weights} | {row.interval} | {row.base_s * 1e3:.2f} "
            f"| {row.with_s * 1e3:.2f} | {row.ratio:.3f} | {row.ratio_p25:.3f} to {row.ratio_p75:.3f} "
            f"| ≤ {GOALS[row.what]:.2f} | {'right' if row.right else 'WRONG'}: {row.checked} |"
            for row in rows
        ),
    ]


def document(rows: Sequence[Row], scope: Scope) -> dict[str, object]:
    """The report as JSON."""
    return {
        "rows": [asdict(row) for row in rows],
        "goals": GOALS,
        "scope": asdict(scope),
        "platform": this_platform(scope.device, scope.threads).to_object(),
        "processors": os.cpu_count(),
        "loadAverage": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def plot(rows: Sequence[Row], path: Path) -> None:
    """Every ratio with its quartiles, beside its goal."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.34 * len(rows) + 1.4), layout="constrained")
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        axes.plot([row.ratio_p25, row.ratio_p75], [place, place], color="tab:blue", lw=4, alpha=0.4)
        axes.plot(row.ratio, place, "o", color="tab:blue" if row.right else "tab:red")
        axes.plot(GOALS[row.what], place, "|", color="black", ms=12)
    axes.set_yticks(places, [f"{row.what}: {row.model}, {row.optimiser}" for row in rows], fontsize=8)
    axes.set_xlabel("time with, against time without (bars: quartiles; strokes: goals)")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(rows: Sequence[Row], scope: Scope, out: Path) -> dict[str, object]:
    """All reports, into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    made = document(rows, scope)
    (out / "report.json").write_text(json.dumps(made, indent=2) + "\n")
    (out / "report.md").write_text("\n".join(table_of(rows)) + "\n")
    plot(rows, out / "ratios.png")
    return made


def scope_of(models: Sequence[str], *, smoke: bool, device: str = "cpu", threads: int | None = None) -> Scope:
    """What to measure: some zoo models, or all; or little of everything."""
    count = threads or os.cpu_count() or 1
    if smoke:
        return Scope(tuple(models) or ("breast_cancer",), 2, 1, 1, 1, count, device)
    return Scope(tuple(models) or names(), threads=count, device=device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", default=[], help="a zoo model; by default all")
    parser.add_argument("--smoke", action="store_true", help="little of everything")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of one operator; by default all processors")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write into")
    arguments = parser.parse_args()
    scope = scope_of(arguments.model, smoke=arguments.smoke, device=arguments.device, threads=arguments.threads)
    torch.manual_seed(0)
    rows = measure(scope, lambda what, done, total: print(f"{done + 1}/{total} {what}", flush=True))
    write(rows, scope, arguments.out)
    print("\n".join(table_of(rows)))
    return int(not all(row.right for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
