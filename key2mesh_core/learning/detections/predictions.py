# SPDX-License-Identifier: Apache-2.0
"""A network's answers for detections and for their mirror images, and means over them."""

from __future__ import annotations

import torch
from torch import Tensor

from key2mesh_core.geometry.rotations import matrix_to_rotation_6d
from key2mesh_core.keypoints.table import MIRROR
from key2mesh_core.learning.detections.target_domain import TargetBatch
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.synthesis.batches import Batch
from key2mesh_core.synthesis.poses import mirrored

_CHUNK = 1024


@torch.no_grad()
def predict_with_flip(network: FittedNetwork, batch: TargetBatch) -> tuple[Tensor, Tensor]:
    """The answers' betas (N, 10), and the mean (N, 24, 6) of their poses and those for the mirror
    images, in 6D; the vectors are shorter where the two disagree."""
    found = predict(network, batch)
    flipped = predict_flipped(network, batch)
    both = (matrix_to_rotation_6d(found.rotations) + matrix_to_rotation_6d(flipped)) / 2
    return found.betas, both


@torch.no_grad()
def predict(network: FittedNetwork, batch: TargetBatch | Batch) -> Prediction:
    """The network's answers for any number of people, in chunks."""
    columns = [part.split(_CHUNK) for part in (batch.inputs, batch.centre, batch.side)]
    parts = [network(*each) for each in zip(*columns, strict=True)]
    return Prediction(*(torch.cat(each) for each in zip(*parts, strict=True)))


def predict_flipped(network: FittedNetwork, batch: TargetBatch) -> Tensor:
    """Rotations (N, 24, 3, 3) found for the mirror image, mirrored back."""
    inputs, seen = batch.inputs, batch.seen[..., None]
    across = torch.cat([1 - inputs[..., :1], inputs[..., 1:]], -1)
    across = torch.where(seen, across, inputs)[:, list(MIRROR)]
    centre = batch.centre * batch.centre.new_tensor([-1, 1])
    return mirrored(predict(network, batch._replace(inputs=across, centre=centre)).rotations)


def mean_by(values: Tensor, groups: Tensor) -> Tensor:
    """(N, D): replaces every row by the mean of the rows with the same number in `groups (N,)`."""
    _, place, counts = groups.to(values.device).unique(return_inverse=True, return_counts=True)
    total = values.new_zeros(len(counts), values.shape[1]).index_add_(0, place, values)
    return (total / counts[:, None])[place]
