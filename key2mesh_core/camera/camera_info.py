# SPDX-License-Identifier: Apache-2.0
"""Derives the intrinsics of the keypoints' image from a sensor_msgs/CameraInfo, live or recorded.

By the message's definition, K and P refer to the whole sensor at full resolution. The image may be
a part of it (roi, in pixels of the whole sensor), and smaller (binning, or a detector's own
resizing). Some drivers set binning but give K of the binned image; the principal point, which is
near the centre of the image that a matrix belongs to, tells the two cases apart.

Only attributes are read, so any object with the message's attributes works.
"""

from __future__ import annotations

import math
from typing import Any

from key2mesh_core.camera.pinhole import Intrinsics


def image_part(info: Any) -> tuple[int, int, int, int]:
    """Left, top, width and height [px of the whole sensor] of the region that the images show.

    If the region does not fit into `info.width` x `info.height` px, the driver gives width, height,
    K and P of the region itself, and nothing is cropped.
    """
    roi = info.roi
    right, bottom = roi.x_offset + roi.width, roi.y_offset + roi.height
    fits = right <= info.width and bottom <= info.height
    if roi.width > 0 and roi.height > 0 and (fits or not (info.width and info.height)):
        return roi.x_offset, roi.y_offset, roi.width, roi.height
    return 0, 0, info.width, info.height


def binning(info: Any) -> tuple[int, int]:
    """Sensor pixels per image pixel, horizontally and vertically; 0 in the message means 1."""
    return max(1, info.binning_x), max(1, info.binning_y)


def image_size(info: Any) -> tuple[int, int]:
    """Width and height [px] of the images that the message describes."""
    _, _, width, height = image_part(info)
    across, down = binning(info)
    return width // across, height // down


def image_intrinsics(info: Any, width: int, height: int, rectified: bool) -> Intrinsics:
    """Intrinsics of an image of `width` x `height` px (0: `image_size`).

    Args:
        rectified: whether the image is rectified. The topic is the same for raw and rectified
            images: K and D belong to the raw one, P to the rectified one.

    Raises:
        CameraError: the camera is not calibrated.
    """
    if rectified:
        fx, _, cx, _, _, fy, cy, *_ = (float(value) for value in info.p)
        matrix = Intrinsics(fx, fy, cx, cy)
    else:
        matrix = Intrinsics.from_matrix(info.k)
    left, top, wide, high = image_part(info)
    across, down = binning(info)
    binned = _is_binned(matrix, info)
    # Scale from sensor to matrix pixels, and from matrix to image pixels.
    unit_x, unit_y = (1 / across, 1 / down) if binned else (1.0, 1.0)
    x = width / (wide * unit_x) if width and wide else 1 / (across * unit_x)
    y = height / (high * unit_y) if height and high else 1 / (down * unit_y)
    return Intrinsics(
        matrix.fx * x,
        matrix.fy * y,
        (matrix.cx - left * unit_x) * x,
        (matrix.cy - top * unit_y) * y,
    )


def _is_binned(matrix: Intrinsics, info: Any) -> bool:
    """Whether a matrix already belongs to the binned image: its principal point is nearer, as a
    ratio, to the centre of the binned image than to the centre of the whole sensor."""
    misses = {True: 0.0, False: 0.0}
    for centre, size, count in zip(
        (matrix.cx, matrix.cy), (info.width, info.height), binning(info), strict=True
    ):
        if count > 1 and centre > 0 and size > 0:
            ratio = math.log(2 * centre / size)
            misses[False] += abs(ratio)
            misses[True] += abs(ratio + math.log(count))
    return misses[True] < misses[False]
