# SPDX-License-Identifier: Apache-2.0
"""Which camera is taken: a point in space must stay on its pixel, whatever the message's form."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from key2mesh_core.camera.choose import (
    CameraMemory,
    CameraOptions,
    choose_camera,
    known_size,
    newest_info,
)
from key2mesh_core.camera.lens import distort_pixels
from key2mesh_core.camera.pinhole import project
from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame

POINT = np.array([0.3, -0.4, 2.5])


def info(fx=700.0, width=640, height=480, binning=(0, 0), roi=(0, 0, 0, 0), k=None, p=None):
    """A CameraInfo's attributes; roi is left, top, width, height."""
    k = k or (fx, fx, width / 2, height / 2)
    p = p or k
    left, top, wide, high = roi
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="camera", stamp=SimpleNamespace(sec=0, nanosec=0)),
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[k[0], 0, k[2], 0, k[1], k[3], 0, 0, 1],
        p=[p[0], 0, p[2], 0, 0, p[1], p[3], 0, 0, 0, 1, 0],
        binning_x=binning[0],
        binning_y=binning[1],
        roi=SimpleNamespace(x_offset=left, y_offset=top, width=wide, height=high),
    )


def choose(message, options=None, width=640, height=480, **more):
    options = options or CameraOptions()
    return choose_camera(message, options, width=width, height=height, **more)


def test_what_the_user_states_goes_before_camera_info():
    camera = choose(info(fx=700.0), CameraOptions(fx=100.0))
    assert camera.intrinsics.as_array().tolist() == [100.0, 100.0, 320.0, 240.0]
    assert (camera.warnings, camera.metric, camera.lens) == ((), True, None)
    camera = choose(info(fx=700.0), CameraOptions(fov_deg=90.0))
    assert camera.intrinsics.fx == pytest.approx(320.0)
    assert camera.metric


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_resized_image_scales_the_camera_and_says_so(factor):
    full = choose(info()).intrinsics
    camera = choose(info(), width=int(640 * factor), height=int(480 * factor))
    np.testing.assert_allclose(
        project(POINT, camera.intrinsics), factor * project(POINT, full), rtol=1e-6
    )
    assert "640 x 480" in camera.description
    assert camera.warnings == ()


def test_another_shape_of_image_is_doubted_with_both_sizes():
    camera = choose(info(), width=480)
    assert camera.warnings == ("camera_info_aspect",)
    assert "640 x 480" in camera.reasons[0]
    assert "480 x 480" in camera.reasons[0]


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


def test_another_frame_is_doubted():
    assert choose(info(), frame_id="rear_camera").warnings == ("camera_info_frame",)
    assert choose(info(), frame_id="camera").warnings == ()
    assert choose(info()).warnings == ()


def test_an_uncalibrated_camera_info_is_replaced_by_a_guess_that_says_so():
    message = info()
    message.k = [0.0] * 9
    camera = choose(message)
    assert not camera.metric
    assert camera.warnings == ("uncalibrated_camera_info", "no_camera_info")
    assert len(camera.reasons) == 2
    camera = choose(message, CameraOptions(fx=500.0))
    assert camera.metric
    assert camera.warnings == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"fx": 500.0}, [500.0, 500.0, 320.0, 240.0]),
        ({"fx": 500.0, "fy": 510.0}, [500.0, 510.0, 320.0, 240.0]),
        ({"fx": 500.0, "cx": 300.0, "cy": 200.0}, [500.0, 500.0, 300.0, 200.0]),
    ],
)
def test_the_middle_stands_for_what_the_user_does_not_state(values, expected):
    camera = choose(None, CameraOptions(**values))
    assert camera.intrinsics.as_array().tolist() == expected
    assert (camera.warnings, camera.metric) == ((), True)


@pytest.mark.parametrize("degrees", [40.0, 90.0])
def test_a_guess_sees_the_images_edges_at_its_angle_and_is_flagged(degrees):
    camera = choose(None, CameraOptions(assumed_fov_deg=degrees))
    half = math.radians(degrees / 2)
    edge = project(np.array([math.sin(half), 0.0, math.cos(half)]), camera.intrinsics)
    np.testing.assert_allclose(edge, [640.0, 240.0], rtol=1e-6)
    assert not camera.metric
    assert camera.warnings == ("no_camera_info",)
    assert f"{degrees:g} degrees" in camera.description


@pytest.mark.parametrize("options", [CameraOptions(), CameraOptions(fx=500.0)])
def test_an_unknown_size_is_refused_with_the_ways_out(options):
    with pytest.raises(CameraError, match=r"0 x 0.*image_width.*--image-size.*width="):
        choose(None, options, 0, 0)
    whole = CameraOptions(fx=500.0, cx=300.0, cy=200.0)
    assert choose(None, whole, 0, 0).intrinsics.cx == 300.0


@pytest.mark.parametrize(
    "values",
    [
        {"fx": -1.0},
        {"fx": math.nan},
        {"fov_deg": 180.0},
        {"fx": 500.0, "fov_deg": 60.0},
        {"cx": 300.0},
        {"image_size": (640, 0)},
        {"image_size": (-1, -1)},
    ],
)
def test_what_no_camera_has_cannot_be_stated(values):
    with pytest.raises(CameraError):
        CameraOptions(**values)


def test_a_lens_that_bends_is_named_with_what_undoes_it():
    message = info()
    message.d = [-0.2, 0.05, 0.001, 0.0, 0.0]
    camera = choose(message)
    assert camera.lens.coefficients[:5] == (-0.2, 0.05, 0.001, 0.0, 0.0)
    assert "plumb_bob" in camera.description
    rectified = choose(message, CameraOptions(rectified=True))
    assert rectified.lens is None


def test_an_unknown_lens_is_doubted_and_the_matrix_is_taken():
    message = info(fx=700.0)
    message.distortion_model, message.d = "crystal_ball", [0.1]
    camera = choose(message)
    assert (camera.lens, camera.intrinsics.fx) == (None, 700.0)
    assert camera.warnings == ("unknown_distortion",)
    assert "crystal_ball" in camera.reasons[0]


def test_the_size_is_the_messages_or_stated_or_the_cameras():
    stated = CameraOptions(image_size=(320, 200))
    assert known_size(None, CameraOptions()) == (0, 0)
    assert known_size(info(), CameraOptions()) == (640, 480)
    assert known_size(info(), stated) == (320, 200)
    assert known_size(info(), stated, 1280, 960) == (1280, 960)
    assert known_size(info(roi=(0, 0, 400, 300)), CameraOptions()) == (400, 300)
    assert known_size(info(binning=(2, 2)), CameraOptions()) == (320, 240)


def person(low, high):
    """Seen keypoints spread evenly between two pixels."""
    points = np.linspace(low, high, len(NETWORK_KEYPOINTS), dtype=np.float32)
    return np.concatenate([points, np.ones((len(points), 1), np.float32)], axis=1)


@pytest.mark.parametrize(
    ("people", "outside"),
    [
        ([person((10, 10), (600, 470))], False),
        ([person((200, 10), (660, 490))], False),  # a little beyond the edge: detectors do that
        ([person((-90, -90), (400, 300))], False),
        ([person((700, 100), (1200, 900))], True),
        ([person((10, 10), (600, 470)), person((700, 100), (1200, 900))], True),
        ([person((200, 100), (300, 900))], True),
        ([], False),
    ],
)
def test_keypoints_outside_the_cameras_image_are_doubted_with_both_sizes(people, outside):
    keypoints = np.array(people, np.float32).reshape(-1, 18, 3)
    camera = choose(info(), width=0, height=0, keypoints=keypoints)
    frame = PersonFrame(("",) * len(people), keypoints, NETWORK_LAYOUT)
    assert frame.seen_by(choose(info())).camera == camera
    assert ("keypoints_outside_image" in camera.warnings) == outside
    if outside:
        assert "640 x 480" in camera.reasons[0]
        assert "900" in camera.reasons[0]


def test_a_frame_seen_by_a_camera_is_what_a_pinhole_camera_would_have_seen():
    message = info()
    message.d = [-0.2, 0.05, 0.001, 0.0, 0.0]
    camera = choose(message)
    straight = person((100, 100), (500, 400))
    bent = straight.copy()
    bent[:, :2] = distort_pixels(straight[:, :2], camera.intrinsics, camera.lens)
    bent[3] = 5.0, 5.0, 0.01  # unseen
    frame = PersonFrame(("a",), bent[None], NETWORK_LAYOUT, stamp_ns=7).seen_by(camera)
    np.testing.assert_allclose(frame.keypoints[0, 4:], straight[4:], atol=0.1)
    assert frame.keypoints[0, 3].tolist() == [0.0, 0.0, 0.0]
    assert (frame.camera, frame.width, frame.height) == (camera, 640, 480)
    assert (frame.ids, frame.stamp_ns) == (("a",), 7)


def test_what_is_remembered_is_what_would_be_chosen():
    memory, message, options = CameraMemory(), info(), CameraOptions()
    size = {"width": 640, "height": 480}
    assert memory.choose(message, options, **size) is memory.choose(message, options, **size)
    for asked, told in [
        ((message, options), size),
        ((info(fx=500.0), options), size),
        ((None, options), size),
        ((None, replace(options, assumed_fov_deg=90.0)), size),
        ((message, options), size | {"width": 1280}),
        ((message, options), size | {"height": 960}),
        ((message, options), size | {"frame_id": "elsewhere"}),
        ((message, options), size),
    ]:
        assert memory.choose(*asked, **told) == choose_camera(*asked, **told)


def test_a_camera_that_could_not_be_chosen_is_not_remembered():
    memory, options = CameraMemory(), CameraOptions()
    memory.choose(info(), options, width=0, height=0)
    for _ in range(2):
        with pytest.raises(CameraError):
            memory.choose(None, options, width=0, height=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 320),
        ("height", 240),
        ("distortion_model", "equidistant"),
        ("d", [0.1] * 5),
        ("k", [9.0] * 9),
        ("p", [9.0] * 12),
        ("binning_x", 2),
    ],
)
def test_camera_info_that_says_the_same_changes_nothing(name, value):
    first, again = info(), info()
    again.header.stamp.sec = 9
    assert newest_info(None, first) is first
    assert newest_info(first, again) is first
    setattr(again, name, value)
    assert newest_info(first, again) is again
    assert newest_info(first, part := info(roi=(3, 0, 0, 0))) is part
