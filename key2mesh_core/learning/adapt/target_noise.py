# SPDX-License-Identifier: Apache-2.0
"""The detector's own mistakes, taken from the target and repeated on samples of the source domain.

How far a detection lies from the model's smoothed answer is mostly noise: of all keypoints
together, with the missing ones, in the proportions in which this detector makes it. A random
person's mistakes are put on a sample, instead of noise that somebody made up.
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
    """Mistakes `offsets (N, 18, 2)` in sides of the box, zero where unseen, and `seen (N, 18)`."""

    offsets: Tensor
    seen: Tensor


@torch.no_grad()
def target_noise(answers: Prediction, batch: TargetBatch, body: BodyModel) -> TargetNoise:
    """How far detections lie from the projected answers to them."""
    offsets = batch.inputs - reprojected(answers, batch, body)
    return TargetNoise(
        torch.where(batch.seen[..., None], offsets, torch.zeros_like(offsets)), batch.seen
    )


def with_noise(
    batch: Batch, noise: TargetNoise, share: float, scale: float, generator: torch.Generator
) -> Batch:
    """Source samples, the share `share` of them seen with somebody's mistakes times `scale`.

    What the sample or the somebody lacks is unseen, unless fewer than 6 keypoints would be left.
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
