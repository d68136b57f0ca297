# SPDX-License-Identifier: Apache-2.0
"""The covariance of a body's position.

Pixels do not tell a person's size: a person a tenth taller and a tenth farther away looks the same.
The error is therefore mostly along the viewing ray and proportional to the distance. Its relative
standard deviation along the ray is

    sqrt(size^2 + focal^2 + (0.88 e)^2 + (0.107 u)^2)

where e is the reprojection error relative to the person's box, u the share of unseen keypoints, and
`size` and `focal` the relative deviations of the body's size (6.5 % among adults) and of the focal
length. Across the ray it is 4 mm plus 0.76 of the reprojection error. The constants were fitted by
maximum likelihood on held-out motion capture seen by a poor detector; docs/measurements/accuracy.md
has the check on other data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.people.bodies import Bodies

ADULT_SIZE_SHARE = 0.065
"""Standard deviation of adults' heights, as a share of their mean."""

KNOWN_SIZE_SHARE = 0.03
"""The same if a known height, the floor or a depth image sets the scale."""

GUESSED_FOCAL_SHARE = 0.3
"""Relative standard deviation of the focal length for an assumed field of view of 60 degrees, since
cameras have 40 to 90."""


def with_position_covariance(
    bodies: Bodies,
    keypoints: NDArray[np.float32],
    sizes: NDArray[np.float32],
    focal_length: ArrayLike,
    metric: ArrayLike,
    size_known: ArrayLike = False,
) -> Bodies:
    """The same N bodies with `position_covariance` (N, 3, 3) [m^2] in the camera's optical frame.

    Args:
        keypoints: (N, K, 3) x px, y px, confidence in the network's order, sanitised.
        sizes: (N,) the keypoints' `person_sizes` [px].
        focal_length: of each body's camera, fx [px].
        metric: whether it is known; if not, it is a guess.
        size_known: (N,) whether a measurement set each body's scale.
    """
    position = bodies.translation.astype(np.float64)
    distance = np.linalg.norm(position, axis=1)
    ray = position / np.maximum(distance, 1e-9)[:, None]
    missed = bodies.reprojection_error / np.maximum(sizes, 1.0)
    unseen = (keypoints[..., 2] == 0).mean(axis=1)
    size = np.where(size_known, KNOWN_SIZE_SHARE, ADULT_SIZE_SHARE)
    focal = np.where(metric, 0.0, GUESSED_FOCAL_SHARE)
    along = distance * np.sqrt(size**2 + focal**2 + (0.88 * missed) ** 2 + (0.107 * unseen) ** 2)
    across = 0.004 + 0.76 * bodies.reprojection_error * position[:, 2] / focal_length
    outer = ray[:, :, None] * ray[:, None]
    covariance = (along**2)[:, None, None] * outer
    covariance += (across**2)[:, None, None] * (np.eye(3) - outer)
    return replace(bodies, position_covariance=covariance.astype(np.float32))
