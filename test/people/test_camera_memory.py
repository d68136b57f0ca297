# SPDX-License-Identifier: Apache-2.0
"""The camera of a stream: what one image leaves to the next."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_camera import choose, info, person

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.people.camera_memory import CameraMemory
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame


def frame(*people, **values):
    keypoints = np.array(people, np.float32).reshape(-1, len(KEYPOINTS), 3)
    return PersonFrame(("",) * len(people), keypoints, NETWORK_LAYOUT, **values).in_network_order()


def test_what_is_remembered_is_what_would_be_chosen():
    memory, message, options = CameraMemory(), info(), CameraOptions()
    size = {"width": 640, "height": 480}
    first = memory.choose(frame(**size), message, options)
    assert memory.choose(frame(**size), message, options) is first
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
        assert memory.choose(frame(**told), *asked) == choose(*asked, **told)


@pytest.mark.parametrize("roi", [(0, 0, 0, 0), (20, 10, 300, 220)])
def test_people_outside_the_binned_image_show_that_it_was_not_binned(roi):
    """A driver that describes the binned image alone, or gives the region in its pixels."""
    memory, options = CameraMemory(), CameraOptions()
    size = (640, 480) if any(roi) else (320, 240)
    message = info(fx=350.0, width=size[0], height=size[1], binning=(2, 2), roi=roi)
    inside, outside = frame(person((10, 10), (100, 90))), frame(person((150, 60), (290, 200)))
    assert memory.choose(inside, message, options) == choose(message, width=0, height=0)
    whole = choose(message, width=roi[2] or 320, height=roi[3] or 240)
    for people in (outside, inside, frame()):
        camera = memory.choose(people, message, options)
        assert (camera.intrinsics, camera.width) == (whole.intrinsics, whole.width)
        assert camera.warnings[-1] == "camera_info_doubtful"
    assert "150 x 110" in camera.reasons[-1] or "160 x 120" in camera.reasons[-1]
    farther = frame(person((150, 60), (900, 800)))
    assert CameraMemory().choose(farther, message, options) == choose(message, width=0, height=0)


def test_a_camera_that_could_not_be_chosen_is_not_remembered():
    memory, options = CameraMemory(), CameraOptions()
    memory.choose(frame(), info(), options)
    for _ in range(2):
        with pytest.raises(CameraError):
            memory.choose(frame(), None, options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 320),
        ("height", 240),
        ("distortion_model", "crystal_ball"),
        ("d", [0.1] * 5),
        ("k", [9.0] * 9),
        ("p", [9.0] * 12),
        ("binning_x", 2),
    ],
)
def test_camera_info_that_says_the_same_changes_nothing(name, value):
    memory, options, again = CameraMemory(), CameraOptions(rectified=name == "p"), info()
    first = memory.choose(frame(), info(), options)
    again.header.stamp.sec = 9
    assert memory.choose(frame(), again, options) is first
    setattr(again, name, value)
    assert memory.choose(frame(), again, options) is not first
    assert memory.choose(frame(), part := info(roi=(3, 0, 9, 9)), options).width == 9
    assert memory.choose(frame(), part, options).width == 9
