# SPDX-License-Identifier: Apache-2.0
"""Which camera is taken: a point in space must stay on its pixel whatever the image's size."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers_ros import camera_info
from std_msgs.msg import Header

from key2mesh_core.camera.pinhole import project
from key2mesh_core.people.messages import MessageRefused
from key2mesh_ros.cameras import CameraMemory, choose_camera, newest_info
from key2mesh_ros.inputs import Frame
from key2mesh_ros.parameters import Parameters

POINT = np.array([0.3, -0.4, 2.5])


def frame():
    """Of nobody, in an image of 640 x 480 px."""
    return Frame(Header(frame_id="camera"), 640, 480, (), np.zeros((0, 18, 3), np.float32))


def test_parameters_go_before_camera_info():
    parameters = Parameters(camera_fx=100.0)
    camera = choose_camera(camera_info(fx=700.0), parameters, frame())
    assert camera.intrinsics.as_array().tolist() == [100.0, 100.0, 320.0, 240.0]
    assert (camera.warnings, camera.assumed) == ((), False)


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_resized_image_scales_the_camera_and_says_so(factor):
    info = camera_info(fx=700.0)
    full = choose_camera(info, Parameters(), frame()).intrinsics
    resized = replace(frame(), width=int(640 * factor), height=int(480 * factor))
    camera = choose_camera(info, Parameters(), resized)
    np.testing.assert_allclose(
        project(POINT, camera.intrinsics), factor * project(POINT, full), rtol=1e-6
    )
    assert "640 x 480" in camera.description
    assert camera.warnings == ()


def test_another_shape_of_image_is_doubted():
    camera = choose_camera(camera_info(), Parameters(), replace(frame(), width=480))
    assert camera.warnings == ("camera_info_aspect",)


def test_part_of_the_sensor_and_binning_keep_points_on_their_pixels():
    info = camera_info(fx=700.0)
    full = choose_camera(info, Parameters(), frame()).intrinsics
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 300
    cut = choose_camera(info, Parameters(), replace(frame(), width=400, height=300))
    np.testing.assert_allclose(
        project(POINT, cut.intrinsics), project(POINT, full) - [100, 40], rtol=1e-6
    )
    binned = choose_camera(info, Parameters(), replace(frame(), width=200, height=150))
    np.testing.assert_allclose(
        project(POINT, binned.intrinsics), (project(POINT, full) - [100, 40]) / 2, rtol=1e-6
    )


def test_without_an_image_size_camera_info_is_taken_as_it_is():
    camera = choose_camera(camera_info(fx=700.0), Parameters(), replace(frame(), width=0, height=0))
    assert camera.intrinsics.as_array().tolist() == [700.0, 700.0, 320.0, 240.0]


def test_another_frame_is_doubted():
    info = camera_info()
    info.header.frame_id = "rear_camera"
    assert choose_camera(info, Parameters(), frame()).warnings == ("camera_info_frame",)


def test_an_uncalibrated_camera_info_falls_back_and_says_so():
    info = camera_info()
    info.k = [0.0] * 9
    camera = choose_camera(info, Parameters(), frame())
    assert camera.assumed
    assert camera.warnings == ("uncalibrated_camera_info", "no_camera_info")
    camera = choose_camera(info, Parameters(camera_fx=500.0), frame())
    assert not camera.assumed
    assert camera.warnings == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"camera_fx": 500.0}, [500.0, 500.0, 320.0, 240.0]),
        ({"camera_fx": 500.0, "camera_fy": 510.0}, [500.0, 510.0, 320.0, 240.0]),
        (
            {"camera_fx": 500.0, "camera_cx": 300.0, "camera_cy": 200.0},
            [500.0, 500.0, 300.0, 200.0],
        ),
    ],
)
def test_parameters_fill_in_what_they_do_not_say(values, expected):
    camera = choose_camera(None, Parameters(**values), frame())
    assert camera.intrinsics.as_array().tolist() == expected
    assert (camera.warnings, camera.assumed) == ((), False)


@pytest.mark.parametrize("degrees", [40.0, 90.0])
def test_a_guess_sees_the_images_edges_at_its_angle_and_is_flagged(degrees):
    camera = choose_camera(None, Parameters(horizontal_fov_deg=degrees), frame())
    half = math.radians(degrees / 2)
    edge = project(np.array([math.sin(half), 0.0, math.cos(half)]), camera.intrinsics)
    np.testing.assert_allclose(edge, [640.0, 240.0], rtol=1e-6)
    assert camera.assumed
    assert camera.warnings == ("no_camera_info",)
    assert f"{degrees:g} degrees" in camera.description


@pytest.mark.parametrize("parameters", [Parameters(), Parameters(camera_fx=500.0)])
def test_nothing_known_is_refused_with_the_ways_out(parameters):
    with pytest.raises(MessageRefused, match=r"0 x 0.*image_width.*CameraInfo.*camera_fx"):
        choose_camera(None, parameters, replace(frame(), width=0, height=0))


def test_what_is_remembered_is_what_would_be_chosen():
    memory, info, settings = CameraMemory(), camera_info(fx=700.0), Parameters()
    assert memory.choose(info, settings, frame()) is memory.choose(info, settings, frame())
    other_header = replace(frame(), header=Header(frame_id="elsewhere"))
    for asked in [
        (info, settings, frame()),
        (camera_info(fx=500.0), settings, frame()),
        (None, settings, frame()),
        (None, replace(settings, horizontal_fov_deg=90.0), frame()),
        (info, settings, replace(frame(), width=1280)),
        (info, settings, replace(frame(), height=960)),
        (info, settings, other_header),
        (info, settings, frame()),
    ]:
        assert memory.choose(*asked) == choose_camera(*asked)


def test_a_camera_that_could_not_be_chosen_is_not_remembered():
    memory, nowhere = CameraMemory(), replace(frame(), width=0)
    memory.choose(camera_info(), Parameters(), nowhere)
    for _ in range(2):
        with pytest.raises(MessageRefused):
            memory.choose(None, Parameters(), nowhere)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 320),
        ("height", 240),
        ("distortion_model", "equidistant"),
        ("d", [0.1] * 5),
        ("k", [9.0] * 9),
        ("p", [9.0] * 12),
    ],
)
def test_camera_info_that_says_the_same_changes_nothing(name, value):
    first, again = camera_info(), camera_info()
    again.header.stamp.sec = 9
    assert newest_info(None, first) is first
    assert newest_info(first, again) is first
    setattr(again, name, value)
    assert newest_info(first, again) is again
    part = camera_info()
    part.roi.x_offset = 3
    assert newest_info(first, part) is part


def test_a_lens_that_bends_is_named_with_what_undoes_it():
    info = camera_info(fx=700.0)
    info.distortion_model, info.d = "plumb_bob", [-0.2, 0.05, 0.001, 0.0, 0.0]
    camera = choose_camera(info, Parameters(), frame())
    assert camera.distortion.coefficients[:5] == (-0.2, 0.05, 0.001, 0.0, 0.0)
    assert "plumb_bob" in camera.description
    assert camera.warnings == ()


def test_an_unknown_lens_is_doubted_and_its_keypoints_are_taken_as_they_are():
    info = camera_info(fx=700.0)
    info.distortion_model, info.d = "crystal_ball", [0.1]
    camera = choose_camera(info, Parameters(), frame())
    assert camera.distortion is None
    assert camera.warnings == ("unknown_distortion",)


def test_of_rectified_images_p_is_the_camera_and_nothing_is_undone():
    info = camera_info(fx=700.0)
    info.distortion_model, info.d = "plumb_bob", [-0.2, 0.05, 0.001, 0.0, 0.0]
    info.p = [650.0, 0.0, 310.0, 0.0, 0.0, 655.0, 245.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    camera = choose_camera(info, Parameters(image_rectified=True), frame())
    assert camera.intrinsics.as_array().tolist() == [650.0, 655.0, 310.0, 245.0]
    assert camera.distortion is None
