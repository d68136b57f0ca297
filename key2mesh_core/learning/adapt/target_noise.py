# SPDX-License-Identifier: Apache-2.0
"""Takes the detector's own errors from the target and applies them to samples of the source domain.

The residual between a detection and its pseudo-label is mostly this detector's noise, for all
keypoints jointly and including missing ones. A sample gets the errors of a random person instead of
synthetic noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS
from key2mesh_core.learning.adapt.losses import reprojected
from key2mesh_core.learning.adapt.target_domain import TargetBatch
from key2mesh_core.network.crop import bounding_box, normalise
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.synthesis.batches import Batch


@dataclass(frozen=True, eq=False)
class TargetNoise:
    """Errors `offsets (N, K, 2)` in box sizes, zero where unseen, and `seen (N, K)`."""

    offsets: Tensor
    seen: Tensor


@torch.no_grad()
def target_noise(labels: Prediction, batch: TargetBatch, body: BodyModel) -> TargetNoise:
    """Offsets of detections from the projections of their pseudo-labels."""
    offsets = batch.inputs - reprojected(labels, batch, body)
    return TargetNoise(
        torch.where(batch.seen[..., None], offsets, torch.zeros_like(offsets)), batch.seen
    )


def with_noise(
    batch: Batch, noise: TargetNoise, share: float, scale: float, generator: torch.Generator
) -> Batch:
    """Source samples, a share of them with the errors of a random person times `scale`.

    A keypoint that either lacks is unseen, unless fewer than 6 keypoints would remain.
    """
    device, count = batch.seen.device, len(batch.seen)
    rows = torch.randint(len(noise.seen), (count,), generator=generator, device=device)
    taken = torch.rand(count, 1, generator=generator, device=device) < share
    points = (batch.keypoints - 0.5) * batch.side[:, None] + batch.centre[:, None]
    moved = points + scale * noise.offsets[rows] * batch.side[:, None]
    points = torch.where(taken[..., None], moved, points)
    seen = batch.seen & (noise.seen[rows] | ~taken)
    seen = torch.where(seen.sum(1, keepdim=True) < MINIMUM_KEYPOINTS, batch.seen, seen)
    centre, side = bounding_box(points, seen)
    inputs = normalise(points, seen, centre, side)
    return batch._replace(keypoints=inputs, seen=seen, centre=centre, side=side)
