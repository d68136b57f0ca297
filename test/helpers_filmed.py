# SPDX-License-Identifier: Apache-2.0
"""Somebody whose poses are known, filmed by several cameras."""

import math

import numpy as np
import torch
from torch import Tensor

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.recordings.targets import TargetKeypoints

FRAMES = 60
FOCAL = 1100.0  # px; 60 degrees, which are assumed, would have 1108
UPRIGHT = torch.diag(torch.tensor([1.0, -1, -1]))  # y up to a camera's y down


def moving_poses(seed: int = 0) -> Tensor:
    """(F, 24, 3, 3) of somebody who turns about, bends and swings arms and legs."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 2 * np.pi, (24, 3)), rng.uniform(0.5, 1.5, (24, 3))
    time = np.linspace(0, 4, FRAMES)[:, None, None]
    reach = np.full((24, 3), 0.15)
    reach[[1, 2, 4, 5, 16, 17, 18, 19]] = 0.5
    angles = reach * np.sin(speed * time + phase)
    angles[:, 4:6, 0] = np.abs(angles[:, 4:6, 0])  # knees bend one way
    angles[:, 0] = 0
    angles[:, 0, 1] = 0.4 * time[:, 0, 0]
    return torch.as_tensor(axis_angle_to_matrix(angles.astype(np.float32))).float()


def cameras_around(count: int) -> list[tuple[Tensor, Tensor]]:
    """World (y up) to camera: rotation and translation of cameras 4 m away, all around."""
    found = []
    for number in range(count):
        about = torch.as_tensor(
            axis_angle_to_matrix(np.float32([0, 0.3 + 2 * math.pi * number / max(3, count), 0]))
        ).float()
        tilt = torch.as_tensor(axis_angle_to_matrix(np.float32([0.1 * number, 0, 0.05]))).float()
        found.append((UPRIGHT @ tilt @ about, torch.tensor([0.1 * number, 0.0, 4.0])))
    return found


def filmed(
    body: BodyModel, poses: Tensor, cameras: int, noise: float = 2.0, late: dict | None = None
) -> tuple[TargetKeypoints, list[tuple[Tensor, Tensor]]]:
    """What cameras see of one person; some are `late` by a number of images."""
    rng = np.random.default_rng(1)
    around = cameras_around(cameras)
    rows = []
    for number, (rotation, translation) in enumerate(around):
        shown = poses.roll((late or {}).get(number, 0), 0).clone()
        shown[:, 0] = rotation @ shown[:, 0]
        with torch.no_grad():
            _, points = body.keypoints(torch.zeros(FRAMES, 10), shown)
        points = (points + translation).numpy()
        pixels = points[..., :2] / points[..., 2:] * FOCAL + [640, 360]
        pixels += rng.normal(0, noise, pixels.shape)
        rows.append(np.concatenate([pixels, np.full((FRAMES, 18, 1), 0.9)], 2).astype(np.float32))
    count = cameras * FRAMES
    camera = np.repeat(np.arange(cameras, dtype=np.int32), FRAMES)
    targets = TargetKeypoints(
        keypoints=np.concatenate(rows),
        image_size=np.tile(np.float32([1280, 720]), (count, 1)),
        intrinsics=np.tile(np.float32([1108.5, 1108.5, 640, 360]), (count, 1)),
        metric=np.zeros(count, bool),
        source="made up",
        frame=np.tile(np.arange(FRAMES, dtype=np.int64), cameras),
        sequence=camera,
        camera=camera,
        person=np.zeros(count, np.int32),
        left_out={},
    )
    return targets, around
