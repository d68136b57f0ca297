# SPDX-License-Identifier: Apache-2.0
"""Contestant: fitting a body to keypoints by optimisation, in the manner of SMPLify (Bogo et al.,
"Keep it SMPL", ECCV 2016): a robust re-projection error, and priors that keep pose and shape human.

A short implementation of our own that is kinder to the clock than the original: keypoints need no
mesh (`BodyModel.keypoints`), all persons are fitted at once, and where the body stands is solved
for in closed form in every step instead of being searched. First the body's orientation is found
from its torso, then pose and shape follow. Priors are quadratic, and knees and elbows may not bend
backwards; a mixture of Gaussians or a network would need motion capture.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.names import OPTIMISATION
from benchmarks.people import Contestant, camera
from key2mesh_core.body.data import BodyData
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.placement import place_roughly
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE

TORSO_STEPS, STEPS = 20, 40
_TORSO = (1, 2, 5, 8, 11)
#: How far a robust error looks [share of the person's size]: beyond, a keypoint hardly counts.
_OUTLIER = 0.15
_POSE_PRIOR, _SHAPE_PRIOR, _BEND_PRIOR = 2e-4, 2e-4, 2e-3
#: Which way hinges may bend: joint, axis, sign of a natural angle.
_HINGES = ((4, 0, 1.0), (5, 0, 1.0), (18, 1, -1.0), (19, 1, 1.0))


def fit(
    body: BodyModel, keypoints: Tensor, intrinsics: Tensor, steps: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Betas (N, 10), rotations (N, 24, 3, 3), root in the camera's frame, and translation (N, 3).

    Args:
        body: whom to fit.
        keypoints: (N, 18, 3) px, px, confidence.
        intrinsics: (4,) fx, fy, cx, cy.
        steps: of Adam, for the torso and for everything.
    """
    count = len(keypoints)
    seen = keypoints[..., 2] >= SEEN_CONFIDENCE
    image = (keypoints[..., :2] - intrinsics[2:]) / intrinsics[:2]
    weights = torch.where(seen, keypoints[..., 2], torch.zeros_like(keypoints[..., 2]))
    size = _size(image, seen)
    pose = torch.zeros(count, 23, 3, device=keypoints.device, requires_grad=True)
    betas = torch.zeros(count, 10, device=keypoints.device, requires_grad=True)
    root = _facing_or_turned(keypoints, seen).requires_grad_()
    torso = torch.zeros_like(weights)
    torso[:, _TORSO] = weights[:, _TORSO]
    for parts, number, rate, points in (
        ((root,), steps[0], 0.15, torso),
        ((root, pose, betas), steps[1], 0.1, weights),
    ):
        optimiser = torch.optim.Adam(parts, lr=rate)
        for step in range(number):
            # The step shrinks to a tenth: it ends where it is going.
            optimiser.param_groups[0]["lr"] = rate * 0.1 ** (step / number)
            optimiser.zero_grad(set_to_none=True)
            error, _ = _misfit(body, root, pose, betas, image, points, size)
            (error + _priors(pose, betas)).sum().backward()
            optimiser.step()
    with torch.no_grad():
        _, translation = _misfit(body, root, pose, betas, image, weights, size)
        return betas.detach(), _rotations(root, pose), translation


def _misfit(
    body: BodyModel,
    root: Tensor,
    pose: Tensor,
    betas: Tensor,
    image: Tensor,
    weights: Tensor,
    size: Tensor,
) -> tuple[Tensor, Tensor]:
    """Robust re-projection error (N,) in units of the person's size, and the place (N, 3)."""
    _, points = body.keypoints(betas, _rotations(root, pose))
    translation = place_roughly(points, image, weights)
    placed = points + translation[:, None]
    missed = (placed[..., :2] / placed[..., 2:].clamp(min=0.1) - image) / size
    square = missed.square().sum(2)
    # Geman-McClure: outliers lose their pull.
    return (weights * square / (1 + square / _OUTLIER**2)).sum(1), translation


def _priors(pose: Tensor, betas: Tensor) -> Tensor:
    bend = sum(torch.exp(-4 * sign * pose[:, joint - 1, axis]) for joint, axis, sign in _HINGES)
    quadratic = _POSE_PRIOR * pose.square().sum((1, 2)) + _SHAPE_PRIOR * betas.square().sum(1)
    return quadratic + _BEND_PRIOR * bend


def _rotations(root: Tensor, pose: Tensor) -> Tensor:
    return axis_angle_to_matrix(torch.cat([root[:, None], pose], 1))


def _facing_or_turned(keypoints: Tensor, seen: Tensor) -> Tensor:
    """(N, 3) axis-angles: upright, facing the camera, or away from it where the left shoulder is
    seen to the left of the right one."""
    turned = (keypoints[:, 5, 0] < keypoints[:, 2, 0]) & seen[:, 5] & seen[:, 2]
    facing = torch.tensor([torch.pi, 0.0, 0.0], device=keypoints.device)
    away = torch.tensor([0.0, 0.0, torch.pi], device=keypoints.device)
    return torch.where(turned[:, None], away, facing)


def _size(image: Tensor, seen: Tensor) -> Tensor:
    """(N, 1, 1) longer side of the box around what is seen."""
    mask = seen[..., None]
    low = torch.where(mask, image, torch.full_like(image, torch.inf)).amin(1)
    high = torch.where(mask, image, torch.full_like(image, -torch.inf)).amax(1)
    return (high - low).amax(1)[:, None, None].clamp(min=1e-4)


def smplify(data: BodyData, detector_keypoints: bool, device: str = "cpu") -> Contestant:
    """The optimisation as a contestant on a device."""
    body = BodyModel(data, detector_keypoints).to(device)
    intrinsics = torch.from_numpy(camera().as_array()).to(device)

    def answer(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        betas, rotations, translation = fit(
            body, torch.from_numpy(keypoints).to(device), intrinsics, (TORSO_STEPS, STEPS)
        )
        with torch.inference_mode():
            found = (
                body.vertices(betas, rotations)
                if mesh
                else body.forward_kinematics(betas, rotations)[0]
            )
            return (found + translation[:, None]).cpu().numpy()

    # Without a mesh at the end it would be no faster: the steps need none.
    return Contestant(OPTIMISATION, answer, device, same_network=False, without_mesh=False)
