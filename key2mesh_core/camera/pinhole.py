# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras: pixels to rays, points to pixels.

Camera optical frame: x right, y down, z forward, metres; the optical axis meets pixel (cx, cy).
There is no lens distortion here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.errors import CameraError

INTRINSICS_LIMIT_PX = 1e6
"""Largest plausible focal length and principal point coordinate [px]."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera.

    Attributes:
        fx, fy: focal lengths [px], within 1 to 1e6.
        cx, cy: principal point [px], within -1e6 to 1e6.

    Raises:
        CameraError: a value is not finite or outside its range.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = f"fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy}"
        if not all(math.isfinite(v) for v in (self.fx, self.fy, self.cx, self.cy)):
            raise CameraError(f"intrinsics must be finite numbers, got {values}")
        if self.fx <= 0 or self.fy <= 0:
            raise CameraError(
                f"focal lengths must be positive, got {values}; an uncalibrated camera sends "
                "zeros: calibrate the camera or state its field of view"
            )
        if min(self.fx, self.fy) < 1:
            raise CameraError(
                f"focal lengths below 1 px are not plausible, got {values}; values normalised "
                "by the image size must be multiplied by it"
            )
        if max(self.fx, self.fy, abs(self.cx), abs(self.cy)) > INTRINSICS_LIMIT_PX:
            raise CameraError(f"intrinsics beyond 1e6 px are not plausible, got {values}")

    @classmethod
    def from_field_of_view(
        cls, width: float, height: float, *, horizontal_degrees: float = 60.0
    ) -> Intrinsics:
        """Intrinsics with square pixels and the principal point in the centre of a `width` x
        `height` px image."""
        if not (width > 0 and height > 0 and math.isfinite(width) and math.isfinite(height)):
            raise CameraError(f"image size must be positive, got {width} x {height} px")
        if not 0 < horizontal_degrees < 180:
            raise CameraError(
                "the horizontal field of view must lie between 0 and 180 degrees, "
                f"got {horizontal_degrees}"
            )
        focal = width / 2 / math.tan(math.radians(horizontal_degrees) / 2)
        return cls(focal, focal, width / 2, height / 2)

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Intrinsics:
        """From a 3x3 camera matrix K, nested or as nine numbers row by row (CameraInfo.k).

        The skew K[0, 1] is ignored: rectified images have none.
        """
        values = np.asarray(matrix, dtype=np.float64)
        if values.size != 9:
            raise CameraError(f"a camera matrix has 9 numbers, got shape {tuple(values.shape)}")
        k = values.reshape(3, 3)
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))

    def as_array(self) -> NDArray[np.float32]:
        """(4,) fx, fy, cx, cy."""
        return np.array([self.fx, self.fy, self.cx, self.cy], dtype=np.float32)


def project(points: NDArray[np.floating], intrinsics: Intrinsics) -> NDArray[np.floating]:
    """Pixels (..., 2) of points (..., 3) in the camera frame [m].

    Points at or behind the camera (z <= 0) become NaN.
    """
    points = np.asarray(points)
    depth = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
    focal = np.array([intrinsics.fx, intrinsics.fy], dtype=points.dtype)
    centre = np.array([intrinsics.cx, intrinsics.cy], dtype=points.dtype)
    return points[..., :2] / depth * focal + centre
