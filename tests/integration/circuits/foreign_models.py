"""Models as strangers write them: the operators, shapes and axes of ezkl's examples, made here and small.

Each is a line in ONNX's text form. A name like ``w_4x6`` in it is a weight of that shape, drawn anew for each model;
the kind ``v`` is positive. Networks that torch exports are in :mod:`foreign_torch`.
"""

from __future__ import annotations

import zlib

import numpy as np
import onnx
from onnx import numpy_helper

_HEADER = '<ir_version: 8, opset_import: ["" : {opset}]> m (%s) => (%s) { %s }'

_UNARY = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "reciprocal": "Reciprocal",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "hard_swish": "HardSwish",
    "mish": "Mish",
    "identity": "Identity",
    "hard_sigmoid": "HardSigmoid <alpha = 0.2, beta = 0.5>",
    "elu": "Elu <alpha = 1.0>",
    "selu": "Selu",
    "celu": "Celu <alpha = 2.0>",
    "leaky_relu": "LeakyRelu <alpha = 0.05>",
    "softmax": "Softmax <axis = 1>",
    "log_softmax": "LogSoftmax <axis = 1>",
    "hard_max": "Hardmax <axis = 1>",
}
_ROW = "float[batch_size, 6] x"
_IMAGE = "float[batch_size, 2, 6, 6] x"

_WRITTEN: dict[str, tuple[str, str]] = {
    # arithmetic
    "linear": (_ROW, "y = Gemm <transB = 1> (x, w_4x6, b_4)"),
    "linear_fixed_batch": ("float[1, 6] x", "y = Gemm <transB = 1> (x, w_4x6, b_4)"),
    "linear_batch_of_four": ("float[4, 6] x", "y = Gemm <transB = 1> (x, w_4x6, b_4)"),
    "linear_open_batch": ("float[?, 6] x", "y = Gemm <transB = 1> (x, w_4x6, b_4)"),
    "linear_named_n": ("float[N, 6] x", "y = Gemm <transB = 1> (x, w_4x6, b_4)"),
    "linear_no_batch": ("float[6] x", "y = MatMul(x, w_6x4)"),
    "mlp": (_ROW, "h = Gemm <transB = 1> (x, w_8x6, b_8) a = Relu(h) y = Gemm <transB = 1> (a, w_4x8, b_4)"),
    "matmul": (_ROW, "y = MatMul(x, w_6x4)"),
    "einsum": (_ROW, 'y = Einsum <equation = "bi,ij->bj"> (x, w_6x4)'),
    "einsum_of_activations": (
        "float[batch_size, 3, 4] x",
        't = Relu(x) y = Einsum <equation = "bij,bkj->bik"> (x, t)',
    ),
    "add": (_ROW, "y = Add(x, b_6)"),
    "sub": (_ROW, "y = Sub(b_6, x)"),
    "mul": (_ROW, "y = Mul(x, b_6)"),
    "square": (_ROW, "y = Mul(x, x)"),
    "div": (_ROW, "c = Constant <value = float {10.0}> () y = Div(x, c)"),
    "eltwise_div": (_ROW, "e = Exp(x) s = Sigmoid(x) y = Div(s, e)"),
    "powf": (_ROW, "c = Constant <value = float {2.0}> () y = Pow(x, c)"),
    "pow_of_activations": (_ROW, "a = Abs(x) y = Pow(a, x)"),
    "general_exp": (_ROW, "c = Constant <value = float {2.0}> () y = Pow(c, x)"),
    "rsqrt": (_ROW, "s = Sqrt(x) y = Reciprocal(s)"),
    "remainder": (_ROW, "c = Constant <value = float {3.0}> () y = Mod <fmod = 1> (x, c)"),
    "clip": (
        _ROW,
        "l = Constant <value = float {-1.0}> () h = Constant <value = float {1.0}> () y = Clip(x, l, h)",
    ),
    "prelu": (_ROW, "y = PRelu(x, b_6)"),
    "gelu": (_ROW, "y = Gelu(x)"),
    "gelu_tanh": (_ROW, 'y = Gelu <approximate = "tanh"> (x)'),
    "max": (_ROW, "y = Max(x, b_6)"),
    "min": (_ROW, "y = Min(x, b_6)"),
    "mean_of_two": (_ROW, "y = Mean(x, b_6)"),
    "sum_of_three": (_ROW, "r = Relu(x) y = Sum(x, r, b_6)"),
    # logic
    "less": (_ROW, "z = Less(x, b_6) y = Cast <to = 1> (z)"),
    "greater": (_ROW, "z = Greater(x, b_6) y = Cast <to = 1> (z)"),
    "equal": (_ROW, "r = Relu(x) z = Equal(x, r) y = Cast <to = 1> (z)"),
    "where": (_ROW, "z = Greater(x, b_6) r = Relu(x) y = Where(z, x, r)"),
    "boolean": (_ROW, "p = Greater(x, b_6) q = Less(x, c_6) o = And(p, q) n = Not(o) y = Cast <to = 1> (n)"),
    "xor": (_ROW, "p = Greater(x, b_6) q = Less(x, c_6) o = Xor(p, q) y = Cast <to = 1> (o)"),
    "bool_output": (_ROW, "y = Less(x, b_6)"),
    "isnan": (_ROW, "z = IsNaN(x) y = Cast <to = 1> (z)"),
    # reductions
    "reduce_sum": (_ROW, "a = Constant <value = int64[1] {1}> () y = ReduceSum <keepdims = 1> (x, a)"),
    "reduce_mean": (_ROW, "y = ReduceMean <axes = [1], keepdims = 1> (x)"),
    "reduce_max": (_ROW, "y = ReduceMax <axes = [1], keepdims = 1> (x)"),
    "reduce_min": (_ROW, "y = ReduceMin <axes = [1], keepdims = 1> (x)"),
    "reduce_prod": (_ROW, "y = ReduceProd <axes = [1], keepdims = 1> (x)"),
    "reduce_l1": (_ROW, "y = ReduceL1 <axes = [1], keepdims = 1> (x)"),
    "reduce_l2": (_ROW, "y = ReduceL2 <axes = [1], keepdims = 1> (x)"),
    "reduce_log_sum": (_ROW, "y = ReduceLogSum <axes = [1], keepdims = 1> (x)"),
    "reduce_log_sum_exp": (_ROW, "y = ReduceLogSumExp <axes = [1], keepdims = 1> (x)"),
    "reduce_sum_square": (_ROW, "y = ReduceSumSquare <axes = [1], keepdims = 1> (x)"),
    "argmax": (_ROW, "i = ArgMax <axis = 1, keepdims = 1> (x) y = Cast <to = 1> (i)"),
    "argmin": (_ROW, "i = ArgMin <axis = 1, keepdims = 1> (x) y = Cast <to = 1> (i)"),
    "int_output": (_ROW, "y = ArgMax <axis = 1, keepdims = 1> (x)"),
    "topk": (_ROW, "k = Constant <value = int64[1] {3}> () y, i = TopK <axis = 1> (x, k)"),
    "cumsum": (_ROW, "a = Constant <value = int64 {1}> () y = CumSum(x, a)"),
    # shapes
    "concat": (_ROW, "r = Relu(x) y = Concat <axis = 1> (x, r)"),
    "flatten": ("float[batch_size, 2, 3] x", "y = Flatten <axis = 1> (x)"),
    "reshape": (_ROW, "s = Constant <value = int64[3] {-1, 2, 3}> () y = Reshape(x, s)"),
    "transpose": ("float[batch_size, 2, 3] x", "y = Transpose <perm = [0, 2, 1]> (x)"),
    "squeeze": ("float[batch_size, 6, 1] x", "a = Constant <value = int64[1] {2}> () y = Squeeze(x, a)"),
    "unsqueeze": (_ROW, "a = Constant <value = int64[1] {1}> () y = Unsqueeze(x, a)"),
    "slice": (
        _ROW,
        "s = Constant <value = int64[1] {1}> () e = Constant <value = int64[1] {4}> () "
        "a = Constant <value = int64[1] {1}> () y = Slice(x, s, e, a)",
    ),
    "split": (_ROW, "p = Constant <value = int64[2] {2, 4}> () u, v = Split <axis = 1> (x, p) y = Relu(v)"),
    "pad": (_ROW, "p = Constant <value = int64[4] {0, 1, 0, 2}> () y = Pad(x, p)"),
    "pad_reflect": (_ROW, 'p = Constant <value = int64[4] {0, 1, 0, 2}> () y = Pad <mode = "reflect"> (x, p)'),
    "expand": ("float[batch_size, 1, 3] x", "s = Constant <value = int64[3] {1, 2, 3}> () y = Expand(x, s)"),
    "tile": (_ROW, "r = Constant <value = int64[2] {1, 2}> () y = Tile(x, r)"),
    "tile_inside": (
        _ROW,
        "a = Relu(x) s = Sigmoid(a) r = Constant <value = int64[2] {1, 2}> () t = Tile(s, r) b = Tanh(t) y = Neg(b)",
    ),
    "tril": ("float[batch_size, 4, 4] x", "y = Trilu <upper = 0> (x)"),
    "triu": ("float[batch_size, 4, 4] x", "y = Trilu <upper = 1> (x)"),
    "gather": (_ROW, "i = Constant <value = int64[3] {0, 2, 5}> () y = Gather <axis = 1> (x, i)"),
    "gather_by_record": (_ROW, "j = Cast <to = 7> (x) y = Gather <axis = 0> (w_8x2, j)"),
    "gather_elements": (
        "float[1, 6] x",
        "i = Constant <value = int64[1, 3] {0, 2, 5}> () y = GatherElements <axis = 1> (x, i)",
    ),
    "gather_nd": ("float[1, 6] x", "i = Constant <value = int64[2, 2] {0, 1, 0, 4}> () y = GatherND(x, i)"),
    "scatter_elements": (
        "float[1, 6] x",
        "i = Constant <value = int64[1, 2] {0, 3}> () u = Constant <value = float[1, 2] {1.5, -1.0}> () "
        "y = ScatterElements <axis = 1> (x, i, u)",
    ),
    "scatter_nd": (
        "float[1, 6] x",
        "i = Constant <value = int64[2, 2] {0, 1, 0, 4}> () u = Constant <value = float[2] {1.5, -1.0}> () "
        "y = ScatterND(x, i, u)",
    ),
    "one_hot": (
        _ROW,
        "j = Cast <to = 7> (x) d = Constant <value = int64 {4}> () v = Constant <value = float[2] {0.0, 1.0}> () "
        "y = OneHot <axis = -1> (j, d, v)",
    ),
    "nonzero": ("float[1, 6] x", "i = NonZero(x) y = Cast <to = 1> (i)"),
    "unique": ("float[1, 6] x", "y = Unique(x)"),
    "arange": (
        _ROW,
        "a = Constant <value = float {0.0}> () b = Constant <value = float {6.0}> () "
        "c = Constant <value = float {1.0}> () r = Range(a, b, c) y = Add(x, r)",
    ),
    "eye_like": ("float[4, 4] x", "e = EyeLike(x) y = Add(x, e)"),
    "reverse_sequence": (
        "float[1, 6, 2] x",
        "l = Constant <value = int64[1] {6}> () y = ReverseSequence <batch_axis = 0, time_axis = 1> (x, l)",
    ),
    "cast_down": (_ROW, "h = Cast <to = 10> (x) y = Cast <to = 1> (h)"),
    "bitshift": (
        "uint8[batch_size, 6] x",
        's = Constant <value = uint8[1] {1}> () y = BitShift <direction = "RIGHT"> (x, s)',
    ),
    "bitwise_and": ("int32[batch_size, 6] x", "s = Constant <value = int32[1] {3}> () y = BitwiseAnd(x, s)"),
    "det": ("float[1, 3, 3] x", "y = Det(x)"),
    # images
    "conv": (_IMAGE, "y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]> (x, w_3x2x3x3, b_3)"),
    "conv_no_strides": (_IMAGE, "y = Conv <kernel_shape = [3, 3]> (x, w_3x2x3x3, b_3)"),
    "conv_strided": (_IMAGE, "y = Conv <kernel_shape = [2, 2], strides = [2, 2]> (x, w_3x2x2x2)"),
    "conv_grouped": (_IMAGE, "y = Conv <kernel_shape = [3, 3], group = 2, strides = [1, 1]> (x, w_2x1x3x3)"),
    "conv_dilated": (_IMAGE, "y = Conv <kernel_shape = [2, 2], dilations = [2, 2], strides = [1, 1]> (x, w_3x2x2x2)"),
    "conv_1d": ("float[batch_size, 2, 9] x", "y = Conv <kernel_shape = [3], strides = [1]> (x, w_3x2x3, b_3)"),
    "conv_3d": (
        "float[batch_size, 1, 3, 4, 4] x",
        "y = Conv <kernel_shape = [2, 2, 2], strides = [1, 1, 1]> (x, w_2x1x2x2x2)",
    ),
    "conv_transpose": (_IMAGE, "y = ConvTranspose <kernel_shape = [3, 3], strides = [1, 1]> (x, w_2x3x3x3)"),
    "max_pool": (_IMAGE, "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"),
    "average_pool": (_IMAGE, "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)"),
    "global_average_pool": (_IMAGE, "y = GlobalAveragePool(x)"),
    "global_max_pool": (_IMAGE, "y = GlobalMaxPool(x)"),
    "lp_pool": (_IMAGE, "y = LpPool <kernel_shape = [2, 2], strides = [2, 2], p = 2> (x)"),
    "batch_norm": (_IMAGE, "y = BatchNormalization(x, b_2, c_2, d_2, v_2)"),
    "instance_norm": (_IMAGE, "y = InstanceNormalization(x, b_2, c_2)"),
    "layer_norm": (_ROW, "y = LayerNormalization <axis = 1> (x, b_6, c_6)"),
    "group_norm": (_IMAGE, "y = GroupNormalization <num_groups = 2> (x, b_2, c_2)"),
    "lrn": (_IMAGE, "y = LRN <size = 3> (x)"),
    "resize_nearest": (
        _IMAGE,
        "s = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () "
        'y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s)',
    ),
    "resize_linear": (
        _IMAGE,
        's = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () y = Resize <mode = "linear"> (x, , s)',
    ),
    "depth_to_space": ("float[batch_size, 4, 3, 3] x", "y = DepthToSpace <blocksize = 2> (x)"),
    "space_to_depth": (_IMAGE, "y = SpaceToDepth <blocksize = 2> (x)"),
    "grid_sample": ("float[1, 2, 6, 6] x", "y = GridSample(x, w_1x3x3x2)"),
    # the same operators in other forms
    "max_scalar": (
        _ROW,
        "c = Constant <value = float {0.2}> () y = Max(x, c)",
    ),
    "max_two": (
        _ROW,
        "r = Neg(x) y = Max(x, r)",
    ),
    "min_two": (
        _ROW,
        "r = Neg(x) y = Min(x, r)",
    ),
    "celu_alpha_one": (
        _ROW,
        "y = Celu <alpha = 1.0> (x)",
    ),
    "elu_alpha_two": (
        _ROW,
        "y = Elu <alpha = 2.0> (x)",
    ),
    "scatter_elements_of_activations": (
        "float[1, 6] x",
        "i = Constant <value = int64[1, 2] {0, 3}> () r = Relu(x) s = Constant <value = int64[1] {0}> () "
        "e = Constant <value = int64[1] {2}> () a = Constant <value = int64[1] {1}> () u = Slice(r, s, "
        "e, a) y = ScatterElements <axis = 1> (x, i, u)",
    ),
    "scatter_nd_of_activations": (
        "float[1, 6] x",
        "i = Constant <value = int64[1, 2, 2] {0, 1, 0, 4}> () s = Constant <value = int64[1] {0}> () e "
        "= Constant <value = int64[1] {2}> () a = Constant <value = int64[1] {1}> () u = Slice(x, s, e, "
        "a) y = ScatterND(x, i, u)",
    ),
    "tile_by_one": (
        _ROW,
        "r = Constant <value = int64[2] {1, 1}> () y = Tile(x, r)",
    ),
    "or": (
        _ROW,
        "p = Greater(x, b_6) q = Less(x, c_6) o = Or(p, q) y = Cast <to = 1> (o)",
    ),
    "less_or_equal": (
        _ROW,
        "z = LessOrEqual(x, b_6) y = Cast <to = 1> (z)",
    ),
    "greater_or_equal": (
        _ROW,
        "z = GreaterOrEqual(x, b_6) y = Cast <to = 1> (z)",
    ),
    "where_equal": (
        _ROW,
        "r = Relu(x) z = Equal(x, r) y = Where(z, x, b_6)",
    ),
    "dropout": (
        _ROW,
        "y = Dropout(x)",
    ),
    "thresholded_relu": (
        _ROW,
        "y = ThresholdedRelu <alpha = 0.3> (x)",
    ),
    "shrink": (
        _ROW,
        "y = Shrink <lambd = 0.3> (x)",
    ),
    "average_pool_padded": (
        _IMAGE,
        "y = AveragePool <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]> (x)",
    ),
    "max_pool_padded": (
        _IMAGE,
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)",
    ),
    "average_pool_ceil": (
        "float[batch_size, 2, 5, 5] x",
        "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x)",
    ),
    "max_pool_no_strides": (
        _IMAGE,
        "y = MaxPool <kernel_shape = [2, 2]> (x)",
    ),
    "conv_transpose_strided": (
        "float[batch_size, 2, 4, 4] x",
        "y = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (x, w_2x3x2x2)",
    ),
    "conv_transpose_output_padding": (
        "float[batch_size, 2, 4, 4] x",
        "y = ConvTranspose <kernel_shape = [3, 3], strides = [2, 2], output_padding=[1,1], "
        "pads=[1,1,1,1]> (x, w_2x3x3x3)",
    ),
    "conv_same": (
        _IMAGE,
        'y = Conv <kernel_shape = [3, 3], strides = [1, 1], auto_pad = "SAME_UPPER"> (x, w_3x2x3x3)',
    ),
    "conv_same_strided": (
        "float[batch_size, 2, 5, 5] x",
        'y = Conv <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"> (x, w_3x2x3x3)',
    ),
    "resize_nearest_half_pixel": (
        "float[batch_size, 2, 3, 3] x",
        's = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () y = Resize <mode = "nearest"> (x, , s)',
    ),
    "resize_nearest_down": (
        _IMAGE,
        's = Constant <value = float[4] {1.0, 1.0, 0.5, 0.5}> () y = Resize <mode = "nearest", '
        'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s)',
    ),
    "round_halves": (
        _ROW,
        "c = Constant <value = float {2.0}> () d = Mul(x, c) e = Floor(d) h = Constant <value = float "
        "{0.5}> () g = Mul(e, h) y = Round(g)",
    ),
    "pow_half": (
        _ROW,
        "a = Abs(x) c = Constant <value = float {0.5}> () y = Pow(a, c)",
    ),
    "pow3": (
        _ROW,
        "c = Constant <value = float {3.0}> () y = Pow(x, c)",
    ),
    "pow_negative": (
        _ROW,
        "a = Exp(x) c = Constant <value = float {-1.0}> () y = Pow(a, c)",
    ),
    "cumsum_reverse": (
        _ROW,
        "a = Constant <value = int64 {1}> () y = CumSum <reverse = 1> (x, a)",
    ),
    "cumsum_exclusive": (
        _ROW,
        "a = Constant <value = int64 {1}> () y = CumSum <exclusive = 1> (x, a)",
    ),
    "topk_smallest": (
        _ROW,
        "k = Constant <value = int64[1] {3}> () y, i = TopK <axis = 1, largest = 0> (x, k)",
    ),
    "topk_indices": (
        _ROW,
        "k = Constant <value = int64[1] {3}> () v, i = TopK <axis = 1> (x, k) y = Cast <to = 1> (i)",
    ),
    "slice_step": (
        _ROW,
        "s = Constant <value = int64[1] {0}> () e = Constant <value = int64[1] {6}> () a = Constant "
        "<value = int64[1] {1}> () t = Constant <value = int64[1] {2}> () y = Slice(x, s, e, a, t)",
    ),
    "slice_backwards": (
        _ROW,
        "s = Constant <value = int64[1] {5}> () e = Constant <value = int64[1] {-7}> () a = Constant "
        "<value = int64[1] {1}> () t = Constant <value = int64[1] {-1}> () y = Slice(x, s, e, a, t)",
    ),
    "pad_with_a_number": (
        _ROW,
        "p = Constant <value = int64[4] {0, 1, 0, 2}> () v = Constant <value = float {1.5}> () y = Pad(x, p, v)",
    ),
    "gather_from_the_end": (
        _ROW,
        "i = Constant <value = int64[2] {-1, -2}> () y = Gather <axis = 1> (x, i)",
    ),
    "hard_sigmoid_default": (
        _ROW,
        "y = HardSigmoid(x)",
    ),
    "softmax_axis0": (
        "float[4, 6] x",
        "y = Softmax <axis = 0> (x)",
    ),
    "log_softmax_last_axis": (
        "float[batch_size, 3, 4] x",
        "y = LogSoftmax <axis = -1> (x)",
    ),
    "reduce_sum_of_all": (
        _ROW,
        "y = ReduceSum <keepdims = 1> (x)",
    ),
    "reduce_max_two_axes": (
        "float[batch_size, 3, 4] x",
        "y = ReduceMax <axes=[1,2], keepdims = 0> (x)",
    ),
    "triu_above": (
        "float[batch_size, 4, 4] x",
        "k = Constant <value = int64 {1}> () y = Trilu <upper = 1> (x, k)",
    ),
    "depth_to_space_crd": (
        "float[batch_size, 4, 3, 3] x",
        'y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)',
    ),
    "remainder_by_floor": (
        _ROW,
        "c = Constant <value = float {3.0}> () d = Div(x, c) f = Floor(d) g = Mul(f, c) y = Sub(x, g)",
    ),
    "where_masked": (
        _ROW,
        "z = Less(x, b_6) c = Constant <value = float {-1000.0}> () y = Where(z, c, x)",
    ),
    "sign_times": (
        _ROW,
        "s = Sign(x) y = Mul(s, x)",
    ),
    "batch_norm_row": (
        "float[batch_size, 3] x",
        "y = BatchNormalization(x, b_3, c_3, d_3, v_3)",
    ),
    "matmul_of_activations": (
        "float[batch_size, 2, 3, 4] x",
        "t = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul(x, t)",
    ),
    "gemm_alpha_beta": (
        _ROW,
        "y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w_4x6, b_4)",
    ),
    "floor_div": (
        _ROW,
        "c = Constant <value = float {0.3}> () d = Div(x, c) y = Floor(d)",
    ),
    "by_its_size": (
        _ROW,
        "s = Shape(x) c = Cast <to = 1> (s) g = ReduceProd <keepdims=0> (c) y = Div(x, g)",
    ),
    "average_pool_3d": (
        "float[batch_size, 1, 4, 4, 4] x",
        "y = AveragePool <kernel_shape = [2, 2, 2], strides = [2, 2, 2]> (x)",
    ),
    "max_pool_1d": (
        "float[batch_size, 2, 8] x",
        "y = MaxPool <kernel_shape = [2], strides = [2]> (x)",
    ),
    "equal_integers": (
        _ROW,
        "j = Cast <to = 7> (x) c = Constant <value = int64[1] {1}> () z = Equal(j, c) y = Cast <to = 1> (z)",
    ),
    # quantised
    "quantize_dequantize": (
        _ROW,
        "s = Constant <value = float {0.1}> () z = Constant <value = uint8 {128}> () q = QuantizeLinear(x, s, z) "
        "y = DequantizeLinear(q, s, z)",
    ),
    "dynamic_quantize": (_ROW, "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)"),
    # forms
    "two_inputs": ("float[batch_size, 6] x, float[batch_size, 6] z", "y = Add(x, z)"),
    "token_ids": ("int64[batch_size, 6] x", "y = Gather <axis = 0> (w_8x2, x)"),
    "bool_input": ("bool[batch_size, 6] x", "n = Not(x) y = Cast <to = 1> (n)"),
    "double_input": ("double[batch_size, 6] x", "y = Relu(x)"),
    "open_sequence": ("float[batch_size, seq_len, 4] x", "y = MatMul(x, w_4x3)"),
    "only_sequence_open": ("float[1, seq_len, 4] x", "y = MatMul(x, w_4x3)"),
    "control_flow": (
        "float[1, 6] x",
        "a = ReduceSum <keepdims = 0> (x) z = Constant <value = float {0.0}> () c = Greater(a, z) "
        "y = If (c) <then_branch = t () => (float[1, 6] p) { p = Relu(x) }, "
        "else_branch = e () => (float[1, 6] q) { q = Neg(x) }>",
    ),
    "unknown_operator": (_ROW, "y = Frobnicate(x)"),
}
_SEVERAL_OUTPUTS = {"two_outputs": (_ROW, "y = Relu(x) z = Sigmoid(x)", ("y", "z"))}
_RECENT_OPSET = {"hard_swish", "mish", "gelu", "gelu_tanh", "layer_norm", "group_norm", "bitwise_and"}
_REDUCE_AS_ATTRIBUTE = 17


def _written(name: str, inputs: str, body: str, outputs: tuple[str, ...] = ("y",)) -> bytes:
    opset = 20 if name in _RECENT_OPSET else _REDUCE_AS_ATTRIBUTE
    text = _HEADER.replace("{opset}", str(opset)) % (inputs, ", ".join(f"float {each}" for each in outputs), body)
    model = onnx.parser.parse_model(text)
    graph = model.graph
    made = {each.name for each in graph.input} | {each for node in graph.node for each in node.output}
    for weight in sorted({each for node in graph.node for each in node.input if each and each not in made}):
        if "_" not in weight:
            continue
        drawn = np.random.default_rng(zlib.crc32(f"{name} {weight}".encode()))
        kind, shape = weight.split("_")
        values = drawn.normal(size=[int(size) for size in shape.split("x")]) * 0.4
        graph.initializer.append(
            numpy_helper.from_array((abs(values) + 0.5 if kind == "v" else values).astype(np.float32), weight)
        )
    for each in graph.output:
        each.ClearField("type")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for place, each in enumerate(inferred.graph.output):
        if not each.type.tensor_type.elem_type:
            graph.output[place].type.tensor_type.elem_type = 1
        else:
            graph.output[place].CopyFrom(each)
    for place, node in enumerate(graph.node):
        node.name = f"/{node.op_type}_{place}"
    return bytes(model.SerializeToString())


def names() -> tuple[str, ...]:
    """All models that are written as text."""
    return (*_UNARY, *_WRITTEN, *_SEVERAL_OUTPUTS)


def foreign(name: str) -> bytes:
    """One of them, as an ONNX file."""
    if name in _UNARY:
        operator, _, attributes = _UNARY[name].partition(" ")
        return _written(name, _ROW, f"y = {operator} {attributes} (x)")
    if name in _SEVERAL_OUTPUTS:
        return _written(name, *_SEVERAL_OUTPUTS[name])
    return _written(name, *_WRITTEN[name])
