# SPDX-License-Identifier: Apache-2.0
"""Laws of the pinhole camera."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from key2mesh_core.camera.pinhole import (
    Intrinsics,
    project,
)
from key2mesh_core.errors import CameraError

CAMERA = Intrinsics(fx=600.0, fy=620.0, cx=310.0, cy=250.0)
points = hnp.arrays(np.float64, (5, 2), elements=st.floats(-9, 9))


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
    edge = math.tan(math.radians(35))
    places = project(np.array([[-edge, 0, 1], [edge, 0, 1]]), camera)
    np.testing.assert_allclose(places, [[0, 240], [640, 240]], atol=1e-9)
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


@given(points, st.floats(0.2, 50))
def test_a_whole_ray_has_the_pixel_of_its_camera_matrix(sides, distance):
    rays = np.concatenate([sides, np.ones((5, 1))], axis=1)
    matrix = np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]])
    expected = (rays @ matrix.T)[:, :2]
    np.testing.assert_allclose(project(rays * distance, CAMERA), expected, rtol=1e-6, atol=1e-6)
