# SPDX-License-Identifier: Apache-2.0
"""The pose graph with a network that returns the ground truth: the remaining geometry must be
exact."""

import numpy as np
import pytest
import torch
from helpers_training import small_body
from scipy.spatial.transform import Rotation
from torch import nn

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.keypoints.table import KEYPOINTS
from key2mesh_core.network.crop import centre_view
from key2mesh_core.network.graphs import MeshGraph, PoseGraph

INTRINSICS = torch.tensor([[600.0, 590.0, 310.0, 250.0]])
PLACES = torch.tensor([[0, 0, 3.0], [1.2, 0.1, 2.5], [-1.0, -0.4, 4.0], [0.5, 0.3, 8.0]])


class Oracle(nn.Module):
    """Returns a fixed result for any input, and records its input."""

    def __init__(self, betas, rotations):
        super().__init__()
        self.answer = betas, rotations
        self.shown = None

    def forward(self, keypoints):
        self.shown = keypoints
        return self.answer


def pose(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    angles = rng.normal(0, 0.3, (count, 24, 3))
    angles[:, 0] = [np.pi, 0, 0]  # upright: SMPL's y up is the camera's y down
    rotations = Rotation.from_rotvec(angles.reshape(-1, 3)).as_matrix().reshape(count, 24, 3, 3)
    return torch.tensor(rng.normal(size=(count, 10))).float(), torch.tensor(rotations).float()


def image_of(body, betas, rotations, translation, intrinsics=INTRINSICS):
    placed = body.keypoints(betas, rotations)[1] + translation[:, None]
    pixels = placed[..., :2] / placed[..., 2:] * intrinsics[:, None, :2] + intrinsics[:, None, 2:]
    return torch.cat([pixels, torch.full_like(pixels[..., :1], 0.9)], 2)


@pytest.fixture(scope="module")
def body():
    return BodyModel(small_body())


def test_a_body_is_found_where_it_stands(body):
    betas, rotations = pose(4)
    graph = PoseGraph(Oracle(betas, rotations), body, centre=False)
    keypoints = image_of(body, betas, rotations, PLACES)
    intrinsics = INTRINSICS.repeat(4, 1)
    _, found, translation, poses, joints, error = graph(keypoints, intrinsics)
    torch.testing.assert_close(translation, PLACES, atol=2e-3, rtol=0)
    torch.testing.assert_close(found, rotations)
    turned = axis_angle_to_matrix(poses.reshape(4, 24, 3))
    torch.testing.assert_close(turned, rotations, atol=1e-5, rtol=0)
    expected = body.keypoints(betas, rotations)[0] + PLACES[:, None]
    torch.testing.assert_close(joints, expected, atol=2e-3, rtol=0)
    assert error.max() < 0.01


def test_the_root_is_turned_back_by_the_viewing_ray(body):
    """A network that answers for the turned view: the graph must answer for the real camera."""
    betas, rotations = pose(4)
    keypoints = image_of(body, betas, rotations, PLACES)
    points = (keypoints[..., :2] - INTRINSICS[:, None, 2:]) / INTRINSICS[:, None, :2]
    _, turn = centre_view(points, torch.ones(4, len(KEYPOINTS), dtype=torch.bool))
    as_turned = torch.cat([(turn.mT @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)
    graph = PoseGraph(Oracle(betas, as_turned), body, centre=True)
    _, found, translation, *_, error = graph(keypoints, INTRINSICS.repeat(4, 1))
    torch.testing.assert_close(found, rotations, atol=1e-5, rtol=0)
    torch.testing.assert_close(translation, PLACES, atol=2e-3, rtol=0)
    assert error.max() < 0.01


@pytest.mark.parametrize("centre", [False, True])
def test_what_the_network_is_shown_does_not_depend_on_the_resolution(body, centre):
    betas, rotations = pose(4)
    oracle = Oracle(betas, rotations)
    graph = PoseGraph(oracle, body, centre)
    keypoints = image_of(body, betas, rotations, PLACES)
    graph(keypoints, INTRINSICS.repeat(4, 1))
    first = oracle.shown
    doubled = keypoints * torch.tensor([2.0, 2.0, 1.0])
    *_, error = graph(doubled, 2 * INTRINSICS.repeat(4, 1))
    torch.testing.assert_close(oracle.shown, first, atol=1e-5, rtol=0)
    assert error.shape == (4,)


def test_unseen_keypoints_change_nothing(body):
    betas, rotations = pose(4)
    graph = PoseGraph(Oracle(betas, rotations), body, centre=True)
    keypoints = image_of(body, betas, rotations, PLACES)
    keypoints[:, [4, 10], 2] = 0.05
    wild = keypoints.clone()
    wild[:, [4, 10], :2] = -9e4
    for one, other in zip(
        graph(keypoints, INTRINSICS.repeat(4, 1)), graph(wild, INTRINSICS.repeat(4, 1)), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1e5])
def test_absurd_but_finite_keypoints_give_finite_answers(body, size):
    betas, rotations = pose(3)
    graph = PoseGraph(Oracle(betas, rotations), body, centre=True)
    keypoints = size * torch.randn(3, len(KEYPOINTS), 3, generator=torch.Generator().manual_seed(0))
    keypoints[0] = 0
    for output in graph(keypoints, INTRINSICS.repeat(3, 1)):
        assert torch.isfinite(output).all()


def test_the_mesh_stands_where_the_pelvis_is(body):
    betas, rotations = pose(4)
    vertices = MeshGraph(body)(betas, rotations, PLACES)
    torch.testing.assert_close(vertices, body.vertices(betas, rotations) + PLACES[:, None])
