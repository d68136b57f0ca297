# SPDX-License-Identifier: Apache-2.0
"""SMPL's forward kinematics and skinning in torch, and keypoints without a mesh.

Everything is relative to the pelvis, in metres, in the frame that the root rotation maps into.
Linear blend skinning as in Loper et al., "SMPL" (2015), Eq. 2-4 and 9-10.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from key2mesh_core.body.data import BETA_COUNT, BodyData
from key2mesh_core.body.keypoint_regressor import reduce_regressor, shape_directions
from key2mesh_core.keypoints.table import KEYPOINTS


class BodyModel(nn.Module):
    """A body's joints, network keypoints and vertices from shape and pose.

    Args:
        body: the body; its first 10 shape directions are used, missing ones are zero.
        as_detected: where neck and hip keypoints are (see `joint_mix`).
        keypoints: number of keypoints, the first rows of the table of keypoints.
    """

    def __init__(
        self, body: BodyData, as_detected: bool = True, keypoints: int = len(KEYPOINTS)
    ) -> None:
        super().__init__()
        self.identifier = body.identifier
        regressor = body.joint_regressor.astype(np.float64)
        directions = shape_directions(body)
        joints = regressor @ body.template
        joint_shape = np.einsum("jv,vcb->jcb", regressor, directions)
        root = joints[:1], joint_shape[:1]
        parents = np.maximum(body.parents, 0)
        # Bones, child minus parent, are all that kinematics needs. The root's is 0.
        self._linear("bone", joints - joints[parents], joint_shape - joint_shape[parents])
        self._linear("joint", joints - root[0], joint_shape - root[1])
        self._buffer("bottom_row", np.eye(4)[3:])
        self.parents = tuple(int(parent) for parent in body.parents)
        self.level_sizes, slots = _levels(body.parents)
        for depth, parents in enumerate(slots):
            self._buffer(f"slots_{depth}", parents, dtype=torch.int64)

        reduced = reduce_regressor(body, as_detected)
        used = reduced.keypoint < keypoints
        part_joint, mass = reduced.joint[used], reduced.mass[used].astype(np.float64)[:, None]
        self._buffer("part_joint", part_joint, dtype=torch.int64)
        self._buffer("part_mass", mass)
        self._buffer("part_sum", np.eye(len(KEYPOINTS))[:keypoints, reduced.keypoint[used]])
        # Relative to the part's joint.
        self._linear(
            "part",
            reduced.template[used] - mass * joints[part_joint],
            reduced.shape[used] - mass[..., None] * joint_shape[part_joint],
        )
        pose = None if reduced.pose is None else reduced.pose[used].reshape(-1, 207)
        self._buffer("part_pose", pose)

        # Stored as (3, V, ...), so that skinning works on long rows instead of short 3-vectors.
        self._buffer("vertex_template", (body.template - root[0]).T)
        self._buffer(
            "vertex_shape", (directions - root[1]).transpose(1, 0, 2).reshape(-1, BETA_COUNT)
        )
        pose = body.pose_directions
        used = pose is not None and np.any(pose)
        self._buffer("vertex_pose", pose.transpose(1, 0, 2).reshape(-1, 207) if used else None)
        self._buffer("skinning_weights", body.skinning_weights.T)

    def forward_kinematics(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (N, 24, 3) [m], pelvis at the origin, and their world rotations (N, 24, 3, 3).

        Args:
            betas: (N, 10). rotations: (N, 24, 3, 3) relative to the parent, the root absolute.
        """
        bones = self._shaped("bone", betas)[..., None]
        # shape[0], not len(): the exported batch size must stay dynamic.
        bottom = self.bottom_row.expand(betas.shape[0], 24, 1, 4)
        local = torch.cat([torch.cat([rotations, bones], -1), bottom], -2)
        # Joints of equal depth at once, rotation and place in one product: 8 instead of 46.
        root, *levels = local.split(self.level_sizes, 1)
        worlds = [root]
        for depth, level in enumerate(levels):
            parents, slots = worlds[-1], getattr(self, f"slots_{depth}")
            if slots is not None:
                parents = parents.index_select(1, slots)
            worlds.append(parents @ level)
        world = torch.cat(worlds, dim=1)
        return world[..., :3, 3], world[..., :3, :3]

    def keypoints(self, betas: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (N, 24, 3) and the network's keypoints (N, K, 3) [m], without a mesh."""
        joints, world = self.forward_kinematics(betas, rotations)
        return joints, self.part_sum @ self.parts(betas, rotations, joints, world)

    def parts(self, betas: Tensor, rotations: Tensor, joints: Tensor, world: Tensor) -> Tensor:
        """(N, P, 3) [m]: what each joint adds to each keypoint; `joints` and `world` as
        `forward_kinematics` returns them."""
        offset = self._shaped("part", betas)
        if self.part_pose is not None:
            correction = linear(_pose_feature(rotations), self.part_pose)
            offset = offset + correction.reshape(offset.shape)
        turned = (world.index_select(1, self.part_joint) @ offset[..., None])[..., 0]
        return turned + self.part_mass * joints.index_select(1, self.part_joint)

    def vertices(
        self, betas: Tensor, rotations: Tensor, translation: Tensor | None = None
    ) -> Tensor:
        """Vertices (N, V, 3) [m], the pelvis at the origin or at `translation` (N, 3)."""
        joints, world = self.forward_kinematics(betas, rotations)
        count = self.vertex_template.shape[1]
        rest = self._shaped("joint", betas)
        shift = joints - (world @ rest[..., None])[..., 0]
        if translation is not None:
            shift = shift + translation[:, None]  # a vertex's weights sum to 1
        # Axis by axis, on rows of all vertices: engines are fastest on long rows without copies.
        vertices = shift.mT @ self.skinning_weights
        directions = self.vertex_shape.reshape(3, count, BETA_COUNT)
        feature = None if self.vertex_pose is None else _pose_feature(rotations)
        for axis in range(3):
            shaped = linear(betas, directions[axis], self.vertex_template[axis])
            if feature is not None:
                shaped = shaped + linear(feature, self.vertex_pose.reshape(3, count, 207)[axis])
            turned = world[..., axis].mT @ self.skinning_weights
            vertices = vertices + turned * shaped[:, None]
        return vertices.mT

    def _linear(self, name: str, template: np.ndarray, shape: np.ndarray) -> None:
        """Stores points (P, 3) and their displacement per beta (P, 3, 10), for `_shaped`."""
        self._buffer(f"{name}_template", template.reshape(-1))
        self._buffer(f"{name}_shape", shape.reshape(-1, BETA_COUNT))

    def _shaped(self, name: str, betas: Tensor) -> Tensor:
        """The stored points (N, P, 3) for betas (N, 10) [m]."""
        template, shape = getattr(self, f"{name}_template"), getattr(self, f"{name}_shape")
        return linear(betas, shape, template).reshape(-1, len(template) // 3, 3)

    def _buffer(
        self, name: str, values: np.ndarray | None, dtype: torch.dtype = torch.float32
    ) -> None:
        tensor = None if values is None else torch.as_tensor(np.ascontiguousarray(values)).to(dtype)
        # The body is a separate file, so a checkpoint does not repeat it.
        self.register_buffer(name, tensor, persistent=False)


def _pose_feature(rotations: Tensor) -> Tensor:
    """(N, 207): deviation of the 23 joints' rotations from the T-pose (SMPL Eq. 9)."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[:, 1:] - identity).flatten(1)


def _levels(parents: np.ndarray) -> tuple[list[int], list[np.ndarray | None]]:
    """How many joints lie at each depth below the root, and the places of their parents one level
    up; None where those are the parents one by one, or one parent of all.

    SMPL numbers its joints level by level, so every level is a slice.
    """
    sizes, slots, first = [1], [], 0
    while first + sizes[-1] < len(parents):
        after = first + sizes[-1]
        level = [int(p) - first for p in parents[after:] if int(p) < after]
        same = level == list(range(sizes[-1])) or (sizes[-1] == 1 and set(level) == {0})
        slots.append(None if same else np.array(level))
        sizes.append(len(level))
        first = after
    return sizes, slots
