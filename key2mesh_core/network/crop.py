# SPDX-License-Identifier: Apache-2.0
"""The network's input: turns the view to the person and scales the keypoints into a unit box.

Training and the exported pose graph run this same torch code. Points are on the image plane in
units of the focal length ("rays": x / z, y / z); the caller converts pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Position of unseen keypoints in the unit box.
UNSEEN = 0.5
#: Channels of `network_inputs`.
CHANNELS = 5
#: Minus the logarithm of a common size of boxes, in units of the focal length.
_MIDDLE_SIZE = 1.5


def bounding_box(points: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (N, 2) and longest side (N, 1) of the seen points (N, K, 2); seen (N, K) bool."""
    mask = seen[..., None]
    low = torch.where(mask, points, 1e30).amin(1)
    high = torch.where(mask, points, -1e30).amax(1)
    anyone = mask.any(1)
    low, high = low * anyone, high * anyone
    return (low + high) / 2, (high - low).amax(1, keepdim=True)


def normalise(points: Tensor, seen: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """(p - centre) / side + 0.5, unseen points at 0.5, as in the authors' code: (N, K, 2)."""
    scaled = (points - centre[:, None]) / side.clamp(min=1e-6)[:, None] + 0.5
    return torch.where(seen[..., None], scaled, UNSEEN)


def network_inputs(points: Tensor, confidence: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """The input of networks for N persons: (N, K, 5).

    The channels are x and y in the unit box (`normalise`), 1 where the keypoint is seen, its
    confidence (at most 1), and the logarithm of the box's side in units of the focal length, which
    tells how near the person is; it is the same for all of a person's keypoints.

    Args:
        points: (N, K, 2). confidence: (N, K), 0 where unseen. centre, side: of `bounding_box`.
    """
    seen = confidence > 0
    size = torch.log(side.clamp(min=1e-3)) + _MIDDLE_SIZE
    rest = [seen.to(points.dtype), confidence.clamp(max=1), size.expand(confidence.shape)]
    return torch.cat([normalise(points, seen, centre, side), torch.stack(rest, 2)], 2)


def from_box(inputs: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """The points (N, K, 2) of `network_inputs` on the image plane again; unseen ones lie at the
    centre of the box."""
    return (inputs[..., :2] - UNSEEN) * side[:, None] + centre[:, None]


def view_rotation(centre: Tensor) -> Tensor:
    """(N, 3, 3): the smallest rotation that takes the optical axis onto the ray `centre` (N, 2).

    A person off the optical axis is seen at an angle; turning the view by this rotation undoes it
    (as observed in CLIFF, Li et al., ECCV 2022).
    """
    norm = torch.sqrt(1 + (centre * centre).sum(1, keepdim=True))
    across, along = (centre / norm)[..., None], (1 / norm)[..., None]
    outer = across @ across.mT / (1 + along)
    upper = torch.cat([torch.eye(2, device=centre.device, dtype=centre.dtype) - outer, across], 2)
    return torch.cat([upper, torch.cat([-across.mT, along], 2)], 1)


def centre_view(points: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The points as seen by a camera turned to the centre of their box.

    Returns (points (N, K, 2), rotation (N, 3, 3) from the turned camera to the real one).
    """
    rotation = view_rotation(bounding_box(points, seen)[0])
    rays = torch.nn.functional.pad(points, (0, 1), value=1.0) @ rotation
    # Real points are less than 85 degrees off the centre; the clamp only keeps absurd input finite.
    return rays[..., :2] / rays[..., 2:].clamp(min=0.08), rotation


class NetworkView(NamedTuple):
    """N persons as a network sees them: `inputs (N, K, 5)` of `network_inputs`, the `points
    (N, K, 2)` that they show, `centre (N, 2)` and `side (N, 1)` of their box, and `turn (N, 3, 3)`
    from this view to the camera's, None for the camera's own."""

    inputs: Tensor
    points: Tensor
    centre: Tensor
    side: Tensor
    turn: Tensor | None


def network_view(points: Tensor, confidence: Tensor, turned: bool) -> NetworkView:
    """Keypoints as a network sees them, in training and in the pose graph.

    Args:
        points: (N, K, 2). confidence: (N, K), 0 where unseen.
        turned: first turn each view to the person.
    """
    seen, turn = confidence > 0, None
    if turned:
        points, turn = centre_view(points, seen)
    centre, side = bounding_box(points, seen)
    return NetworkView(network_inputs(points, confidence, centre, side), points, centre, side, turn)
