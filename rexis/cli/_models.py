"""What `rexis circuits` works with where a model comes without a profile, without records, or with open axes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rexis.cli.console import note
from rexis.cli.options import needs
from rexis.protocol.errors import RexisError

if TYPE_CHECKING:
    from circuits.process import EzklProcess
    from circuits.profile import CircuitProfile
    from circuits.settings import CircuitSettings
    from rexis.cli._calibration import Calibration

MAX_MODEL_BYTES = 256 << 20
_GUESSED_BY = 8  # random records
_CHECKED = 300  # of a zoo model's held-out records


def read_model(name_or_file: str) -> bytes:
    """An ONNX file, or a zoo model."""
    from rexis.files import read_file

    if is_file(name_or_file):
        return read_file(Path(name_or_file), "model", max_bytes=MAX_MODEL_BYTES)
    from models.zoo import load_model_bytes

    return load_model_bytes(name_or_file)


def with_axes(model: bytes, axes: list[str] | None) -> bytes:
    """The model with the axes fixed that ``--axis`` names."""
    from circuits.boundary import with_sizes

    if not axes:
        return model
    sizes: dict[str, int] = {}
    for each in axes:
        name, _, size = each.rpartition("=")
        if not name or not size.isdecimal() or not int(size):
            raise typer.BadParameter(f"{each!r} is not NAME=SIZE", param_hint="--axis")
        sizes[name] = int(size)
    return with_sizes(model, sizes)


def note_records(model: bytes) -> None:
    """Say where a circuit is not one that jobs use."""
    from circuits.boundary import boundary_of

    boundary = boundary_of(model)
    if not boundary.counts_records:
        note(
            f"note: one proof is about all of input {boundary.input!r}, {list(boundary.given)}. Jobs prove record by "
            "record: to register it, export it as [batch, …] with an open first axis, or with 1."
        )


def known_profile(name_or_file: str | None, model: str) -> CircuitProfile | None:
    """The profile that is named, or the zoo model's; None if there is none."""
    from circuits.profile import tuned_models
    from rexis.cli.owner import read_profile

    if name_or_file is not None:
        if name_or_file.endswith(".onnx"):
            raise typer.BadParameter("a model is no profile: leave it out to have one guessed", param_hint="--profile")
        return read_profile(name_or_file)
    return read_profile(model) if model in tuned_models() and not is_file(model) else None


def guessed_profile(model: bytes, wide: CircuitSettings, ezkl: EzklProcess) -> tuple[CircuitProfile, str]:
    """A profile from random records, and how it was come by."""
    with needs("verifier"):
        from circuits.boundary import vocabulary_of
        from circuits.guess import guessed
        from rexis.cli._calibration import drawn, warned_of
        from rexis.cli._tuning import plain_side

    calibration = drawn(model, _GUESSED_BY, 0)
    ids = vocabulary_of(model) is not None
    guess = guessed(plain_side(model, calibration.records), wide, ezkl, ids=ids)
    off = "" if guess.error is None else f"; outputs are off by up to {guess.error:.2g}"
    warned_of(model, calibration.records, ezkl)
    return guess.profile, f"from {calibration.source} records, {guess.how}{off}"


def guess_line(profile: CircuitProfile, how: str) -> str:
    """A guessed profile for people."""
    return (
        f"profile     guessed {how}: scales {profile.input_scale} and {profile.param_scale}, "
        f"{profile.decomposition_legs} digits to base {profile.decomposition_base}, {profile.inner_columns} inner "
        "columns. `rexis circuits tune` searches the cheapest that is accurate enough"
    )


def given_records(model: bytes, data: Path, count: int) -> Calibration:
    """Records of a file: half to choose by, half to check with."""
    from circuits.boundary import boundary_of
    from rexis.cli._calibration import Calibration, require_shape
    from rexis.cli.records import read_records

    rows = read_records(data, None)
    if len(rows) < 2:
        raise RexisError("tuning needs two records at least", field="data")
    require_shape(boundary_of(model), rows)
    half = len(rows) // 2
    return Calibration(rows[:half][:count], rows[half:], "given")


def calibration_for(name: str, model: bytes, count: int) -> Calibration:
    """The zoo's records of its models, random ones for others."""
    import numpy as np

    from rexis.cli._calibration import Calibration, drawn

    if is_file(name):
        return drawn(model, count)
    with needs("models"):
        from models.zoo import held_out, training_split
    rows, others = training_split(name)[0], held_out(name)[0]
    chosen, checked = (np.random.default_rng(0).permutation(len(each)) for each in (rows, others))
    return Calibration(rows[chosen[:count]], others[np.sort(checked[:_CHECKED])], "zoo")


def is_file(name: str) -> bool:
    """Whether a name is that of a file, and not of a zoo model."""
    return name.endswith(".onnx") or Path(name).is_file()
