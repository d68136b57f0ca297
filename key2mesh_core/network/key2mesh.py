# SPDX-License-Identifier: Apache-2.0
"""The Key2Mesh network and its domain critic, as in the authors' code
(github.com/swampxx/Key2Mesh)."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from key2mesh_core.geometry.rotations import rotation_6d_to_matrix
from key2mesh_core.keypoints.table import KEYPOINTS

FEATURES, BETAS, JOINTS = 1024, 10, 24


class Prediction(NamedTuple):
    """The head's output: `betas (N, 10)`, `rotations (N, 24, 3, 3)` relative to the parent, the
    root in the frame of the network's view."""

    betas: Tensor
    rotations: Tensor


def _layer(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.PReLU(), nn.Dropout(dropout)
    )


class ResidualBlock(nn.Module):
    """Two layers of (Linear, BatchNorm, PReLU, Dropout); the input is added after the last."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _layer(features, features, dropout), _layer(features, features, dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


class FeatureExtractor(nn.Module):
    """Inputs (N, K, C or more), of which it takes the first C channels, -> features (N, D)."""

    def __init__(
        self,
        dropout: float = 0.2,
        keypoints: int = len(KEYPOINTS),
        features: int = FEATURES,
        channels: int = 2,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(
            _layer(channels * keypoints, features, dropout),
            ResidualBlock(features, dropout),
            ResidualBlock(features, dropout),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs[..., : self.channels].flatten(1))


class SmplHead(nn.Module):
    """Features (N, D) -> SMPL parameters: 10 betas, then 24 rotations in 6D."""

    def __init__(self, dropout: float = 0.2, features: int = FEATURES) -> None:
        super().__init__()
        self.block = ResidualBlock(features, dropout)
        self.output = nn.Linear(features, BETAS + 6 * JOINTS)

    def forward(self, features: Tensor) -> Prediction:
        return self.prediction(self.block(features))

    def prediction(self, features: Tensor) -> Prediction:
        """Prediction of the last layer from the block's features."""
        # float32 even under autocast: half-precision rotations are not orthonormal enough.
        output = self.output(features).float()
        rotations = rotation_6d_to_matrix(output[:, BETAS:].reshape(-1, JOINTS, 6))
        return Prediction(output[:, :BETAS], rotations)


class Key2Mesh(nn.Module):
    """Normalised keypoints (N, K, 2) -> SMPL shape and pose. It ignores further channels.

    Args:
        dropout: dropout probability of every layer.
        keypoints: number of input keypoints, the first rows of the table of keypoints.
        features: D, the width of every hidden layer.
    """

    name = "key2mesh"
    channels = 2

    def __init__(
        self, dropout: float = 0.2, keypoints: int = len(KEYPOINTS), features: int = FEATURES
    ) -> None:
        super().__init__()
        self.sizes = {"keypoints": keypoints, "features": features}
        self.extractor = FeatureExtractor(dropout, keypoints, features, self.channels)
        self.head = SmplHead(dropout, features)

    def forward(self, inputs: Tensor) -> Prediction:
        return self.head(self.extractor(inputs))

    def architecture(self) -> dict[str, Any]:
        """What `network.weights.build` needs to recreate a network of this kind and size."""
        return {"name": self.name, **self.sizes}


def folded(network: Key2Mesh) -> Key2Mesh:
    """A copy for inference: BatchNorm folded into the Linear before it, without dropout."""
    network = copy.deepcopy(network).eval()
    for layer in _layers(network):
        if isinstance(layer[-1], nn.Dropout):
            linear, *norm, slope, _ = layer
            layer[0] = fuse_linear_bn_eval(linear, *norm) if norm else linear
            # A PReLU with one slope; engines fuse this form with the product before it.
            layer[1] = nn.LeakyReLU(slope.weight.item())
            del layer[2:]
    return network


def unfolded(network: Key2Mesh, dropout: float = 0.0) -> Key2Mesh:
    """A copy of a folded network to train further: its slopes learn again, and there is dropout.
    BatchNorm does not come back."""
    network = copy.deepcopy(network).requires_grad_(True)
    for layer in _layers(network):
        if isinstance(layer[-1], nn.LeakyReLU):
            layer[1] = nn.PReLU(init=layer[1].negative_slope)
            layer.append(nn.Dropout(dropout))
    return network


def _layers(network: nn.Module) -> list[nn.Sequential]:
    return [module for module in network.modules() if isinstance(module, nn.Sequential)]


def domain_critic(dropout: float = 0.2, features: int = FEATURES) -> nn.Sequential:
    """Features (N, D) -> score (N, 1); no normalisation, no skip."""

    def layer() -> list[nn.Module]:
        return [nn.Linear(features, features), nn.PReLU(), nn.Dropout(dropout)]

    return nn.Sequential(*layer(), *layer(), nn.Linear(features, 1))
