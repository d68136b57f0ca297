# SPDX-License-Identifier: Apache-2.0
"""What the graphs compute of cameras in torch is what `camera` computes in numpy."""

from __future__ import annotations

import numpy as np
import torch

from key2mesh_core.camera import pinhole as camera
from key2mesh_core.keypoints.arrays import bounding_boxes
from key2mesh_core.network import crop, graphs

CAMERA = camera.Intrinsics(600.0, 620.0, 310.0, 250.0)


def _rays(pixels: np.ndarray) -> torch.Tensor:
    rays = camera.pixel_rays(pixels, CAMERA)
    return torch.as_tensor(rays[..., :2] / rays[..., 2:])


def test_the_turn_to_a_pixel_is_the_same() -> None:
    pixels = np.random.default_rng(0).uniform(-2000, 2000, (50, 2))
    found = crop.view_rotation(_rays(pixels)).numpy()
    np.testing.assert_allclose(found, camera.view_rotation(pixels, CAMERA), atol=1e-12)


def test_a_body_is_placed_at_the_same_spot() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(0, 0.5, (20, 18, 3))
    keypoints = np.concatenate(
        [rng.uniform(0, 640, (20, 18, 2)), rng.uniform(0, 1, (20, 18, 1))], axis=-1
    )
    keypoints[0, :, 2] = 0.0  # nobody seen
    keypoints[1, :, :2] = 100.0  # all on one pixel
    weights = np.where(keypoints[..., 2] >= 0.1, keypoints[..., 2], 0.0)
    found = graphs.fit_translation(
        torch.as_tensor(points), _rays(keypoints[..., :2]), torch.as_tensor(weights)
    )
    expected = camera.fit_translation(points, keypoints, CAMERA)
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-5)
    np.testing.assert_allclose(found[0, 2], expected[0, 2])


def test_the_box_around_the_seen_is_the_same() -> None:
    rng = np.random.default_rng(2)
    keypoints = rng.uniform(0, 640, (20, 18, 3)).astype(np.float32)
    keypoints[..., 2] = rng.uniform(0, 0.3, (20, 18))
    centre, side = crop.bounding_box(
        torch.as_tensor(keypoints[..., :2]), torch.as_tensor(keypoints[..., 2] >= 0.1)
    )
    boxes = bounding_boxes(keypoints)
    np.testing.assert_allclose(centre, (boxes[:, :2] + boxes[:, 2:]) / 2, rtol=1e-5)
    np.testing.assert_allclose(side[:, 0], (boxes[:, 2:] - boxes[:, :2]).max(axis=1), rtol=1e-5)
