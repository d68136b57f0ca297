# SPDX-License-Identifier: Apache-2.0
"""CameraInfo and people in an image, made up."""

from types import SimpleNamespace

import numpy as np

from key2mesh_core.camera.choose import CameraOptions, choose_camera
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS


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


def person(low, high):
    """Seen keypoints spread evenly between two pixels."""
    points = np.linspace(low, high, len(NETWORK_KEYPOINTS), dtype=np.float32)
    return np.concatenate([points, np.ones((len(points), 1), np.float32)], axis=1)
