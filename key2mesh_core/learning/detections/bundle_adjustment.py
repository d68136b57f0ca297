# SPDX-License-Identifier: Apache-2.0
"""Fits a body's poses and the cameras that saw it to the detections of all views together.

Bundle adjustment (Triggs et al. 1999) with SMPL as the structure: its bones fix the scale and
connect the keypoints of a moment. A robust loss (Geman and McClure) discounts swapped and false
keypoints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import matrix_to_rotation_6d, rotation_6d_to_matrix

_STEPS = 300
_STEP_SIZE = 0.02
"""Adam's initial step size, in metres and units of rotation; a quarter of it for the cameras'
rotations."""

_NOISE = 0.04
"""Distance [box sizes] beyond which a keypoint counts as wrong rather than imprecise."""

_PRIOR = 0.0025
"""Weight of the initial guess, which determines what no keypoint shows (the spine's twist, the
feet)."""

_STEADY, _STEADY_PLACE = 0.02, 0.2
"""Weights of changes from one moment to the next."""

_SHAPE, _LENS = 1e-3, 0.05
"""Weights of deviations of the shape from the mean, and of the lens from what is known of it."""

_NEAREST = 0.3
"""Smallest distance of a body part from its camera [m]; keeps projections finite."""


class Views(NamedTuple):
    """The views of C cameras at F moments: `points (C, F, K, 2)` on the image plane in units of the
    focal length, `weights (C, F, K)`, 0 where unseen, `side (C, F)` of the person's box."""

    points: Tensor
    weights: Tensor
    side: Tensor


class Scene(NamedTuple):
    """A person with shape `betas (10,)` in poses `rotations (F, 24, 3, 3)`, roots in the world's
    frame, the pelvis at `pelvis (F, 3)` m; `cameras (C, 3, 3)` and `translations (C, 3)` m map the
    world to each camera."""

    betas: Tensor
    rotations: Tensor
    pelvis: Tensor
    cameras: Tensor
    translations: Tensor


@torch.enable_grad()
def adjust(start: Scene, views: Views, moments: Tensor, body: BodyModel) -> tuple[Scene, Tensor]:
    """The scene that explains the views best, near an initial guess.

    Every camera's focal length and a radial lens term are also fitted, as corrections of the known
    values.

    Args:
        moments: (F,) numbers of the images; successive poses are similar.

    Returns:
        The scene, and (C, F) the median error of the seen keypoints [box sizes]; infinite where a
        camera saw nothing.
    """
    first = matrix_to_rotation_6d(start.rotations)
    pose, cameras = first.clone(), matrix_to_rotation_6d(start.cameras)
    betas, pelvis, translations = (
        part.clone() for part in (start.betas, start.pelvis, start.translations)
    )
    lens = torch.zeros(len(cameras), 2, device=pose.device)
    fast, slow = [pose, betas, pelvis, translations], [cameras, lens]
    for part in (*fast, *slow):
        part.requires_grad_(True)
    groups = [{"params": fast}, {"params": slow, "lr": _STEP_SIZE / 4}]
    optimiser = torch.optim.Adam(groups, lr=_STEP_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / _STEPS))
    )
    follows = (moments.diff() == 1).to(pose.dtype)
    weights = views.weights / views.weights.sum()

    def scene() -> Scene:
        turns = rotation_6d_to_matrix(cameras)
        return Scene(betas, rotation_6d_to_matrix(pose), pelvis, turns, translations)

    for _ in range(_STEPS):
        squares = _squared_distances(scene(), lens, views, body)
        moved = (pose.diff(dim=0).square().sum((1, 2)) * follows).mean()
        went = (pelvis.diff(dim=0).square().sum(1) * follows).mean()
        loss = (
            (squares / (squares + _NOISE**2) * weights).sum()
            + _PRIOR * (pose - first)[:, 1:].square().sum((1, 2)).mean()
            + _STEADY * moved
            + _STEADY_PLACE * went
            + _SHAPE * betas.square().mean()
            + _LENS * lens.square().sum()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        found = Scene(*(part.detach() for part in scene()))
        missed = _squared_distances(found, lens, views, body).sqrt()
        missed = torch.where(views.weights > 0, missed, torch.nan).nanmedian(2).values
        return found, missed.nan_to_num(nan=math.inf)


def _squared_distances(scene: Scene, lens: Tensor, views: Views, body: BodyModel) -> Tensor:
    """(C, F, K) distances between detections and the body's projected keypoints [box sizes]."""
    _, keypoints = body.keypoints(scene.betas.expand(len(scene.pelvis), -1), scene.rotations)
    world = keypoints + scene.pelvis[:, None]
    seen = torch.einsum("cij,fkj->cfki", scene.cameras, world) + scene.translations[:, None, None]
    plane = seen[..., :2] / seen[..., 2:].clamp(min=_NEAREST)
    focal, bend = lens[:, None, None, :1], lens[:, None, None, 1:]
    plane = plane * (1 + bend * plane.square().sum(-1, keepdim=True)) * focal.exp()
    missed = (plane - views.points) / views.side[..., None, None].clamp(min=1e-3)
    return missed.square().sum(-1)
