# SPDX-License-Identifier: Apache-2.0
"""Smoothing as measured: five times steadier, less than 40 ms late, no less right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_steadiness import (
    Trembling,
    jitter,
    lag_ms,
    made_up_motion,
    steadiness,
    watch,
)

from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.evaluation.calibration import error_by_quality, hard_to_see, judge
from key2mesh_core.evaluation.samples import clip_samples
from key2mesh_core.evaluation.visibility import FULL_VIEW, VIEWS, View, evaluate_views, hide
from key2mesh_core.geometry.rotations import matrix_to_axis_angle
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.amass import Clip
from key2mesh_core.recordings.open import open_recording
from key2mesh_core.synthesis.config import SynthesisConfig, without_augmentation
from key2mesh_core.synthesis.motions import MotionBank

STREET = Path(__file__).parents[2] / "demo" / "data" / "street"


@pytest.fixture(scope="module")
def estimator():
    estimator = Estimator(load_bundle())
    yield estimator
    estimator.close()


@pytest.fixture(scope="module")
def body():
    return BodyModel(load_body("default"))


@pytest.fixture(scope="module")
def bank():
    """Made-up poses: nobody needs data to try this."""
    clips = []
    for seed in range(6):
        poses = matrix_to_axis_angle(made_up_motion(seed=seed).rotations[:, :22])
        poses[:, 0] = [np.pi / 2, 0, 0]
        clips.append(Clip(str(seed), poses, np.zeros(10, np.float32), "neutral", 30.0))
    return MotionBank([(clips, 1.0)])


@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.5, 2.3])
def test_a_lag_is_found_to_a_tenth_of_a_frame(shift):
    def signal(times):
        return np.stack([np.sin(times / 7), np.cos(times / 5)], axis=-1)[:, None]

    times = np.arange(200.0)
    found = lag_ms(signal(times - shift), signal(times), rate_hz=30.0)
    assert found == pytest.approx(1000 * shift / 30, abs=1000 * 0.11 / 30)


def test_jitter_is_an_acceleration():
    times = np.arange(50.0)[:, None, None] / 25.0
    thrown = np.concatenate([3 * times, 0 * times, 0.5 * 9.81 * times**2], axis=2)
    assert jitter(thrown, rate_hz=25.0) == pytest.approx(9.81)
    assert jitter(3 * times + np.zeros(3)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_moving_body_is_five_times_steadier_and_less_than_40_ms_late(estimator, body, seed):
    keypoints, joints = watch(made_up_motion(seed=seed), body, Trembling(), seed)
    found = steadiness("made up", estimator, keypoints, joints=joints)
    assert found.calmer >= 5
    assert abs(found.lag_ms) < 40
    assert abs(found.place_lag_ms) < 40
    assert found.pa_mpjpe_smooth <= 1.01 * found.pa_mpjpe_raw


@pytest.mark.parametrize("person", ["person_1", "person_2"])
def test_people_of_the_demo_are_five_times_steadier_and_less_than_40_ms_late(estimator, person):
    track = []
    for frame in open_recording(STREET):
        camera = frame.camera.intrinsics
        for name, seen in zip(frame.ids, frame.keypoints, strict=True):
            if name == person:
                track.append((frame.stamp_ns, seen))
    stamps, keypoints = zip(*track, strict=True)
    found = steadiness(person, estimator, np.array(keypoints), camera, np.array(stamps))
    assert found.calmer >= 5
    assert abs(found.lag_ms) < 40
    assert abs(found.place_lag_ms) < 40


def test_what_is_seen_without_noise_is_the_truth(body):
    motion = made_up_motion(seconds=1)
    still = Trembling(white=0, slow=0, outliers=0, swaps=0, drop=0)
    keypoints, joints = watch(motion, body, still)
    shoulder = NETWORK_KEYPOINTS.index("left_shoulder")
    expected = 1000 * joints[:, 16, :2] / joints[:, 16, 2:] + [640, 480]
    np.testing.assert_allclose(keypoints[:, shoulder, :2], expected, atol=0.05)


def test_errors_fall_with_quality_in_every_fifth_of_the_bodies(estimator, body, bank):
    samples = clip_samples(bank, body, hard_to_see(), 4096, unsure=True)
    judged = judge(estimator, samples)
    for errors in (judged.mpjpe_mm, judged.pa_mpjpe_mm):
        means = [row[3] for row in error_by_quality(judged.quality, errors, bins=5)]
        assert means == sorted(means)
        assert means[-1] > 1.5 * means[0]


def test_views_are_measured_against_themselves_seen_whole(estimator, body, bank):
    clean = without_augmentation(SynthesisConfig())
    samples = list(clip_samples(bank, body, clean, 512))
    rows = evaluate_views(
        "made up", lambda k, c: estimator.estimate(k, c, False).joints, samples, VIEWS[:8]
    )
    assert [row.view for row in rows] == [view.name for view in VIEWS[:8]]
    assert rows[0].view == FULL_VIEW
    assert rows[0].all_joints_mm == pytest.approx(rows[0].all_joints_full_mm)
    assert rows[0].ratio == pytest.approx(1)
    for row in rows[1:]:
        assert row.samples == 512
        assert row.all_joints_full_mm == pytest.approx(rows[0].all_joints_mm)
        assert row.all_joints_mm >= row.all_joints_full_mm
        assert np.isfinite(row.visible_joints_mm)


@pytest.mark.parametrize(
    ("edge", "axis", "sign"),
    [("left", 0, 1), ("right", 0, -1), ("top", 1, 1), ("bottom", 1, -1)],
)
def test_an_edge_hides_the_outer_third(edge, axis, sign):
    keypoints = torch.rand(50, 18, 3, generator=torch.Generator().manual_seed(0)).numpy()
    keypoints[..., 2] = 0.9
    shown = hide(keypoints, View("", edge=edge))
    places = sign * keypoints[..., axis]
    low, high = places.min(1, keepdims=True), places.max(1, keepdims=True)
    np.testing.assert_array_equal(shown[..., 2] == 0, places < low + (high - low) / 3)
    assert (shown[shown[..., 2] == 0] == 0).all()
