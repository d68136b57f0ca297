# SPDX-License-Identifier: Apache-2.0
"""Undoes lens distortion: converts keypoints of a real lens to those of a pinhole camera.

The models and the order of their coefficients are those of sensor_msgs/CameraInfo (and of
OpenCV, which calibrates them):

    plumb_bob, rational_polynomial    k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, shorter ones end early
    equidistant, fisheye              k1 k2 k3 k4 of Kannala and Brandt

Brown's model has no closed-form inverse: a fixed-point iteration inverts it, and keypoints for
which it does not converge (outside the calibrated image) count as unseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE

BROWN, EQUIDISTANT = "brown", "equidistant"

_FORMS = {
    "plumb_bob": (BROWN, 5),
    "rational_polynomial": (BROWN, 12),
    "equidistant": (EQUIDISTANT, 4),
    "fisheye": (EQUIDISTANT, 4),
}

_ROUNDS = 30
_CLOSE_PX = 0.05
"""If the distorted result misses its pixel by more than this, no solution was found [px]."""


@dataclass(frozen=True)
class Distortion:
    """A lens distortion.

    Attributes:
        form: `BROWN` or `EQUIDISTANT`.
        coefficients: 12 of the first, 4 of the second, in the order above.
    """

    form: str
    coefficients: tuple[float, ...]


def read_distortion(model: str, coefficients: Sequence[float]) -> Distortion | None:
    """The distortion in a CameraInfo; None if there is none.

    Raises:
        CameraError: the model is unknown, there are too many coefficients, or values are not
            finite.
    """
    values = [float(value) for value in coefficients]
    if not any(values):
        return None
    if model not in _FORMS:
        raise CameraError(
            f"unknown distortion model {model!r:.60}; known: {', '.join(_FORMS)}. Give the "
            "detector rectified images, or calibrate with a known model"
        )
    form, count = _FORMS[model]
    if len(values) > count and any(values[count:]):
        raise CameraError(
            f"distortion model '{model}' has at most {count} coefficients, got {len(values)}"
        )
    if not all(math.isfinite(value) for value in values):
        raise CameraError(f"distortion coefficients must be finite numbers, got {values}")
    full = 12 if form == BROWN else 4
    return Distortion(form, tuple((values + [0.0] * full)[:full]))


def distort(rays: NDArray[np.floating], distortion: Distortion) -> NDArray[np.float64]:
    """Distorted image points of rays x/z, y/z (..., 2), in units of the focal length."""
    rays = np.asarray(rays, dtype=np.float64)
    if distortion.form == EQUIDISTANT:
        radius = np.linalg.norm(rays, axis=-1, keepdims=True)
        angle = np.arctan(radius)
        return rays * (_bent(angle, distortion) / np.maximum(radius, 1e-12))
    radial, shift = _brown(rays, distortion)
    return rays * radial + shift


def distort_pixels(
    pixels: NDArray[np.floating], intrinsics: Intrinsics, distortion: Distortion | None
) -> NDArray[np.float64]:
    """Pixels (..., 2) of the real lens for pinhole pixels [px]."""
    if distortion is None:
        return np.asarray(pixels, dtype=np.float64)
    focal, centre = np.reshape(astuple(intrinsics), (2, 2))
    return distort((pixels - centre) / focal, distortion) * focal + centre


def undistort(
    keypoints: NDArray[np.float32], intrinsics: Intrinsics, distortion: Distortion
) -> NDArray[np.float32]:
    """Keypoints as a pinhole camera of the same intrinsics would have seen them.

    Args:
        keypoints: (N, K, 3) x px, y px, confidence; sanitised.
        intrinsics: of the real camera, px.

    Returns:
        A new array of the same shape. Seen points that no ray of the lens explains become (0, 0,
        0), unseen, and so do points 90 degrees or more off the axis.
    """
    seen = keypoints[..., 2] >= SEEN_CONFIDENCE
    focal, centre = np.reshape(astuple(intrinsics), (2, 2))
    target = np.where(seen[..., None], (keypoints[..., :2] - centre) / focal, 0.0)
    with np.errstate(all="ignore"):  # overflow and division by zero are detected at the end
        if distortion.form == EQUIDISTANT:
            rays = _straight(target, distortion)
        else:
            rays = _fixed_point(target, distortion, _CLOSE_PX / 10 / focal.max())
        miss = np.abs((distort(rays, distortion) - target) * focal).max(axis=-1)
    good = seen & (miss <= _CLOSE_PX)  # false for NaN
    straight = np.concatenate([rays * focal + centre, keypoints[..., 2:]], axis=-1)
    return np.where(good[..., None], straight, 0.0).astype(np.float32)


def _brown(
    rays: NDArray[np.float64], distortion: Distortion
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radial factor (..., 1) and the tangential and thin-prism shift (..., 2)."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = distortion.coefficients
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if k4 or k5 or k6:
        radial = radial / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    shift = np.stack(
        [
            2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + s2 * r2),
            p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + s4 * r2),
        ],
        axis=-1,
    )
    return radial[..., None], shift


def _fixed_point(
    target: NDArray[np.float64], distortion: Distortion, enough: float
) -> NDArray[np.float64]:
    """rays = (target - shift(rays)) / radial(rays), until no ray moves by more than `enough`."""
    rays = target
    for _ in range(_ROUNDS):
        radial, shift = _brown(rays, distortion)
        # A radial factor near or below zero means a point beyond the calibrated image.
        before, rays = rays, (target - shift) / np.maximum(radial, 0.1)
        moved = np.abs(rays - before).max(initial=0.0)
        if moved <= enough:
            break
    return rays


def _bent(angle: NDArray[np.float64], distortion: Distortion) -> NDArray[np.float64]:
    """The image radius of an angle off the axis."""
    k1, k2, k3, k4 = distortion.coefficients
    a2 = angle * angle
    return angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))


def _straight(target: NDArray[np.float64], distortion: Distortion) -> NDArray[np.float64]:
    """Rays of equidistant pixels: Newton's method on the angle off the axis."""
    k1, k2, k3, k4 = distortion.coefficients
    radius = np.linalg.norm(target, axis=-1, keepdims=True)
    angle = np.minimum(radius, 1.5)
    for _ in range(10):
        a2 = angle * angle
        slope = 1 + a2 * (3 * k1 + a2 * (5 * k2 + a2 * (7 * k3 + a2 * 9 * k4)))
        angle = angle - (_bent(angle, distortion) - radius) / np.maximum(slope, 0.1)
    ahead = (angle >= 0) & (angle < 1.55)
    tangent = np.where(ahead, np.tan(np.where(ahead, angle, 0.0)), np.nan)
    return target * (tangent / np.maximum(radius, 1e-12))
