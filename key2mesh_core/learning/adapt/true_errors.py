# SPDX-License-Identifier: Apache-2.0
"""For studies of adaptation: the true error beside the criteria. Nothing is chosen by it."""

from __future__ import annotations

import numpy as np
import torch

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.evaluation.aistpp import evaluate_aistpp
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.network.graphs import PoseGraph
from key2mesh_core.network.key2mesh import Key2Mesh

_EVERY = 4  # neighbouring frames of 60 a second are nearly the same


@torch.no_grad()
def true_errors(
    network: Key2Mesh, body: BodyModel, config: AdaptConfig, centre: bool
) -> dict[str, float]:
    """Mean PA-MPJPE [mm] of each of `config.aistpp_sequences`; nothing without their files."""
    if config.aistpp_keypoints is None or config.aistpp_truth is None:
        return {}
    graph = PoseGraph(network, body, centre).eval()
    device = body.joint_mix.device

    def predict(keypoints: np.ndarray, camera: Intrinsics) -> np.ndarray:
        intrinsics = torch.from_numpy(camera.as_array()).to(device).expand(len(keypoints), 4)
        return graph(torch.from_numpy(keypoints).to(device), intrinsics)[4].cpu().numpy()

    errors = evaluate_aistpp(
        predict,
        config.aistpp_keypoints,
        config.aistpp_truth,
        config.aistpp_sequences,
        frame_step=_EVERY,
    )
    return {channel: round(found.mean_mm, 3) for channel, found in errors.items()}
