# SPDX-License-Identifier: Apache-2.0
"""Exact linear layers of an ONNX graph with weights in blocks of 8-bit integers.

A network that reads 26 MB of weights for one person is memory-bound. As 8-bit integers, with one
scale for 64 weights of a column, they take 7 MB. The export first rounds a network's weights to
what such blocks can represent (`rounded`), so the graph and the network have the same weights.

ONNX Runtime also rounds the inputs of such blocks to 8 bits, which alone moves joints by
millimetres. Each input is therefore split into an 8-bit part and the remainder, and both go through
the product as two rows: the weights are read once, and the input has 16 bits.

In the graph this is one node, `BlockLinear`, which the file defines as a function of standard
operators. For many people, ONNX Runtime gets another definition (`block_function`); engines without
such a product get Gemm nodes instead (`with_float_weights`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.block_function import BLOCK, DOMAIN, NAME, OPSET

_IR_VERSION = 10
_LEAST_SIZE = 1 << 14  # smaller layers gain nothing


def to_blocks(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers (K, N) and scales (K / 64, N) nearest to a weight (K, N) with K inputs and N
    outputs."""
    inputs, outputs = weight.shape
    blocks = weight.reshape(inputs // BLOCK, BLOCK, outputs)
    scales = (np.abs(blocks).max(axis=1) / 127).astype(np.float32)
    divisor = np.where(scales > 0, scales, 1)[:, None]
    integers = np.clip(np.rint(blocks / divisor), -127, 127).astype(np.int8)
    return integers.reshape(inputs, outputs), scales


def from_blocks(integers: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weight (K, N) that the blocks represent."""
    return integers.astype(np.float32) * np.repeat(scales, BLOCK, axis=0)


def rounded(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest weight (K, N) that can be stored; unchanged if it does not fit (`fits`)."""
    return from_blocks(*to_blocks(weight)) if fits(weight.shape) else weight


def fits(shape: tuple[int, ...]) -> bool:
    """Whether a weight (K, N) is stored in blocks."""
    return len(shape) == 2 and shape[0] % BLOCK == 0 and shape[0] * shape[1] >= _LEAST_SIZE


def with_block_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph in which every large Gemm is a BlockLinear with the nearest blocks."""
    model = copy.deepcopy(model)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Gemm" or node.input[1] not in weights or len(node.input) != 3:
            continue
        weight = numpy_helper.to_array(weights[node.input[1]])
        if any(each.name == "transB" and each.i for each in node.attribute):
            weight = weight.T
        if not fits(weight.shape):
            continue
        integers, scales = to_blocks(np.ascontiguousarray(weight))
        name = node.input[1]
        graph.initializer.append(numpy_helper.from_array(integers, f"{name}.blocks"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
        inputs = [node.input[0], f"{name}.blocks", f"{name}.scales", node.input[2]]
        node.CopyFrom(
            helper.make_node(NAME, inputs, list(node.output), domain=DOMAIN, name=node.name)
        )
    if any(map(is_block_linear, graph.node)):
        for version in model.opset_import:
            if version.domain == "":
                version.version = OPSET
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        model.functions.append(_definition())
        model.ir_version = max(model.ir_version, _IR_VERSION)
    return _without_unused(model)


def with_float_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph in which every BlockLinear is a Gemm of 32-bit floats again; raises
    EngineError if their weights are not in the file, or are inconsistent."""
    model = copy.deepcopy(model)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if not is_block_linear(node):
            continue
        name, weight = _stored_weight(node, weights)
        source, bias = node.input[0], node.input[3]
        graph.initializer.append(numpy_helper.from_array(weight, name))
        node.CopyFrom(
            helper.make_node("Gemm", [source, name, bias], list(node.output), name=node.name)
        )
    _keep(model.functions, lambda each: each.domain != DOMAIN)
    _keep(model.opset_import, lambda each: each.domain != DOMAIN)
    return _without_unused(model)


def is_block_linear(node: onnx.NodeProto) -> bool:
    """Whether a node is a BlockLinear."""
    return node.op_type == NAME and node.domain == DOMAIN


def _stored_weight(
    node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]
) -> tuple[str, NDArray[np.float32]]:
    names = node.input[1:3]
    if len(node.input) != 4 or not all(name in weights for name in names):
        raise EngineError(f"{node.name}: a {NAME} must have its weights in the file: export again")
    integers, scales = (numpy_helper.to_array(weights[name]) for name in names)
    if integers.shape != (BLOCK * scales.shape[0], *scales.shape[1:]):
        raise EngineError(
            f"{node.name}: {integers.shape} integers do not go with {scales.shape} scales of "
            f"{BLOCK}: export again"
        )
    return names[0].removesuffix(".blocks"), from_blocks(integers, scales)


def _definition() -> onnx.FunctionProto:
    """y = x @ weight + bias. x (N, K) = high + low, where the values of each block of `high` are
    multiples of 1/127 of its largest, which the engine's own rounding of inputs preserves."""
    node = helper.make_node
    nodes = [
        node("Constant", [], ["in_blocks"], value_ints=[0, -1, BLOCK]),
        node("Constant", [], ["in_rows"], value_ints=[0, -1]),
        node("Constant", [], ["last_axis"], value_ints=[2]),
        node("Constant", [], ["share"], value_float=1 / 127),
        node("Constant", [], ["least"], value_float=1e-20),
        node("Reshape", ["x", "in_blocks"], ["blocks"]),
        node("Abs", ["blocks"], ["sizes"]),
        node("ReduceMax", ["sizes", "last_axis"], ["largest"], keepdims=1),
        node("Mul", ["largest", "share"], ["unit"]),
        node("Max", ["unit", "least"], ["step"]),
        node("Div", ["blocks", "step"], ["steps"]),
        node("Round", ["steps"], ["whole_steps"]),
        node("Mul", ["whole_steps", "step"], ["high_blocks"]),
        node("Reshape", ["high_blocks", "in_rows"], ["high"]),
        node("Sub", ["x", "high"], ["low"]),
        node("Concat", ["high", "low"], ["both"], axis=0),
        node("DequantizeLinear", ["blocks_of_weight", "scales"], ["weight"], axis=0,
             block_size=BLOCK),
        node("MatMul", ["both", "weight"], ["products"]),
        node("Split", ["products"], ["of_high", "of_low"], axis=0, num_outputs=2),
        node("Sum", ["of_high", "of_low", "bias"], ["y"]),
    ]  # fmt: skip
    inputs = ["x", "blocks_of_weight", "scales", "bias"]
    return helper.make_function(
        DOMAIN, NAME, inputs, ["y"], nodes, [helper.make_opsetid("", OPSET)]
    )


def _without_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    used = {name for node in model.graph.node for name in node.input}
    _keep(model.graph.initializer, lambda tensor: tensor.name in used)
    return model


def _keep(field: Any, wanted: Callable[[Any], bool]) -> None:
    kept = [each for each in field if wanted(each)]
    del field[:]
    field.extend(kept)
