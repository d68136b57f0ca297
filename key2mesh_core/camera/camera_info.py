# SPDX-License-Identifier: Apache-2.0
"""What a sensor_msgs/CameraInfo, live or recorded, says of the image that keypoints lie in.

K and P belong to the whole sensor; the image may be a part of it (roi), and smaller (binning, or a
detector's own resizing). Looks at attributes alone, so it works on any object of that shape.
"""

from __future__ import annotations

from typing import Any

from key2mesh_core.camera.lens import Distortion, read_distortion
from key2mesh_core.camera.pinhole import Intrinsics


def image_part(info: Any) -> tuple[int, int, int, int]:
    """Left, top, width and height [px of the sensor] of the part that its images show."""
    roi = info.roi
    if roi.width > 0 and roi.height > 0:
        return roi.x_offset, roi.y_offset, roi.width, roi.height
    return 0, 0, info.width, info.height


def image_scale(info: Any, width: int, height: int) -> tuple[float, float]:
    """How much smaller, across and down, an image of `width` x `height` px (0: unknown, so 1) is
    than the part of the sensor that it shows."""
    _, _, wide, high = image_part(info)
    return width / wide if width and wide else 1.0, height / high if height and high else 1.0


def image_intrinsics(info: Any, width: int, height: int, rectified: bool) -> Intrinsics:
    """Of an image of `width` x `height` px (0: as the camera's).

    Args:
        rectified: whether the image is rectified. The topic is the same for raw and rectified
            images: K and D are of the raw one, P of the other.

    Raises:
        CameraError: the camera is not calibrated.
    """
    if rectified:
        fx, _, cx, _, _, fy, cy, *_ = (float(value) for value in info.p)
        full = Intrinsics(fx, fy, cx, cy)
    else:
        full = Intrinsics.from_matrix(info.k)
    left, top, _, _ = image_part(info)
    x, y = image_scale(info, width, height)
    return Intrinsics(full.fx * x, full.fy * y, (full.cx - left) * x, (full.cy - top) * y)


def image_lens(info: Any, rectified: bool) -> Distortion | None:
    """What the lens does to keypoints in its image: nothing in a rectified one.

    Raises:
        CameraError: the distortion is of an unknown model.
    """
    return None if rectified else read_distortion(info.distortion_model, info.d)
