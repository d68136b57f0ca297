# SPDX-License-Identifier: Apache-2.0
"""The supervised loss: zero at the truth, each term by itself, weights as published."""

import pytest
import torch
from helpers_training import small_body, write_clip

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.learning.pretrain.config import LossWeights
from key2mesh_core.learning.pretrain.losses import keypoint_weights, supervised_loss
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.recordings.amass import load_clip
from key2mesh_core.synthesis.batches import synthesise
from key2mesh_core.synthesis.config import SynthesisConfig
from key2mesh_core.synthesis.motions import MotionBank


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    body = BodyModel(small_body())
    clip = load_clip(write_clip(tmp_path_factory.mktemp("clip") / "a.npz"))
    bank = MotionBank([([clip], 1.0)])
    generator = torch.Generator().manual_seed(0)
    return body, synthesise(bank, body, SynthesisConfig(), 32, generator)


def test_the_truth_costs_nothing(scene):
    body, batch = scene
    truth = Prediction(batch.betas, batch.rotations)
    total, terms = supervised_loss(truth, batch, body, LossWeights())
    assert float(total) < 1e-4
    assert set(terms) == {"pose", "betas", "keypoints_2d", "keypoints_3d"}


def test_terms_are_mean_absolute_differences_times_their_weights(scene):
    body, batch = scene
    moved = batch._replace(
        betas=batch.betas + 0.5,
        rotations=batch.rotations - 0.25,
        keypoints_3d=batch.keypoints_3d + torch.tensor([0.1, 0.0, 0.0]),
    )
    truth = Prediction(batch.betas, batch.rotations)
    weights = LossWeights(pose=2.0, betas=3.0, keypoints_2d=0.0, keypoints_3d=5.0)
    total, terms = supervised_loss(truth, moved, body, weights)
    assert float(terms["betas"]) == pytest.approx(0.5, abs=1e-5)
    assert float(terms["pose"]) == pytest.approx(0.25, abs=1e-5)
    importance = float(keypoint_weights(batch.keypoints_3d).mean())
    assert float(terms["keypoints_3d"]) == pytest.approx(0.1 / 3 * importance, abs=1e-5)
    expected = 2 * 0.25 + 3 * 0.5 + 5 * 0.1 / 3 * importance
    assert float(total) == pytest.approx(expected, abs=1e-4)


def test_limb_ends_weigh_most():
    values = keypoint_weights(torch.zeros(1, len(NETWORK_KEYPOINTS), 3)).tolist()
    weights = dict(zip(NETWORK_KEYPOINTS, values, strict=True))
    by_part = {"wrist": 8, "ankle": 8, "elbow": 4, "knee": 4, "shoulder": 2, "hip": 2}
    for name, weight in weights.items():
        assert weight == by_part.get(name.split("_")[-1], 1)


def test_gradients_reach_shape_and_pose(scene):
    body, batch = scene
    betas = torch.zeros_like(batch.betas, requires_grad=True)
    rotations = torch.eye(3).expand_as(batch.rotations).clone().requires_grad_()
    supervised_loss(Prediction(betas, rotations), batch, body, LossWeights())[0].backward()
    for gradient in (betas.grad, rotations.grad):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0
