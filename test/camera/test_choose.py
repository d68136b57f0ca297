# SPDX-License-Identifier: Apache-2.0
"""Which camera is taken, and what there is to doubt."""

import math

import numpy as np
import pytest
from helpers_camera import choose, info, person

from key2mesh_core.camera.choose import CameraOptions, known_size
from key2mesh_core.camera.lens import distort_pixels
from key2mesh_core.camera.pinhole import project
from key2mesh_core.errors import CameraError
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame

POINT = np.array([0.3, -0.4, 2.5])


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


@pytest.mark.parametrize(
    ("people", "outside"),
    [
        ([person((10, 10), (600, 470))], False),
        ([person((200, 10), (660, 490))], False),  # a little beyond the edge: detectors do that
        ([person((-90, -90), (400, 300))], False),
        ([person((700, 100), (1200, 900))], True),
        ([person((10, 10), (600, 470)), person((700, 100), (1200, 900))], True),
        ([person((200, 100), (300, 900))], True),
        ([person((-300, -200), (-100, 900))], True),  # pixels counted from the image's centre
        ([person((-300, -900), (-100, 20))], True),
        ([], False),
    ],
)
def test_keypoints_outside_the_cameras_image_are_doubted_with_both_sizes(people, outside):
    keypoints = np.array(people, np.float32).reshape(-1, 18, 3)
    frame = PersonFrame(("",) * len(people), keypoints, NETWORK_LAYOUT)
    camera = frame.seen_by(choose(info(), width=0, height=0)).camera
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
