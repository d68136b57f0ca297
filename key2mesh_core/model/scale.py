# SPDX-License-Identifier: Apache-2.0
"""Finds the scale of bodies, which an image does not determine, from another measurement.

An image stays the same when everything in it is scaled about the camera's centre. A body is
therefore known only up to one factor, for which the network assumes the size of an average person.
Each function here returns that factor, `scale`, for N people from one source:

    height_scale    the person's height
    depth_scale     the distance of the hips, measured by a depth camera or a lidar
    ground_scale    the camera's height above the floor

NaN means that the source does not determine a person's scale. `rescale` applies the factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.depth import Lookup
from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.people.bodies import Bodies

SCALE_LIMITS = (0.5, 2.0)
"""A factor outside this range is an error (another person's depth, feet in the air) and is not
used."""

SHAPE_SPREAD_M = 0.003
"""Error [m] per vertex that costs as much as a beta of 1 in the fit of scaled bodies. Without a
cost on betas, the least important ones grow to many standard deviations for tenths of a
millimetre."""

# For the default body; people differ by centimetres, which is the accuracy of these measurements.
ANKLE_ABOVE_SOLE_M, BALL_ABOVE_SOLE_M = 0.077, 0.009
FRONT_M, BACK_M, SIDE_M = 0.135, 0.095, 0.158
"""Distance from the spine's lowest joints to the body's surface at the front, back and side."""
ARM_RADIUS_M = 0.045

_PELVIS, _LEFT_HIP, _RIGHT_HIP, _SPINE = 0, 1, 2, 6
_ARMS = ((16, 18), (18, 20), (20, 22), (17, 19), (19, 21), (21, 23))
_FEET = {"left_ankle": (7, 10), "right_ankle": (8, 11)}
_HEIGHT_CANDIDATES = 64
_FEWEST_SAMPLES = 5


@dataclass(frozen=True, eq=False)
class ShapeSpace:
    """How betas change a bundle's body in its rest pose.

    Attributes:
        top, bottom: y [m] of the vertices that may be the highest and the lowest: constants (K,)
            and rates per beta (K, 10).
        growth: constants (10,) and rates (10, 10) of the change of betas per unit of scale about
            the pelvis: growth[0] + growth[1] @ betas.
    """

    top: tuple[NDArray[np.float64], NDArray[np.float64]]
    bottom: tuple[NDArray[np.float64], NDArray[np.float64]]
    growth: tuple[NDArray[np.float64], NDArray[np.float64]]

    @classmethod
    def of(cls, estimator: Estimator) -> ShapeSpace:
        """Compute it from 11 bodies: the mean one and one for each beta."""
        betas = np.concatenate([np.zeros((1, 10)), np.eye(10)]).astype(np.float32)
        meshes = estimator.add_vertices(rest_bodies(betas)).vertices.astype(np.float64)
        template, directions = meshes[0], meshes[1:] - meshes[0]
        order = np.argsort(template[:, 1])

        def heights(vertices: NDArray[np.intp]) -> tuple[NDArray, NDArray]:
            return template[vertices, 1], directions[:, vertices, 1].T

        flat = directions.reshape(10, -1)
        ridge = len(template) * SHAPE_SPREAD_M**2 * np.eye(10)
        inverse = np.linalg.solve(flat @ flat.T + ridge, flat)
        return cls(
            top=heights(order[-_HEIGHT_CANDIDATES:]),
            bottom=heights(order[:_HEIGHT_CANDIDATES]),
            growth=(inverse @ template.ravel(), inverse @ flat.T),
        )

    def heights(self, betas: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) heights [m] of upright bodies with betas (N, 10)."""
        betas = np.asarray(betas, dtype=np.float64)
        top = self.top[0] + betas @ self.top[1].T
        bottom = self.bottom[0] + betas @ self.bottom[1].T
        return top.max(axis=1) - bottom.min(axis=1)

    def scaled_betas(
        self, betas: NDArray[np.floating], scale: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """Betas (N, 10) of bodies that are `scale` (N,) times as tall.

        Heights are accurate to millimetres; the rest is as accurate as the shape space allows, 7 mm
        per vertex for 10 % on the default body.
        """
        betas = np.asarray(betas, dtype=np.float64)
        growth = self.growth[0] + betas @ self.growth[1].T
        before = self.heights(betas)
        wanted = scale * before
        step = (scale - 1.0)[:, None] * growth
        result = betas + step
        for _ in range(2):  # the same direction, as far as the height requires
            gained = self.heights(result) - before
            missing = np.divide(
                wanted - before, gained, out=np.ones_like(gained), where=np.abs(gained) > 1e-4
            )
            result = betas + np.clip(missing, 0.5, 2.0)[:, None] * (result - betas)
        return result.astype(np.float32)


def rest_bodies(betas: NDArray[np.float32]) -> Bodies:
    """Bodies with betas (N, 10) in the rest pose, y up, pelvis at the origin; without joints."""
    count = len(betas)
    zeros = np.zeros((count, 24, 3), np.float32)
    return Bodies(
        betas=betas,
        rotations=np.tile(np.eye(3, dtype=np.float32), (count, 24, 1, 1)),
        translation=zeros[:, 0],
        poses=np.zeros((count, 72), np.float32),
        joints=zeros,
        reprojection_error=np.zeros(count, np.float32),
        quality=np.zeros(count, np.float32),
    )


def rescale(bodies: Bodies, scale: NDArray[np.floating], shapes: ShapeSpace) -> Bodies:
    """Bodies scaled about the camera's centre, so that their pixels stay where they are.

    Translation and joints are scaled exactly; betas become those of a body of that size (see
    `ShapeSpace.scaled_betas`), so that vertices computed from them match. Call this before
    computing vertices. NaN in `scale` (N,) leaves a body as it is.
    """
    scale = np.where(np.isnan(scale), 1.0, scale)
    factor = scale.astype(np.float32)[:, None]
    return replace(
        bodies,
        betas=shapes.scaled_betas(bodies.betas, scale),
        translation=bodies.translation * factor,
        joints=bodies.joints * factor[..., None],
        vertices=None,
    )


def height_scale(bodies: Bodies, height: float, shapes: ShapeSpace) -> NDArray[np.float64]:
    """(N,) scale from the height of everybody in view [m]."""
    return _plausible(height / shapes.heights(bodies.betas))


def down_in_camera(pitch: float, roll: float) -> NDArray[np.float64]:
    """(3,) unit vector towards the floor in the camera's optical frame.

    Args:
        pitch: downward pitch of the camera [rad].
        roll: clockwise roll about the viewing direction, seen from behind the camera [rad].
    """
    level = math.cos(pitch)
    return np.array([math.sin(roll) * level, math.cos(roll) * level, math.sin(pitch)])


def ground_scale(
    bodies: Bodies, keypoints: NDArray[np.float32], height: float, down: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(N,) scale at which each person's lower foot stands on the floor.

    Args:
        keypoints: (N, K, 3), sanitised; only a foot with a seen ankle counts.
        height: height of the camera above the floor [m].
        down: (3,) unit vector towards the floor in the camera's frame.
    """
    lowest = np.full(len(bodies), np.nan)
    for ankle, (ankle_joint, ball_joint) in _FEET.items():
        seen = keypoints[:, NETWORK_KEYPOINTS.index(ankle), 2] >= SEEN_CONFIDENCE
        sole = np.maximum(
            bodies.joints[:, ankle_joint] @ down + ANKLE_ABOVE_SOLE_M,
            bodies.joints[:, ball_joint] @ down + BALL_ABOVE_SOLE_M,
        )
        lowest = np.fmax(lowest, np.where(seen, sole, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        return _plausible(height / lowest)


def depth_scale(bodies: Bodies, intrinsics: Intrinsics, lookup: Lookup) -> NDArray[np.float64]:
    """(N,) scale from the measured depth of the lower trunk.

    Depth is read at 25 points between the hips and the middle of the spine, and compared with the
    depth of the body's surface there: an ellipse about the trunk or, if nearer, an arm. The median
    tolerates up to half of the points being on something else.
    """
    count = len(bodies)
    if count == 0:
        return np.zeros(0)
    joints = bodies.joints.astype(np.float64)
    middle = (joints[:, _LEFT_HIP] + joints[:, _RIGHT_HIP]) / 2
    across = (joints[:, _LEFT_HIP] - joints[:, _RIGHT_HIP])[:, None]
    along = (joints[:, _SPINE] - middle)[:, None]
    u, v = np.meshgrid(np.linspace(-0.4, 0.4, 5), np.linspace(0.0, 1.0, 5))
    points = middle[:, None] + u.reshape(-1, 1) * across + v.reshape(-1, 1) * along  # (N, 25, 3)
    measured = lookup(project(points, intrinsics).reshape(-1, 2)).reshape(count, -1)
    expected = np.minimum(_trunk_depth(points, bodies.rotations[:, 0]), _arm_depth(points, joints))
    ratio = measured / np.maximum(expected, 0.05)
    ratio[(ratio < SCALE_LIMITS[0]) | (ratio > SCALE_LIMITS[1])] = np.nan
    enough = np.isfinite(ratio).sum(axis=1) >= _FEWEST_SAMPLES
    scale = np.full(count, np.nan)
    scale[enough] = np.nanmedian(ratio[enough], axis=1)
    return scale


def _trunk_depth(points: NDArray[np.float64], pelvis: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, K) depth [m] of the trunk's surface in front of points (N, K, 3) inside it."""
    rays = points.mean(axis=1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    # Towards the camera, in the pelvis' axes: x to the left, z to the front.
    towards = np.einsum("nji,nj->ni", pelvis.astype(np.float64), -rays)
    reach = np.where(towards[:, 2] > 0, FRONT_M, BACK_M)
    flat = np.hypot(towards[:, 0] / SIDE_M, towards[:, 2] / reach)
    # Seen from above or below, the trunk is assumed to be as deep as it is wide.
    thickness = 1.0 / np.maximum(flat, 1.0 / SIDE_M)
    return points[..., 2] - (thickness * rays[:, 2])[:, None]


def _arm_depth(points: NDArray[np.float64], joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) depth [m] of the nearest arm on the rays through points; infinite without one."""
    rays = (points / np.linalg.norm(points, axis=-1, keepdims=True))[:, :, None]  # (N, K, 1, 3)
    start, end = (joints[:, [arm[k] for arm in _ARMS]][:, None] for k in (0, 1))
    along = end - start  # (N, 1, 6, 3)
    # The nearest points of ray and bone, from the two orthogonality conditions.
    b, c = (rays * along).sum(-1), (along * along).sum(-1)
    d, e = (rays * start).sum(-1), (along * start).sum(-1)
    share = np.clip((b * d - e) / np.maximum(c - b * b, 1e-9), 0.0, 1.0)
    place = start + share[..., None] * along
    way = (rays * place).sum(-1)
    beside2 = (place * place).sum(-1) - way * way
    surface = way - np.sqrt(np.maximum(ARM_RADIUS_M**2 - beside2, 0.0))
    hit = (beside2 < ARM_RADIUS_M**2) & (way > 0)
    return np.where(hit, surface * rays[..., 2], np.inf).min(axis=-1)


def _plausible(scale: NDArray[np.floating]) -> NDArray[np.float64]:
    low, high = SCALE_LIMITS
    with np.errstate(invalid="ignore"):
        return np.where((scale >= low) & (scale <= high), scale, np.nan)
