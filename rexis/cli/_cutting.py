"""``rexis circuits cut``: a model that fits no circuit, as a chain of segments that do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rexis.cli.console import emit, say, steps

if TYPE_CHECKING:
    from circuits.cutting import Cutting
    from circuits.profile import CircuitProfile


def run(model: bytes, profile: CircuitProfile, memory_bytes: int, out: Path | None, *, as_json: bool) -> None:
    """Choose the cuts, show the segments, and write the profile with the cuts to `out`."""
    from circuits.cutting import choose_cuts
    from circuits.process import EzklProcess
    from rexis.files import require_absent, write_file

    if out is not None:
        require_absent(out)
    with steps() as at, EzklProcess() as ezkl:
        found = choose_cuts(model, profile, ezkl, memory_bytes=memory_bytes, at=at)
    if out is not None:
        write_file(out, found.profile.to_json() + b"\n")
    if as_json:
        emit(_shown(found))
        return
    for line in _lines(found):
        say(line)
    if out is not None:
        say(f"written to {out}")


def _shown(found: Cutting) -> dict[str, Any]:
    return {
        "profile": found.profile.to_object(),
        "cpuSeconds": round(found.total.cpu_seconds, 3),
        "neededBytes": found.total.needed_bytes,
        "proofBytes": found.total.proof_bytes,
        "segments": [
            {
                "rows": cost.columns.rows,
                "cpuSeconds": round(cost.cpu_seconds, 3),
                "neededBytes": cost.needed_bytes,
                "proofBytes": cost.proof_bytes,
                "inputLength": settings.input_length,
                "outputLength": settings.output_length,
            }
            for cost, settings in zip(found.estimates, found.settings.segments, strict=True)
        ],
    }


def _lines(found: Cutting) -> list[str]:
    profile, places = found.profile, (0, *found.profile.cuts)
    lines = [f"{len(places)} segments of 2^{profile.logrows} rows, {profile.inner_columns} inner columns"]
    for start, cost, settings in zip(places, found.estimates, found.settings.segments, strict=True):
        lines.append(
            f"from node {start}: {settings.input_length} → {settings.output_length} values, {cost.columns.rows} rows, "
            f"about {cost.cpu_seconds:.1f} s of processor time, {cost.needed_bytes >> 20} MiB, {cost.proof_bytes} bytes"
        )
    whole = found.total
    lines.append(
        f"a record: about {whole.cpu_seconds:.0f} s of processor time, {whole.proof_bytes} bytes; a prover needs "
        f"{whole.needed_bytes >> 20} MiB"
    )
    return lines
