# SPDX-License-Identifier: Apache-2.0
"""Converts bodies of one body model to another: from the shipped body to the user's SMPL.

Two SMPL-format bodies share 24 joints and their tree but not their vertices, shapes or rest pose.
Once for a pair of bodies, the target is fitted to the source's T-pose, first by its joints and then
by its surface. That yields a rotation of each joint by which the two rest poses differ, a point of
the source's surface for each of the target's vertices, and, as both T-poses are linear in their
shapes, a linear map of shapes by least squares. Converting a body is then a few products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import JOINT_COUNT, PARENTS, BodyData
from key2mesh_core.body.keypoint_regressor import shape_directions
from key2mesh_core.body.skinning import skin
from key2mesh_core.body.surfaces import FloatArray, Surface, SurfacePoints
from key2mesh_core.geometry.meshes import vertex_normals
from key2mesh_core.geometry.rotations import axis_angle_to_matrix

_BY_JOINTS, _BY_SURFACE = 10, 15
_EVERY = 4
"""The fit uses every fourth vertex; the final match uses all."""
_SHAPE_PRIOR, _LAST_PRIOR = 1e-5, 1e-7
"""Weight of squared betas against mean squared distances [m^2], in the fit and in the map of
shapes."""
_FAR_M = 0.08
"""Vertices farther from the other surface do not count in the fit [m]."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """The conversion from one body model to another.

    Attributes:
        turns: (24, 3, 3) from the target's rest pose to the source's, joint by joint.
        shape_map: (10, 10) and `shape_offset` (10,): target betas = map @ source betas + offset.
        pelvis_map: (3, 10) and `pelvis_offset` (3,): the target's pelvis relative to the source's,
            in the source's T-pose [m].
        points: of the source's surface at the target's vertices.
    """

    turns: FloatArray
    shape_map: FloatArray
    shape_offset: FloatArray
    pelvis_map: FloatArray
    pelvis_offset: FloatArray
    points: SurfacePoints

    def convert(
        self, betas: NDArray, rotations: NDArray, translation: NDArray
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """The target's betas (N, 10), rotations (N, 24, 3, 3) and pelvis (N, 3) [m] for the
        source's."""
        betas, rotations = np.asarray(betas, np.float64), np.asarray(rotations, np.float64)
        turned = rotations @ self.turns
        turned[:, 1:] = np.swapaxes(self.turns[PARENTS[1:]], 1, 2) @ turned[:, 1:]
        shift = betas @ self.pelvis_map.T + self.pelvis_offset
        moved = translation + (rotations[:, 0] @ shift[..., None])[..., 0]
        shapes = betas @ self.shape_map.T + self.shape_offset
        return tuple(np.asarray(each, np.float32) for each in (shapes, turned, moved))

    def residual(self, source_vertices: NDArray, target_vertices: NDArray) -> FloatArray:
        """(N,) mean distance [m] of the target's vertices (N, V, 3) from their points on the
        source's surface (N, W, 3)."""
        wanted = self.points.on(np.asarray(source_vertices, np.float64))
        return np.linalg.norm(wanted - target_vertices, axis=-1).mean(axis=-1)


def sample_residual(transfer: Transfer, source: BodyData, target: BodyData) -> float:
    """Mean residual [m] over 64 random bodies: normal betas, joints turned by about 0.3 rad."""
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(64, 10)).astype(np.float32)
    rotations = axis_angle_to_matrix(0.3 * rng.normal(size=(64, JOINT_COUNT, 3)))
    shapes, turned, moved = transfer.convert(betas, rotations, np.zeros((64, 3)))
    ours, _ = skin(source, betas, rotations)
    theirs, _ = skin(target, shapes, turned)
    return float(transfer.residual(ours, theirs + moved[:, None]).mean())


def transfer_between(source: BodyData, target: BodyData) -> Transfer:
    """Fits `target` to the T-pose of `source`; takes a second or two."""
    fit = _Fit(source, target)
    for _ in range(_BY_JOINTS):
        fit.turn_to_joints()
        fit.shape_to(fit.source_joints, *fit.joints_of_shape())
    some = np.arange(0, len(target.template), _EVERY)
    for _ in range(_BY_SURFACE):
        points, distance = fit.match(some)
        close = distance < _FAR_M
        wanted = points.on(fit.surface.positions)[close]
        fit.turn_to_surface(wanted, some[close])
        fit.shape_to(wanted, *fit.vertices_of_shape(some[close]))
    everything = np.arange(len(target.template))
    points, _ = fit.match(everything)
    added = points.on(np.moveaxis(shape_directions(source).astype(np.float64), 2, 0))
    base, matrix = fit.vertices_of_shape(everything)
    missing = points.on(fit.surface.positions) - base - fit.place
    unknowns = _solve(matrix, np.concatenate([missing[None], added]), _LAST_PRIOR)
    shapes, places = unknowns[:, :10], unknowns[:, 10:]
    places[0] += fit.place
    row = source.joint_regressor[0].astype(np.float64)
    pelvis = np.einsum("v,vcb->bc", row, shape_directions(source))
    places -= np.concatenate([fit.source_joints[:1], pelvis])
    return Transfer(fit.turns, shapes[1:].T, shapes[0], places[1:].T, places[0], points)


class _Fit:
    """The target in the source's T-pose: `turns` of the joints, `betas`, the pelvis's `place`."""

    def __init__(self, source: BodyData, target: BodyData) -> None:
        self.surface = Surface(source)
        self.source_joints = source.joint_regressor.astype(np.float64) @ self.surface.positions
        self.template = target.template.astype(np.float64)
        self.normals = vertex_normals(self.template, target.triangles)
        self.directions = shape_directions(target).astype(np.float64)
        self.weights = target.skinning_weights.astype(np.float64)
        regressor = target.joint_regressor.astype(np.float64)
        self.joints = regressor @ self.template
        self.joint_directions = np.einsum("jv,vcb->jcb", regressor, self.directions)
        self.owner = self.weights.argmax(axis=1)
        self.turns = np.tile(np.eye(3), (JOINT_COUNT, 1, 1))
        self.betas = np.zeros(10)
        self.place = self.source_joints[0].copy()

    def joints_of_shape(self) -> tuple[FloatArray, FloatArray]:
        """Posed joints (24, 3) of betas 0 with the pelvis at 0, and what each beta adds (24, 3,
        10)."""
        base, added = np.zeros((JOINT_COUNT, 3)), np.zeros((JOINT_COUNT, 3, 10))
        for joint in range(1, JOINT_COUNT):
            parent = PARENTS[joint]
            turn = self.turns[parent]
            base[joint] = base[parent] + turn @ (self.joints[joint] - self.joints[parent])
            bone = self.joint_directions[joint] - self.joint_directions[parent]
            added[joint] = added[parent] + turn @ bone
        return base, added

    def vertices_of_shape(self, rows: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """The same of the posed vertices `rows`: (P, 3), (P, 3, 10)."""
        base, added = self.joints_of_shape()
        turned = self._turned(rows)
        shift = base - (self.turns @ self.joints[..., None])[..., 0]
        weights = self.weights[rows]
        vertices = (turned @ self.template[rows][..., None])[..., 0] + weights @ shift
        moves = (added - self.turns @ self.joint_directions).reshape(JOINT_COUNT, -1)
        return vertices, turned @ self.directions[rows] + (weights @ moves).reshape(-1, 3, 10)

    def _turned(self, rows: NDArray[np.intp]) -> FloatArray:
        """(P, 3, 3) the blended rotations of vertices."""
        return (self.weights[rows] @ self.turns.reshape(JOINT_COUNT, 9)).reshape(-1, 3, 3)

    @cached_property
    def _children(self) -> list[list[int]]:
        return [np.flatnonzero(joint == PARENTS).tolist() for joint in range(JOINT_COUNT)]

    def turn_to_joints(self) -> None:
        """Turn each joint so that its bones point where the source's do."""
        rest = self.joints + self.joint_directions @ self.betas
        for joint, children in enumerate(self._children):
            parent = PARENTS[joint]
            if not children:
                self.turns[joint] = self.turns[parent]
                continue
            ours = rest[children] - rest[joint]
            theirs = self.source_joints[children] - self.source_joints[joint]
            # Where bones leave a rotation open, the parent's is kept.
            start = self.turns[parent] if parent >= 0 else np.eye(3)
            held = 0.05 * np.eye(3)
            self.turns[joint] = _best_rotation(
                np.concatenate([ours, held]), np.concatenate([theirs, held @ start.T])
            )

    def turn_to_surface(self, wanted: FloatArray, rows: NDArray[np.intp]) -> None:
        """Turn each joint so that its part of the vertices `rows` lies at `wanted`."""
        rest_joints = self.joints + self.joint_directions @ self.betas
        rest = self.template[rows] + self.directions[rows] @ self.betas
        for joint in range(JOINT_COUNT):
            base, added = self.joints_of_shape()
            place = self.place + base[joint] + added[joint] @ self.betas
            weight = self.weights[rows, joint] ** 2
            used = weight > 0.05
            if used.sum() < 8:
                self.turns[joint] = self.turns[PARENTS[joint]]
                continue
            self.turns[joint] = _best_rotation(
                rest[used] - rest_joints[joint], wanted[used] - place, weight[used]
            )

    def match(self, rows: NDArray[np.intp]) -> tuple[SurfacePoints, FloatArray]:
        """The source's surface points of the posed vertices `rows`, and their distances."""
        base, added = self.vertices_of_shape(rows)
        vertices = self.place + base + added @ self.betas
        normals = (self._turned(rows) @ self.normals[rows][..., None])[..., 0]
        points = self.surface.closest(vertices, normals, self.owner[rows])
        return points, np.linalg.norm(points.on(self.surface.positions) - vertices, axis=1)

    def shape_to(self, wanted: FloatArray, base: FloatArray, added: FloatArray) -> None:
        """Choose betas and the pelvis's place so that points `base (P, 3) + added (P, 3, 10) @
        betas` lie at `wanted (P, 3)`."""
        unknowns = _solve(added, (wanted - base - self.place)[None], _SHAPE_PRIOR)[0]
        self.betas = unknowns[:10]
        self.place = self.place + unknowns[10:]


def _solve(matrix: FloatArray, wanted: FloatArray, prior: float) -> FloatArray:
    """(K, 13) betas and shift for which `matrix (P, 3, 10) @ betas + shift` is closest to each of
    `wanted (K, P, 3)`."""
    count = len(matrix)
    shifts = np.tile(np.eye(3), (count, 1, 1))
    columns = np.concatenate([matrix, shifts], axis=2).reshape(3 * count, 13)
    held = np.diag([prior * count] * 10 + [0.0] * 3)
    right = columns.T @ wanted.reshape(len(wanted), -1).T
    return np.linalg.solve(columns.T @ columns + held, right).T


def _best_rotation(
    ours: FloatArray, theirs: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """The rotation that takes vectors (P, 3) closest to others (Kabsch 1976)."""
    weights = np.ones(len(ours)) if weights is None else weights
    left, _, right = np.linalg.svd((theirs * weights[:, None]).T @ ours)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return (left * signs) @ right
