# SPDX-License-Identifier: Apache-2.0
"""A source domain without motion capture: pseudo-labels, seen from other viewpoints.

The model's prediction for a person is a plausible pose, whether it is right or not. Seen from
another viewpoint, that pose gives keypoints with a known ground truth. The target's own movements
thus replace motion capture: the poses that this robot meets, as often as it meets them. Lifting,
turning and lifting again is known from geometric self-supervision (Chen et al., CVPR 2019); here
the turned poses go through the synthesis of pre-training, including its noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from key2mesh_core.errors import TrainingError
from key2mesh_core.geometry.rotations import rotation_6d_to_matrix
from key2mesh_core.learning.detections.predictions import mean_by, predict_with_flip
from key2mesh_core.learning.detections.target_domain import TargetDomain
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.network.refinement import FittedNetwork


class PseudoLabelBank(nn.Module):
    """Poses to sample from, like a `MotionBank` of motion capture.

    Buffers: `rotations (F, 24, 3, 3)` relative to the parent, roots in the camera's frame (y down);
    `betas (F, 10)`.
    """

    def __init__(self, rotations: Tensor, betas: Tensor) -> None:
        super().__init__()
        if not len(rotations):
            raise TrainingError("there are no pseudo-labels to learn from: give a larger target")
        self.register_buffer("rotations", rotations, persistent=False)
        self.register_buffer("betas", betas, persistent=False)

    def __len__(self) -> int:
        return len(self.rotations)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rotations (N, 24, 3, 3) and betas (N, 10) of random rows."""
        rows = torch.randint(len(self), (count,), generator=generator, device=self.rotations.device)
        return self.rotations[rows], self.betas[rows]


@torch.no_grad()
def pseudo_labels(network: FittedNetwork, domain: TargetDomain, deviation: float) -> Prediction:
    """The network's predictions for a target, averaged with those for its mirror image and over a
    person's neighbouring frames (standard deviation [frames]), which cancels errors that change
    from frame to frame."""
    betas, poses = predict_with_flip(network, domain.batch)
    return Prediction(
        mean_by(betas, domain.sequence),  # a person's bones do not change
        rotation_6d_to_matrix(smoothed(poses, domain.sequence, domain.frame, deviation)),
    )


def smoothed(values: Tensor, sequence: Tensor, frame: Tensor, deviation: float) -> Tensor:
    """(N, ...) Gaussian average over neighbouring frames within each sequence."""
    if not deviation:
        return values
    sequence, frame = sequence.to(values.device), frame.to(values.device)
    count, reach = len(values), max(1, round(3 * deviation))
    rows = torch.arange(count, device=values.device)
    total, mass = torch.zeros_like(values), torch.zeros(count, device=values.device)
    shape = (-1, *[1] * (values.dim() - 1))
    for offset in range(-reach, reach + 1):
        other = (rows + offset).clamp(0, count - 1)
        gap = (frame[other] - frame) / deviation
        near = (sequence[other] == sequence) & (other == rows + offset)
        weight = torch.exp(-0.5 * gap.float() ** 2) * near
        total += values[other] * weight.reshape(shape)
        mass += weight
    return total / mass.reshape(shape)
