# SPDX-License-Identifier: Apache-2.0
"""Learned gradient descent (Song, Chen and Hilliges, "Human Body Model Fitting by Learned Gradient
Descent", ECCV 2020) with the published architecture. For timing only: its weights are random.

Four stages. In the first, two networks make pose and shape of the keypoints (36 numbers); in the
others, two networks change them given keypoints, pose (72) and the gradient of the re-projection
error by the pose (72): 180 numbers. Each network has a layer into 1024, two residual blocks of two
layers, and one out to 72 or 10. Every stage poses the `smplx` body by axis-angles and projects its
keypoints; all but the last differentiate that.

The published code differentiates through everything before, including its networks' weights. Only
the gradient with respect to the pose is needed: "lean" computes only that.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.floors import Stage, mesh_stage
from benchmarks.names import LEARNED_DESCENT, LEARNED_DESCENT_LEAN
from benchmarks.people import Answer, Contestant
from benchmarks.published import SMPLX_KEYPOINTS
from key2mesh_core.body.data import BodyData
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.network.crop import bounding_box, normalise
from key2mesh_core.network.key2mesh import BETAS, FEATURES, JOINTS, FeatureExtractor

STAGES = 4
_POSE, _POINTS = 3 * JOINTS, 2 * len(KEYPOINTS)
_FIRST, _LATER = _POINTS, _POINTS + 2 * _POSE
#: The published training camera: this many metres away.
_DISTANCE, _STEP = 6.0, 0.1


class LearnedDescent(nn.Module):
    """Keypoints (N, 18, 3) px -> vertices (N, V, 3) and keypoints (N, 18, 3) [m].

    Args:
        body: an `smplx.SMPL`.
        lean: take the gradient by the pose alone.
    """

    def __init__(self, body: nn.Module, lean: bool) -> None:
        super().__init__()
        self.body, self.lean = body, lean
        self.first_pose, self.first_shape = _network(_FIRST, _POSE), _network(_FIRST, BETAS)
        self.pose, self.shape = _network(_LATER, _POSE), _network(_LATER, BETAS)

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        points, seen = keypoints[..., :2], keypoints[..., 2] >= SEEN_CONFIDENCE
        target = normalise(points, seen, *bounding_box(points, seen))
        inputs = target.flatten(1)
        self.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(not self.lean):
            pose, betas = self.first_pose(inputs), self.first_shape(inputs)
        for _ in range(STAGES - 1):
            pose = pose.detach().requires_grad_() if self.lean else pose
            _, joints = self._posed(pose, betas)
            projected = joints[..., :2] / (joints[..., 2:] + _DISTANCE)
            found = normalise(projected, seen, *bounding_box(projected, seen))
            error = ((found - target).abs() * seen[..., None]).mean()
            if self.lean:
                (gradient,) = torch.autograd.grad(error, pose)
            else:
                pose.retain_grad()
                error.backward(retain_graph=True)
                gradient = pose.grad.detach()
            with torch.set_grad_enabled(not self.lean):
                features = torch.cat([inputs, pose, gradient * len(keypoints)], 1)
                pose = pose + _STEP * self.pose(features)
                betas = betas + _STEP * self.shape(features)
        with torch.set_grad_enabled(not self.lean):
            return self._posed(pose, betas)

    def _posed(self, pose: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        output = self.body(betas=betas, global_orient=pose[:, :3], body_pose=pose[:, 3:])
        return output.vertices, output.joints[:, SMPLX_KEYPOINTS]


def learned_descent(data: BodyData, device: str = "cpu") -> list[Contestant]:
    """Both ways on a device; none where `smplx` is not installed."""
    try:
        from benchmarks.smplx_body import SmplxBody
    except ModuleNotFoundError as error:
        if error.name != "smplx":
            raise
        return []
    stages = tuple(
        Stage(4.0 * weights, 2.0 * weights)
        for inputs, times in ((_FIRST, 1), (_LATER, STAGES - 1))
        for outputs in (_POSE, BETAS)
        for weights in times * [(inputs + 4 * FEATURES + outputs) * FEATURES]
    )
    found = []
    for name, lean in ((LEARNED_DESCENT, False), (LEARNED_DESCENT_LEAN, True)):
        torch.manual_seed(0)
        body = SmplxBody(data).to(device).model.requires_grad_(False)
        module = LearnedDescent(body, lean).to(device).eval()
        found.append(
            Contestant(
                name,
                _answers(module, device),
                device,
                (*stages, mesh_stage(data)),
                same_network=False,
                without_mesh=False,
            )
        )
    return found


def _answers(module: LearnedDescent, device: str) -> Answer:
    def answer(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        vertices, joints = module(torch.from_numpy(keypoints).to(device))
        return (vertices if mesh else joints).detach().cpu().numpy()

    return answer


def _network(inputs: int, outputs: int) -> nn.Sequential:
    layers = FeatureExtractor().layers
    layers[0][0] = nn.Linear(inputs, FEATURES)
    return nn.Sequential(layers, nn.Linear(FEATURES, outputs))
