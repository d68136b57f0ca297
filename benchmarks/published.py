# SPDX-License-Identifier: Apache-2.0
"""Contestants that PyTorch runs eagerly.

- "published": keypoints normalised to their box, the network (36 -> 1024, two residual blocks of
  two layers, a head of one such block and 154 outputs; BatchNorm, PReLU and dropout as they are),
  6D to matrices to axis-angles, and the `smplx` package's body with its mesh and its own keypoints,
  in the order in which the published code calls them. It finds no place in metres, and is not
  fitted. `smplx` can pose no body without its mesh.
- "PyTorch": the modules that our engine was exported from.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.floors import mesh_stage, network_stage
from benchmarks.names import PUBLISHED, TORCH
from benchmarks.people import Answer, Contestant, camera
from key2mesh_core.body.data import BodyData
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import matrix_to_axis_angle
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.network.crop import bounding_box, normalise
from key2mesh_core.network.graphs import MeshGraph, PoseGraph
from key2mesh_core.network.key2mesh import Key2Mesh

#: Where the published code finds the network's 18 keypoints among the joints that `smplx` returns.
SMPLX_KEYPOINTS = (24, 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28)


def pytorch(
    bundle: Bundle, data: BodyData, network: Key2Mesh, published: Key2Mesh, device: str = "cpu"
) -> list[Contestant]:
    """Both on a device; the one with `smplx` only where that is installed."""
    network, published = (copy.deepcopy(each).to(device).eval() for each in (network, published))
    detector, centre = bundle.card["detector_keypoints"], bundle.card["centre_view"]
    stages = (network_stage(), mesh_stage(data))
    ours = _ours(network, BodyModel(data, detector).to(device), centre, device)
    found = [Contestant(TORCH, ours, device, stages)]
    try:
        from benchmarks.smplx_body import SmplxBody
    except ModuleNotFoundError as error:
        if error.name != "smplx":
            raise
        return found
    body = SmplxBody(data, detector).to(device)
    answers = _answers(Published(published, body.model).to(device).eval(), device)
    options = {"same_network": False, "without_mesh": False}
    return [Contestant(PUBLISHED, answers, device, stages, **options), *found]


class Published(nn.Module):
    """Keypoints (N, 18, 3) px -> vertices (N, V, 3) and keypoints (N, 18, 3) of `smplx` [m].

    Args:
        network: the published network.
        body: an `smplx.SMPL`.
    """

    def __init__(self, network: Key2Mesh, body: nn.Module) -> None:
        super().__init__()
        self.network, self.body = network, body

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        points, seen = keypoints[..., :2], keypoints[..., 2] >= SEEN_CONFIDENCE
        betas, rotations = self.network(normalise(points, seen, *bounding_box(points, seen)))
        poses = matrix_to_axis_angle(rotations).flatten(1)
        output = self.body(betas=betas, global_orient=poses[:, :3], body_pose=poses[:, 3:])
        return output.vertices, output.joints[:, SMPLX_KEYPOINTS]


def _answers(module: Published, device: str) -> Answer:
    @torch.inference_mode()
    def answer(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        vertices, joints = module(torch.from_numpy(keypoints).to(device))
        return (vertices if mesh else joints).cpu().numpy()

    return answer


def _ours(network: Key2Mesh, body: BodyModel, centre: bool, device: str) -> Answer:
    pose, mesh_graph = PoseGraph(network, body, centre).eval(), MeshGraph(body).eval()

    @torch.inference_mode()
    def answer(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        betas, rotations, translation, _, joints, _ = pose(*_tensors(keypoints, device))
        found = mesh_graph(betas, rotations, translation) if mesh else joints
        return found.cpu().numpy()

    return answer


def _tensors(keypoints: NDArray[np.float32], device: str) -> tuple[Tensor, Tensor]:
    intrinsics = torch.from_numpy(camera().as_array()).expand(len(keypoints), 4)
    return torch.from_numpy(keypoints).to(device), intrinsics.to(device)
