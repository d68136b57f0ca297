# SPDX-License-Identifier: Apache-2.0
"""Errors of a whole model bundle on motion capture: pixels in, bodies in metres out.

While `heldout` measures a network during training, this measures what a robot runs: both ONNX
graphs through the estimator with the stored weights, including the translation in metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.heldout import SCORED_JOINTS, mean_errors
from key2mesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.network.crop import from_box
from key2mesh_core.synthesis.batches import Batch
from key2mesh_core.synthesis.config import (
    PAPER_SYNTHESIS,
    SynthesisConfig,
    as_recorded,
    without_augmentation,
)
from key2mesh_core.synthesis.motions import MotionBank

# Any focal length will do, because the graphs divide by it. This is a typical one.
CAMERA = Intrinsics(1000.0, 1000.0, 640.0, 480.0)
_BATCH = 256


@dataclass(frozen=True)
class ClipErrors:
    """Means over the measured frames in one view (`condition`, a key of `conditions()`): of 14
    joints after similarity alignment (PA-MPJPE); pelvis-centred in the camera frame, of 14 joints
    (MPJPE), all vertices (PVE) and each of the 24 joints; and of the pelvis's position."""

    name: str
    condition: str
    frames: int
    pa_mpjpe_mm: float
    mpjpe_mm: float
    pve_mm: float
    distance_mm: float
    joints_mm: tuple[float, ...]


def conditions(detector_keypoints: bool = True) -> dict[str, SynthesisConfig]:
    """The views of clips, by name, for a model that expects keypoints where detectors report them,
    or not."""
    robot = replace(SynthesisConfig(), detector_keypoints=detector_keypoints)
    clean = without_augmentation(robot)
    views = ("distance", "tilt_degrees", "roll_degrees")
    return {
        "clean": clean,
        "clean, 6 m away": replace(clean, **{v: getattr(PAPER_SYNTHESIS, v) for v in views}),
        # A detector's effect on the keypoints; the poses stay as recorded.
        "augmented keypoints": as_recorded(robot),
    }


def evaluate_clips(
    estimator: Estimator,
    body: BodyModel,
    bank: MotionBank,
    synthesis: SynthesisConfig,
    frames: int,
    *,
    name: str = "clips",
    condition: str = "clean",
    seed: int = 20240,
) -> ClipErrors:
    """Measure a bundle on `frames` random frames of motion capture, seen according to `synthesis`.

    Equal seeds give equal frames, shapes, cameras and noise. Raises EvaluationError if the model
    was trained with another body.
    """
    if estimator.body_model != body.identifier:
        raise EvaluationError(
            f"the model was trained with the body {estimator.body_model}, but the clips would use "
            f"{body.identifier}: give the body file that the model was trained with (--body)"
        )
    means = mean_errors(
        lambda batch: _errors(estimator, body, batch), bank, body, synthesis, frames, seed, _BATCH
    )
    joints = tuple(means.pop("joints_mm").tolist())
    rest = {key: float(mean) for key, mean in means.items()}
    return ClipErrors(name=name, condition=condition, frames=frames, **rest, joints_mm=joints)


def pixels(batch: Batch) -> np.ndarray:
    """(N, K, 3) px, px, confidence: a detector's report of a batch's samples in `CAMERA`."""
    on_plane = from_box(batch.inputs, batch.centre, batch.side)
    focal, centre = np.split(CAMERA.as_array(), 2)
    points = on_plane.numpy() * focal + centre
    seen = batch.seen.numpy()[..., None]
    return np.concatenate([np.where(seen, points, 0.0), seen], axis=2).astype(np.float32)


@torch.no_grad()
def _errors(estimator: Estimator, body: BodyModel, batch: Batch) -> dict[str, np.ndarray]:
    found = estimator.estimate(pixels(batch), CAMERA, vertices=True)
    true_joints = batch.joints.numpy()
    joints = found.joints - found.joints[:, :1]
    scored = list(SCORED_JOINTS)
    true_vertices = body.vertices(batch.betas, batch.rotations).numpy()
    return {
        "pa_mpjpe_mm": pa_mpjpe(joints[:, scored], true_joints[:, scored]),
        "mpjpe_mm": mpjpe(joints[:, scored], true_joints[:, scored]),
        # The ground truth's pelvis is already at the origin.
        "pve_mm": mpjpe(found.vertices - found.joints[:, :1], true_vertices),
        "distance_mm": 1000 * np.linalg.norm(found.translation - batch.translation.numpy(), axis=1),
        "joints_mm": 1000 * np.linalg.norm(joints - true_joints, axis=2),
    }
