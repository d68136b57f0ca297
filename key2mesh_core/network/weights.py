# SPDX-License-Identifier: Apache-2.0
"""A bundle's network: `weights.safetensors`, and the `architecture` entry of its model.json.

The file holds the deployed network, with BatchNorm folded into the linear layers. For each Linear
it has `NAME.weight` (outputs, inputs) and `NAME.bias`, or, where the graph multiplies 8-bit blocks
(`model.block_linear`), `NAME.blocks` (inputs, outputs) int8 and `NAME.scales` in place of the
weight; for each LeakyReLU it has `NAME.slope`. Only training and export read it, not a robot.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from key2mesh_core.errors import BundleError, TrainingError
from key2mesh_core.model.block_linear import BLOCK, fits, from_blocks, rounded, to_blocks
from key2mesh_core.model.bundle import WEIGHTS, Bundle
from key2mesh_core.network.key2mesh import Key2Mesh, folded
from key2mesh_core.network.refined import RefinedKey2Mesh

#: Every network that a bundle can name. A new one needs a file in this folder and a row here.
NETWORKS: dict[str, type[Key2Mesh]] = {each.name: each for each in (Key2Mesh, RefinedKey2Mesh)}
_LARGEST_SIZE = 1 << 14


def build(architecture: Mapping[str, Any], dropout: float = 0.0) -> Key2Mesh:
    """A network with random weights, of the kind and sizes given by `Key2Mesh.architecture`.

    Raises:
        TrainingError: this version does not support the architecture or a size.
    """
    sizes = dict(architecture)
    name = sizes.pop("name", None)
    if not isinstance(name, str) or name not in NETWORKS:
        raise TrainingError(
            f"the architecture {name!r} is unknown; this version has {', '.join(NETWORKS)}: use "
            "the version of key2mesh that the model was trained with"
        )
    if not all(type(size) is int and 1 <= size <= _LARGEST_SIZE for size in sizes.values()):
        raise TrainingError(
            f"the sizes of a network must be whole numbers from 1 to {_LARGEST_SIZE}, got {sizes}"
        )
    try:
        return NETWORKS[name](dropout, **sizes)
    except TypeError as error:
        raise TrainingError(f"{name} cannot be built with the sizes {sizes}: {error}") from error


def save_weights(path: Path, network: Key2Mesh, blocks: bool) -> None:
    """Writes a folded network.

    Args:
        blocks: store large weights as blocks of 8-bit integers. Exact for a network that
            `round_weights` rounded.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.LeakyReLU):
            tensors[f"{name}.slope"] = np.array(module.negative_slope, np.float32)
        if not isinstance(module, nn.Linear):
            continue
        weight = module.weight.detach().cpu().numpy()
        if blocks and fits(weight.T.shape):
            integers, scales = to_blocks(np.ascontiguousarray(weight.T))
            tensors |= {f"{name}.blocks": integers, f"{name}.scales": scales}
        else:
            tensors[f"{name}.weight"] = np.ascontiguousarray(weight)
        tensors[f"{name}.bias"] = module.bias.detach().cpu().numpy()
    path.write_bytes(save(tensors))


def load_network(bundle: Bundle) -> Key2Mesh:
    """The network of a bundle, folded and in eval mode, with the same weights as its graph.

    Raises:
        TrainingError: the bundle has no weights file (it was exported before 0.1), or its
            architecture is unknown.
        BundleError: the file does not contain the architecture's tensors.
    """
    if bundle.architecture is None:
        raise TrainingError(
            f"{bundle.path} has no {WEIGHTS}: it was exported by an older version and can be "
            "run, not trained further. Export its checkpoint again (`key2mesh export`), or start "
            "from 'default'"
        )
    path = bundle.path / WEIGHTS
    network = folded(build(bundle.architecture))
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from error
    for name, module in network.named_modules():
        if isinstance(module, nn.LeakyReLU):
            module.negative_slope = float(_take(path, tensors, f"{name}.slope", ()))
        elif isinstance(module, nn.Linear):
            shape = tuple(module.weight.shape)
            if f"{name}.blocks" in tensors:
                integers = _take(path, tensors, f"{name}.blocks", shape[::-1])
                scales = _take(path, tensors, f"{name}.scales", (shape[1] // BLOCK, shape[0]))
                weight = np.ascontiguousarray(from_blocks(integers, scales).T)
            else:
                weight = _take(path, tensors, f"{name}.weight", shape)
            module.weight.data = torch.from_numpy(weight)
            module.bias.data = torch.from_numpy(_take(path, tensors, f"{name}.bias", shape[:1]))
    if tensors:
        raise BundleError(f"{path}: {sorted(tensors)[0]!r} belongs to no layer; export again")
    return network.eval()


def round_weights(network: nn.Module) -> None:
    """Rounds the large weights of a network, in place, to what the bundle's blocks can
    represent."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            weight = rounded(module.weight.detach().cpu().numpy().T)
            module.weight.data = torch.from_numpy(np.ascontiguousarray(weight.T))


def _take(
    path: Path, tensors: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Removes a tensor of a given shape from `tensors` and returns it."""
    if name not in tensors:
        raise BundleError(f"{path}: the tensor {name!r} is missing; export the bundle again")
    found = tensors.pop(name)
    if found.shape != shape:
        raise BundleError(f"{path}: {name!r} has shape {found.shape}, expected {shape}")
    return found
