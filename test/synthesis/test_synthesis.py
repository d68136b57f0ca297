# SPDX-License-Identifier: Apache-2.0
"""Laws of synthetic batches: truth and input agree, poses mirror, randomness is repeatable."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_training import small_body, write_clip

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import TrainingError
from key2mesh_core.learning.pretrain.losses import in_box
from key2mesh_core.recordings.amass import Clip, load_clip
from key2mesh_core.synthesis.batches import synthesise
from key2mesh_core.synthesis.config import (
    PAPER_SYNTHESIS,
    SynthesisConfig,
    without_augmentation,
)
from key2mesh_core.synthesis.detector import detect
from key2mesh_core.synthesis.motions import MotionBank, rotations_of
from key2mesh_core.synthesis.poses import mirrored, uniform_rotations


def load_still() -> Clip:
    """Two frames of SMPL's T-pose, standing in a world whose z is up, facing -y."""
    poses = np.zeros((2, 22, 3), np.float32)
    poses[:, 0, 0] = np.pi / 2
    return Clip("still", poses, np.zeros(10, np.float32), "neutral", 30.0)


ROBOT = SynthesisConfig()
RECIPES = pytest.mark.parametrize("config", [ROBOT, PAPER_SYNTHESIS], ids=["robot", "paper"])
MIRRORED_KEYPOINTS = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]


@pytest.fixture(scope="module")
def body():
    return BodyModel(small_body())


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    clips = [load_clip(write_clip(folder / f"{seed}.npz", seed=seed)) for seed in range(3)]
    return MotionBank([(clips, 1.0)])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@RECIPES
def test_without_noise_the_input_is_the_projected_truth(bank, body, config):
    batch = synthesise(bank, body, without_augmentation(config), 200, generator())
    torch.testing.assert_close(
        batch.inputs[..., :2], in_box(batch.keypoints_3d, batch.translation, batch) + 0.5
    )
    joints, keypoints = body.keypoints(batch.betas, batch.rotations)
    torch.testing.assert_close(joints, batch.joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(keypoints, batch.keypoints_3d, atol=1e-5, rtol=0)


@RECIPES
def test_people_stand_upright_in_a_camera_whose_y_points_down(bank, body, config):
    calm = replace(without_augmentation(config), tilt_degrees=0.0, roll_degrees=0.0)
    still = MotionBank([([load_still()], 1.0)])
    batch = synthesise(still, body, calm, 100, generator())
    head, ankles = batch.joints[:, 15, 1], batch.joints[:, [7, 8], 1].mean(1)
    assert (head < -0.4).all()
    assert (ankles > 0.6).all()
    assert batch.inputs[:, 0, 1].max() < batch.inputs[:, [10, 13], 1].min()


def test_a_body_facing_the_camera_has_its_right_side_on_the_images_left(body):
    facing = rotations_of(torch.as_tensor(load_still().poses[:1]))
    joints, keypoints = body.keypoints(torch.zeros(1, 10), facing)
    toes, heels = joints[0, [10, 11], 2].mean(), joints[0, [7, 8], 2].mean()
    assert toes < heels - 0.05  # towards the camera: smaller z
    right = [2, 3, 4, 8, 9, 10]
    left = [5, 6, 7, 11, 12, 13]
    assert (keypoints[0, right, 0] < 0).all()
    assert (keypoints[0, left, 0] > 0).all()


@RECIPES
def test_same_seed_same_batch_and_another_seed_another(bank, body, config):
    first = synthesise(bank, body, config, 64, generator(5))
    again = synthesise(bank, body, config, 64, generator(5))
    other = synthesise(bank, body, config, 64, generator(6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.inputs, other.inputs)


@RECIPES
def test_batches_are_finite_and_everyone_has_six_keypoints(bank, body, config):
    hard = replace(config, drop=0.9, drop_limbs=1.0, hide_face=1.0, outliers=0.3)
    batch = synthesise(bank, body, hard, 500, generator())
    assert all(torch.isfinite(part).all() for part in batch)
    assert batch.seen.sum(1).min() >= 6
    assert (batch.inputs[..., :2][~batch.seen] == 0.5).all()


def test_rotations_stay_rotations(bank, body):
    rotations = synthesise(bank, body, ROBOT, 200, generator()).rotations
    identity = torch.eye(3).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, identity, atol=1e-4, rtol=0)
    assert (torch.linalg.det(rotations) > 0).all()


def test_the_papers_camera_is_six_metres_away(bank, body):
    batch = synthesise(bank, body, PAPER_SYNTHESIS, 100, generator())
    torch.testing.assert_close(batch.translation, torch.tensor([0, 0, 6.0]).expand(100, 3))
    share = batch.seen.float().mean()
    assert 0.76 < share < 0.84


def test_distances_span_their_range(bank, body):
    depth = synthesise(bank, body, ROBOT, 2000, generator()).translation.norm(dim=1)
    assert 1.4 < depth.min() < 1.7
    assert 7 < depth.max() < 8.1


def test_mirroring_a_pose_mirrors_the_body(body, bank):
    rotations, _ = bank.draw(30, generator())
    betas = torch.zeros(30, 10)
    _, keypoints = body.keypoints(betas, rotations)
    joints, _ = body.keypoints(betas, mirrored(rotations))
    order = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
    expected = body.keypoints(betas, rotations)[0][:, order] * torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(joints, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(mirrored(mirrored(rotations)), rotations)
    assert keypoints[:, MIRRORED_KEYPOINTS].shape == keypoints.shape


def test_uniform_rotations_have_no_favourite_direction():
    rotations = uniform_rotations(20000, generator(), torch.device("cpu"))
    assert rotations.mean(0).abs().max() < 0.03
    assert (torch.linalg.det(rotations) > 0.99).all()


def test_jitter_has_the_size_that_was_asked_for():
    points = torch.zeros(4000, 18, 2)
    points[:, 9] = torch.tensor([0.0, 0.5])
    config = replace(without_augmentation(ROBOT), jitter=(0.02, 0.02))
    noisy, _ = detect(points, torch.zeros(4000, 18, 3), config, generator())
    deviation = (noisy - points).std() / 0.5
    assert 0.018 < deviation < 0.024


def test_a_head_turned_away_hides_its_face():
    """Facing away from the camera the nose and eyes go, the ears stay."""
    head = torch.zeros(400, 18, 3)
    head[..., 2] = 3.0
    head[:, 16, 0], head[:, 17, 0] = 0.08, -0.08  # seen from behind: right ear on the right
    head[:, 0, 2] = 3.1
    config = replace(without_augmentation(ROBOT), hide_face=1.0)
    points = head[..., :2] / head[..., 2:]
    seen = detect(points, head, config, generator())[1] > 0
    assert not seen[:, [0, 14, 15]].any()
    assert seen[:, [16, 17]].all()
    head[:, 0, 2] = 2.9
    seen = detect(points, head, config, generator())[1] > 0
    assert seen.all()


def test_sources_are_drawn_by_their_share_and_rare_poses_more_often(tmp_path, body):
    common = load_clip(write_clip(tmp_path / "a.npz", frames=300, seed=1))
    still = load_still()
    bank = MotionBank([([common], 3.0), ([still], 1.0)])
    drawn, _ = bank.draw(4000, generator())
    resting = (drawn[:, 1:22] == torch.eye(3)).flatten(1).all(1).float().mean()
    assert 0.22 < resting < 0.28


def test_balance_makes_up_for_poses_recorded_more_often(tmp_path, body):
    often = load_clip(write_clip(tmp_path / "a.npz", frames=1))
    often = replace(often, poses=often.poses.repeat(98, axis=0))
    clips = [([often, load_still()], 1.0)]
    for balance, expected in ((0.0, 2 / 100), (0.5, 2**0.5 / (98**0.5 + 2**0.5)), (1.0, 0.5)):
        cumulative = MotionBank(clips, body, balance).cumulative
        assert float(cumulative[-1] - cumulative[-3]) == pytest.approx(expected, rel=1e-5)


def test_a_source_without_clips_is_refused():
    with pytest.raises(TrainingError, match="no clip"):
        MotionBank([([], 1.0)])


@pytest.mark.parametrize("wrong", [{"distance": (0.1, 2.0)}, {"distance": (4.0, 2.0)}, {"drop": 2}])
def test_impossible_settings_are_refused_with_their_value(wrong):
    with pytest.raises(TrainingError, match=r"2"):
        SynthesisConfig(**wrong)


def test_halves_are_hidden_as_often_as_told_and_whole(bank, body):
    calm = replace(without_augmentation(ROBOT), drop_halves=0.5)
    seen = synthesise(bank, body, calm, 4000, generator()).seen
    partly = ~seen.all(1)
    # An edge may fall outside every keypoint, and what leaves too few is shown whole.
    assert 0.40 < partly.float().mean() < 0.52
    assert seen[partly].sum(1).min() >= 6
    legs_alone = ~seen[:, [0, 1, 2, 3, 4, 5, 6, 7]].any(1)
    assert 0.03 < legs_alone.float().mean() < 0.12
    right_hidden = ~seen[:, [2, 3, 4, 8, 9, 10]].any(1) & seen[:, [5, 6, 7, 11, 12, 13]].all(1)
    assert 0.03 < right_hidden.float().mean() < 0.12


def test_who_is_seen_by_half_shows_one_side_or_what_an_edge_of_the_image_leaves():
    points = torch.randn(2000, 18, 2, generator=generator(1))
    calm = replace(without_augmentation(ROBOT), drop_halves=1.0)
    seen = detect(points, torch.randn(2000, 18, 3), calm, generator())[1] > 0
    low = torch.where(seen[..., None], points, torch.inf).amin(1, keepdim=True)
    high = torch.where(seen[..., None], points, -torch.inf).amax(1, keepdim=True)
    hidden = ~seen[..., None]
    apart = torch.cat([points < low, points > high], 2) | ~hidden
    by_an_edge = apart.all(1).any(1) & hidden.any(1)[:, 0]
    assert 0.35 < by_an_edge.float().mean() < 0.65
    others = {tuple(row.nonzero()[:, 0].tolist()) for row in ~seen[~by_an_edge]}
    assert len(others) <= 6  # the five halves, and nothing for those left with too little
    assert (8, 9, 10, 11, 12, 13) in others
