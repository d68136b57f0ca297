# SPDX-License-Identifier: Apache-2.0
"""CameraInfo as drivers fill it: a point in space must stay on its pixel, or there is a doubt."""

import numpy as np
import pytest
from helpers_camera import choose, info

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.camera.pinhole import project

POINT = np.array([0.3, -0.4, 2.5])


@pytest.mark.parametrize("told", [True, False], ids=["size_told", "size_not_told"])
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("binning", [(0, 0), (1, 1), (2, 2), (4, 2), (8, 8)])
@pytest.mark.parametrize("roi", [(0, 0, 0, 0), (96, 40, 400, 320)])
@pytest.mark.parametrize("driver", ["whole_sensor", "k_binned", "k_and_p_binned"])
def test_every_form_of_region_and_binning_keeps_points_on_their_pixels(
    told, rectified, binning, roi, driver
):
    """Of the sensor's pixel, what lies before the region is cut off and the rest is binned; a
    driver that gives K (or K and P) of the binned image means the same."""
    across, down = max(1, binning[0]), max(1, binning[1])
    whole = (700.0, 710.0, 330.0, 236.0)
    binned = (700.0 / across, 710.0 / down, 330.0 / across, 236.0 / down)
    k = whole if driver == "whole_sensor" else binned
    p = binned if driver == "k_and_p_binned" else whole
    message = info(binning=binning, roi=roi, k=k, p=p)
    left, top, wide, high = roi if any(roi) else (0, 0, 640, 480)
    size = (wide // across, high // down)
    options = CameraOptions(rectified=rectified)
    camera = choose(message, options, *(size if told else (0, 0)))
    on_sensor = project(POINT, choose(info(k=whole)).intrinsics)
    expected = (on_sensor - [left, top]) / [across, down]
    np.testing.assert_allclose(project(POINT, camera.intrinsics), expected, rtol=1e-6)
    assert (camera.width, camera.height) == size
    assert camera.warnings == ()


@pytest.mark.parametrize("binning", [(0, 0), (2, 2)])
def test_a_driver_that_describes_the_binned_image_alone_is_believed_once_the_size_is_told(binning):
    """Width, height and K of the binned image, and binning all the same."""
    message = info(fx=350.0, width=320, height=240, binning=binning)
    camera = choose(message, width=320, height=240)
    assert camera.intrinsics.as_array().tolist() == [350.0, 350.0, 160.0, 120.0]
    assert camera.warnings == ()


def test_a_region_of_another_image_than_width_and_height_cuts_nothing_off():
    message = info(fx=700.0, width=400, height=300, roi=(100, 40, 400, 300))
    camera = choose(message, width=0, height=0)
    assert camera.intrinsics.as_array().tolist() == [700.0, 700.0, 200.0, 150.0]
    assert (camera.width, camera.height) == (400, 300)


@pytest.mark.parametrize("divisor", [2, 3, 4])
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("told", [0, 1, 2])
def test_a_matrix_of_smaller_images_than_width_and_height_is_scaled_and_doubted(
    divisor, rectified, told
):
    """As of a driver that has one calibration for all its resolutions."""
    whole = 1400.0, 1410.0, 590.0, 490.0
    small = tuple(value / divisor for value in whole)
    k, p = (whole, small) if rectified else (small, whole)
    message = info(width=1200, height=960, k=k, p=p)
    size = (1200 * told // divisor, 960 * told // divisor)
    camera = choose(message, CameraOptions(rectified=rectified), *size)
    scale = told / divisor if told else 1
    np.testing.assert_allclose(camera.intrinsics.as_array(), np.multiply(whole, scale), rtol=1e-6)
    assert camera.warnings == ("camera_info_doubtful",)
    assert "1200 x 960" in camera.reasons[0]
    assert f"{2 * small[2]:.0f} x {2 * small[3]:.0f}" in camera.reasons[0]
    assert choose(message, CameraOptions(rectified=not rectified), *size).warnings == ()


@pytest.mark.parametrize(
    "shift", [(0.5, 1), (1, 0.5), (0.6, 1.4), (1.6, 0.9), (0.8, 0.8), (1.3, 1.2)]
)
@pytest.mark.parametrize("binning", [(0, 0), (2, 2)])
def test_a_shifted_lens_is_not_taken_for_another_size(shift, binning):
    k = 700.0, 700.0, 320.0 * shift[0], 240.0 * shift[1]
    camera = choose(info(k=k, binning=binning), width=0, height=0)
    scale = 1 / max(1, binning[0])
    np.testing.assert_allclose(camera.intrinsics.as_array(), np.multiply(k, scale), rtol=1e-6)
    assert camera.warnings == ()


@pytest.mark.parametrize("size", [(1280, 960), (1920, 1080), (480, 270), (320, 240)])
def test_a_matrix_of_images_of_an_unclear_size_is_left_as_it_is_and_doubted(size):
    """640 x 480 px, which were cut or resized: nothing tells how."""
    k = 700.0, 700.0, 320.0, 240.0
    camera = choose(info(width=size[0], height=size[1], k=k), width=0, height=0)
    if size == (1280, 960):
        k = tuple(2 * value for value in k)
    assert camera.intrinsics.as_array().tolist() == list(k)
    assert camera.warnings == ("camera_info_doubtful",)
    assert "640 x 480" in camera.reasons[0]
    assert f"{size[0]} x {size[1]}" in camera.reasons[0]


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("size", [(1768, 994), (640, 480)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.5, 0.5)], ids=["transposed", "normalised"])
def test_a_principal_point_in_the_images_corner_is_doubted(centre, size, rectified):
    """Of a matrix that is stored column by column, or in units of the image's width and height."""
    k = 700.0, 700.0, *centre
    message = info(width=size[0], height=size[1], k=k, p=k)
    camera = choose(message, CameraOptions(rectified=rectified), width=0, height=0)
    assert camera.intrinsics.as_array().tolist() == list(k)
    assert camera.warnings == ("camera_info_doubtful",)


SENSOR = 1768, 994
WHOLE = 2520.0, 2520.0, 890.0, 490.0
REGION = 240, 120, 1000, 600
BINNED_REGION = 120, 60, 500, 300
OWN = 1260.0, 1260.0, 250.0, 150.0
"""K of the binned region itself, if that lay in the middle."""


def over(values, divisor):
    return tuple(value / divisor for value in values)


@pytest.mark.parametrize(
    ("size", "roi", "k", "told", "doubted"),
    [
        (SENSOR, REGION, WHOLE, (0, 0), False),  # by the message's definition
        (SENSOR, REGION, WHOLE, (500, 300), False),
        (SENSOR, REGION, over(WHOLE, 2), (0, 0), False),  # avt_vimba_camera
        (SENSOR, (120, 60, 700, 420), WHOLE, (0, 0), True),  # in which pixels?
        (SENSOR, BINNED_REGION, WHOLE, (500, 300), True),  # spinnaker_sdk_camera_driver
        (SENSOR, BINNED_REGION, over(WHOLE, 2), (500, 300), True),
        (over(SENSOR, 2), (120, 60, 600, 400), over(WHOLE, 2), (600, 400), False),
        ((500, 300), REGION, WHOLE, (0, 0), True),  # width and height of the image
        ((500, 300), REGION, over(WHOLE, 2), (0, 0), True),
        ((500, 300), REGION, WHOLE, (500, 300), True),
        ((500, 300), BINNED_REGION, WHOLE, (0, 0), True),
        ((500, 300), BINNED_REGION, over(WHOLE, 2), (500, 300), True),
        ((500, 300), REGION, OWN, (0, 0), False),
        ((500, 300), BINNED_REGION, OWN, (500, 300), False),
        (SENSOR, REGION, OWN, (0, 0), True),
        (SENSOR, REGION, over(OWN, 0.5), (500, 300), True),
    ],
)
@pytest.mark.parametrize("rectified", [False, True])
def test_a_binned_region_keeps_points_on_their_pixels_or_is_doubted(
    size, roi, k, told, doubted, rectified
):
    """However drivers describe the 500 x 300 px that a sensor's 1000 x 600 px are binned to."""
    other = 500.0, 500.0, size[0] / 2, size[1] / 2
    message = info(None, *size, (2, 2), roi, *((other, k) if rectified else (k, other)))
    camera = choose(message, CameraOptions(rectified=rectified), *told)
    own = k in (OWN, over(OWN, 0.5))
    corner = (60, 30) if roi[2] == 700 else (120, 60)
    expected = OWN if own else (1260.0, 1260.0, 445.0 - corner[0], 245.0 - corner[1])
    np.testing.assert_allclose(camera.intrinsics.as_array(), expected, rtol=1e-6)
    assert (camera.warnings == ("camera_info_doubtful",)) == doubted
    assert (camera.width, camera.height) == {600: (600, 400), 700: (350, 210)}.get(
        roi[2], (500, 300)
    )
    if doubted:
        assert f"{size[0]} x {size[1]}" in camera.reasons[0]
