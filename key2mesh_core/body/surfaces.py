# SPDX-License-Identifier: Apache-2.0
"""Closest points on a body's surface, part by part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from key2mesh_core.body.data import JOINT_COUNT, PARENTS, BodyData
from key2mesh_core.geometry.meshes import vertex_normals

FloatArray = NDArray[np.float64]

_NEAREST = 2
"""Triangles around this many nearest vertices are searched."""


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points on a surface: `vertices (P, 3)` the corners of each one's triangle, `weights (P, 3)`
    its barycentric coordinates."""

    vertices: NDArray[np.int64]
    weights: FloatArray

    def on(self, positions: NDArray[np.floating]) -> FloatArray:
        """(..., P, 3) the points on a mesh with vertices at `positions (..., V, 3)`."""
        return np.einsum("pk,...pkc->...pc", self.weights, positions[..., self.vertices, :])


class Surface:
    """The surface of a body at rest, whose points are searched among the parts of the same joint
    and its neighbours: an arm is never matched with the trunk beside it.

    Args:
        body: the body.
    """

    def __init__(self, body: BodyData) -> None:
        self.positions = body.template.astype(np.float64)
        self.triangles = body.triangles.astype(np.int64)
        self.normals = vertex_normals(self.positions, self.triangles)
        owner = body.skinning_weights.argmax(axis=1)
        related = np.eye(JOINT_COUNT, dtype=bool)
        related[np.arange(1, JOINT_COUNT), PARENTS[1:]] = True
        related |= related.T
        self._parts, self._trees = [], []
        for joint in range(JOINT_COUNT):
            part = np.flatnonzero(related[joint][owner])
            self._parts.append(part)
            self._trees.append(cKDTree(self.positions[part]) if len(part) else None)
        self._around = _triangles_around(self.triangles, len(self.positions))

    def closest(
        self, points: FloatArray, normals: FloatArray, joints: NDArray[np.intp]
    ) -> SurfacePoints:
        """The surface point closest to each of `points (P, 3)` with `normals (P, 3)` that belong to
        `joints (P,)`; triangles that face away from the normal are avoided where possible."""
        near = np.zeros((len(points), _NEAREST), np.int64)
        for joint in np.unique(joints):
            rows = np.flatnonzero(joints == joint)
            part, tree = self._parts[joint], self._trees[joint]
            if tree is None:  # no vertex belongs to this joint or its neighbours
                part, tree = np.arange(len(self.positions)), cKDTree(self.positions)
            found = tree.query(points[rows], k=min(_NEAREST, len(part)))[1]
            near[rows] = np.resize(part[found].T, (_NEAREST, len(rows))).T
        candidates = self._around[near].reshape(len(points), -1)  # (P, C) triangles, -1 for none
        known = candidates >= 0
        corners = self.triangles[np.maximum(candidates, 0)]
        weights = closest_on_triangles(points[:, None], self.positions[corners])
        places = np.einsum("pck,pckd->pcd", weights, self.positions[corners])
        distances = np.linalg.norm(places - points[:, None], axis=2)
        facing = np.einsum("pcd,pd->pc", self.normals[corners].mean(axis=2), normals)
        cost = np.where(known, distances, np.inf) + np.where(facing > 0, 0, 0.05)
        best = cost.argmin(axis=1)
        rows = np.arange(len(points))
        return SurfacePoints(corners[rows, best], weights[rows, best])


def closest_on_triangles(points: FloatArray, corners: FloatArray) -> FloatArray:
    """(..., 3) barycentric coordinates of the point of each triangle (..., 3, 3) that is closest to
    a point (..., 3)."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    ab, ac, ap = b - a, c - a, points - a
    aa, bb, cross = _dot(ab, ab), _dot(ac, ac), _dot(ab, ac)
    along_ab, along_ac = _dot(ab, ap), _dot(ac, ap)
    area = np.maximum(aa * bb - cross**2, 1e-18)
    v = (bb * along_ab - cross * along_ac) / area
    w = (aa * along_ac - cross * along_ab) / area
    inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    face = np.stack([1 - v - w, v, w], axis=-1)
    zero = np.zeros_like(v)
    edges = []
    for start, end, place in ((a, b, (0, 1)), (a, c, (0, 2)), (b, c, (1, 2))):
        edge = end - start
        share = _dot(points - start, edge) / np.maximum(_dot(edge, edge), 1e-18)
        share = np.clip(share, 0, 1)
        coordinates = [zero, zero, zero]
        coordinates[place[0]], coordinates[place[1]] = 1 - share, share
        edges.append(np.stack(coordinates, axis=-1))
    choices = np.stack(edges, axis=-2)  # (..., 3 edges, 3)
    places = np.einsum("...ek,...kd->...ed", choices, corners)
    nearest = np.linalg.norm(places - points[..., None, :], axis=-1).argmin(axis=-1)
    edge = np.take_along_axis(choices, nearest[..., None, None], axis=-2)[..., 0, :]
    return np.where(inside[..., None], face, edge)


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return (a * b).sum(axis=-1)


def _triangles_around(triangles: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(V, most) the triangles at each vertex, filled up with -1."""
    corners = triangles.ravel()
    order = np.argsort(corners, kind="stable")
    numbers = np.bincount(corners, minlength=count)
    starts = np.concatenate([[0], np.cumsum(numbers)[:-1]])
    table = np.full((count, int(numbers.max())), -1, np.int64)
    place = np.arange(len(corners)) - np.repeat(starts, numbers)
    table[corners[order], place] = order // 3
    return table
