# SPDX-License-Identifier: Apache-2.0
"""Synthesises training batches on the fly, on the device of the motion capture."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import with_turned_root
from key2mesh_core.network.crop import network_view
from key2mesh_core.synthesis.config import SynthesisConfig
from key2mesh_core.synthesis.detector import detect
from key2mesh_core.synthesis.motions import MotionBank
from key2mesh_core.synthesis.poses import turn_towards_cameras, vary_poses


class Batch(NamedTuple):
    """Network input and ground truth of N samples, in the frame of the network's view.

    `inputs (N, K, 5)` of `network_inputs`; `seen (N, K)`; `betas (N, 10)`;
    `rotations (N, 24, 3, 3)`; `joints (N, 24, 3)` and `keypoints_3d (N, K, 3)` root-relative [m];
    `translation (N, 3)` of the pelvis [m]; `centre (N, 2)`, `side (N, 1)` of the input's box, in
    units of the focal length.
    """

    inputs: Tensor
    seen: Tensor
    betas: Tensor
    rotations: Tensor
    joints: Tensor
    keypoints_3d: Tensor
    translation: Tensor
    centre: Tensor
    side: Tensor


@torch.no_grad()
def synthesise(
    bank: MotionBank,
    body: BodyModel,
    config: SynthesisConfig,
    count: int,
    generator: torch.Generator,
    frames: Tensor | None = None,
) -> Batch:
    """Samples poses, shapes and cameras, and simulates a detector's view of them. `frames (count,)`
    are frames of the bank to use; by default, they are random."""
    rotations, betas = bank.draw(count, generator) if frames is None else bank.take(frames)
    rotations = vary_poses(rotations, config, generator)
    rotations = turn_towards_cameras(rotations, config, generator)
    random = config.beta_deviation * torch.randn(
        betas.shape, generator=generator, device=betas.device
    )
    betas = torch.where((betas == 0).all(1, keepdim=True), random, betas)
    joints, keypoints = body.keypoints(betas, rotations)
    near, far = config.distance  # on the optical axis, uniform in 1 / distance
    share = torch.rand(count, 1, generator=generator, device=joints.device)
    translation = torch.nn.functional.pad(1 / (1 / far + share * (1 / near - 1 / far)), (2, 0))
    # Parts behind the camera's plane have no image: keep everyone in front of it.
    nearest = (keypoints[..., 2].amin(1) + translation[:, 2] - 0.3).clamp(max=0)
    translation[:, 2] -= nearest
    placed = keypoints + translation[:, None]
    points, confidence = detect(placed[..., :2] / placed[..., 2:], placed, config, generator)
    return seen_by_network(
        points, confidence, betas, rotations, translation, body, config.centre_view
    )


@torch.no_grad()
def seen_by_network(
    points: Tensor,
    confidence: Tensor,
    betas: Tensor,
    rotations: Tensor,
    translation: Tensor,
    body: BodyModel,
    turned: bool,
) -> Batch:
    """Detections and the bodies behind them, as the network sees them.

    Args:
        points: (N, K, 2) on the image plane of the real camera in units of its focal length.
        confidence: (N, K), 0 where unseen.
        betas, rotations, translation: (N, 10), (N, 24, 3, 3) and (N, 3) in that camera's frame.
        turned: first turn each view to the person.
    """
    joints, keypoints = body.keypoints(betas, rotations)
    view = network_view(points, confidence, turned)
    if view.turn is not None:
        # Row vectors times the rotation: from the real camera's frame to the turned one.
        rotations = with_turned_root(view.turn.mT, rotations)
        joints, keypoints = joints @ view.turn, keypoints @ view.turn
        translation = (translation[:, None] @ view.turn)[:, 0]
    return Batch(
        view.inputs,
        confidence > 0,
        betas,
        rotations,
        joints,
        keypoints,
        translation,
        view.centre,
        view.side,
    )
