# SPDX-License-Identifier: Apache-2.0
"""The network of the default model: the published one, with confidences as further inputs and its
own certainty as a further output, by which its predictions are fitted to the keypoints
(`network.refinement`)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from key2mesh_core.body.linearised import MOVING
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.network.crop import CHANNELS
from key2mesh_core.network.key2mesh import BETAS, FEATURES, Key2Mesh, Prediction, SmplHead

_TURNS = 3 * len(MOVING)
#: Logarithms of the precisions of rotations, betas and keypoints: their value for an output of 0,
#: and how far an output of 1 moves them. Outputs are clamped to +-3.
_LOGARITHMS = ((3.8, 1.5), (1.0, 1.0), (8.5, 1.2))
_LARGEST_OUTPUT = 3.0


class Certainty(NamedTuple):
    """Precisions (one over variance): `rotations (N, 3 J)` [1/rad^2] of the `MOVING` joints about
    their parents' axes, `betas (N, 10)`, `keypoints (N, K)` [1/side^2 of the box]."""

    rotations: Tensor
    betas: Tensor
    keypoints: Tensor


class CertainHead(SmplHead):
    """`SmplHead` with a second output."""

    def __init__(self, dropout: float, keypoints: int, features: int) -> None:
        super().__init__(dropout, features)
        self.sizes = [_TURNS, BETAS, keypoints]
        self.certainty = nn.Linear(features, sum(self.sizes))

    def with_certainty(self, features: Tensor) -> tuple[Prediction, Certainty]:
        features = self.block(features)
        outputs = self.certainty(features).float().clamp(-_LARGEST_OUTPUT, _LARGEST_OUTPUT)
        parts = zip(outputs.split(self.sizes, 1), _LOGARITHMS, strict=True)
        precisions = [torch.exp(middle + reach * part) for part, (middle, reach) in parts]
        return self.prediction(features), Certainty(*precisions)


class RefinedKey2Mesh(Key2Mesh):
    """Inputs (N, K, 5), see `network.crop.network_inputs`, -> SMPL shape and pose.

    Args: as of `Key2Mesh`.
    """

    name = "key2mesh-refined"
    channels = CHANNELS

    def __init__(
        self, dropout: float = 0.0, keypoints: int = len(KEYPOINTS), features: int = FEATURES
    ) -> None:
        super().__init__(dropout, keypoints, features)
        self.head = CertainHead(dropout, keypoints, features)

    def with_certainty(self, inputs: Tensor) -> tuple[Prediction, Certainty]:
        """The prediction and how far to trust it and the keypoints."""
        return self.head.with_certainty(self.extractor(inputs))
