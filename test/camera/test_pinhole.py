# SPDX-License-Identifier: Apache-2.0
"""Laws of the pinhole camera, and bodies put back where they were."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from key2mesh_core.camera.pinhole import (
    FARTHEST_M,
    NEAREST_M,
    Intrinsics,
    fit_translation,
    pixel_rays,
    project,
    view_rotation,
)
from key2mesh_core.errors import CameraError

CAMERA = Intrinsics(fx=600.0, fy=620.0, cx=310.0, cy=250.0)
pixels = hnp.arrays(np.float64, (3, 2), elements=st.floats(-5000, 5000))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((math.nan, 600, 320, 240), "fx=nan"),
        ((600, 600, math.inf, 240), "cx=inf"),
        ((0, 0, 0, 0), "positive, got fx=0, fy=0.*field of view"),
        ((600, -600, 320, 240), "fy=-600"),
        ((0.8, 0.8, 0.5, 0.5), "normalised"),
        ((600, 600, 320, 1e7), "cy=10000000.0"),
    ],
)
def test_impossible_intrinsics_are_refused_by_value(values, words):
    with pytest.raises(CameraError, match=words):
        Intrinsics(*values)


def test_the_field_of_view_reaches_the_image_borders():
    camera = Intrinsics.from_field_of_view(640, 480, horizontal_degrees=70)
    edges = pixel_rays([[0, 240], [640, 240]], camera)
    angle = math.degrees(math.acos(edges[0] @ edges[1]))
    assert angle == pytest.approx(70)
    assert (camera.fx, camera.cx, camera.cy) == (camera.fy, 320, 240)
    for arguments, words in (((0, 480, 60), "0 x 480"), ((640, 480, 180), "180")):
        with pytest.raises(CameraError, match=words):
            Intrinsics.from_field_of_view(
                arguments[0], arguments[1], horizontal_degrees=arguments[2]
            )


def test_from_matrix_reads_nested_and_flat_and_gives_back_the_array():
    k = [[600, 0.5, 310], [0, 620, 250], [0, 0, 1]]
    assert Intrinsics.from_matrix(k) == Intrinsics.from_matrix(np.ravel(k)) == CAMERA
    np.testing.assert_array_equal(CAMERA.as_array(), np.float32([600, 620, 310, 250]))
    with pytest.raises(CameraError, match=r"9 numbers, got shape \(4,\)"):
        Intrinsics.from_matrix([1, 2, 3, 4])


def test_axes_point_right_down_and_forward():
    ahead, right, below = project(np.array([[0, 0, 3.0], [1, 0, 3.0], [0, 1, 3.0]]), CAMERA)
    np.testing.assert_allclose(ahead, [CAMERA.cx, CAMERA.cy])
    assert right[0] > ahead[0]
    assert right[1] == ahead[1]
    assert below[1] > ahead[1]
    assert np.isnan(project(np.array([0.0, 0.0, -1.0]), CAMERA)).all()


@given(pixels, st.floats(0.2, 50))
def test_rays_and_projection_undo_each_other(pixel, distance):
    rays = pixel_rays(pixel, CAMERA)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1)
    np.testing.assert_allclose(project(rays * distance, CAMERA), pixel, rtol=1e-6, atol=1e-6)


@given(pixels)
def test_view_rotation_is_the_smallest_rotation_onto_the_ray(pixel):
    rotation = view_rotation(pixel, CAMERA)
    ray = pixel_rays(pixel, CAMERA)
    identity = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ rotation.swapaxes(-1, -2), identity, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1)
    np.testing.assert_allclose(rotation[..., 2], ray, atol=1e-12)  # image of the optical axis
    # Smallest: its angle is that between the axis and the ray, and it has no part about the axis.
    cosine = (np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2
    np.testing.assert_allclose(cosine, ray[..., 2], atol=1e-12)
    np.testing.assert_allclose(rotation[..., 1, 0], rotation[..., 0, 1], atol=1e-12)


def test_view_rotation_at_the_principal_point_is_none():
    np.testing.assert_allclose(view_rotation([CAMERA.cx, CAMERA.cy], CAMERA), np.eye(3))


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
    found = fit_translation(points, keypoints, CAMERA)
    np.testing.assert_allclose(found, translations, atol=1e-8)
    one_each = np.tile(CAMERA.as_array(), (4, 1))
    np.testing.assert_allclose(fit_translation(points, keypoints, one_each), found)


def test_unseen_keypoints_have_no_say():
    points, translations = _bodies(5, 2)
    keypoints = _seen(points, translations)
    keypoints[:, 6:] = [9999, -9999, 0.05]
    np.testing.assert_allclose(fit_translation(points, keypoints, CAMERA), translations, atol=1e-8)


def test_it_solves_the_weighted_least_squares_problem():
    points, translations = _bodies(6, 3)
    rng = np.random.default_rng(7)
    keypoints = _seen(points, translations)
    keypoints[..., :2] += rng.normal(0, 8, keypoints[..., :2].shape)
    keypoints[..., 2] = rng.uniform(0.1, 1, keypoints[..., 2].shape)
    found = fit_translation(points, keypoints, CAMERA)
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
        found = fit_translation(points, np.concatenate([pixel, seen], axis=-1), camera)
    assert np.isfinite(found).all()
    assert ((found[:, 2] >= NEAREST_M) & (found[:, 2] <= FARTHEST_M)).all()


def test_no_keypoints_and_no_persons():
    points, _ = _bodies(8, 2)
    assert np.isfinite(fit_translation(points, np.zeros((2, 18, 3)), CAMERA)).all()
    empty = np.zeros((0, 18, 3))
    assert fit_translation(empty, empty, CAMERA).shape == (0, 3)
