"""What the training demo starts from: models that fail on a device that they never saw."""

from __future__ import annotations

import numpy as np
import pytest

from models import zoo
from rexis.cli.demo_train import COURSES, Course, accuracy, hospital

from .conftest import Cli


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.model)
def test_the_base_model_fails_on_the_hospitals_device(course: Course) -> None:
    name = course.model
    usual = zoo.load_manifest(name).metrics["held_out"]["accuracy"]
    assert usual > 0.85
    assert accuracy(name, zoo.ONNX_DIR / f"{name}.onnx") < usual - 0.3


def test_the_hospitals_records_are_not_those_that_it_is_judged_by() -> None:
    ours, theirs = (hospital("ecg", held_out=held_out)[0].reshape(-1, 320) for held_out in (False, True))
    assert not {row.tobytes() for row in ours} & {row.tobytes() for row in theirs}
    assert np.isfinite(ours).all()


def test_only_its_models_can_be_named(cli: Cli) -> None:
    ran = cli("demo-train", "--model", "nothing")
    assert (ran.code, "one of ecg, vit" in ran.err) == (2, True)
