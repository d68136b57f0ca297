# SPDX-License-Identifier: Apache-2.0
"""The losses of adaptation without labels: critic, domain, re-projection and feature terms of the
paper.

Every loss is a mean over samples, so that equal parts of a batch on several processes average to
the loss of the whole.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.placement import place_roughly
from key2mesh_core.learning.detections.target_domain import TargetBatch
from key2mesh_core.learning.pretrain.config import LossWeights
from key2mesh_core.learning.pretrain.losses import keypoint_weights
from key2mesh_core.network.crop import bounding_box, normalise
from key2mesh_core.network.key2mesh import Prediction

View = Literal["fitted", "training"]

#: Distance of the paper's training camera [m].
TRAINING_DISTANCE = 6.0
#: Smallest distance of a body part from its camera [m]; keeps projections finite.
_NEAREST = 0.3


def critic_loss(
    critic: nn.Module, source: Tensor, target: Tensor, mix: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """The critic's loss (Wasserstein with gradient penalty), and its estimate of the Wasserstein
    distance.

    Args:
        critic: features (N, D) -> scores (N, 1).
        source, target: (N, D) features, detached.
        mix: (N, 1) in 0..1, position between source and target at which the gradient is penalised.
        penalty: weight of the gradient penalty.
    """
    distance = critic(source).mean() - critic(target).mean()
    loss = -distance
    if penalty:
        loss = loss + penalty * gradient_penalty(critic, source, target, mix)
    return loss, distance.detach()


def gradient_penalty(critic: nn.Module, source: Tensor, target: Tensor, mix: Tensor) -> Tensor:
    """Mean of (|gradient| - 1)^2 at points between source and target (Gulrajani et al. 2017)."""
    between = (mix * source + (1 - mix) * target).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (torch.linalg.vector_norm(slope.float(), dim=1) - 1).square().mean()


def domain_loss(critic: nn.Module, target: Tensor) -> Tensor:
    """The extractor's domain loss: -E[critic(target)]."""
    return -critic(target).mean()


def feature_loss(features: Tensor, source_features: Tensor) -> Tensor:
    """Feature regularisation: mean square difference of two extractors' features of the same
    input."""
    return (features.float() - source_features.float()).square().mean()


def agreement_loss(
    prediction: Prediction, agreed: Prediction, known: Tensor, body: BodyModel
) -> Tensor:
    """Distance of predictions from the poses that several cameras agree on: L1 on rotations and 3D
    keypoints, as in pre-training. People who are not `known (N,)` contribute nothing."""
    _, keypoints = body.keypoints(prediction.betas, prediction.rotations)
    with torch.no_grad():
        _, places = body.keypoints(agreed.betas, agreed.rotations)
    importance = keypoint_weights(places)
    turned = (prediction.rotations - agreed.rotations).abs().mean((1, 2, 3))
    moved = ((keypoints - places).abs() * importance[:, None]).mean((1, 2))
    weights = LossWeights()
    return ((weights.pose * turned + weights.keypoints_3d * moved) * known).mean()


def reprojection_errors(
    prediction: Prediction, batch: TargetBatch, body: BodyModel, camera: View = "fitted"
) -> Tensor:
    """(N,) re-projection: mean L1 distance of keypoints from the detections, in box sizes, weighted
    by `batch.confidence`; `camera` as in `reprojected`."""
    missed = (reprojected(prediction, batch, body, camera) - batch.inputs[..., :2]).abs().sum(2)
    return (missed * batch.confidence).sum(1) / batch.confidence.sum(1).clamp(min=1e-6)


def reprojected(
    prediction: Prediction, batch: TargetBatch, body: BodyModel, camera: View = "fitted"
) -> Tensor:
    """(N, K, 2) the predicted bodies' keypoints, projected into the inputs' unit box.

    Args:
        camera: "fitted" puts the body where its keypoints fit best in the actual camera; "training"
            puts it 6 m away and normalises over the same seen keypoints.
    """
    _, keypoints = body.keypoints(prediction.betas, prediction.rotations)
    if camera == "training":
        depth = (keypoints[..., 2:] + TRAINING_DISTANCE).clamp(min=_NEAREST)
        points = keypoints[..., :2] / depth
        return normalise(points, batch.seen, *bounding_box(points, batch.seen))
    image = (batch.inputs[..., :2] - 0.5) * batch.side[:, None]
    # The bias of the rough placement is a few per mille at the distances of training and equal for
    # all candidates; its gradient is that of a single regression without branches.
    placed = keypoints + place_roughly(keypoints, image, batch.confidence)[:, None]
    points = placed[..., :2] / placed[..., 2:].clamp(min=_NEAREST)
    return points / batch.side[:, None] + 0.5
