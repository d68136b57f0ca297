# SPDX-License-Identifier: Apache-2.0
"""The network that adaptation starts from, read back out of a model bundle or a checkpoint.

A bundle keeps no BatchNorm: its statistics are absorbed in the linear layers. So adaptation works
on such folded networks, wherever they come from. That also decides what BatchNorm does while a
network adapts: nothing. Its statistics stay those of the motion capture, and what the network says
of a person does not depend on who else is in the batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import nn

from key2mesh_core.body.data import BodyData
from key2mesh_core.errors import EngineError, TrainingError
from key2mesh_core.learning.export import folded, load_network
from key2mesh_core.model.block_linear import with_float_weights
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.network.key2mesh import Key2Mesh


@dataclass(frozen=True, eq=False)
class Source:
    """Where adaptation starts.

    Attributes:
        name: the model's.
        network: in eval mode, BatchNorm absorbed.
        centre_view: whether the network expects the view turned to the person's middle.
        detector_keypoints: whether it was trained on neck and hips as detectors see them.
        origin: what it was read from, with a digest, to tell two starts apart.
        card: facts for the model card of what is made of it.
    """

    name: str
    network: Key2Mesh
    centre_view: bool
    detector_keypoints: bool
    origin: str
    card: dict[str, object]


def load_source(init: str, body: BodyData) -> Source:
    """Reads `default`, a bundle's folder or a checkpoint of `key2mesh pretrain`.

    Raises:
        TrainingError: there is no such thing, it was made for another body, or its graph is not
            that of a Key2Mesh network.
        BundleError: the bundle is damaged.
    """
    if Path(init).is_file():
        network, state = load_network(Path(init), body)
        return Source(
            "key2mesh",
            folded(network),
            state["centre_view"],
            state["detector_keypoints"],
            f"{Path(init).name}, {_digest(Path(init))}",
            {"steps": state["step"]},
        )
    bundle = load_bundle(init)
    if bundle.body_model != body.identifier:
        raise TrainingError(
            f"{init} speaks of the body {bundle.body_model}, not of {body.identifier}: give the "
            "body file that it was made with (--body)"
        )
    card = dict(bundle.card)
    return Source(
        bundle.name,
        network_of_graph(bundle.pose_path),
        bool(card.get("centre_view", True)),
        bool(card.get("detector_keypoints", True)),
        f"{bundle.name}, {_digest(bundle.pose_path)}",
        card,
    )


def network_of_graph(path: Path) -> Key2Mesh:
    """The network inside a pose graph: the same weights, so the same answers.

    Raises TrainingError when the file is no ONNX graph or holds other layers.
    """
    try:
        graph = with_float_weights(onnx.load(path)).graph
    except (DecodeError, EngineError, OSError, ValueError) as error:
        raise TrainingError(f"{path}: no readable weights ({error}); export it again") from error
    stored = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    network = folded(Key2Mesh(0.0))
    wanted = _layers(network)
    found = [node for node in graph.node if _is_of_network(node, stored)]
    shapes = [_weight(node, stored).shape for node in found]
    if shapes != [tuple(linear.weight.shape) for linear, _ in wanted]:
        raise TrainingError(
            f"{path}: layers of the shapes {shapes}, where a Key2Mesh network has "
            f"{[tuple(linear.weight.shape) for linear, _ in wanted]}; only such a network can be "
            "adapted"
        )
    for node, (linear, activation) in zip(found, wanted, strict=True):
        linear.weight.data = torch.from_numpy(_weight(node, stored).copy())
        linear.bias.data = torch.from_numpy(numpy_helper.to_array(stored[node.input[2]]).copy())
        if activation is not None:
            activation.negative_slope = _slope(path, readers.get(node.output[0], []))
    return network.eval()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _layers(network: Key2Mesh) -> list[tuple[nn.Linear, nn.LeakyReLU | None]]:
    """Linear layers from input to output, each with the activation behind it."""
    modules = [m for m in network.modules() if isinstance(m, nn.Linear | nn.LeakyReLU)]
    layers = []
    for place, module in enumerate(modules):
        if isinstance(module, nn.Linear):
            following = modules[place + 1] if place + 1 < len(modules) else None
            layers.append((module, following if isinstance(following, nn.LeakyReLU) else None))
    return layers


def _is_of_network(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> bool:
    """Products with weights of the network's widths; the body's are of 10 shape coefficients."""
    if node.op_type != "Gemm" or len(node.input) != 3:
        return False
    if not all(name in stored for name in node.input[1:]):
        return False
    return 1024 in _weight(node, stored).shape


def _weight(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> np.ndarray:
    """(outputs, inputs), as torch keeps it."""
    weight = numpy_helper.to_array(stored[node.input[1]]).astype(np.float32)
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return weight if transposed else np.ascontiguousarray(weight.T)


def _slope(path: Path, readers: list[onnx.NodeProto]) -> float:
    activations = [node for node in readers if node.op_type == "LeakyRelu"]
    if len(activations) != 1:
        raise TrainingError(f"{path}: a layer without its activation; only a Key2Mesh network fits")
    return next((each.f for each in activations[0].attribute if each.name == "alpha"), 0.01)
