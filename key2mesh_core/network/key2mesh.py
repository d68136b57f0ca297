# SPDX-License-Identifier: Apache-2.0
"""The Key2Mesh network and its domain critic, as published (paper, Sec. 3.2 and 3.4)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from key2mesh_core.geometry.rotations import rotation_6d_to_matrix

KEYPOINTS, FEATURES, BETAS, JOINTS = 18, 1024, 10, 24


class Prediction(NamedTuple):
    """What the head says: `betas (N, 10)`, `rotations (N, 24, 3, 3)` parent-relative, the root in
    the frame of the view that the network saw."""

    betas: Tensor
    rotations: Tensor


def _layer(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.PReLU(), nn.Dropout(dropout)
    )


class ResidualBlock(nn.Module):
    """Two layers of (Linear, BatchNorm, PReLU, Dropout); the input is added after the last."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _layer(FEATURES, FEATURES, dropout), _layer(FEATURES, FEATURES, dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


class FeatureExtractor(nn.Module):
    """Normalised keypoints (N, 18, 2) -> features (N, 1024)."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _layer(2 * KEYPOINTS, FEATURES, dropout), ResidualBlock(dropout), ResidualBlock(dropout)
        )

    def forward(self, keypoints: Tensor) -> Tensor:
        return self.layers(keypoints.flatten(1))


class SmplHead(nn.Module):
    """Features (N, 1024) -> SMPL parameters: 10 betas, then 24 rotations in 6D."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.block = ResidualBlock(dropout)
        self.output = nn.Linear(FEATURES, BETAS + 6 * JOINTS)

    def forward(self, features: Tensor) -> Prediction:
        # In float32 even under autocast: half-precision rotations are not orthonormal enough.
        output = self.output(self.block(features)).float()
        rotations = rotation_6d_to_matrix(output[:, BETAS:].reshape(-1, JOINTS, 6))
        return Prediction(output[:, :BETAS], rotations)


class Key2Mesh(nn.Module):
    """Normalised keypoints (N, 18, 2) -> SMPL shape and pose."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.extractor = FeatureExtractor(dropout)
        self.head = SmplHead(dropout)

    def forward(self, keypoints: Tensor) -> Prediction:
        return self.head(self.extractor(keypoints))


def domain_critic(dropout: float = 0.2) -> nn.Sequential:
    """Features (N, 1024) -> score (N, 1); no normalisation, no skip (paper, Sec. 3.4)."""

    def layer() -> list[nn.Module]:
        return [nn.Linear(FEATURES, FEATURES), nn.PReLU(), nn.Dropout(dropout)]

    return nn.Sequential(*layer(), *layer(), nn.Linear(FEATURES, 1))
