"""A settings document as ezkl 23.0.5 writes it, for tests that change one field."""

from typing import Any


def document() -> dict[str, Any]:
    """A settings document with the fields that matter, as ezkl 23.0.5 names them."""
    return {
        "run_args": {
            "input_scale": 7,
            "param_scale": 9,
            "logrows": 13,
            "num_inner_cols": 1,
            "input_visibility": "Public",
            "output_visibility": "Public",
            "param_visibility": "Fixed",
            "decomp_base": 8000,
            "decomp_legs": 2,
            "ignore_range_check_inputs_outputs": False,
            "epsilon": 2.220446049250313e-16,
        },
        "num_rows": 14645,
        "model_instance_shapes": [[1, 30], [1, 2]],
        "model_input_scales": [7],
        "model_output_scales": [9],
        "required_lookups": [],
        "required_range_checks": [[0, 7999], [-1, 1]],
        "version": "23.0.5",
        "timestamp": 1795492867620,
    }
