# SPDX-License-Identifier: Apache-2.0
"""A network's predictions for detections, and for their mirror images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from key2mesh_core.geometry.rotations import matrix_to_rotation_6d
from key2mesh_core.keypoints.table import MIRROR
from key2mesh_core.learning.detections.target_domain import TargetBatch
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.synthesis.poses import mirrored

_CHUNK = 1024


@torch.no_grad()
def predict_with_flip(network: nn.Module, batch: TargetBatch) -> tuple[Tensor, Tensor]:
    """The network's betas (N, 10), and the mean (N, 24, 6) of its poses and those for the mirror
    images, in 6D; the vectors are shorter where the two disagree."""
    found = predict(network, batch.inputs)
    flipped = predict_flipped(network, batch.inputs, batch.seen)
    both = (matrix_to_rotation_6d(found.rotations) + matrix_to_rotation_6d(flipped)) / 2
    return found.betas, both


@torch.no_grad()
def predict(network: nn.Module, inputs: Tensor) -> Prediction:
    """The network's predictions for any number of inputs (N, K, C), in chunks."""
    parts = [network(part) for part in inputs.split(_CHUNK)]
    return Prediction(*(torch.cat(each) for each in zip(*parts, strict=True)))


def predict_flipped(network: nn.Module, inputs: Tensor, seen: Tensor) -> Tensor:
    """Rotations (N, 24, 3, 3) predicted for the mirror image, mirrored back."""
    across = torch.cat([1 - inputs[..., :1], inputs[..., 1:]], -1)
    across = torch.where(seen[..., None], across, inputs)[:, list(MIRROR)]
    return mirrored(predict(network, across).rotations)
