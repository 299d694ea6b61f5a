"""The default tolerance of re-execution holds for honest circuits of the zoo model, whatever the EE key."""

import pytest

from bench.warm_proof import key_errors
from circuits.process import EzklProcess
from rexis.cli.requester import ABS_TOLERANCE, TierName


@pytest.mark.parametrize("seed", [0, 19])  # of the first 40, seed 19 has the largest error
def test_honest_outputs_stay_well_within_it(ezkl: EzklProcess, seed: int) -> None:
    errors = key_errors(seed, ezkl)
    assert 0 < errors.encrypted < ABS_TOLERANCE[TierName.ZK] / 2
    assert errors.agreement >= 0.99
