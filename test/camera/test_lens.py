# SPDX-License-Identifier: Apache-2.0
"""Lens distortion is undone, and keypoints that the lens cannot have seen become unseen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from key2mesh_core.camera.lens import (
    BROWN,
    EQUIDISTANT,
    Distortion,
    distort,
    distort_pixels,
    read_distortion,
    undistort,
)
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError

CAMERA = Intrinsics(610.0, 605.0, 322.0, 238.0)

# Of real cameras: a webcam, a wide colour camera, a machine-vision lens, a fisheye.
LENSES = {
    "webcam": ("plumb_bob", [0.1042, -0.2351, 0.0011, -0.0007, 0.1208]),
    "barrel": ("plumb_bob", [-0.29, 0.08, 0.0005, 0.0003, -0.01]),
    "rational": ("rational_polynomial", [6.2, 4.1, 0.0002, -0.0001, 0.2, 6.6, 6.0, 1.1]),
    "thin_prism": (
        "rational_polynomial",
        [-0.1, 0.01, 0.001, 0.0, 0.0, 0.0, 0.0, 0.0, 0.001, 0.0002, -0.001, 0.0001],
    ),
    "fisheye": ("equidistant", [-0.02, 0.004, -0.003, 0.0005]),
    "k1 only": ("plumb_bob", [-0.1]),
}


def grid(width=640, height=480):
    """(1, 99, 3) keypoints all over an image."""
    x, y = np.meshgrid(np.linspace(0, width, 11), np.linspace(0, height, 9))
    return np.stack([x, y, np.full_like(x, 0.7)], axis=-1).reshape(1, -1, 3).astype(np.float32)


@pytest.mark.parametrize(("model", "coefficients"), LENSES.values(), ids=LENSES)
def test_what_the_lens_bent_is_straight_again_all_over_the_image(model, coefficients):
    lens = read_distortion(model, coefficients)
    straight = grid()
    seen = straight.copy()
    seen[..., :2] = distort_pixels(straight[..., :2], CAMERA, lens)
    assert np.abs(seen - straight)[..., :2].max() > 2.0  # or the test says nothing
    np.testing.assert_allclose(undistort(seen, CAMERA, lens), straight, atol=0.1)


def test_browns_model_is_the_formula_that_calibration_fits():
    """Written out for one ray, in the order of CameraInfo's D."""
    k1, k2, p1, p2, k3 = 0.11, -0.22, 0.003, -0.002, 0.05
    x, y = 0.31, -0.22
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    expected = (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )
    lens = read_distortion("plumb_bob", [k1, k2, p1, p2, k3])
    np.testing.assert_allclose(distort(np.array([x, y]), lens), expected, rtol=1e-12)


def test_the_rational_models_denominator_counts():
    coefficients = [0.4, 0.3, 0.0, 0.0, 0.2, 0.1, 0.05, 0.02]
    x = 0.5
    r2 = x * x
    expected = x * (1 + 0.4 * r2 + 0.3 * r2**2 + 0.2 * r2**3)
    expected /= 1 + 0.1 * r2 + 0.05 * r2**2 + 0.02 * r2**3
    lens = read_distortion("rational_polynomial", coefficients)
    assert distort(np.array([x, 0.0]), lens)[0] == pytest.approx(expected)


@given(degrees=st.floats(0.5, 80.0), side=st.floats(0.0, 6.28))
def test_an_ideal_fisheye_sees_angles_as_lengths(degrees, side):
    lens = Distortion(EQUIDISTANT, (1e-12, 0.0, 0.0, 0.0))
    angle = np.radians(degrees)
    direction = np.array([np.cos(side), np.sin(side)])
    np.testing.assert_allclose(distort(np.tan(angle) * direction, lens), angle * direction)
    seen = np.ones((1, 1, 3), np.float32)
    seen[0, 0, :2] = [CAMERA.cx, CAMERA.cy] + angle * direction * [CAMERA.fx, CAMERA.fy]
    wanted = np.tan(angle) * direction * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]
    np.testing.assert_allclose(undistort(seen, CAMERA, lens)[0, 0, :2], wanted, rtol=1e-3)


def test_no_distortion_is_none():
    assert read_distortion("plumb_bob", [0.0] * 5) is None
    assert read_distortion("", []) is None
    assert read_distortion("something else", [0.0]) is None


def test_unseen_keypoints_stay_unseen_and_confidence_stays_as_it_is():
    lens = read_distortion(*LENSES["webcam"])
    keypoints = grid()
    keypoints[0, 3] = 0.0
    result = undistort(keypoints, CAMERA, lens)
    np.testing.assert_array_equal(result[..., 2], keypoints[..., 2])
    assert result[0, 3].tolist() == [0.0, 0.0, 0.0]
    assert undistort(np.zeros((0, 18, 3), np.float32), CAMERA, lens).shape == (0, 18, 3)


@given(
    x=st.floats(-1e5, 1e5, width=32),
    y=st.floats(-1e5, 1e5, width=32),
    name=st.sampled_from(list(LENSES)),
)
def test_whatever_is_seen_anywhere_becomes_a_pixel_or_unseen(x, y, name):
    lens = read_distortion(*LENSES[name])
    keypoints = np.array([[[x, y, 1.0]]], np.float32)
    result = undistort(keypoints, CAMERA, lens)
    assert np.isfinite(result).all()
    if result[0, 0, 2]:
        back = distort_pixels(result[0, :, :2], CAMERA, lens)
        np.testing.assert_allclose(back[0], [x, y], atol=0.2, rtol=1e-3)
    else:
        assert result[0, 0].tolist() == [0.0, 0.0, 0.0]


def test_what_a_barrel_lens_can_never_see_is_unseen():
    """r (1 - 0.3 r^2) has a largest value: pixels farther out belong to no ray."""
    lens = Distortion(BROWN, (-0.3, *[0.0] * 11))
    far = np.array([[[CAMERA.cx + 2.0 * CAMERA.fx, CAMERA.cy, 1.0]]], np.float32)
    assert undistort(far, CAMERA, lens)[0, 0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("model", "coefficients", "expected"),
    [
        ("omnidirectional", [0.1], "omnidirectional.*plumb_bob"),
        ("equidistant", [0.1] * 5, "at most 4"),
        ("plumb_bob", [np.nan, 0.1], "finite"),
    ],
)
def test_other_lenses_are_refused_with_the_way_out(model, coefficients, expected):
    with pytest.raises(CameraError, match=expected):
        read_distortion(model, coefficients)
