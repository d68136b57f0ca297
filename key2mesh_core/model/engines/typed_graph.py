# SPDX-License-Identifier: Apache-2.0
"""Converts a bundle's graph for TensorRT: plain float weights, and every precision explicit.

TensorRT 11 and TensorRT for RTX have no precision flags: a tensor has the type that the graph gives
it. The fp16 graph is therefore made here, from the bundle's own. Its casts put the network's hidden
layers, which are 97 % of the weights, into half precision. The first layer stays in float, because
a half rounds keypoints to half a pixel in a thousand (measured: vertices up to 1.2 mm off, 0.5 mm
without); so does the last, which gives rotations; and so do kinematics, translation and skinning,
because a half resolves only a millimetre at the size of a body.

Needs the package `onnx`, which only building an engine requires.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from key2mesh_core.errors import EngineError
from key2mesh_core.model.block_linear import with_float_weights

PRECISIONS = ("fp32", "fp16")
_NETWORK = "network."  # prefix of the network's weights in a bundle's pose graph
_LEAST_WIDTH = 256  # least width of a hidden layer; keypoints and rotations have fewer numbers


def typed(graph: bytes, precision: str) -> bytes:
    """The graph of an .onnx file's content, prepared for a strongly typed network.

    Raises:
        EngineError: the precision is unknown, the content is not an ONNX graph, or a half cannot
            represent a weight.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    try:
        model = with_float_weights(onnx.load_model_from_string(graph))
        if precision == "fp16":
            halve_layers(model)
        onnx.checker.check_model(model)
    except EngineError:
        raise
    except Exception as error:  # protobuf, onnx and numpy raise their own kinds
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise EngineError(f"not a graph that can be typed ({reason}); export it again") from error
    return model.SerializeToString()


def halve_layers(model: onnx.ModelProto) -> None:
    """Puts the network's hidden layers into half precision, in place, with casts around each.

    Raises:
        EngineError: the graph has no such layers, or a weight is too large for a half.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        weights = [stored.get(name) for name in node.input[1:]]
        hidden = node.op_type == "Gemm" and node.input[1].startswith(_NETWORK) and all(weights)
        if not hidden or min(weights[0].dims) < _LEAST_WIDTH:
            nodes.append(node)
            continue
        for tensor in weights:
            values = numpy_helper.to_array(tensor)
            if not (largest := np.abs(values).max(initial=0.0)) <= np.finfo(np.float16).max:
                reason = f"reach {largest:.3g}, beyond the range of a half: use fp32"
                raise EngineError(f"weights '{tensor.name}' {reason}")
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
        output = node.output[0]
        source, half = f"{output}.in.fp16", f"{output}.fp16"
        nodes.append(helper.make_node("Cast", [node.input[0]], [source], to=TensorProto.FLOAT16))
        node.input[0], node.output[0] = source, half
        nodes += [node, helper.make_node("Cast", [half], [output], to=TensorProto.FLOAT)]
    if len(nodes) == len(model.graph.node):
        raise EngineError(
            f"the graph has no hidden layers whose weights are named '{_NETWORK}...': use fp32, or "
            "export the bundle again with this version"
        )
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.graph.value_info[:]  # they describe the layers before the change
    model.graph.node.extend(kept)
