# SPDX-License-Identifier: Apache-2.0
"""SMPL's forward kinematics and skinning in torch, with keypoints that need no mesh.

Frames: everything is root-relative (the pelvis at the origin) in the frame that the root rotation
maps into; metres. Linear blend skinning as in Loper et al., "SMPL" (2015), Eq. 2-4 and 9-10.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.keypoint_regressor import reduce_regressor, shape_directions


class BodyModel(nn.Module):
    """A body's joints, network keypoints and vertices from shape and pose.

    Args:
        body: the body; its first 10 shape directions are used, missing ones are zero.
        as_detected: where neck and hip keypoints are (see `joint_mix`).
    """

    def __init__(self, body: BodyData, as_detected: bool = True) -> None:
        super().__init__()
        self.identifier = body.identifier
        regressor = body.joint_regressor.astype(np.float64)
        directions = shape_directions(body)
        joints = regressor @ body.template
        joint_shape = np.einsum("jv,vcb->jcb", regressor, directions)
        parents = np.asarray(body.parents)
        # Bones, child minus parent: forward kinematics needs no joint position but these.
        self._buffer("bone_template", joints[1:] - joints[parents[1:]])
        self._buffer("bone_shape", joint_shape[1:] - joint_shape[parents[1:]])
        self._buffer("joint_template", joints - joints[:1])
        self._buffer("joint_shape", joint_shape - joint_shape[:1])
        self.levels, order = _levels(parents)
        self._buffer("tree_order", np.argsort(order), dtype=torch.int64)

        reduced = reduce_regressor(body, as_detected)
        self._buffer("joint_mix", reduced.joint_mix)
        self._buffer("pair_joint", reduced.joint, dtype=torch.int64)
        self._buffer("pair_template", reduced.template)
        self._buffer("pair_shape", reduced.shape)
        self._buffer("pair_pose", reduced.pose)
        self._buffer("pair_mass", reduced.mass)
        # Pairs must lie relative to the pelvis, as the joints do.
        self.pair_template -= self.pair_mass[:, None] * self.joint_mean(joints)
        self.pair_shape -= self.pair_mass[:, None, None] * self.joint_mean(joint_shape)
        self._buffer("pair_sum", np.eye(18)[:, reduced.keypoint])

        # Kept as (3, V, ...) so that skinning works on long rows instead of tiny 3-vectors.
        root = joints[:1], joint_shape[:1]
        self._buffer("vertex_template", (body.template - root[0]).T)
        self._buffer("vertex_shape", (directions - root[1]).transpose(1, 0, 2))
        pose = body.pose_directions
        correctives = None if pose is None or not np.any(pose) else pose.transpose(1, 0, 2)
        self._buffer("vertex_pose", correctives)
        self._buffer("skinning_weights", body.skinning_weights.T)

    @staticmethod
    def joint_mean(values: np.ndarray) -> Tensor:
        """The root's row of a per-joint table, as float32."""
        return torch.as_tensor(np.asarray(values[0]), dtype=torch.float32)

    def forward_kinematics(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (N, 24, 3) [m], pelvis at the origin, and their world rotations (N, 24, 3, 3).

        Args:
            betas: (N, 10). rotations: (N, 24, 3, 3) relative to the parent, the root absolute.
        """
        bones = self.bone_template + torch.einsum("jcb,nb->njc", self.bone_shape, betas)
        worlds = [rotations[:, :1]]
        positions = [torch.zeros_like(bones[:, :1])]
        # Joints of equal depth at once: 9 small batched products instead of 23.
        for joints, parent_slots in self.levels:
            parents = worlds[-1][:, parent_slots]
            step = (parents @ bones[:, [j - 1 for j in joints], :, None])[..., 0]
            positions.append(positions[-1][:, parent_slots] + step)
            worlds.append(parents @ rotations[:, joints])
        world = torch.cat(worlds, dim=1)[:, self.tree_order]
        return torch.cat(positions, dim=1)[:, self.tree_order], world

    def keypoints(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (N, 24, 3) and the network's keypoints (N, 18, 3) [m], without a mesh."""
        joints, world = self.forward_kinematics(betas, rotations)
        offset = self.pair_template + torch.einsum("pcb,nb->npc", self.pair_shape, betas)
        if self.pair_pose is not None:
            offset = offset + torch.einsum("pcf,nf->npc", self.pair_pose, _pose_feature(rotations))
        rest = self.joint_template + torch.einsum("jcb,nb->njc", self.joint_shape, betas)
        offset = offset - self.pair_mass[:, None] * rest[:, self.pair_joint]
        rotated = (world[:, self.pair_joint] @ offset[..., None])[..., 0]
        pairs = rotated + self.pair_mass[:, None] * joints[:, self.pair_joint]
        return joints, self.joint_mix @ joints + self.pair_sum @ pairs

    def vertices(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Vertices (N, V, 3) [m], pelvis at the origin."""
        joints, world = self.forward_kinematics(betas, rotations)
        count = self.vertex_template.shape[1]
        shaped = self.vertex_template + (betas @ self.vertex_shape.reshape(-1, 10).T).reshape(
            -1, 3, count
        )
        if self.vertex_pose is not None:
            flat = self.vertex_pose.reshape(-1, 207).T
            shaped = shaped + (_pose_feature(rotations) @ flat).reshape(-1, 3, count)
        rest = self.joint_template + torch.einsum("jcb,nb->njc", self.joint_shape, betas)
        shift = joints - (world @ rest[..., None])[..., 0]
        transforms = torch.cat([world.flatten(2), shift], dim=2).transpose(1, 2)
        skinned = transforms @ self.skinning_weights
        turned = (skinned[:, :9].reshape(-1, 3, 3, count) * shaped[:, None]).sum(2)
        return (turned + skinned[:, 9:]).transpose(1, 2)

    def _buffer(
        self, name: str, values: np.ndarray | None, dtype: torch.dtype = torch.float32
    ) -> None:
        tensor = None if values is None else torch.as_tensor(np.ascontiguousarray(values)).to(dtype)
        # The body is a file of its own: a checkpoint does not repeat it.
        self.register_buffer(name, tensor, persistent=False)


def _pose_feature(rotations: Tensor) -> Tensor:
    """(N, 207): how far the 23 body joints are from the T-pose (SMPL Eq. 9)."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[:, 1:] - identity).flatten(1)


def _levels(parents: np.ndarray) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """Joints by depth as (joints, their parents' places in the level above), and all in order."""
    levels, order, above = [], [0], [0]
    while len(order) < len(parents):
        joints = [j for j in range(1, len(parents)) if int(parents[j]) in above]
        levels.append((joints, [above.index(int(parents[j])) for j in joints]))
        order += joints
        above = joints
    return levels, order
