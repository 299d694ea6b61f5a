"""Choose a circuit profile for a model: the cheapest one that stays within a bound on what its outputs are used for.

ezkl's own calibration minimises one error at the largest scales that fit. Here the caller says what is good enough
(decisions that agree, largest error, on calibration records), and the search goes from cheap to expensive questions:

1. *Scales.* Witnesses need no keys. Each pair of scales is tried on every calibration record, under several EE keys,
   since each key gives the weights another range; and each with products that keep a larger scale for longer.
2. *Ranges.* For each good pair: the range of the nonlinear functions' tables that the records reach, and the least
   range check that still has a witness for records :data:`HEADROOM` times as large.
3. *Layout.* Rows, digits and inner columns, all combinations, by the cost model of :mod:`circuits.cost`.
4. *Proofs.* The best few are built and timed, in turns.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuits.artefacts import CircuitCache
from circuits.build import build_circuit, make_settings
from circuits.cost import MAX_BLOCKS, Estimate, estimate, estimate_of, laid_out, usable_rows
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.proving import Prover
from circuits.rewrites import REWRITES, rewrite
from circuits.settings import CircuitSettings
from circuits.srs import ensure_development_srs
from rexis.protocol.errors import CircuitError, TensorError
from rexis.protocol.records import dequantise, quantise

Floats = NDArray[np.float32]

HEADROOM = 2.0
"""Numbers are tried this many times as large, so that an outlier still has a witness."""

SCALES = tuple(sorted(((i, p) for i in range(4, 11) for p in (i, i + 1, i + 2)), key=sum))
"""Pairs of input and parameter scale, the cheapest first."""

ID_SCALES = tuple((0, p) for p in range(4, 13))
"""The same for records of token ids: ezkl looks rows up by the fixed-point integer as it stands."""

_REBASE = (1, 2, 3, 4, 6, 8)
_ENOUGH = 3  # good pairs of scales; larger ones only cost more
_PROBES = 4  # records that ranges are searched with: the largest
_LOGROWS = range(9, 21)
_INNER = (1, 2, 3, 4)
_LEGS = (2, 3, 4, 5)
_WIDE = CircuitProfile(
    input_scale=7,
    param_scale=7,
    decomposition_base=1 << 14,
    decomposition_legs=4,
    inner_columns=1,
    logrows=18,
    disable_freivalds=True,
)
_MARGIN = 1.5  # of the range that digits span: for other keys and other records
_DIGITS, _CLOSE = 4, 1.06  # of a digit while the range is searched: of the range, 1.26
_MAX_REACH = 1 << 20  # of a nonlinear function: no column holds a larger table
_ROUNDING = 1.001
_CUT = "cut the model into segments: `rexis circuits cut`"
_TELLS_APART = 1.02  # the cost model ranks no finer


@dataclass(frozen=True)
class Side:
    """One key's view of the calibration records.

    Attributes
    ----------
    model
        The encrypted model.
    records
        Encrypted, ``[n, …]``.
    judge
        How good encrypted outputs ``[n, m]`` of the circuit are: the largest absolute error of decrypted outputs, and
        the share of decisions that are those of the plain model.
    headroom
        How many times as large records may be. 1 for token ids: others than the vocabulary's have no meaning.
    """

    model: bytes
    records: Floats
    judge: Callable[[Floats], tuple[float, float]]
    headroom: float = HEADROOM


@dataclass(frozen=True)
class Bound:
    """What is good enough. Both must hold under every key."""

    agreement: float
    error: float = math.inf

    def allows(self, error: float, agreement: float) -> bool:
        """Whether both are good enough."""
        return agreement >= self.agreement and error <= self.error


@dataclass(frozen=True)
class Limits:
    """What a circuit may take, by the cost model."""

    memory_bytes: float = math.inf
    proof_bytes: float = math.inf

    def allow(self, cost: Estimate) -> bool:
        """Whether a circuit is within them, and ezkl can make a VKA of it."""
        return cost.needed_bytes <= self.memory_bytes and cost.proof_bytes <= self.proof_bytes and cost.has_vka


@dataclass(frozen=True)
class Candidate:
    """One profile, and what is known about it.

    Attributes
    ----------
    error, agreement
        Worst over the keys; infinite and 0 where a record has no witness.
    seconds
        A warm proof, median; None if it was not built.
    """

    profile: CircuitProfile
    error: float
    agreement: float
    estimate: Estimate
    seconds: float | None = None
    proof_bytes: int | None = None


@dataclass(frozen=True)
class Found:
    """What the search saw.

    Attributes
    ----------
    best
        The fastest of those that were proven.
    frontier
        Layouts that no other one beats in processor time, size of proof and error alike, the fastest first.
    tried
        Layouts that the cost model compared.
    """

    best: Candidate
    frontier: list[Candidate]
    tried: int


@dataclass(frozen=True)
class _Scales:
    """A pair of scales with the ranges that records need under it."""

    base: CircuitProfile
    error: float
    agreement: float
    lowest: int
    highest: int


def tune(
    sides: Sequence[Side],
    bound: Bound,
    *,
    work_dir: Path,
    finalists: int = 3,
    repeats: int = 3,
    limits: Limits = Limits(),
    scales: Sequence[tuple[int, int]] = SCALES,
    at: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Found:
    """Find the fastest profile within a bound.

    Parameters
    ----------
    sides
        The same calibration records under several EE keys; the first key's circuit is the one that is timed.
    work_dir
        For keys and development SRS files.
    finalists, repeats
        How many layouts to prove for real, and how often each.
    limits
        Layouts beyond them are left out.
    scales
        Pairs of input and parameter scale to try.
    at
        Told what is going on, and how far it is.

    Raises
    ------
    CircuitError
        No scales are good enough, or nothing fits the memory; with the best that was seen.
    """
    with EzklProcess() as ezkl:
        pairs = _good_scales(ezkl, sides, bound, scales, at)
        layouts: list[Candidate] = []
        for place, pair in enumerate(pairs):
            at("laying out", place, len(pairs))
            layouts += _layouts(ezkl, sides, pair)
        fitting = [each for each in layouts if limits.allow(each.estimate)]
        if not fitting:
            raise _nothing(limits, layouts)
        frontier = _frontier(fitting)
        proven = _proven(ezkl, sides, frontier, work_dir, finalists, repeats, at)
        if not proven:
            raise CircuitError("no layout has a witness for every record", hint="calibrate with more records")
        best = min(proven, key=lambda each: each.seconds or math.inf)
        timed = {each.profile: each for each in proven}
        return Found(best, [timed.get(each.profile, each) for each in frontier], len(layouts))


def worthwhile(plain: bytes, ezkl: EzklProcess) -> tuple[str, ...]:
    """The rewrites of :mod:`circuits.rewrites` that take rows off a plain model's circuit, in their order.

    None of a model that cannot be rewritten.
    """
    late = _WIDE.model_copy(update={"rebase_multiplier": 4})

    def rows(model: bytes) -> float:
        try:
            return sum(make_settings(model, profile, ezkl).rows for profile in (_WIDE, late))
        except CircuitError:
            return math.inf

    kept: tuple[str, ...] = ()
    fewest = rows(plain)
    for name in REWRITES:
        try:
            found = rows(rewrite(plain, (*kept, name)))
        except TensorError:
            return ()
        if found < fewest:
            kept, fewest = (*kept, name), found
    return kept


def first_guess(ezkl: EzklProcess, side: Side, scales: tuple[int, int]) -> Candidate:
    """The layout with the least predicted processor time for one pair of scales: no bound on errors, and no proof.

    Raises
    ------
    CircuitError
        A record has no witness, or no circuit is large enough.
    """
    base = _WIDE.model_copy(update={"input_scale": scales[0], "param_scale": scales[1]})
    outputs, lowest, highest = _outputs(ezkl, side, base, side.records)
    layouts = list(_layouts(ezkl, [side], _Scales(base, *side.judge(outputs), lowest, highest)))
    if not layouts:
        raise _nothing(Limits(), layouts)
    return min(layouts, key=lambda each: each.estimate.cpu_seconds)


def assess(ezkl: EzklProcess, sides: Sequence[Side], profile: CircuitProfile) -> tuple[float, float]:
    """Largest error and least agreement of a profile over all sides; infinite and 0 if a record has no witness."""
    return _assessed(ezkl, sides, profile)[:2]


def outputs_without_keys(
    ezkl: EzklProcess, onnx_bytes: bytes, settings: CircuitSettings, records: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Exact outputs ``[n, output_length]`` of a circuit that has no keys, for fixed-point records ``[n, …]``.

    Raises
    ------
    CircuitError
        A record has no witness, or the model does not compile.
    """
    return _trial(ezkl, onnx_bytes, settings, records)[0]


def reach_without_keys(
    ezkl: EzklProcess, onnx_bytes: bytes, settings: CircuitSettings, records: NDArray[np.int64]
) -> int:
    """The largest absolute argument of a nonlinear function, 1 at least; as :func:`outputs_without_keys`."""
    _, lowest, highest = _trial(ezkl, onnx_bytes, settings, records)
    return max(abs(lowest), abs(highest), 1)


def _good_scales(
    ezkl: EzklProcess,
    sides: Sequence[Side],
    bound: Bound,
    scales: Sequence[tuple[int, int]],
    at: Callable[[str, int, int], None],
) -> list[_Scales]:
    """The first pairs of scales that are good enough, each with and without a larger scale between operations."""
    seen: list[_Scales] = []
    good: list[_Scales] = []
    pairs = 0
    for place, pair in enumerate(scales):
        at("trying scales", place, len(scales))
        tried = list(_rebased(ezkl, sides, bound, pair))
        fitting = [each for each in tried if bound.allows(each.error, each.agreement)]
        seen += tried
        good += fitting
        pairs += bool(fitting)
        if pairs == _ENOUGH:
            break
    if not good:
        best = max(seen, key=lambda pair: (pair.agreement, -pair.error))
        raise CircuitError(
            f"no scales keep decisions at {bound.agreement:.2%} and the error below {bound.error:g}; the best have "
            f"{best.agreement:.2%} and {best.error:.3g}",
            hint="allow more, or standardise the model's inputs",
        )
    return good


def _rebased(ezkl: EzklProcess, sides: Sequence[Side], bound: Bound, pair: tuple[int, int]) -> Iterator[_Scales]:
    """A pair of scales with ever larger scales between operations, until one is out of the bound."""
    rows = 0
    for rebase in _REBASE:
        profile = _WIDE.model_copy(update={"input_scale": pair[0], "param_scale": pair[1], "rebase_multiplier": rebase})
        try:
            before, rows = rows, make_settings(sides[0].model, profile, ezkl).rows
        except CircuitError:
            if rebase == _REBASE[0]:
                raise
            return  # the outputs' scale is beyond what settings may have
        if rows == before:
            continue  # the same circuit
        found = _Scales(profile, *_assessed(ezkl, sides, profile, bound))
        yield found
        if not bound.allows(found.error, found.agreement):
            return


def _assessed(
    ezkl: EzklProcess, sides: Sequence[Side], profile: CircuitProfile, bound: Bound | None = None
) -> tuple[float, float, int, int]:
    """Error, agreement, and the range that nonlinear functions were asked for, with headroom.

    Out of the bound under one key, the others are not tried.
    """
    error, agreement, lowest, highest = 0.0, 1.0, 0, 0
    try:
        for side in sides:
            outputs, low, high = _outputs(ezkl, side, profile, side.records)
            off, agrees = side.judge(outputs)
            error, agreement = max(error, off), min(agreement, agrees)
            lowest, highest = min(lowest, low), max(highest, high)
            if bound is not None and not bound.allows(error, agreement):
                break
    except CircuitError:
        return float("inf"), 0.0, 0, 0
    return error, agreement, lowest, highest


def _outputs(ezkl: EzklProcess, side: Side, profile: CircuitProfile, records: Floats) -> tuple[Floats, int, int]:
    """Outputs for records, which all have a witness, and so have records that are larger by the headroom."""
    settings = make_settings(side.model, profile, ezkl)
    stretched = records
    if side.headroom > 1:
        stretched = np.concatenate([records, side.headroom * records]).astype(np.float32)
    outputs, low, high = _trial(ezkl, side.model, settings, quantise(stretched, settings.input_scale))
    return dequantise(outputs[: len(records)], settings.output_scale).astype(np.float32), low, high


def _trial(
    ezkl: EzklProcess, model: bytes, settings: CircuitSettings, records: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int, int]:
    with tempfile.TemporaryDirectory(prefix="rexis-tune-") as name:
        paths = {part: str(Path(name, part)) for part in ("model", "settings", "compiled")}
        Path(paths["model"]).write_bytes(model)
        Path(paths["settings"]).write_bytes(settings.data)
        ezkl.call("compile", **paths)
        rows = records.reshape(len(records), -1).tolist()
        made = ezkl.call("trial", compiled=paths["compiled"], scale=settings.input_scale, records=rows)
    return np.array(made["outputs"], dtype=np.int64), made["lowest"], made["highest"]


def _layouts(ezkl: EzklProcess, sides: Sequence[Side], pair: _Scales) -> Iterator[Candidate]:
    """Every layout for a pair of scales, with its predicted cost. ezkl counts rows once for each number of digits."""
    reach = max(abs(pair.lowest), abs(pair.highest), 1)
    if reach > _MAX_REACH:
        return
    span = _span(ezkl, sides[0], pair.base)
    for legs in _LEGS:
        least = max(2, math.ceil((_MARGIN * span) ** (1 / legs)))
        narrow = pair.base.model_copy(
            update={
                "decomposition_base": least,
                "decomposition_legs": legs,
                "lookup_low": -reach,
                "lookup_high": reach,
            }
        )
        settings = make_settings(sides[0].model, narrow, ezkl)
        others = [high - low + 1 for low, high in settings.ranges if high - low + 1 != least]
        for logrows, inner in itertools.product(_LOGROWS, _INNER):
            rows = -(-settings.rows // inner)
            usable = usable_rows(logrows)
            if rows > MAX_BLOCKS * usable or settings.unfolded_rows > usable:
                continue
            # A digit and a function as large as a column allows cost nothing more.
            wide = max(reach, min((usable - 1) // 2, 4 * reach))
            base = max(least, min(usable, 2 * least))
            columns = laid_out(
                rows=rows,
                logrows=logrows,
                inner=inner,
                ranges=[*others, base],
                lookups=settings.lookups,
                lookup_range=2 * wide + 1,
                filled=len(settings.filled),
                instances=settings.input_length + settings.output_length,
            )
            profile = narrow.model_copy(
                update={
                    "logrows": logrows,
                    "inner_columns": inner,
                    "decomposition_base": base,
                    "lookup_low": -wide,
                    "lookup_high": wide,
                }
            )
            yield Candidate(profile, pair.error, pair.agreement, estimate(columns))


def _span(ezkl: EzklProcess, side: Side, base: CircuitProfile) -> int:
    """The least range in which the largest records have a witness: that of :data:`_DIGITS` digits."""
    records = _largest(side.records)

    def works(digit: int) -> bool:
        profile = base.model_copy(update={"decomposition_base": digit, "decomposition_legs": _DIGITS})
        try:
            _outputs(ezkl, side, profile, records)
        except CircuitError:
            return False
        return True

    low, high = 2, base.decomposition_base
    while high > max(_CLOSE * low, low + 1):
        middle = math.isqrt(low * high)
        middle += middle == low
        low, high = (low, middle) if works(middle) else (middle, high)
    return int(high**_DIGITS)


def _largest(records: Floats) -> Floats:
    sizes = np.linalg.norm(records.reshape(len(records), -1), axis=1)
    return records[np.argsort(-sizes)[:_PROBES]]


def _proven(
    ezkl: EzklProcess,
    sides: Sequence[Side],
    layouts: Sequence[Candidate],
    work_dir: Path,
    finalists: int,
    repeats: int,
    at: Callable[[str, int, int], None],
) -> list[Candidate]:
    """The cheapest layouts, checked once more with their real settings, built and timed in turns."""
    model, records = sides[0].model, sides[0].records
    chosen: list[tuple[Candidate, Prover]] = []
    for layout in layouts:
        if len(chosen) == finalists:
            break
        at("building keys", len(chosen), finalists)
        settings = make_settings(model, layout.profile, ezkl)
        error, agreement = assess(ezkl, sides, layout.profile)
        if agreement < layout.agreement or error > _ROUNDING * layout.error:
            continue  # narrower ranges cost a witness
        srs = ensure_development_srs(layout.profile.logrows, work_dir)
        circuit = build_circuit(model, layout.profile, srs, CircuitCache(work_dir / "keys"), ezkl)
        exact = replace(layout, estimate=estimate_of(settings))
        chosen.append((exact, Prover(circuit, ezkl)))
    times: list[list[float]] = [[] for _ in chosen]
    sizes = [0] * len(chosen)
    for turn in range(repeats + 1):  # the first is a warm-up
        for place, (candidate, prover) in enumerate(chosen):
            at("proving", turn * len(chosen) + place, (repeats + 1) * len(chosen))
            record = quantise(records[turn % len(records)], candidate.profile.input_scale).reshape(-1)
            started = time.perf_counter()
            proof = prover.prove(record)
            if turn:
                times[place].append(time.perf_counter() - started)
            sizes[place] = sum(map(len, proof.proofs))
    return [
        replace(candidate, seconds=float(np.median(taken)), proof_bytes=size)
        for (candidate, _), taken, size in zip(chosen, times, sizes, strict=True)
    ]


def _frontier(layouts: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats in time, proof size and error, up to what the cost model can tell apart."""
    kept: list[Candidate] = []
    for each in sorted(layouts, key=lambda each: (each.estimate.cpu_seconds, each.error, each.estimate.proof_bytes)):
        if not any(_beats(other, each) for other in kept):
            kept.append(each)
    return kept


def _beats(one: Candidate, other: Candidate) -> bool:
    return (
        one.estimate.cpu_seconds <= _TELLS_APART * other.estimate.cpu_seconds
        and one.estimate.proof_bytes <= other.estimate.proof_bytes
        and one.error <= other.error
    )


def _nothing(limits: Limits, layouts: Sequence[Candidate]) -> CircuitError:
    near = min(layouts, key=lambda each: each.estimate.needed_bytes, default=None)
    if near is None:
        return CircuitError("the model needs more rows than any circuit here has", hint=_CUT)
    cost = near.estimate
    return CircuitError(
        f"no layout is within the limits; the one with the least memory takes {cost.needed_bytes >> 20} MiB and has "
        f"proofs of {cost.proof_bytes} bytes (2^{cost.columns.logrows} rows, {cost.columns.advice} advice columns)",
        hint=f"{_CUT}; or allow longer proofs, or find a machine with more memory",
    )
