# SPDX-License-Identifier: Apache-2.0
"""The supervised loss of pre-training, as in the paper."""

from __future__ import annotations

import torch
from torch import Tensor

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.learning.pretrain.config import LossWeights
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.network.refinement import Fit
from key2mesh_core.synthesis.batches import Batch


def supervised_loss(
    prediction: Prediction, batch: Batch, body: BodyModel, weights: LossWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 on pose, shape, projected and 3D keypoints; returns the sum and its terms.

    The predicted body is placed at the true position, so the 2D term measures pose and shape, not
    the placement, which is solved in closed form and not learned.
    """
    joints, keypoints = body.keypoints(prediction.betas, prediction.rotations)
    shown = in_box(keypoints, batch.translation, batch)
    return _loss(prediction, joints, keypoints, shown, batch, weights)


def fitted_loss(fit: Fit, batch: Batch, weights: LossWeights) -> tuple[Tensor, dict[str, Tensor]]:
    """The same of a body that stands where it was fitted."""
    true = in_box(batch.keypoints_3d, batch.translation, batch)
    # One keypoint that nearly touches the camera must not drown the rest.
    shown = true + (in_box(fit.keypoints, fit.translation, batch) - true).clamp(-1, 1)
    prediction = Prediction(fit.betas, fit.rotations)
    return _loss(prediction, fit.joints, fit.keypoints, shown, batch, weights)


def _loss(
    prediction: Prediction,
    joints: Tensor,
    keypoints: Tensor,
    shown: Tensor,
    batch: Batch,
    weights: LossWeights,
) -> tuple[Tensor, dict[str, Tensor]]:
    importance = keypoint_weights(keypoints)
    true = in_box(batch.keypoints_3d, batch.translation, batch)
    terms = {
        "pose": (prediction.rotations - batch.rotations).abs().mean(),
        "betas": (prediction.betas - batch.betas).abs().mean(),
        "keypoints_2d": _weighted_l1(shown, true, importance),
        "keypoints_3d": _weighted_l1(keypoints, batch.keypoints_3d, importance),
    }
    if weights.joints:
        terms["joints"] = (joints - batch.joints).abs().mean()
    total = sum(getattr(weights, name) * term for name, term in terms.items())
    return total, {name: term.detach() for name, term in terms.items()}


def keypoint_weights(keypoints: Tensor) -> Tensor:
    """(K,) weights of keypoints (N, K, ...) in losses, from the table of keypoints."""
    weights = [keypoint.loss_weight for keypoint in KEYPOINTS[: keypoints.shape[1]]]
    return torch.tensor(weights, dtype=keypoints.dtype, device=keypoints.device)


def in_box(keypoints: Tensor, translation: Tensor, batch: Batch) -> Tensor:
    """Projections (N, K, 2) of root-relative keypoints (N, K, 3) at a translation (N, 3) [m], in
    units of the input's box."""
    placed = keypoints + translation[:, None]
    points = placed[..., :2] / placed[..., 2:].clamp(min=0.1)
    return (points - batch.centre[:, None]) / batch.side[:, None]


def _weighted_l1(found: Tensor, true: Tensor, importance: Tensor) -> Tensor:
    return ((found - true).abs() * importance[:, None]).mean()
