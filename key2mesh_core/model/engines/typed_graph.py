# SPDX-License-Identifier: Apache-2.0
"""A bundle's graph as TensorRT takes it: plain float weights, and every precision written out.

TensorRT 11 and TensorRT for RTX have no switch for half precision: a tensor has the type that the
graph gives it. So the fp16 graph is made here, from the bundle's own, and says with casts what is
computed in half: the network's hidden layers, which are 97 % of what a person costs to read. The
first layer stays in float, as a half rounds keypoints to half a pixel in a thousand (measured:
vertices 1.2 mm off at worst, 0.5 mm without); so does the last, which gives rotations; and so do
kinematics, translation and skinning: a half resolves a millimetre at a body's length.

Needs the package `onnx`, which building an engine needs and running one does not.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from key2mesh_core.errors import EngineError
from key2mesh_core.model import block_linear

PRECISIONS = ("fp32", "fp16")

NETWORK_WEIGHTS = "network."
"""How the names of the network's weights begin in a bundle's pose graph."""

LEAST_WIDTH = 256
"""A hidden layer has at least so many inputs and outputs; keypoints and rotations are fewer."""

_LARGEST_HALF = float(np.finfo(np.float16).max)


def typed(graph: bytes, precision: str) -> bytes:
    """The graph of an .onnx file's content, ready for a strongly typed network.

    Raises:
        EngineError: an unknown precision, no ONNX graph, or weights that no half can hold.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    try:
        model = onnx.load_model_from_string(graph)
        model = with_float_weights(model)
        if precision == "fp16":
            model = with_half_layers(model)
        onnx.checker.check_model(model)
    except EngineError:
        raise
    except Exception as error:  # protobuf, onnx and numpy each have their own kinds
        raise EngineError(
            f"not a graph that can be typed ({type(error).__name__}: {str(error)[:200]}); "
            "copy or export the bundle again"
        ) from error
    return model.SerializeToString()


def with_float_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with its compressed weights written out as floats.

    Bundles store weights as 8-bit blocks behind nodes of their own, or as halves behind a Cast:
    small on disk, but TensorRT reads the blocks not at all and might widen halves on every run.
    """
    model = block_linear.with_float_weights(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, floats = [], []
    for node in model.graph.node:
        if _widens_halves(node, stored):
            values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            floats.append(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    return _with(model, nodes, [*stored.values(), *floats])


def with_half_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with the network's hidden layers in half precision, casts around each.

    Inputs, outputs and everything between two layers stay float.

    Raises:
        EngineError: the graph has no such layers, or a weight that is too large for a half.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    halves: dict[str, TensorProto] = {}

    def halved(name: str) -> str:
        half = f"{name}.fp16"
        if half not in halves:
            values = numpy_helper.to_array(stored[name])
            if not np.abs(values).max(initial=0.0) <= _LARGEST_HALF:
                raise EngineError(
                    f"weights '{name}' reach {np.abs(values).max():.3g}, more than a half holds "
                    f"({_LARGEST_HALF:g}): use fp32"
                )
            halves[half] = numpy_helper.from_array(values.astype(np.float16), half)
        return half

    nodes = []
    for node in model.graph.node:
        if not _is_hidden_layer(node, stored):
            nodes.append(node)
            continue
        layer = onnx.NodeProto()
        layer.CopyFrom(node)
        inputs, output = list(node.input), node.output[0]
        for place, name in enumerate(inputs):
            if name in stored:
                inputs[place] = halved(name)
            elif name:
                inputs[place] = f"{output}.{place}.fp16"
                nodes.append(_cast(name, inputs[place], TensorProto.FLOAT16))
        layer.input[:] = inputs
        layer.output[:] = [f"{output}.fp16"]
        nodes += [layer, _cast(layer.output[0], output, TensorProto.FLOAT)]
    if not halves:
        raise EngineError(
            f"the graph has no hidden layers whose weights are named '{NETWORK_WEIGHTS}...': "
            "use fp32, or export the bundle again with this version"
        )
    result = _with(model, nodes, [*stored.values(), *halves.values()])
    del result.graph.value_info[:]  # it would speak of layers as they were
    return result


def _is_hidden_layer(node: onnx.NodeProto, stored: dict[str, TensorProto]) -> bool:
    return (
        node.op_type == "Gemm"
        and node.input[1].startswith(NETWORK_WEIGHTS)
        and node.input[1] in stored
        and min(stored[node.input[1]].dims) >= LEAST_WIDTH
    )


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast {target}", to=to)


def _widens_halves(node: onnx.NodeProto, stored: dict[str, TensorProto]) -> bool:
    return (
        node.op_type == "Cast"
        and node.input[0] in stored
        and stored[node.input[0]].data_type == TensorProto.FLOAT16
        and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT
    )


def _with(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], tensors: list[TensorProto]
) -> onnx.ModelProto:
    """A copy of the model with other nodes, and those of the tensors that are still used."""
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    used |= {output.name for output in graph.output}
    graph.initializer.extend(tensor for tensor in tensors if tensor.name in used)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.CopyFrom(graph)
    return result
