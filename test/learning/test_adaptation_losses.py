# SPDX-License-Identifier: Apache-2.0
"""Laws of the adaptation losses."""

import math

import pytest
import torch
from helpers_adapt import targets
from helpers_training import small_body
from torch import nn

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.learning.adapt.losses import (
    critic_loss,
    domain_loss,
    feature_loss,
    gradient_penalty,
    reprojection_errors,
)
from key2mesh_core.learning.detections.target_domain import TargetBatch, target_domain
from key2mesh_core.network.crop import bounding_box, normalise
from key2mesh_core.network.key2mesh import Prediction, domain_critic

BODY = BodyModel(small_body())


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_exact(slope):
    critic = nn.Linear(7, 1)
    direction = torch.randn(7, generator=torch.Generator().manual_seed(1))
    critic.weight.data[0] = slope * direction / direction.norm()
    source, target = torch.randn(2, 50, 7, generator=torch.Generator().manual_seed(2))
    penalty = gradient_penalty(critic, source, target, torch.rand(50, 1))
    torch.testing.assert_close(penalty, torch.tensor((slope - 1) ** 2), atol=1e-6, rtol=1e-5)


def test_the_penalty_is_taken_between_the_features():
    """A critic that is flat on one side of a wall: the mix decides on which side one looks."""

    class Wall(nn.Module):
        def forward(self, x):
            return x[:, :1].clamp(min=0) * 3

    source, target = torch.ones(4, 2), -torch.ones(4, 2)
    at_source = gradient_penalty(Wall(), source, target, torch.full((4, 1), 0.9))
    at_target = gradient_penalty(Wall(), source, target, torch.full((4, 1), 0.1))
    assert (float(at_source), float(at_target)) == (4.0, 1.0)


def test_the_critic_learns_the_wasserstein_distance_of_two_shifted_gaussians():
    """Between N(a, I) and N(b, I) it is |a - b|."""
    random = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    critic = nn.Sequential(nn.Linear(6, 64), nn.PReLU(), nn.Linear(64, 64), nn.PReLU(),
                           nn.Linear(64, 1))  # fmt: skip
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-3)
    shift = torch.tensor([1.5, -1.0, 0.5, 0, 0, 0])
    distances = []
    for _ in range(600):
        source = torch.randn(256, 6, generator=random) + shift
        target = torch.randn(256, 6, generator=random)
        mix = torch.rand(256, 1, generator=random)
        loss, distance = critic_loss(critic, source, target, mix, 50.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        distances.append(float(distance))
    true = float(shift.norm())
    assert distances[0] < 0.3 * true
    assert sum(distances[-50:]) / 50 == pytest.approx(true, rel=0.1)


def test_the_domain_loss_is_the_targets_side_of_the_distance():
    torch.manual_seed(0)
    critic = domain_critic(0.0)
    source, target = torch.randn(2, 8, 1024)
    _, distance = critic_loss(critic, source, target, torch.rand(8, 1), 0.0)
    both = critic(source).mean() + domain_loss(critic, target)
    torch.testing.assert_close(both, distance)


def test_features_that_stay_cost_nothing():
    features = torch.randn(5, 1024)
    assert float(feature_loss(features, features)) == 0
    torch.testing.assert_close(feature_loss(features + 2, features), torch.tensor(4.0))


def posed(count: int) -> Prediction:
    random = torch.Generator().manual_seed(5)
    rotations = axis_angle_to_matrix(0.3 * torch.randn(count, 24, 3, generator=random))
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1, -1])) @ rotations[:, 0]
    return Prediction(torch.randn(count, 10, generator=random), rotations)


def seen_from(prediction: Prediction, distance: float, *, shift: bool = True) -> TargetBatch:
    """What an ideal detector says of these bodies at a distance on the optical axis; `shift`
    moves the middle of the box there too, as the network's input has it."""
    _, keypoints = BODY.keypoints(prediction.betas, prediction.rotations)
    points = keypoints[..., :2] / (keypoints[..., 2:] + distance)
    seen = torch.ones(points.shape[:2], dtype=torch.bool)
    centre, side = bounding_box(points, seen)
    if not shift:
        centre = torch.zeros_like(centre)
    return TargetBatch(normalise(points, seen, centre, side), seen, seen.float(), centre, side)


def test_the_right_body_reprojects_onto_its_keypoints():
    prediction = posed(16)
    training = reprojection_errors(prediction, seen_from(prediction, 6.0), BODY, "training")
    assert float(training.max()) < 1e-5
    batch = seen_from(prediction, 3.0, shift=False)
    assert float(reprojection_errors(prediction, batch, BODY, "fitted").max()) < 1e-3
    wrong = Prediction(prediction.betas, prediction.rotations.flip(0))
    assert float(reprojection_errors(wrong, batch, BODY).min()) > 0.02


@pytest.mark.parametrize("camera", ["fitted", "training"])
def test_unseen_keypoints_do_not_count(camera):
    prediction = posed(8)
    batch = seen_from(prediction, 6.0)
    batch.seen[:, [4, 7]] = False
    batch = batch._replace(confidence=batch.seen.float())
    # As if the detector had left these two wrists out, with the same box.
    moved = batch.inputs.clone()
    moved[:, [4, 7]] = 17.0
    one = reprojection_errors(prediction, batch, BODY, camera)
    other = reprojection_errors(prediction, batch._replace(inputs=moved), BODY, camera)
    torch.testing.assert_close(one, other)


def test_confidence_weighs_keypoints_and_its_scale_does_not_matter():
    prediction = posed(8)
    batch = seen_from(Prediction(prediction.betas, prediction.rotations.flip(0)), 6.0)
    half = batch._replace(confidence=batch.confidence / 2)
    errors = reprojection_errors(prediction, batch, BODY)
    torch.testing.assert_close(reprojection_errors(prediction, half, BODY), errors)
    confidence = batch.confidence.clone()
    confidence[:, 9:] = 0.01
    trusted = reprojection_errors(prediction, batch._replace(confidence=confidence), BODY)
    assert not torch.allclose(trusted, errors, rtol=0.01)


def test_errors_do_not_depend_on_who_else_is_in_the_batch():
    domain = target_domain(targets(2, 20), True, torch.device("cpu"))
    prediction = posed(40)
    alone = reprojection_errors(
        Prediction(*(part[:7] for part in prediction)), domain.batch.rows(slice(0, 7)), BODY
    )
    together = reprojection_errors(prediction, domain.batch, BODY)
    torch.testing.assert_close(alone, together[:7])
    assert math.isfinite(float(together.sum()))
