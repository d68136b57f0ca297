# SPDX-License-Identifier: Apache-2.0
"""How the network's keypoints move when joints turn and the shape changes: exact derivatives.

A keypoint is a sum of parts, each fixed to one joint (`keypoint_regressor`). When a joint turns,
the parts beyond it in the tree move by the cross product of the axis with their lever arm; when a
beta changes, they move with the bones between the root and them. Both are sums over constant index
sets, so an exported graph computes them with a few matrix products.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from key2mesh_core.body.data import BETA_COUNT, JOINT_COUNT, JOINT_NAMES
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import quaternion_to_matrix

#: Joints that move no keypoint, so keypoints do not show how they are turned.
_IDLE = ("left_ankle", "right_ankle", "left_foot", "right_foot")
_IDLE_HANDS = ("left_wrist", "right_wrist", "left_hand", "right_hand")

MOVING = tuple(number for number, name in enumerate(JOINT_NAMES) if name not in _IDLE + _IDLE_HANDS)
"""The J joints whose rotation moves keypoints."""


class Linearisation(NamedTuple):
    """Bodies, and how their keypoints move.

    `joints (N, 24, 3)` and `keypoints (N, K, 3)`, the pelvis at the origin [m];
    `by_rotation (N, K, 3, 3 J)` [m per rad]: the columns are small turns of the `MOVING` joints
    about the x, y and z axes of their parents' frames (of the body's frame for the root);
    `by_betas (N, K, 3, 10)` [m].
    """

    joints: Tensor
    keypoints: Tensor
    by_rotation: Tensor
    by_betas: Tensor


class LinearisedKeypoints(nn.Module):
    """`BodyModel.keypoints` with its derivatives.

    The derivatives ignore the pose-dependent corrections of the shape, which move landmarks of the
    face by millimetres.
    """

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.body = body
        parents = np.maximum(body.parents, 0)
        path = np.eye(JOINT_COUNT)  # [j, i]: i is j or lies between the root and j
        for joint in range(1, JOINT_COUNT):
            path[joint] += path[parents[joint]]
        moved = path[body.part_joint.numpy()][:, MOVING].T  # (J, P): the parts that a joint moves
        beyond = torch.from_numpy(moved).float()[:, None] * body.part_sum  # (J, K, P)
        self._constant("beyond", beyond.flatten(0, 1))
        self._constant("mass_beyond", beyond @ body.part_mass)
        self._constant("path", path)
        self._constant("moving", MOVING, torch.int64)
        # Places of all joints in (moving joints, all joints).
        order = [MOVING.index(j) if j in MOVING else len(MOVING) + j for j in range(JOINT_COUNT)]
        self._constant("order", order, torch.int64)
        self._constant("above", parents[list(MOVING)][1:], torch.int64)
        self._constant("above_all", parents[1:], torch.int64)
        self._constant("root_axes", np.eye(3)[None, None])
        # A turn about an axis moves a lever by axis x lever: minus the matrix of lever x, flat.
        cross = np.zeros((3, 3, 3))
        for x, y, z in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            cross[z, x, y], cross[z, y, x] = 1, -1
        self._constant("cross", cross.reshape(3, 9))

    def forward(self, betas: Tensor, rotations: Tensor) -> Linearisation:
        """Args: betas (N, 10); rotations (N, 24, 3, 3) to the parent, the root absolute."""
        body, count = self.body, betas.shape[0]
        joints, world = body.forward_kinematics(betas, rotations)
        parts = body.parts(betas, rotations, joints, world)
        keypoints = body.part_sum @ parts
        moving = joints.index_select(1, self.moving)
        lever = (self.beyond @ parts).reshape(count, len(MOVING), -1, 3)
        lever = lever - self.mass_beyond * moving[:, :, None]
        axes = torch.cat(
            [self.root_axes.expand(count, 1, 3, 3), world.index_select(1, self.above)], 1
        )
        turned = (lever @ self.cross).reshape(count, len(MOVING), -1, 3) @ axes  # (N, J, 3 K, 3)
        by_rotation = turned.transpose(1, 2).reshape(count, -1, 3, 3 * len(MOVING))
        # Bones move with the betas in their parent's frame; parts in their own joint's.
        bones = (
            world.index_select(1, self.above_all) @ body.bone_shape.reshape(-1, 3, BETA_COUNT)[1:]
        )
        bones = (self.path[:, 1:] @ bones.flatten(2)).index_select(1, body.part_joint)
        offsets = world.index_select(1, body.part_joint) @ body.part_shape.reshape(
            -1, 3, BETA_COUNT
        )
        by_betas = body.part_sum @ (offsets.flatten(2) + body.part_mass * bones)
        return Linearisation(
            joints, keypoints, by_rotation, by_betas.reshape(count, -1, 3, BETA_COUNT)
        )

    def turned(self, rotations: Tensor, turns: Tensor) -> Tensor:
        """Rotations (N, 24, 3, 3) after small turns (N, 3 J) [rad], in `by_rotation`'s order."""
        half = turns.reshape(-1, len(MOVING), 3) / 2
        # A quaternion of (1, half the turn): equal to first order, without a division by zero.
        size = torch.sqrt(1 + (half * half).sum(2, keepdim=True))
        turn = quaternion_to_matrix(torch.nn.functional.pad(half, (1, 0), value=1.0) / size)
        moving = turn @ rotations.index_select(1, self.moving)
        return torch.cat([moving, rotations], 1).index_select(1, self.order)

    def _constant(self, name: str, values: object, dtype: torch.dtype = torch.float32) -> None:
        self.register_buffer(name, torch.as_tensor(values).to(dtype).contiguous(), persistent=False)
