# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras: pixels to rays, points to pixels, and where a body stands in metres.

Camera optical frame: x right, y down, z forward, metres; the pixel of the optical axis is
(cx, cy). Images are taken as rectified: there is no lens distortion here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE

NEAREST_M = 0.1
"""Nobody is nearer to a camera than this: the smallest z of a fitted translation [m]."""

FARTHEST_M = 1000.0
"""Nobody is seen farther away than this: the largest z of a fitted translation [m]."""

INTRINSICS_LIMIT_PX = 1e6
"""No camera has a longer focal length or a principal point farther out [px]."""


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
                "zeros: calibrate it or state its field of view"
            )
        if min(self.fx, self.fy) < 1:
            raise CameraError(
                f"focal lengths below 1 px belong to no image, got {values}; values normalised "
                "by the image size must be multiplied by it"
            )
        if max(self.fx, self.fy, abs(self.cx), abs(self.cy)) > INTRINSICS_LIMIT_PX:
            raise CameraError(f"intrinsics beyond 1e6 px belong to no camera, got {values}")

    @classmethod
    def from_field_of_view(
        cls, width: float, height: float, *, horizontal_degrees: float = 60.0
    ) -> Intrinsics:
        """Square pixels, principal point in the middle of a `width` x `height` px image."""
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

        A skew (K[0, 1]) is ignored: rectified images have none.
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

    Points at or behind the camera (z <= 0) have no pixel: they become NaN.
    """
    points = np.asarray(points)
    depth = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
    focal = np.array([intrinsics.fx, intrinsics.fy], dtype=points.dtype)
    centre = np.array([intrinsics.cx, intrinsics.cy], dtype=points.dtype)
    return points[..., :2] / depth * focal + centre


def pixel_rays(pixels: ArrayLike, intrinsics: Intrinsics) -> NDArray[np.float64]:
    """Unit vectors (..., 3) in the camera frame from the camera through pixels (..., 2)."""
    pixels = np.asarray(pixels, dtype=np.float64)
    x = (pixels[..., 0] - intrinsics.cx) / intrinsics.fx
    y = (pixels[..., 1] - intrinsics.cy) / intrinsics.fy
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def view_rotation(pixel: ArrayLike, intrinsics: Intrinsics) -> NDArray[np.float64]:
    """(..., 3, 3) smallest rotation that takes the optical axis onto the ray through a pixel.

    A network that sees a person cropped and centred sees them as a camera turned towards them
    would; this rotation, applied from the left, brings an orientation found in that turned
    camera into the real camera's frame (CLIFF, Li et al. 2022, section 3: the crop's place in
    the image determines the global rotation).

    Args:
        pixel: (..., 2) px, usually the centre of the person's box.
    """
    rays = pixel_rays(pixel, intrinsics)
    x, y, z = rays[..., 0], rays[..., 1], rays[..., 2]
    # Rodrigues' formula about the axis (0, 0, 1) x ray = (-y, x, 0); its angle's cosine is z, and
    # z > 0 for every pixel, so 1 / (1 + z) is safe and no axis needs normalising.
    k = 1.0 / (1.0 + z)
    rows = (1.0 - k * x * x, -k * x * y, x, -k * x * y, 1.0 - k * y * y, y, -x, -y, z)
    return np.stack(rows, axis=-1).reshape(*z.shape, 3, 3)


def fit_translation(
    points: ArrayLike, keypoints: ArrayLike, intrinsics: ArrayLike | Intrinsics
) -> NDArray[np.float64]:
    """Translation that best puts bodies over their keypoints: the pose graph's reference.

    Every seen keypoint says that its translated point lies on its ray: with x, y the pixel in
    units of the focal length, (X + tx) = x (Z + tz) and (Y + ty) = y (Z + tz). These equations
    are linear in the translation; weighted by confidence they give 3x3 normal equations, solved
    in closed form. An error in metres across the ray is minimised, not one in pixels: the two
    agree but for the factor of each point's depth, which differs little within a body.

    Args:
        points: (N, K, 3) in the camera's orientation, relative to the pelvis [m].
        keypoints: (N, K, 3) x px, y px, confidence; unseen ones (< 0.1) carry no weight.
        intrinsics: one camera, or (N, 4) fx, fy, cx, cy [px].

    Returns:
        (N, 3) translation [m], finite for finite input, with z within [0.1, 1000]. Persons whose
        keypoints say nothing about the distance (fewer than two, or all on one pixel) are put at
        the nearest end of that range, never at NaN.
    """
    points = np.asarray(points, dtype=np.float64)
    keypoints = np.asarray(keypoints, dtype=np.float64)
    if isinstance(intrinsics, Intrinsics):
        intrinsics = intrinsics.as_array()
    cameras = np.broadcast_to(np.asarray(intrinsics, dtype=np.float64), (len(points), 4))
    focal, centre = cameras[:, None, :2], cameras[:, None, 2:]

    weights = np.where(keypoints[..., 2] >= SEEN_CONFIDENCE, keypoints[..., 2], 0.0)
    # Weights of sum 1 make the guard below independent of how many keypoints there are.
    total = weights.sum(axis=1, keepdims=True)
    weights = (weights / np.where(total > 0, total, 1.0))[..., None]
    xy = np.where(weights > 0, (keypoints[..., :2] - centre) / focal, 0.0)

    # Eliminating tx, ty by centring leaves one equation for tz, with a far better condition than
    # the 3x3 matrix: cov(xy, xy) tz = cov(xy, XY - xy Z).
    residual = points[..., :2] - xy * points[..., 2:]
    mean_xy = (weights * xy).sum(axis=1)
    mean_residual = (weights * residual).sum(axis=1)
    centred = xy - mean_xy[:, None]
    spread = (weights * centred**2).sum(axis=(1, 2))
    covariance = (weights * centred * residual).sum(axis=(1, 2))
    depth = np.clip(covariance / np.maximum(spread, 1e-12), NEAREST_M, FARTHEST_M)
    lateral = mean_xy * depth[:, None] - mean_residual
    return np.concatenate([lateral, depth[:, None]], axis=1)
