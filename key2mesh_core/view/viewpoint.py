# SPDX-License-Identifier: Apache-2.0
"""Chooses the viewpoint of a scene, so that all people and the camera are in the picture."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

FIELD_OF_VIEW = float(np.radians(38.0))
"""Vertical field of view of the page [rad]."""

CAMERA_SIZE_M = 0.4
"""Length of the drawn camera [m]."""

ASPECT = 4 / 3
"""Smallest aspect ratio (width by height) of the picture."""

_FROM = np.array([-0.6, -0.35, -0.75])  # from the left, above and behind the camera
_ROUNDS = 8
_FILLED = 0.8  # of the picture's height; a panel covers a part of its width


def view_of(points: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The viewpoint [m] and the point to look at, such that points (N, 3) and the camera at the
    origin are all in a picture of `ASPECT` or wider."""
    corners = CAMERA_SIZE_M * np.array([*product((-1, 1), (-1, 1), (0, 1))])
    everything = np.concatenate([points, corners])
    forward = -_FROM / np.linalg.norm(_FROM)
    right = np.cross(forward, [0.0, -1.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    middle = (everything.min(axis=0) + everything.max(axis=0)) / 2
    for _ in range(_ROUNDS):
        off = everything - middle
        across = np.maximum(np.abs(off @ right) / ASPECT, np.abs(off @ down))
        distance = (across / (_FILLED * np.tan(FIELD_OF_VIEW / 2)) - off @ forward).max()
        # Near points are far from the picture's centre: look there, then move closer.
        depth = distance + off @ forward
        for axis in (right, down):
            seen = (off @ axis) / depth
            middle = middle + distance * (seen.min() + seen.max()) / 2 * axis
    return middle - distance * forward, middle
