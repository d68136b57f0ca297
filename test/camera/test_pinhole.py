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
    pixel_rays,
    project,
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
