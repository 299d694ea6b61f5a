"""Where to cut a model that is too large for one circuit, and into how many rows, by the cost model.

ezkl counts the rows of every stretch between two neighbouring positions at which the model can be cut, without keys. A
segment is a run of such stretches, and needs about the sum of their rows, less those for the boundaries that lie inside
it. Dynamic programming then finds, for each number of rows and of inner columns, the cuts with the least processor time
whose segments all fit the memory; the cheapest of these is the choice.

Few large segments have fewer boundaries, whose values are range-checked on both sides; many small ones need less memory
each and can be proven by more workers at a time.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from circuits.build import make_chain, make_settings
from circuits.chain import ChainSettings
from circuits.cost import MAX_BLOCKS, Estimate, Total, estimate, estimate_of, laid_out, usable_rows
from circuits.cost import total as total_of
from circuits.onnx_model import require_plain_model
from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.segments import Sliceable, cut_model
from circuits.settings import CircuitSettings
from rexis.protocol.certificate import MAX_VKA_WORDS
from rexis.protocol.errors import CircuitError, ResourceError
from rexis.protocol.evidence import MAX_SEGMENTS

_LOGROWS = range(11, 20)
_INNER = (1, 2, 3)
_PROBE_VALUES = 64


@dataclass(frozen=True)
class Cutting:
    """A model cut into segments that fit.

    Attributes
    ----------
    profile
        The given one with cuts, rows and inner columns.
    settings
        As ezkl makes them for the segments.
    estimates
        One a segment.
    """

    profile: CircuitProfile
    settings: ChainSettings
    estimates: tuple[Estimate, ...]

    @property
    def total(self) -> Total:
        """Of a record in all segments, proved one after the other."""
        return total_of(self.estimates)


@dataclass(frozen=True)
class _Stretch:
    """Nodes between two neighbouring positions.

    Attributes
    ----------
    rows
        Without those of its boundaries.
    tables
        Sizes of the range checks' tables by their ends, and the names of nonlinear functions.
    filled, filled_rows
        Kinds of tables that are filled while proving, and their rows.
    """

    start: int
    end: int
    rows: int
    ranges: frozenset[tuple[int, int]]
    lookups: frozenset[str]
    filled: frozenset[str]
    filled_rows: int


def choose_cuts(
    onnx_bytes: bytes,
    profile: CircuitProfile,
    ezkl: EzklProcess,
    *,
    memory_bytes: float = math.inf,
    at: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Cutting:
    """Cut a model so that each segment fits.

    Parameters
    ----------
    profile
        Scales, digits and lookup range stay as they are; rows, inner columns and cuts are chosen.
    memory_bytes
        What set-up and proofs of one segment may take.

    Raises
    ------
    CircuitError
        The model cannot be cut, or ezkl refuses a stretch.
    ResourceError
        Some stretch alone does not fit.
    """
    require_plain_model(onnx_bytes)
    model = Sliceable(onnx_bytes)
    stretches = _stretches(model, profile, ezkl, at)
    boundary = {
        stretch.start: sum(tensor.size for tensor in model.boundary(stretch.start) or ()) if stretch.start else 0
        for stretch in stretches
    }
    each_value = _rows_of_a_value(profile, ezkl)
    best: tuple[float, int, int, tuple[int, ...]] | None = None
    for place, (logrows, inner) in enumerate(itertools.product(_LOGROWS, _INNER)):
        at("comparing layouts", place, len(_LOGROWS) * len(_INNER))
        found = _cheapest(stretches, boundary, each_value, profile, logrows, inner, memory_bytes)
        if found is not None and (best is None or found[0] < best[0]):
            best = (found[0], logrows, inner, found[1])
    if best is None:
        raise ResourceError(
            f"some nodes alone need more than {memory_bytes / 2**20:.0f} MiB, or more than {MAX_SEGMENTS} segments are "
            f"needed, or VKAs of more than {MAX_VKA_WORDS} words together",
            field="model",
            hint="use a machine with more memory, or a smaller model",
        )
    chosen = profile.model_copy(update={"logrows": best[1], "inner_columns": best[2], "cuts": best[3]})
    settings = make_chain(cut_model(onnx_bytes, chosen.cuts), chosen, ezkl)
    return Cutting(chosen, settings, estimates_of(settings))


def estimates_of(settings: ChainSettings) -> tuple[Estimate, ...]:
    """What each segment will take."""
    return tuple(estimate_of(segment) for segment in settings.segments)


def _stretches(
    model: Sliceable, profile: CircuitProfile, ezkl: EzklProcess, at: Callable[[str, int, int], None]
) -> list[_Stretch]:
    """The model between each two positions at which it can be cut; constants cut nothing off."""
    nodes = model.nodes
    inside = [
        place
        for place in range(1, len(nodes))
        if nodes[place - 1].op_type != "Constant" and model.boundary(place) is not None
    ]
    ends = [0, *inside, len(nodes)]
    if all(node.op_type == "Constant" for node in nodes[ends[-2] :]):
        ends.pop(-2)
    each_value = _rows_of_a_value(profile, ezkl)
    stretches = []
    for place, (start, end) in enumerate(itertools.pairwise(ends)):
        at("counting rows", place, len(ends) - 1)
        try:
            settings = make_settings(model.segment(start, end), profile, ezkl)
        except CircuitError as error:
            names = ", ".join(sorted({node.op_type for node in nodes[start:end] if node.op_type != "Constant"}))
            raise CircuitError(f"nodes {start} to {end - 1} ({names}): {error.message}", hint=error.hint) from None
        shared = each_value * (settings.input_length * (start > 0) + settings.output_length * (end < len(nodes)))
        stretches.append(_stretch(start, end, settings, max(0, settings.rows * profile.inner_columns - round(shared))))
    return stretches


def _stretch(start: int, end: int, settings: CircuitSettings, rows: int) -> _Stretch:
    lookups = json.loads(settings.data)["required_lookups"]
    names = frozenset(json.dumps(name, sort_keys=True) for name in lookups)
    return _Stretch(start, end, rows, frozenset(settings.ranges), names, settings.filled, settings.filled_rows)


def _rows_of_a_value(profile: CircuitProfile, ezkl: EzklProcess) -> float:
    """Rows that a value costs on one side of a boundary."""
    from onnx import TensorProto, helper

    shape = [1, _PROBE_VALUES]
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "probe", sides[:1], sides[1:])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return make_settings(data, profile, ezkl).rows * profile.inner_columns / (2 * _PROBE_VALUES)


def _cheapest(
    stretches: Sequence[_Stretch],
    boundary: dict[int, int],
    each_value: float,
    profile: CircuitProfile,
    logrows: int,
    inner: int,
    memory_bytes: float,
) -> tuple[float, tuple[int, ...]] | None:
    """The cuts with the least processor time among those whose segments fit: (seconds, cuts)."""
    lookup_range = profile.lookup_high - profile.lookup_low + 1
    most = MAX_BLOCKS * usable_rows(logrows) * inner
    best: list[tuple[float, int, int, int] | None] = [(0.0, 0, 0, 0)]  # seconds, segments, start of the last, VKA words
    for end in range(1, len(stretches) + 1):
        found: tuple[float, int, int, int] | None = None
        rows, ranges, lookups = 0.0, frozenset[tuple[int, int]](), frozenset[str]()
        filled, filled_rows = frozenset[str](), 0
        values_after = boundary[stretches[end].start] if end < len(stretches) else 0
        for start in range(end - 1, -1, -1):
            stretch = stretches[start]
            rows, ranges, lookups = rows + stretch.rows, ranges | stretch.ranges, lookups | stretch.lookups
            filled, filled_rows = filled | stretch.filled, filled_rows + stretch.filled_rows
            all_rows = rows + each_value * (boundary[stretch.start] + values_after)
            before = best[start]
            if all_rows > most or filled_rows > usable_rows(logrows):
                break
            if before is None or before[1] >= MAX_SEGMENTS:
                continue
            columns = laid_out(
                rows=math.ceil(all_rows / inner),
                logrows=logrows,
                inner=inner,
                ranges=[high - low + 1 for low, high in ranges],
                lookups=len(lookups),
                lookup_range=lookup_range,
                filled=len(filled),
            )
            cost = estimate(columns)
            if cost.needed_bytes > memory_bytes or not cost.has_vka:
                continue
            seconds, words = before[0] + cost.cpu_seconds, before[3] + cost.vka_words
            if words <= MAX_VKA_WORDS and (found is None or seconds < found[0]):
                found = (seconds, before[1] + 1, start, words)
        best.append(found)
    last = best[-1]
    if last is None:
        return None
    cuts: list[int] = []
    place = last
    while place[2] > 0:
        cuts.append(stretches[place[2]].start)
        before = best[place[2]]
        assert before is not None  # noqa: S101
        place = before
    return last[0], tuple(reversed(cuts))
