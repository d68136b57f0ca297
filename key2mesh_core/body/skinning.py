# SPDX-License-Identifier: Apache-2.0
"""SMPL's meshes with numpy, for evaluation and conversion; engines run `mesh.onnx` instead.

Linear blend skinning with pose correctives, Loper et al., "SMPL" (2015), Eq. 2-4 and 9-10.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.body.data import PARENTS, BodyData
from key2mesh_core.body.keypoint_regressor import shape_directions


def skin(
    body: BodyData, betas: NDArray, rotations: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vertices (N, V, 3) and joints (N, 24, 3) [m], the pelvis at the origin.

    Args:
        body: the body.
        betas: (N, 10).
        rotations: (N, 24, 3, 3) relative to the parent, the root absolute.
    """
    count, size = len(betas), len(body.template)
    betas, rotations = np.asarray(betas, np.float32), np.asarray(rotations, np.float32)
    directions = shape_directions(body).astype(np.float32)
    shaped = body.template + (betas @ directions.reshape(3 * size, 10).T).reshape(count, size, 3)
    rest = body.joint_regressor @ shaped
    if body.pose_directions is not None:
        feature = (rotations[:, 1:] - np.eye(3, dtype=np.float32)).reshape(count, -1)
        correction = feature @ body.pose_directions.reshape(3 * size, -1).T
        shaped = shaped + correction.reshape(count, size, 3)
    world, joints = rotations.copy(), np.zeros_like(rest)
    for joint in range(1, len(PARENTS)):
        parent = PARENTS[joint]
        world[:, joint] = world[:, parent] @ rotations[:, joint]
        bone = rest[:, joint] - rest[:, parent]
        joints[:, joint] = joints[:, parent] + (world[:, parent] @ bone[..., None])[..., 0]
    shift = joints - (world @ rest[..., None])[..., 0]
    parts = np.concatenate([world.reshape(count, -1, 9), shift], axis=2)
    blended = body.skinning_weights @ parts  # (N, V, 12)
    turned = (blended[..., :9].reshape(count, size, 3, 3) @ shaped[..., None])[..., 0]
    return turned + blended[..., 9:], joints


def rest_pelvis(body: BodyData, betas: NDArray) -> NDArray[np.float64]:
    """(N, 3) the pelvis of the T-pose of betas (N, 10), where SMPL without translation has it."""
    row = body.joint_regressor[0].astype(np.float64)
    directions = np.einsum("v,vcb->cb", row, shape_directions(body))
    return row @ body.template + np.asarray(betas) @ directions.T
