"""Plain, EE and CKKS (TenSEAL) on the breast cancer MLP, the same held-out records, side by side in one run.

``python -m bench.ckks`` prints tables and writes JSON to ``bench/out/ckks.json``; it needs the extra ``rexis[bench]``
and is skipped without it. CKKS has no ReLU, so that its network is another one: the same widths with squares, whose
accuracy stands beside the original's. EE is compared with the plain ReLU model, CKKS with the plain model with squares.

Each phase is timed from and to the bytes that travel, on one thread. The command fails where a decrypted output is
farther from the plain one than the side's stated bound.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.ee_inference import relative_errors, session
from models.zoo import held_out, load_model_bytes, metrics_of
from rexis.ee import decrypt_outputs, encrypt_records
from rexis.ee.compiler import encrypt_model

MODEL = "breast_cancer"
BLOCK_SECONDS = 0.004  # a phase is repeated until its block is long against the clock's step
DEFAULT_OUT = Path(__file__).parent / "out" / "ckks.json"
PROTECTION = {
    "EE": "keyed obfuscation of records, outputs and weights: protects only as the leakage card (docs/ee-leakage.md) "
    "says; it falls to known plaintexts",
    "CKKS": "records and outputs are IND-CPA under RLWE (128 bits by the parameters' table), as long as no decrypted "
    "output gets back to the server; the weights are in the clear to the server",
}

Floats = NDArray[np.float32]


class Side(Protocol):
    """One way to get a batch of records evaluated by somebody else."""

    def encrypt(self, records: Floats) -> Any:
        """What the data owner sends for records ``[n, d]``."""

    def evaluate(self, encrypted: Any) -> Any:
        """What the worker sends back."""

    def decrypt(self, evaluated: Any) -> NDArray[Any]:
        """Outputs ``[n, outputs]``."""


class Plain:
    """ONNX Runtime in the clear; its other two phases do nothing."""

    def __init__(self, model: bytes) -> None:
        self._session = session(model)
        self._input = self._session.get_inputs()[0].name

    def encrypt(self, records: Floats) -> Floats:
        return records

    def evaluate(self, encrypted: Floats) -> Floats:
        outputs: Floats = self._session.run(None, {self._input: encrypted})[0]
        return outputs

    def decrypt(self, evaluated: Floats) -> Floats:
        return evaluated


class Encrypted(Plain):
    """The encrypted model in ONNX Runtime, under a fresh EE key."""

    def __init__(self, model: bytes) -> None:
        encrypted = encrypt_model(model, epoch=1)
        super().__init__(encrypted.model)
        self._key = encrypted.key

    def encrypt(self, records: Floats) -> Floats:
        return encrypt_records(self._key, records)

    def decrypt(self, evaluated: Floats) -> Floats:
        return decrypt_outputs(self._key, evaluated)


@dataclass(frozen=True)
class Phase:
    """Microseconds per record over the runs."""

    median_us: float
    p25_us: float
    p75_us: float

    def __str__(self) -> str:
        median, low, high = (
            f"{time:.3g}" if time < 100 else f"{time:,.0f}" for time in (self.median_us, self.p25_us, self.p75_us)
        )
        return f"{median} ({low}–{high})"


@dataclass(frozen=True)
class Row:
    """One side at one batch size. Errors are of decrypted outputs: L2 of a record, relative; and absolute."""

    side: str
    batch: int
    runs: int
    encrypt: Phase
    evaluate: Phase
    decrypt: Phase
    median_relative_error: float
    max_relative_error: float
    max_absolute_error: float
    bound: float
    same_decisions: float
    sent_bytes: float  # per record
    returned_bytes: float  # per record
    evaluation_key_bytes: int

    @property
    def accurate(self) -> bool:
        """Every decrypted output is within the bound (NaN is not)."""
        return self.max_relative_error <= self.bound


@dataclass(frozen=True)
class Contestant:
    """A side, what its records go through first, the plain model that it is compared with, and its error bound."""

    name: str
    side: Side
    plain: Plain
    bound: float
    prepare: Callable[[Floats], Floats] = np.asarray
    evaluation_key_bytes: int = 0

    def run(self, records: Floats) -> Run:
        """Take one batch through the three phases, and through the plain model."""
        prepared = self.prepare(records)
        encrypted, encrypt_s = timed(self.side.encrypt, prepared)
        evaluated, evaluate_s = timed(self.side.evaluate, encrypted)
        outputs, decrypt_s = timed(self.side.decrypt, evaluated)
        seconds = (encrypt_s, evaluate_s, decrypt_s)
        return Run(seconds, outputs, self.plain.evaluate(prepared), length(encrypted), length(evaluated))


@dataclass(frozen=True)
class Run:
    """One batch on one side: seconds of each phase, decrypted and plain outputs, bytes both ways."""

    seconds: tuple[float, float, float]
    outputs: NDArray[Any]
    expected: Floats
    sent: int
    returned: int


def measured(contestants: list[Contestant], batches: list[Floats]) -> list[Row]:
    """Run each batch on every side in turn, so that whatever else the machine does hits them alike."""
    runs = [[contestant.run(records) for contestant in contestants] for records in batches]
    return [
        row_of(contestant, list(column))
        for contestant, column in zip(contestants, zip(*runs, strict=True), strict=True)
    ]


def row_of(contestant: Contestant, runs: list[Run]) -> Row:
    """Medians, quartiles and errors over the runs of one side."""
    size = len(runs[0].expected)
    outputs, expected = np.concatenate([run.outputs for run in runs]), np.concatenate([run.expected for run in runs])
    error = relative_errors(outputs, expected)
    low, median, high = np.percentile(np.array([run.seconds for run in runs]) / size * 1e6, (25, 50, 75), axis=0)
    encrypt, evaluate, decrypt = (Phase(*map(float, phase)) for phase in zip(median, low, high, strict=True))
    return Row(
        side=contestant.name,
        batch=size,
        runs=len(runs),
        encrypt=encrypt,
        evaluate=evaluate,
        decrypt=decrypt,
        median_relative_error=float(np.median(error)),
        max_relative_error=float(error.max()),
        max_absolute_error=float(np.abs(outputs - expected).max()),
        bound=contestant.bound,
        same_decisions=float((outputs.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        sent_bytes=runs[0].sent / size,
        returned_bytes=runs[0].returned / size,
        evaluation_key_bytes=contestant.evaluation_key_bytes,
    )


def timed(phase: Callable[[Any], Any], argument: Any) -> tuple[Any, float]:
    """The result, and seconds per call: of the one call if that is long, else of a block of further calls."""
    start = time.perf_counter()
    result = phase(argument)
    once = time.perf_counter() - start
    calls = int(BLOCK_SECONDS / max(once, 1e-7))
    if calls < 2:
        return result, once
    start = time.perf_counter()
    for _ in range(calls):
        phase(argument)
    return result, (time.perf_counter() - start) / calls


def length(message: bytes | Floats) -> int:
    return len(message) if isinstance(message, bytes) else message.nbytes


def report_on(singles: int, fulls: int) -> dict[str, Any]:
    """Measure all sides: `singles` held-out records one by one, then `fulls` batches that fill a ciphertext."""
    from bench._ckks_mlp import FAST, PRECISE, ManyRecords, OneRecord
    from bench._square_mlp import CLIP, clipped, trained

    records, labels = held_out(MODEL)
    square = trained()
    relu, squares = Plain(load_model_bytes(MODEL)), Plain(square.onnx)
    ee = Encrypted(load_model_bytes(MODEL))
    precise, fast = OneRecord(square.layers, PRECISE), OneRecord(square.layers, FAST)
    many = ManyRecords(square.layers, FAST)
    in_the_clear = [
        Contestant("plain, ReLU", relu, relu, 0.0),
        Contestant("plain, squares", squares, squares, 0.0, clipped),
        Contestant("EE", ee, relu, 1e-4),
    ]
    ones = [records[index : index + 1] for index in range(min(singles, len(records)))]
    full = [np.resize(np.roll(records, shift, axis=0), (FAST.slots, records.shape[1])) for shift in range(fulls)]
    rows = measured(
        [
            *in_the_clear,
            Contestant("CKKS precise", precise, squares, 1e-4, clipped, precise.evaluation_key_bytes),
            Contestant("CKKS fast", fast, squares, 1e-2, clipped, fast.evaluation_key_bytes),
        ],
        ones,
    )
    batched = Contestant("CKKS fast", many, squares, 1e-2, clipped, many.evaluation_key_bytes)
    rows += measured([*in_the_clear, batched], full)
    ckks_outputs = many.decrypt(many.evaluate(many.encrypt(clipped(records))))
    return {
        "model": MODEL,
        "quality": {
            "ReLU, plain": metrics_of(relu.evaluate(records), labels),
            "ReLU, EE decrypted": metrics_of(ee.decrypt(ee.evaluate(ee.encrypt(records))), labels),
            "squares, plain": metrics_of(squares.evaluate(clipped(records)), labels),
            "squares, CKKS decrypted": metrics_of(ckks_outputs, labels),
        },
        "squares": {"clip": CLIP, "weight_decay": square.weight_decay, "steps": square.steps},
        "parameters": {"precise": asdict(PRECISE), "fast": asdict(FAST)},
        "rows": [asdict(row) for row in rows],
        "inaccurate": [f"{row.side}, batch {row.batch}" for row in rows if not row.accurate],
        "protection": PROTECTION,
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {"onnxruntime": onnxruntime.__version__, "tenseal": importlib.metadata.version("tenseal")},
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    clip = report["squares"]["clip"]
    print(f"CKKS has no ReLU: its network has the same widths with x² for ReLU, on records clipped at ±{clip:g} s.d.\n")
    print(f"{'held-out records':26} {'accuracy':>9} {'ROC AUC':>9} {'log loss':>9}")
    for name, metrics in report["quality"].items():
        print(f"{name:26} {metrics['accuracy']:>9.4f} {metrics['roc_auc']:>9.4f} {metrics['log_loss']:>9.4f}")

    print(f"\nµs per record, median (quartiles), one thread\n{'side':15} {'batch':>5}", end=" ")
    print(f"{'encrypt':>24} {'evaluate':>34} {'decrypt':>20}")
    for row in report["rows"]:
        phases = [str(Phase(**row[phase])) for phase in ("encrypt", "evaluate", "decrypt")]
        if row["side"].startswith("plain"):
            phases[0] = phases[2] = "-"
        print(f"{row['side']:15} {row['batch']:>5} {phases[0]:>24} {phases[1]:>34} {phases[2]:>20}")

    print("\nrelative error of decrypted outputs, decisions as the plain model's; bytes per record")
    print(f"{'side':15} {'batch':>5} {'median':>8} {'max':>8} {'bound':>8} {'decisions':>10}", end=" ")
    print(f"{'sent':>9} {'returned':>9} {'evaluation keys':>16}")
    for row in report["rows"]:
        errors = f"{row['median_relative_error']:>8.1e} {row['max_relative_error']:>8.1e} {row['bound']:>8.0e}"
        print(
            f"{row['side']:15} {row['batch']:>5} {errors} {row['same_decisions']:>10.2%} {row['sent_bytes']:>9,.0f} "
            f"{row['returned_bytes']:>9,.0f} {row['evaluation_key_bytes']:>16,}"
        )
    print()
    for name, protection in report["protection"].items():
        print(f"{name}: {protection}.")


def main() -> int:
    """Returns 1 where a decrypted output is out of its bound."""
    parser = argparse.ArgumentParser(description="Time plain, EE and CKKS inference side by side.")
    parser.add_argument("--records", type=int, default=20, help="held-out records that are timed one by one")
    parser.add_argument("--batches", type=int, default=3, help="timed batches that fill a ciphertext")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the tables")
    arguments = parser.parse_args()
    if importlib.util.find_spec("tenseal") is None:
        print("bench.ckks is skipped: tenseal is not installed (pip install 'rexis[bench]')", file=sys.stderr)
        return 0
    report = report_on(arguments.records, arguments.batches)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        show(report)
    for where in report["inaccurate"]:
        print(f"bench.ckks: decrypted outputs of {where} are out of bound", file=sys.stderr)
    return 1 if report["inaccurate"] else 0


if __name__ == "__main__":
    sys.exit(main())
