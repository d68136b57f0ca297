# SPDX-License-Identifier: Apache-2.0
"""People of known size at known places before a known camera, posed by the default bundle.

Also what a depth camera would measure of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from key2mesh_core.body.files import load_body
from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.model.scale import rest_bodies
from key2mesh_core.people.bodies import Bodies

CAMERA = Intrinsics(600.0, 600.0, 320.0, 240.0)
SIZE = (640, 480)
FACING = np.diag([1.0, -1.0, -1.0])
ARMS_DOWN = 1.2  # rad

_JOINTS = {
    "left_hip": 1, "right_hip": 2, "left_knee": 4, "right_knee": 5, "left_ankle": 7,
    "right_ankle": 8, "neck": 12, "left_shoulder": 16, "right_shoulder": 17, "left_elbow": 18,
    "right_elbow": 19, "left_wrist": 20, "right_wrist": 21,
}  # fmt: skip
_FACE = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")


@cache
def estimator() -> Estimator:
    """On the bundle that comes with the package."""
    return Estimator(load_bundle())


def standing(beta: float, place: tuple[float, float, float], yaw: float = 0.0) -> Bodies:
    """One body of size `beta`, upright, arms down, turned by `yaw` rad from facing the camera;
    `place` is its pelvis in the camera's frame [m]. With joints and vertices."""
    betas = np.zeros((1, 10), np.float32)
    betas[0, 0] = beta
    rotations = np.tile(np.eye(3), (24, 1, 1))
    turn = np.array([0.0, yaw, 0.0])
    rotations[0] = FACING @ axis_angle_to_matrix(turn)
    rotations[16] = axis_angle_to_matrix(np.array([0.0, 0.0, -ARMS_DOWN]))
    rotations[17] = axis_angle_to_matrix(np.array([0.0, 0.0, ARMS_DOWN]))
    place_array = np.array([place], np.float32)
    body = replace(
        rest_bodies(betas),
        rotations=rotations[None].astype(np.float32),
        poses=matrix_to_axis_angle(rotations).reshape(1, 72).astype(np.float32),
        translation=place_array,
        joints=_joints(betas[0], rotations, place_array[0])[None],
    )
    return estimator().add_vertices(body)


def _joints(betas: NDArray, rotations: NDArray, place: NDArray) -> NDArray[np.float32]:
    """(24, 3), down the tree."""
    data = load_body()
    rest = data.joint_regressor @ (data.template + data.shape_directions[..., :10] @ betas)
    turns, places = [rotations[0]], [place.astype(np.float64)]
    for child, parent in enumerate(data.parents[1:], start=1):
        places.append(places[parent] + turns[parent] @ (rest[child] - rest[parent]))
        turns.append(turns[parent] @ rotations[child])
    return np.array(places, dtype=np.float32)


def keypoints_of(body: Bodies, camera: Intrinsics = CAMERA) -> NDArray[np.float32]:
    """(1, 18, 3) px: what a perfect detector sees of one body."""
    face = load_body().face_regressor @ body.vertices[0]
    points = np.zeros((18, 3))
    for name, joint in _JOINTS.items():
        points[NETWORK_KEYPOINTS.index(name)] = body.joints[0, joint]
    for name, point in zip(_FACE, face, strict=True):
        points[NETWORK_KEYPOINTS.index(name)] = point
    pixels = project(points, camera)
    return np.concatenate([pixels, np.full((18, 1), 0.9)], axis=1)[None].astype(np.float32)


def scaled(body: Bodies, factor: float) -> Bodies:
    """The same picture by a body `factor` times as large, as much farther away."""
    return replace(
        body,
        translation=body.translation * np.float32(factor),
        joints=body.joints * np.float32(factor),
        vertices=body.vertices * np.float32(factor),
    )


def depth_image(body: Bodies, wall: float = np.nan, camera: Intrinsics = CAMERA) -> NDArray:
    """(480, 640) [m] of one body before a wall."""
    corners = body.vertices[0].astype(np.float64)[estimator().bundle.triangles]
    picture = Image.new("F", SIZE, wall)
    draw = ImageDraw.Draw(picture)
    depths = corners[..., 2].mean(axis=1)
    places = np.rint(project(corners, camera)).astype(int).reshape(-1, 6)
    for index in np.argsort(-depths):  # the nearest comes last and stays
        draw.polygon(places[index].tolist(), fill=depths[index])
    return np.array(picture)


def cloud(depth: NDArray, camera: Intrinsics = CAMERA) -> NDArray[np.float32]:
    """(P, 3) points of a depth image's measured pixels [m]."""
    row, column = np.nonzero(np.isfinite(depth))
    z = depth[row, column]
    x, y = (column - camera.cx) / camera.fx * z, (row - camera.cy) / camera.fy * z
    return np.stack([x, y, z], axis=-1).astype(np.float32)
