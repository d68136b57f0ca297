# SPDX-License-Identifier: Apache-2.0
"""The covariance of a body's position: where it is large, and what makes it larger."""

import numpy as np
import pytest

from key2mesh_core import Bodies, Camera, Intrinsics
from key2mesh_core.keypoints.arrays import person_sizes
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.people.position_uncertainty import with_position_covariance

CAMERA = Camera(Intrinsics(600.0, 600.0, 320.0, 240.0))


def a_body(place=(0.0, 0.0, 4.0), error=3.0):
    none = np.zeros((1, 0), np.float32)
    return Bodies(
        betas=none,
        rotations=none,
        translation=np.float32([place]),
        poses=none,
        joints=none,
        reprojection_error=np.float32([error]),
        quality=none,
    )


def keypoints(unseen=0):
    points = np.random.default_rng(0).uniform(100, 350, (1, len(NETWORK_KEYPOINTS), 3))
    points[..., 2] = 1.0
    points[:, :unseen] = 0.0
    return points.astype(np.float32)


def deviations(bodies, keypoints, camera, **options):
    """Standard deviations [m], smallest first, and the direction of the largest."""
    sizes = person_sizes(keypoints)
    known = camera.intrinsics.fx, camera.metric
    bodies = with_position_covariance(bodies, keypoints, sizes, *known, **options)
    values, directions = np.linalg.eigh(bodies.position_covariance[0].astype(np.float64))
    return np.sqrt(values), directions[:, -1]


@pytest.mark.parametrize("place", [(0, 0, 4), (2, -1, 4), (-3, 1, 6)])
def test_it_is_largest_along_the_viewing_ray(place):
    sizes, direction = deviations(a_body(place), keypoints(), CAMERA)
    ray = np.array(place) / np.linalg.norm(place)
    assert abs(ray @ direction) == pytest.approx(1, abs=1e-4)
    assert sizes[2] > 4 * sizes[1]
    # Adults' heights alone leave 6.5 % of the distance.
    assert 0.065 <= sizes[2] / np.linalg.norm(place) < 0.08


def test_it_grows_with_distance_error_unseen_keypoints_and_a_guessed_camera():
    least = deviations(a_body(), keypoints(), CAMERA)[0]
    guess = Camera(CAMERA.intrinsics, metric=False)
    for other in (
        deviations(a_body((0, 0, 8)), keypoints(), CAMERA),
        deviations(a_body(error=20.0), keypoints(), CAMERA),
        deviations(a_body(), keypoints(unseen=9), CAMERA),
        deviations(a_body(), keypoints(), guess),
    ):
        assert other[0][2] > 1.05 * least[2]


def test_a_known_size_leaves_less():
    known = deviations(a_body(), keypoints(), CAMERA, size_known=np.array([True]))[0]
    assert known[2] < 0.6 * deviations(a_body(), keypoints(), CAMERA)[0][2]


def test_nobody_has_none():
    empty = a_body().select(np.zeros(0, int))
    bodies = with_position_covariance(empty, keypoints()[:0], np.zeros(0, np.float32), 600.0, True)
    assert bodies.position_covariance.shape == (0, 3, 3)
