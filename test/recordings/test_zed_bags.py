# SPDX-License-Identifier: Apache-2.0
"""Bags of a ZED: its keypoints are in the resolution that it grabs, whatever it publishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_detectors import ZED, camera_info_of, write_foreign_bag, zed_message

from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.recordings.open import open_recording

INFO = "sensor_msgs/msg/CameraInfo"
GRABBED = Intrinsics(530.0, 530.0, 640.0, 360.0)
JOINTS = np.random.default_rng(3).uniform([2.5, -0.9, -0.9], [3.5, 0.3, 0.8], (38, 3))
"""Of a body, in `zed_left_camera_frame`: x forward, y left, z up [m]."""


def zed_bag(
    path: Path, published: tuple[int, int], optical: str, joints: np.ndarray = JOINTS
) -> Path:
    """What wrapper and camera publish while `ros2 bag record -a` runs."""
    pixels = project(np.stack([-JOINTS[:, 1], -JOINTS[:, 2], JOINTS[:, 0]], axis=1), GRABBED)
    focal = GRABBED.fx * published[0] / 1280
    stamps = range(1_000_000_000, 2_000_000_000, 100_000_000)
    infos = {
        "/zed/zed_node/rgb/color/rect/camera_info": f"zed_left_{optical}",
        "/zed/zed_node/depth/camera_info": f"zed_left_{optical}",
        "/zed/zed_node/right/color/rect/camera_info": f"zed_right_{optical}",
    }
    topics = {
        topic: (INFO, [(stamp, camera_info_of(*published, focal, name)) for stamp in stamps])
        for topic, name in infos.items()
    }
    topics["/zed/zed_node/body_trk/skeletons"] = (
        ZED,
        [
            (stamp, zed_message(stamp, [(1, pixels, joints)], 2, "zed_left_camera_frame"))
            for stamp in stamps
        ],
    )
    return write_foreign_bag(path, topics)


@pytest.mark.parametrize("optical", ["camera_optical_frame", "camera_frame_optical"])
@pytest.mark.parametrize("published", [(1280, 720), (640, 360)])
def test_the_camera_is_the_one_that_grabs(
    tmp_path: Path, published: tuple[int, int], optical: str
) -> None:
    recording = open_recording(f"bag:{zed_bag(tmp_path / 'bag', published, optical)}")
    frames = list(recording)
    assert len(frames) == 10
    for frame in frames:
        np.testing.assert_allclose(frame.camera.intrinsics.as_array(), GRABBED.as_array())
        assert (frame.frame_id, frame.width, frame.height) == (f"zed_left_{optical}", 1280, 720)
    assert recording.warnings == {}


def test_without_depths_there_is_a_warning_and_a_way_out(tmp_path: Path) -> None:
    bag = zed_bag(tmp_path / "bag", (640, 360), "camera_frame_optical", np.zeros((38, 3)))
    recording = open_recording(f"bag:{bag}")
    assert next(iter(recording)).camera.width == 640
    assert set(recording.warnings) >= {"unknown_resolution"}
    recording = open_recording(f"bag:{bag}?width=1280&height=720")
    frame = next(iter(recording))
    np.testing.assert_allclose(frame.camera.intrinsics.as_array(), GRABBED.as_array())
    assert recording.warnings == {}
