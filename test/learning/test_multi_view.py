# SPDX-License-Identifier: Apache-2.0
"""Several cameras at once: the poses that they agree on, compared with known poses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_filmed import FRAMES, filmed, moving_poses
from torch import Tensor

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.evaluation.metrics import pa_mpjpe
from key2mesh_core.geometry.rotations import axis_angle_to_matrix
from key2mesh_core.learning.adapt import job as adapt_module
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.job import adapt
from key2mesh_core.learning.adapt.losses import agreement_loss
from key2mesh_core.learning.detections import bundle_adjustment
from key2mesh_core.learning.detections.multi_view import (
    Agreement,
    agreement,
    camera_turns,
    shared_moments,
)
from key2mesh_core.learning.detections.predictions import predict
from key2mesh_core.learning.detections.target_domain import TargetDomain, target_domain
from key2mesh_core.learning.trained_model import load_trained_model
from key2mesh_core.network.key2mesh import Prediction
from key2mesh_core.network.refinement import FittedNetwork
from key2mesh_core.recordings.targets import TargetKeypoints


@pytest.fixture(autouse=True)
def fewer_steps(monkeypatch):
    """A third of the fit's time, and still more than half of its gain."""
    monkeypatch.setattr(bundle_adjustment, "_STEPS", 100)


@pytest.fixture(scope="module")
def start():
    """The shipped model: (its network, fitted, and its body)."""
    data = load_body("default")
    source = load_trained_model("default", data)
    body = BodyModel(data, source.detector_keypoints)
    return FittedNetwork(source.network.eval(), body), body


def domain_of(targets: TargetKeypoints) -> TargetDomain:
    return target_domain(targets, True, torch.device("cpu"))


def errors_mm(body: BodyModel, found: Prediction, true: Tensor) -> np.ndarray:
    """(N,) PA-MPJPE of answers against poses (N, 24, 3, 3)."""
    with torch.no_grad():
        joints, _ = body.forward_kinematics(found.betas, found.rotations)
        wanted, _ = body.forward_kinematics(torch.zeros(len(true), 10), true)
    return pa_mpjpe(joints.numpy(), wanted.numpy())


@pytest.mark.parametrize("cameras", [2, 4])
def test_what_cameras_agree_on_is_the_truth(start, cameras):
    network, body = start
    poses = moving_poses()
    targets, around = filmed(body, poses, cameras)
    domain = domain_of(targets)
    agreed = agreement(network, domain, body, quiet=True)
    assert agreed.known.float().mean() > 0.95
    true = poses.repeat(cameras, 1, 1, 1)
    single = errors_mm(body, predict(network, domain.batch), true).mean()
    together = errors_mm(body, agreed.poses, true)[agreed.known.numpy()].mean()
    assert together < (0.5 if cameras == 2 else 0.3) * single
    # The root is as the view of each camera shows it, turned to the person as the network's is.
    if cameras > 2:
        view = torch.cat([turn @ poses[:, 0] for turn, _ in around])
        view = domain.turn.transpose(1, 2) @ view
        trace = (agreed.poses.rotations[:, 0] * view).sum((1, 2))
        degrees = torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))
        assert degrees[agreed.known].median() < 8


def test_a_camera_out_of_step_has_no_say(start):
    network, body = start
    poses = moving_poses(1)
    # To and fro: who turns steadily looks in every camera as if it were only elsewhere.
    about = 2.5 * np.sin(np.linspace(0, 9, FRAMES))[:, None] * np.float32([0, 1, 0])
    poses[:, 0] = torch.as_tensor(axis_angle_to_matrix(about.astype(np.float32))).float()
    targets, _ = filmed(body, poses, 4, late={0: 23})
    domain = domain_of(targets)
    agreed = agreement(network, domain, body, quiet=True)
    by_camera = agreed.known.reshape(4, FRAMES).float().mean(1)
    assert by_camera[0] == 0
    assert by_camera[1:].min() > 0.9
    # Its rows keep the model's own answers, the others are right.
    true = poses.repeat(4, 1, 1, 1)
    single = errors_mm(body, predict(network, domain.batch), true)
    together = errors_mm(body, agreed.poses, true)
    known = agreed.known.numpy()
    assert together[known].mean() < 0.4 * single[known].mean()


def test_wild_keypoints_of_one_camera_do_little(start):
    network, body = start
    poses = moving_poses(2)
    targets, _ = filmed(body, poses, 4)
    wild = targets.keypoints.copy()
    wild[FRAMES : 2 * FRAMES : 3, 4:8, :2] += 300  # an arm and an elbow, every third image
    true = poses.repeat(4, 1, 1, 1)
    clean, hurt = (
        errors_mm(body, agreement(network, domain_of(each), body, quiet=True).poses, true).mean()
        for each in (targets, replace(targets, keypoints=wild))
    )
    assert hurt < 1.5 * clean


def test_agreeing_twice_gives_the_same_bits(start):
    """A killed run continues to the same result: what it began with is made again."""
    network, body = start
    domain = domain_of(filmed(body, moving_poses(), 2)[0])
    first, again = (agreement(network, domain, body, quiet=True) for _ in range(2))
    assert torch.equal(first.poses.rotations, again.poses.rotations)
    assert torch.equal(first.known, again.known)


def test_moments_need_two_cameras(start):
    _, body = start
    targets, _ = filmed(body, moving_poses(), 3)
    domain = domain_of(targets)
    (grid,) = shared_moments(domain)
    assert grid.shape == (3, FRAMES)
    np.testing.assert_array_equal(domain.frame[grid], np.tile(np.arange(FRAMES), (3, 1)))
    # Camera 0 ends early, camera 1 begins late; 10 moments are camera 2's alone.
    kept = (domain.camera == 0) & (domain.frame < 20) | (domain.camera == 2)
    kept |= (domain.camera == 1) & (domain.frame >= 30)
    some = domain.rows(torch.nonzero(kept)[:, 0])
    (grid,) = shared_moments(some)
    assert grid.shape == (3, 50)
    assert ((grid >= 0).sum(0) == 2).all()


def test_of_very_many_cameras_those_count_that_saw_the_most(start):
    _, body = start
    targets, _ = filmed(body, moving_poses(), 20)
    domain = domain_of(targets)
    seldom = (domain.camera % 5 == 1) & (domain.frame % 2 == 0)
    (grid,) = shared_moments(domain.rows(torch.nonzero(~seldom)[:, 0]))
    assert grid.shape == (16, FRAMES)
    assert (grid >= 0).all()


def test_nobody_agrees_with_oneself(start):
    network, body = start
    targets, _ = filmed(body, moving_poses(), 2)
    alone = replace(targets, person=np.full(len(targets), -1, np.int32))
    assert agreement(network, domain_of(alone), body, quiet=True) is None
    few = domain_of(targets).rows(torch.arange(0, 2 * FRAMES, 3))
    assert agreement(network, few, body, quiet=True) is None


def test_cameras_are_turned_as_they_are():
    """Exact orientations give exact turns, whatever a third of them says."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(104, 3, 3, generator=generator)
    rotations = torch.linalg.qr(matrices).Q
    rotations = rotations * torch.linalg.det(rotations)[:, None, None].sign()
    turns, roots, wrong = rotations[:4], rotations[4:74], rotations[74:]
    seen = turns[:, None] @ roots
    seen[3, :20] = wrong[:20]
    present = torch.ones(4, 70, dtype=torch.bool)
    present[2, :10] = False
    found = camera_turns(seen, present)
    assert found.in_step.all()
    expected = turns @ turns[0].T
    between = found.rotations @ found.rotations[0].T
    torch.testing.assert_close(between, expected, atol=1e-4, rtol=0)


def test_the_loss_counts_only_what_is_agreed_on(start):
    _, body = start
    poses = moving_poses()[:4]
    others = moving_poses(5)[:4]
    betas = torch.zeros(4, 10)
    right, wrong = Prediction(betas, poses), Prediction(betas, others)
    everybody, nobody = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    assert float(agreement_loss(right, right, everybody, body)) == 0
    assert float(agreement_loss(wrong, right, nobody, body)) == 0
    whole = float(agreement_loss(wrong, right, everybody, body))
    halves = [
        float(agreement_loss(wrong, right, torch.arange(4) % 2 == odd, body)) for odd in (0, 1)
    ]
    assert whole > 0
    assert sum(halves) == pytest.approx(whole, rel=1e-5)
    rows = Agreement(right, everybody).rows(torch.tensor([2, 0]))
    assert torch.equal(rows.poses.rotations, poses[[2, 0]])
    assert len(rows.known) == 2


def test_adaptation_learns_what_the_cameras_agree_on(start, tmp_path, capfd, monkeypatch):
    """From a file of three cameras to a model that errs less on what they saw."""
    network, body = start
    poses = moving_poses(3)
    targets, _ = filmed(body, poses, 3)
    arrays = {
        "keypoints": targets.keypoints,
        "layout": "openpose_coco_18",
        "frame": targets.frame,
        "camera": targets.camera,
        "width": 1280,
        "height": 720,
    }
    take = np.zeros(len(targets), int)
    together, apart = tmp_path / "together.npz", tmp_path / "apart.npz"
    np.savez(together, take=take, **arrays)
    np.savez(apart, **arrays)
    said = "several cameras agree on the pose of"
    adapted = []
    monkeypatch.setattr(
        adapt_module, "_export", lambda *given: adapted.append(given[3].network_of(given[4]))
    )
    errors = {}
    for file in (together, apart):
        settings = AdaptConfig(
            target=(f"npz:{file}",),
            output=tmp_path / file.stem,
            always_adapt=True,
            members=1,
            epochs=1,
            least_steps=25,
            batch_size=32,
            learning_rate=3e-4,
            average=0.9,
        )
        adapt(settings)
        assert (said in capfd.readouterr().out) is (file == together)
        found = predict(FittedNetwork(adapted[-1], body), domain_of(targets).batch)
        errors[file.stem] = errors_mm(body, found, poses.repeat(3, 1, 1, 1)).mean()
    found = predict(network, domain_of(targets).batch)
    before = errors_mm(body, found, poses.repeat(3, 1, 1, 1)).mean()
    assert errors["together"] < 0.85 * min(before, errors["apart"])
