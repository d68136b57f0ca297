# SPDX-License-Identifier: Apache-2.0
"""Bodies are placed where they were, and noise moves them without a bias towards the camera."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.camera.placement import (
    FARTHEST_M,
    NEAREST_M,
    place,
    place_roughly,
)

CAMERA = Intrinsics(fx=600.0, fy=620.0, cx=310.0, cy=250.0)


def on_the_image_plane(
    keypoints: np.ndarray, camera: Intrinsics = CAMERA
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints in units of the focal length, and their weights."""
    image = (keypoints[..., :2] - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    return image, np.where(keypoints[..., 2] >= 0.1, keypoints[..., 2], 0.0)


def fit(points: np.ndarray, keypoints: np.ndarray, camera: Intrinsics = CAMERA) -> np.ndarray:
    return place(points, *on_the_image_plane(keypoints, camera))


def _bodies(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Point clouds of a person's size, and where they stand."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-0.5, -0.9, -0.4], [0.5, 0.9, 0.4], (count, 18, 3))
    translations = rng.uniform([-2, -1, 2], [2, 1, 12], (count, 3))
    return points, translations


def _seen(points: np.ndarray, translations: np.ndarray) -> np.ndarray:
    pixel = project(points + translations[:, None], CAMERA)
    return np.concatenate([pixel, np.ones_like(pixel[..., :1])], axis=-1)


@given(st.integers(0, 1000))
def test_a_projected_body_is_put_back_where_it_was(seed):
    points, translations = _bodies(seed, 4)
    keypoints = _seen(points, translations)
    found = fit(points, keypoints, CAMERA)
    np.testing.assert_allclose(found, translations, atol=1e-8)


def test_unseen_keypoints_have_no_say():
    points, translations = _bodies(5, 2)
    keypoints = _seen(points, translations)
    keypoints[:, 6:] = [9999, -9999, 0.05]
    np.testing.assert_allclose(fit(points, keypoints, CAMERA), translations, atol=1e-8)


def test_the_rough_place_solves_the_weighted_least_squares_problem():
    points, translations = _bodies(6, 3)
    rng = np.random.default_rng(7)
    keypoints = _seen(points, translations)
    keypoints[..., :2] += rng.normal(0, 8, keypoints[..., :2].shape)
    keypoints[..., 2] = rng.uniform(0.1, 1, keypoints[..., 2].shape)
    found = place_roughly(points, *on_the_image_plane(keypoints))
    for person, solution in enumerate(found):
        rows, right = [], []
        for (px, py, weight), point in zip(keypoints[person], points[person], strict=True):
            x, y = (px - CAMERA.cx) / CAMERA.fx, (py - CAMERA.cy) / CAMERA.fy
            for row, value in (
                ([1, 0, -x], x * point[2] - point[0]),
                ([0, 1, -y], y * point[2] - point[1]),
            ):
                rows.append(np.sqrt(weight) * np.array(row))
                right.append(np.sqrt(weight) * value)
        oracle = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
        np.testing.assert_allclose(solution, oracle, rtol=1e-6)


def noisy_people(
    distance: float, noise_px: float = 3.0, count: int = 2000
) -> tuple[np.ndarray, ...]:
    """Points of people at a distance, seen with noise by a camera of f = 600 px, and where they
    are."""
    points, translations = _bodies(11, count)
    translations *= distance / translations[:, 2:]
    keypoints = _seen(points, translations)
    rng = np.random.default_rng(12)
    keypoints[..., :2] += rng.normal(0, noise_px, keypoints[..., :2].shape)
    keypoints[..., 2] = rng.uniform(0.3, 1.0, keypoints.shape[:2])
    return points, keypoints, translations


@pytest.mark.parametrize(("distance", "at_most"), [(6, 0.002), (12, 0.005), (20, 0.01)])
def test_pixel_noise_does_not_draw_people_towards_the_camera(distance, at_most):
    points, keypoints, translations = noisy_people(distance)
    found = fit(points, keypoints, CAMERA)[:, 2] / translations[:, 2] - 1
    rough = place_roughly(points, *on_the_image_plane(keypoints))[:, 2] / translations[:, 2] - 1
    assert abs(found.mean()) < at_most
    assert rough.mean() < -2 * at_most  # what the step is for
    assert found.std() < 1.1 * rough.std()


@pytest.mark.parametrize("nonsense", [0.0, 0.2, 1.0])
def test_no_place_has_a_larger_pixel_error_than_the_rough_one(nonsense):
    """Holds even if the body is not the one in the image."""
    points, keypoints, _ = noisy_people(3.0, 10.0)
    points = points + nonsense * np.random.default_rng(3).normal(0, 0.5, points.shape)
    image, weights = on_the_image_plane(keypoints)

    def error(translation: np.ndarray) -> np.ndarray:
        placed = points + translation[:, None]
        missed = placed[..., :2] / np.maximum(placed[..., 2:], NEAREST_M / 2) - image
        return (weights[..., None] * missed**2).sum(axis=(1, 2))

    rough, found = place_roughly(points, image, weights), place(points, image, weights)
    assert (error(found) <= error(rough) * (1 + 1e-9)).all()
    assert (found[:, 2] <= 2 * rough[:, 2] * (1 + 1e-9)).all()
    assert (found[:, 2] != rough[:, 2]).mean() > 0.3


def test_torch_and_numpy_place_alike():
    points, keypoints, _ = noisy_people(8.0, count=50)
    keypoints[0, :, 2] = 0.0  # nothing seen
    keypoints[1, :, :2] = 100.0  # all on one pixel
    image, weights = on_the_image_plane(keypoints)
    tensors = [torch.as_tensor(each) for each in (points, image, weights)]
    for function in (place, place_roughly):
        found = function(*tensors)
        np.testing.assert_allclose(found, function(points, image, weights), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (2, 18, 3), elements=st.floats(-10, 10)),
    hnp.arrays(np.float64, (2, 18, 2), elements=st.floats(-1e5, 1e5)),
    hnp.arrays(np.float64, (2, 18, 1), elements=st.floats(0, 1)),
    st.floats(1, 1e6),
)
def test_any_finite_input_gives_a_finite_place_before_the_camera(points, pixel, seen, focal):
    camera = Intrinsics(focal, focal, 320, 240)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit(points, np.concatenate([pixel, seen], axis=-1), camera)
    assert np.isfinite(found).all()
    assert ((found[:, 2] >= NEAREST_M) & (found[:, 2] <= FARTHEST_M)).all()


def test_no_keypoints_and_no_persons():
    points, _ = _bodies(8, 2)
    assert np.isfinite(fit(points, np.zeros((2, 18, 3)), CAMERA)).all()
    empty = np.zeros((0, 18, 3))
    assert fit(empty, empty, CAMERA).shape == (0, 3)
