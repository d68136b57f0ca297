# SPDX-License-Identifier: Apache-2.0
"""Measuring a bundle on motion capture: an estimator that returns the ground truth has no error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_training import small_body, write_clip

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics, project
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.clips import CAMERA, ClipErrors, conditions, evaluate_clips, pixels
from key2mesh_core.evaluation.config import EvaluateConfig
from key2mesh_core.evaluation.figure import draw_report
from key2mesh_core.evaluation.report import Report
from key2mesh_core.geometry.rotations import matrix_to_axis_angle
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.recordings.amass import load_clips
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.config import SynthesisConfig
from key2mesh_core.synthesis.motions import MotionBank

FRAMES = 300


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel(small_body())


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> MotionBank:
    clip = write_clip(tmp_path_factory.mktemp("clips") / "a_poses.npz", frames=80)
    return MotionBank([(load_clips([clip]), 1.0)])


class Oracle:
    """An estimator that draws the same samples and answers with their truth, moved as asked."""

    def __init__(
        self,
        body: BodyModel,
        bank: MotionBank,
        synthesis: SynthesisConfig,
        shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
        scale: float = 1.0,
    ) -> None:
        self.body, self.bank, self.synthesis = body, bank, synthesis
        self.body_model = body.identifier
        self.shift, self.scale = np.asarray(shift, np.float32), scale
        self.generator = torch.Generator().manual_seed(20240)

    def estimate(self, keypoints: np.ndarray, camera: Intrinsics, vertices: bool) -> Bodies:
        batch = synthesise(self.bank, self.body, self.synthesis, len(keypoints), self.generator)
        np.testing.assert_allclose(pixels(batch), keypoints, rtol=1e-5)
        place = (batch.translation.numpy() + self.shift)[:, None]
        mesh = self.body.vertices(batch.betas, batch.rotations).numpy()
        return Bodies(
            betas=batch.betas.numpy(),
            rotations=batch.rotations.numpy(),
            translation=place[:, 0],
            poses=matrix_to_axis_angle(batch.rotations).flatten(1).numpy(),
            joints=self.scale * batch.joints.numpy() + place,
            reprojection_error=np.zeros(len(keypoints), np.float32),
            quality=np.ones(len(keypoints), np.float32),
            vertices=self.scale * mesh + place,
        )


def measure(body: BodyModel, bank: MotionBank, condition: str, **moved: object) -> ClipErrors:
    synthesis = conditions()[condition]
    oracle = Oracle(body, bank, synthesis, **moved)
    return evaluate_clips(oracle, body, bank, synthesis, FRAMES, condition=condition)


@pytest.mark.parametrize("condition", conditions())
def test_the_truth_has_no_error_however_it_is_seen(body, bank, condition) -> None:
    errors = measure(body, bank, condition)
    means = (errors.pa_mpjpe_mm, errors.mpjpe_mm, errors.pve_mm, errors.distance_mm)
    np.testing.assert_allclose(means, 0.0, atol=2e-3)
    assert errors.frames == FRAMES


def test_a_shift_is_a_distance_and_nothing_else(body, bank) -> None:
    errors = measure(body, bank, "clean", shift=(0.03, 0.0, 0.04))
    assert errors.distance_mm == pytest.approx(50.0, abs=0.01)
    np.testing.assert_allclose((errors.mpjpe_mm, errors.pve_mm), 0.0, atol=2e-3)


def test_a_body_too_large_shows_in_all_but_the_aligned_error(body, bank) -> None:
    errors = measure(body, bank, "clean", scale=1.1)
    assert errors.pa_mpjpe_mm == pytest.approx(0.0, abs=2e-3)
    assert errors.mpjpe_mm > 20
    assert errors.pve_mm > 20
    assert errors.joints_mm[0] == 0
    # The farther from the pelvis the larger: hip, knee, ankle.
    assert errors.joints_mm[1] < errors.joints_mm[4] < errors.joints_mm[7]


def test_pixels_are_the_projection_of_the_keypoints(body, bank) -> None:
    batch: Batch = synthesise(
        bank, body, conditions()["clean"], 50, torch.Generator().manual_seed(1)
    )
    points = (batch.keypoints_3d + batch.translation[:, None]).numpy()
    found = pixels(batch)
    assert np.all(found[..., 2] == 1)
    np.testing.assert_allclose(found[..., :2], project(points, CAMERA), atol=0.01)


def test_unseen_keypoints_have_no_confidence(body, bank) -> None:
    dropping = replace(conditions()["clean"], drop=0.5)
    batch = synthesise(bank, body, dropping, 50, torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(pixels(batch)[..., 2] > 0, batch.seen.numpy())
    assert 0.1 < 1 - batch.seen.float().mean() < 0.6


def test_a_model_of_another_body_is_refused(body, bank) -> None:
    oracle = Oracle(body, bank, conditions()["clean"])
    other = BodyModel(small_body(seed=1))
    with pytest.raises(EvaluationError, match=other.identifier):
        evaluate_clips(oracle, other, bank, conditions()["clean"], 10)


def test_rows_of_clips_are_reported_and_drawn(body, bank) -> None:
    report = Report(
        "model", body.identifier, [measure(body, bank, "augmented keypoints", scale=1.1)]
    )
    assert "| augmented keypoints |" in report.to_markdown()
    assert '"augmented keypoints"' in report.to_json()
    (chart,) = draw_report(report).axes
    assert len(chart.patches) == 23  # all joints but the pelvis


def test_clips_alone_are_enough_to_measure() -> None:
    assert EvaluateConfig(clips=("folder",)).aistpp_keypoints is None
