"""A settings document as ezkl 23.0.5 writes it, for tests that change one field."""

from typing import Any


def document() -> dict[str, Any]:
    """A settings document of the breast cancer model, less most of its einsum equations."""
    return {
        "run_args": {
            "bounded_log_lookup": False,
            "check_mode": "UNSAFE",
            "input_scale": 7,
            "param_scale": 9,
            "logrows": 13,
            "lookup_range": [-32768, 32768],
            "num_inner_cols": 1,
            "input_visibility": "Public",
            "output_visibility": "Public",
            "param_visibility": "Fixed",
            "decomp_base": 8000,
            "decomp_legs": 2,
            "disable_freivalds": False,
            "ignore_range_check_inputs_outputs": False,
            "epsilon": 2.220446049250313e-16,
            "rebase_frac_zero_constants": False,
            "rebase_scale": None,
            "scale_rebase_multiplier": 1,
            "variables": [["batch", 1]],
        },
        "num_rows": 14645,
        "total_assignments": 14645,
        "total_const_size": 700,
        "total_dynamic_col_size": 0,
        "total_shuffle_col_size": 0,
        "num_dynamic_lookups": 0,
        "num_shuffles": 0,
        "num_blinding_factors": None,
        "max_dynamic_input_len": 0,
        "einsum_params": {"equations": [["mk,kn->n", {"k": 30, "m": 1, "n": 16}]], "total_einsum_col_size": 0},
        "module_sizes": {"polycommit": [], "poseidon": [0, [0]]},
        "model_instance_shapes": [[1, 30], [1, 2]],
        "model_input_scales": [7],
        "model_output_scales": [9],
        "input_types": ["F32"],
        "output_types": ["F32"],
        "required_lookups": [],
        "required_range_checks": [[0, 7999], [-1, 1]],
        "version": "23.0.5",
        "timestamp": 1795492867620,
    }
