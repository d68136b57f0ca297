# SPDX-License-Identifier: Apache-2.0
"""Fits reach their keypoints, stay where the network is sure, and ignore what is unseen."""

import pytest
import torch
from helpers_training import small_body

from key2mesh_core.body.linearised import MOVING
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.network.crop import bounding_box
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.network.refined import Certainty
from key2mesh_core.network.refinement import ITERATIONS, Refinement

PEOPLE = 6


@pytest.fixture(scope="module")
def body():
    return BodyModel(small_body())


@pytest.fixture(scope="module")
def scene(body):
    """People, their true keypoints on the image plane, and predictions that are a little wrong."""
    torch.manual_seed(0)
    turns = 0.3 * torch.randn(PEOPLE, 24, 3)
    turns[:, 0] = torch.tensor([torch.pi, 0, 0])
    true = axis_angle_to_matrix(turns)
    betas = 0.5 * torch.randn(PEOPLE, 10)
    placed = body.keypoints(betas, true)[1] + torch.tensor([0.1, 0.0, 3.0])
    points = placed[..., :2] / placed[..., 2:]
    wrong = 0.1 * torch.randn(PEOPLE, 24, 3)
    return Prediction(betas, axis_angle_to_matrix(wrong) @ true), points


def certainty(rotations: float, keypoints: float) -> Certainty:
    return Certainty(
        torch.full((PEOPLE, 3 * len(MOVING)), rotations),
        torch.full((PEOPLE, 10), 10.0),
        torch.full((PEOPLE, 18), keypoints),
    )


def fits(body, prediction, sure, points, seen=None, **settings):
    seen = torch.ones(points.shape[:2], dtype=torch.bool) if seen is None else seen
    side = bounding_box(points, seen)[1]
    return Refinement(body, **settings)(prediction, sure, points, seen, side)


def missed(fit, points) -> torch.Tensor:
    side = bounding_box(points, torch.ones(points.shape[:2], dtype=torch.bool))[1]
    return ((fit.points - points).norm(dim=2).mean(1) / side[:, 0]).max()


def test_exact_keypoints_are_met(body, scene):
    prediction, points = scene
    first, *_, last = fits(body, prediction, certainty(10.0, 1e5), points)
    assert missed(first, points) > 0.01
    assert missed(last, points) < 0.005


def test_each_step_comes_nearer(body, scene):
    prediction, points = scene
    misses = [missed(fit, points) for fit in fits(body, prediction, certainty(30.0, 5e3), points)]
    assert misses[0] > misses[1] > misses[2]


def test_a_sure_network_keeps_its_pose(body, scene):
    prediction, points = scene
    last = fits(body, prediction, certainty(1e9, 5e3), points)[-1]
    torch.testing.assert_close(last.rotations, prediction.rotations, atol=1e-4, rtol=0)


def test_joints_that_no_keypoint_shows_keep_their_rotation(body, scene):
    prediction, points = scene
    last = fits(body, prediction, certainty(10.0, 1e5), points)[-1]
    idle = [joint for joint in range(24) if joint not in MOVING]
    assert torch.equal(last.rotations[:, idle], prediction.rotations[:, idle])


def test_an_unseen_keypoint_does_not_count(body, scene):
    prediction, points = scene
    seen = torch.ones(points.shape[:2], dtype=torch.bool)
    seen[:, 4] = False  # a wrist
    elsewhere = points.clone()
    elsewhere[:, 4] = 7.0
    one = fits(body, prediction, certainty(30.0, 5e3), points, seen)[-1]
    other = fits(body, prediction, certainty(30.0, 5e3), elsewhere, seen)[-1]
    torch.testing.assert_close(one.joints, other.joints)


def test_the_exported_solver_finds_what_the_factorisation_does(body, scene):
    prediction, points = scene
    exact = fits(body, prediction, certainty(30.0, 5e3), points)[-1]
    exported = fits(body, prediction, certainty(30.0, 5e3), points, iterations=ITERATIONS)[-1]
    assert (exact.joints - exported.joints).abs().max() < 1e-3


def test_gradients_of_learning_are_finite_and_reach_the_certainties(body, scene):
    prediction, points = scene
    sure = [part.requires_grad_() for part in certainty(30.0, 5e3)]
    fits(body, prediction, Certainty(*sure), points)[-1].joints.square().sum().backward()
    for part in sure:
        assert torch.isfinite(part.grad).all()
        assert part.grad.abs().max() > 0
