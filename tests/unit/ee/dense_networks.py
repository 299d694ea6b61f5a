"""Small dense networks, written directly as ONNX, in the forms that exporters and people produce."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]


class Builder:
    """Collects nodes and initializers of one network from ``records`` to the last value made."""

    def __init__(self, width: int, seed: int = 7) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.value = "records"
        self.width = width
        self.inputs = width

    def constant(self, values: NDArray[np.floating], name: str | None = None) -> str:
        name = name or f"constant{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def weight(self, rows: int, columns: int) -> Floats:
        return (self.random.normal(size=(rows, columns)) * np.sqrt(2 / rows)).astype(np.float32)

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        index = len(self.nodes)
        output = f"value{index}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"{op}_{index}", **attributes))
        self.value = output
        return output

    def gemm(self, width: int, *, bias: bool = True, trans: bool = True, **attributes: float) -> Builder:
        weight = self.weight(self.width, width)
        names = [self.constant(weight.T if trans else weight)]
        if bias:
            names.append(self.constant(self.random.normal(size=width) * 0.3))
        self.node("Gemm", self.value, *names, transB=int(trans), **attributes)
        self.width = width
        return self

    def matmul(self, width: int) -> Builder:
        self.node("MatMul", self.value, self.constant(self.weight(self.width, width)))
        self.width = width
        return self

    def add_bias(self, *, left: bool = False) -> Builder:
        bias = self.constant(self.random.normal(size=self.width) * 0.3)
        self.node("Add", *((bias, self.value) if left else (self.value, bias)))
        return self

    def relu(self) -> Builder:
        self.node("Relu", self.value)
        return self

    def build(self, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["batch", self.inputs])],
            [helper.make_tensor_value_info(self.value, TensorProto.FLOAT, ["batch", self.width])],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def mlp(*widths: int) -> onnx.ModelProto:
    """Gemm-Relu-…-Gemm."""
    builder = Builder(widths[0])
    for width in widths[1:-1]:
        builder.gemm(width).relu()
    return builder.gemm(widths[-1]).build()


def residual() -> onnx.ModelProto:
    """x → Gemm → h; h + Gemm(Relu(Gemm(h))) → Relu → Gemm."""
    builder = Builder(9).gemm(12)
    trunk = builder.value
    builder.gemm(20).relu().gemm(12)
    builder.node("Add", trunk, builder.value)
    return builder.relu().gemm(3).build()


def constant_nodes() -> onnx.ModelProto:
    """Weights in Constant nodes, the first one behind a Transpose, the bias behind an Identity."""
    builder = Builder(5)
    weight = numpy_helper.from_array(builder.weight(8, 5))
    transposed = builder.node("Transpose", builder.node("Constant", value=weight), perm=[1, 0])
    bias = builder.node("Identity", builder.constant(np.ones(8)))
    builder.node("Gemm", "records", transposed, bias)
    builder.width = 8
    return builder.relu().gemm(2).build()


def shared_weight() -> onnx.ModelProto:
    """The same square layer twice, as in an unrolled recurrence."""
    builder = Builder(6).gemm(10).relu()
    weight, bias = builder.constant(builder.weight(10, 10)), builder.constant(np.full(10, 0.1))
    for _ in range(2):
        builder.node("Gemm", builder.value, weight, bias)
        builder.relu()
    return builder.gemm(2).build()


def shared_zero_bias() -> onnx.ModelProto:
    """Two layers that read one zero bias: what torch's exporter makes of equal biases."""
    builder = Builder(6)
    bias = builder.constant(np.zeros(10))
    for rows in (6, 10):
        builder.node("Gemm", builder.value, builder.constant(builder.weight(rows, 10)), bias)
        builder.relu()
    builder.width = 10
    return builder.gemm(2).build()


def relays() -> onnx.ModelProto:
    """Flatten and Identity nodes between layers, as a traced module leaves them."""
    builder = Builder(8)
    builder.node("Flatten", "records", axis=1)
    builder.gemm(16).relu()
    builder.node("Identity", builder.value)
    return builder.gemm(3).build()


def tied_autoencoder() -> onnx.ModelProto:
    """One weight forwards and, transposed, backwards."""
    builder = Builder(4)
    weight = builder.constant(builder.weight(4, 6), "tied")
    builder.node("Gemm", "records", weight)
    builder.relu()
    builder.node("Gemm", builder.value, weight, transB=1)
    builder.width = 4
    return builder.build()


DENSE: dict[str, onnx.ModelProto] = {
    "mlp": mlp(30, 64, 64, 2),
    "one layer": mlp(4, 3),
    "deep": mlp(7, 33, 16, 8, 24, 5),
    "one feature, one output": mlp(1, 8, 1),
    "wide": mlp(200, 16, 10),
    "no bias": Builder(8).gemm(16, bias=False).relu().gemm(16, bias=False).relu().gemm(3, bias=False).build(),
    "linear chain without bias": Builder(8).gemm(16, bias=False).gemm(3, bias=False).build(),
    "bias in the first layer only": Builder(8).gemm(16).relu().gemm(3, bias=False).build(),
    "no activation": Builder(8).gemm(16).gemm(12).gemm(3).build(),
    "alpha and beta": Builder(8).gemm(16, alpha=0.5, beta=2.0).relu().gemm(3, alpha=1.5).build(),
    "weight not transposed": Builder(8).gemm(16, trans=False).relu().gemm(3).build(),
    "MatMul and Add": Builder(8).matmul(16).add_bias().relu().matmul(3).add_bias(left=True).build(),
    "MatMul without Add": Builder(8).matmul(16).relu().matmul(3).build(),
    "two Adds": Builder(8).matmul(16).add_bias().add_bias().relu().gemm(3).build(),
    "ends in Relu": Builder(8).gemm(16).relu().gemm(3).relu().build(),
    "opset 11": Builder(8).gemm(16).relu().gemm(3).build(opset=11),
    "relays": relays(),
    "residual": residual(),
    "constant nodes": constant_nodes(),
    "shared weight": shared_weight(),
    "shared zero bias": shared_zero_bias(),
    "tied autoencoder": tied_autoencoder(),
}


def run(model: onnx.ModelProto | bytes, records: Floats) -> Floats:
    """Outputs of a model in ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    outputs: Floats = session.run(None, {session.get_inputs()[0].name: records})[0]
    return outputs
