# SPDX-License-Identifier: Apache-2.0
"""The two deployed graphs as torch modules: pixels to a placed pose, and pose to a mesh.

`export` writes them as ONNX, and the engines are compared with them. Frames: camera optical frame,
x right, y down, z forward, metres; keypoints in pixels of a rectified image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.placement import FARTHEST_M, NEAREST_M, place
from key2mesh_core.geometry.rotations import matrix_to_axis_angle, with_turned_root
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.network.crop import network_view
from key2mesh_core.network.key2mesh import Key2Mesh
from key2mesh_core.network.refined import RefinedKey2Mesh
from key2mesh_core.network.refinement import ITERATIONS, Refinement


class PoseGraph(nn.Module):
    """Keypoints (N, K, 3) and intrinsics (N, 4) -> betas, rotations, translation, poses, joints,
    error.

    Args:
        network: maps normalised keypoints to SMPL parameters.
        body: the body that the network was trained with.
        centre: whether the network was trained on views turned to the person; its root rotation is
            then turned back by the rotation of the view.
    """

    def __init__(self, network: Key2Mesh, body: BodyModel, centre: bool) -> None:
        super().__init__()
        self.network, self.body, self.centre = network, body, centre
        self.refinement = None
        if isinstance(network, RefinedKey2Mesh):
            self.refinement = Refinement(body, iterations=ITERATIONS)

    def forward(self, keypoints: Tensor, intrinsics: Tensor) -> tuple[Tensor, ...]:
        """Returns betas (N, 10), rotations (N, 24, 3, 3), translation (N, 3) of the pelvis, the
        rotations as axis-angle poses (N, 72), joints (N, 24, 3) in the camera frame and
        reprojection_error (N,), px RMS over the seen keypoints."""
        focal, principal = intrinsics[:, None, :2], intrinsics[:, None, 2:]
        confidence = keypoints[..., 2]
        seen = confidence >= SEEN_CONFIDENCE
        confidence = torch.where(seen, confidence, 0.0)
        points = (keypoints[..., :2] - principal) / focal
        points = torch.where(seen[..., None], points, 0.0)
        inputs, view, _, side, turn = network_view(points, confidence, self.centre)
        if self.refinement is not None:
            fit = self.refinement(*self.network.with_certainty(inputs), view, seen, side)[-1]
            betas, rotations, translation, joints, body_keypoints, _ = fit
        else:
            betas, rotations = self.network(inputs)
        if turn is not None:
            rotations = with_turned_root(turn, rotations)
        if self.refinement is None:
            joints, body_keypoints = self.body.keypoints(betas, rotations)
            translation = place(body_keypoints, points, confidence)
        elif turn is not None:
            joints, body_keypoints = joints @ turn.mT, body_keypoints @ turn.mT
            translation = (turn @ translation[..., None])[..., 0]
            # A view turned by 90 degrees may put the pelvis of a tiny person behind the camera.
            depth = translation[:, 2:].clamp(NEAREST_M, FARTHEST_M)
            translation = torch.cat([translation[:, :2], depth], 1)
        placed = body_keypoints + translation[:, None]
        missed = placed[..., :2] / placed[..., 2:].clamp(min=NEAREST_M / 2) - points
        square = (missed * focal).square().sum(2) * seen
        error = torch.sqrt(square.sum(1) / seen.sum(1).clamp(min=1))
        poses = matrix_to_axis_angle(rotations).flatten(1)
        return betas, rotations, translation, poses, joints + translation[:, None], error


class MeshGraph(nn.Module):
    """Betas (N, 10), rotations (N, 24, 3, 3), translation (N, 3) -> vertices (N, V, 3)."""

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.body = body

    def forward(self, betas: Tensor, rotations: Tensor, translation: Tensor) -> Tensor:
        """Returns vertices (N, V, 3) in the camera frame [m]."""
        return self.body.vertices(betas, rotations, translation)
