# SPDX-License-Identifier: Apache-2.0
"""Errors of a whole model bundle on motion capture: pixels in, bodies in metres out.

Where `heldout` measures a network in training, this measures what a robot runs: both ONNX graphs
through the estimator, the weights as stored, the translation in metres included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.heldout import SCORED_JOINTS
from key2mesh_core.evaluation.metrics import mpjpe, pa_mpjpe
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.synthesis.batches import Batch, synthesise
from key2mesh_core.synthesis.config import (
    PAPER_SYNTHESIS,
    SynthesisConfig,
    as_recorded,
    without_augmentation,
)
from key2mesh_core.synthesis.motions import MotionBank

# Any focal length does: the graphs divide it out again. This one is of the usual size.
CAMERA = Intrinsics(1000.0, 1000.0, 640.0, 480.0)
_BATCH = 256


@dataclass(frozen=True)
class ClipErrors:
    """Means over the frames measured.

    Attributes:
        name: what was measured.
        condition: how it was seen, a key of `conditions()`.
        frames: how many frames count.
        pa_mpjpe_mm: 14 joints, after similarity alignment.
        mpjpe_mm: 14 joints, pelvis-centred, camera frame.
        pve_mm: all vertices, pelvis-centred, camera frame.
        distance_mm: how far the pelvis is off in the camera frame.
        joints_mm: (24,) of each joint, pelvis-centred.
    """

    name: str
    condition: str
    frames: int
    pa_mpjpe_mm: float
    mpjpe_mm: float
    pve_mm: float
    distance_mm: float
    joints_mm: tuple[float, ...]


def conditions(detector_keypoints: bool = True) -> dict[str, SynthesisConfig]:
    """The ways in which clips are looked at, by name.

    Args:
        detector_keypoints: whether the model expects keypoints where detectors see them.
    """
    robot = replace(SynthesisConfig(), detector_keypoints=detector_keypoints)
    paper = PAPER_SYNTHESIS
    clean = without_augmentation(robot)
    return {
        "clean": clean,
        "clean, 6 m away": replace(
            clean,
            distance=paper.distance,
            tilt_degrees=paper.tilt_degrees,
            roll_degrees=paper.roll_degrees,
        ),
        # What a detector does to the keypoints; the poses stay those that were recorded.
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
    """Measure a bundle on `frames` random frames of motion capture, seen as `synthesis` says.

    The same seed draws the same frames, shapes, cameras and noise.

    Raises:
        EvaluationError: the model was made for another body.
    """
    if estimator.body_model != body.identifier:
        raise EvaluationError(
            f"the model is made for the body {estimator.body_model}, the truth would be made with "
            f"{body.identifier}: give the body file that the model was trained with (--body)"
        )
    generator = torch.Generator().manual_seed(seed)
    collected: dict[str, list[np.ndarray]] = {}
    for start in range(0, frames, _BATCH):
        batch = synthesise(bank, body, synthesis, min(_BATCH, frames - start), generator)
        for key, errors in _errors(estimator, body, batch).items():
            collected.setdefault(key, []).append(errors)
    whole = {key: np.concatenate(parts) for key, parts in collected.items()}
    return ClipErrors(
        name=name,
        condition=condition,
        frames=frames,
        **{key: float(errors.mean()) for key, errors in whole.items() if key != "joints_mm"},
        joints_mm=tuple(float(x) for x in whole["joints_mm"].mean(axis=0)),
    )


def pixels(batch: Batch) -> np.ndarray:
    """(N, K, 3) px, px, confidence: what a detector reports in `CAMERA` of a batch's samples."""
    on_plane = (batch.keypoints - 0.5) * batch.side[:, None] + batch.centre[:, None]
    focal = np.array([CAMERA.fx, CAMERA.fy], dtype=np.float32)
    centre = np.array([CAMERA.cx, CAMERA.cy], dtype=np.float32)
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
        # The truth's pelvis is at its origin already.
        "pve_mm": mpjpe(found.vertices - found.joints[:, :1], true_vertices),
        "distance_mm": 1000.0
        * np.linalg.norm(found.translation - batch.translation.numpy(), axis=1),
        "joints_mm": 1000.0 * np.linalg.norm(joints - true_joints, axis=2),
    }
