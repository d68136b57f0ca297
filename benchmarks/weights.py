# SPDX-License-Identifier: Apache-2.0
"""The published network with the weights of a bundle, so that all contestants have the same."""

from __future__ import annotations

import torch
from torch import nn

from key2mesh_core.model.bundle import Bundle
from key2mesh_core.network.key2mesh import Key2Mesh
from key2mesh_core.network.weights import load_network


def bundled_network(bundle: Bundle) -> Key2Mesh:
    """The network as published, BatchNorm, PReLU and dropout at their places, in eval mode.

    A bundle holds each Linear with its BatchNorm folded in; here that BatchNorm changes
    nothing, but costs what it costs.

    Raises:
        TrainingError: the bundle has no weights.
    """
    stored = list(load_network(bundle).modules())
    layers = iter([each for each in stored if isinstance(each, nn.Linear)])
    slopes = iter([each.negative_slope for each in stored if isinstance(each, nn.LeakyReLU)])
    network = Key2Mesh().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                layer = next(layers)
                module.weight.copy_(layer.weight)
                module.bias.copy_(layer.bias)
            elif isinstance(module, nn.BatchNorm1d):
                module.weight.fill_((1.0 + module.eps) ** 0.5)
            elif isinstance(module, nn.PReLU):
                module.weight.fill_(next(slopes))
    return network
