# SPDX-License-Identifier: Apache-2.0
"""Sparse convex regressors: points of the body as weighted means of a few vertices around them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from default_body.symmetry import mirror_index
from key2mesh_core.body.data import FACE_NAMES, JOINT_NAMES

_SUM_WEIGHT = 100.0
_RING_SIZES = (40, 80, 160, 320, 640, 1280)
_GOOD_ENOUGH_M = 0.0015

_TRUNK = ("pelvis", "spine1", "spine2", "spine3")
"""Deep inside, and placed between hips and neck: their rings include those of hips and neck."""


def fit_regressors(
    template: np.ndarray, vertices: np.ndarray, joints: np.ndarray, face: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Joint regressor (24, V) and face regressor (5, V): not negative, rows sum to 1.

    Args:
        template: (V, 3) mean body, symmetric in x. vertices: (N, V, 3) sampled bodies.
        joints: (N, 24, 3), face: (N, 5, 3), the points to regress on them.
    """
    mirror = mirror_index(template)
    return (
        _fit(JOINT_NAMES, template, vertices, joints, mirror),
        _fit(FACE_NAMES, template, vertices, face, mirror),
    )


def _fit(
    names: tuple[str, ...],
    template: np.ndarray,
    vertices: np.ndarray,
    points: np.ndarray,
    mirror: np.ndarray,
) -> np.ndarray:
    regressor = np.zeros((len(names), len(template)))
    for name in sorted(names, key=lambda n: n in _TRUNK):
        index = names.index(name)
        if name.startswith("right_"):
            continue
        also = np.array([], dtype=int)
        if name in _TRUNK:
            ends = [names.index(n) for n in ("left_hip", "right_hip", "neck")]
            also = np.flatnonzero(regressor[ends].any(0))
        row = _fit_one(template, vertices, points[:, index], also)
        if name.startswith("left_"):
            regressor[index] = row
            regressor[names.index(name.replace("left", "right"))] = row[mirror]
        else:
            regressor[index] = (row + row[mirror]) / 2
    return regressor


def _fit_one(
    template: np.ndarray, vertices: np.ndarray, points: np.ndarray, also: np.ndarray
) -> np.ndarray:
    """Widens the ring of nearest vertices until the worst sampled body is good enough.

    Vertices `also` are in every ring.
    """
    nearest = np.argsort(np.linalg.norm(template - points.mean(0), axis=1))
    best, best_error = None, np.inf
    for size in _RING_SIZES:
        ring = np.union1d(nearest[:size], also)
        columns = vertices[:, ring].transpose(0, 2, 1).reshape(-1, len(ring))
        rows = np.concatenate([columns, np.full((1, len(ring)), _SUM_WEIGHT)])
        # The same least squares through a square root of the normal equations: 600 people's
        # coordinates shrink to one row a vertex.
        values, vectors = np.linalg.eigh(rows.T @ rows)
        values = np.maximum(values, values.max() * 1e-14)
        root = np.sqrt(values)[:, None] * vectors.T
        wanted = rows.T @ np.concatenate([points.ravel(), [_SUM_WEIGHT]])
        solution, _ = nnls(root, (vectors.T @ wanted) / np.sqrt(values), maxiter=50 * len(ring))
        solution /= solution.sum()
        error = np.linalg.norm(
            np.einsum("v,nvc->nc", solution, vertices[:, ring]) - points, axis=1
        ).max()
        if error < best_error:
            best, best_error = np.zeros(len(template)), error
            best[ring] = solution
        if best_error < _GOOD_ENOUGH_M:
            break
    return best
