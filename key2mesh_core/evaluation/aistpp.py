# SPDX-License-Identifier: Apache-2.0
"""Errors on real detections: AIST++ dancers against joints triangulated from all cameras.

Measured are the 12 limb joints (shoulders, elbows, wrists, hips, knees, ankles) in every camera and
every frame with at least 6 usable keypoints and at least 6 valid joints. A similarity alignment
with fewer points would flatter the network. The predicted joints are the body's own, without a
regressor fitted to detectors. Detectors place hips and ankles where a body model has no joints, so
an error of zero is not possible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation import metrics
from key2mesh_core.keypoints.arrays import SEEN_CONFIDENCE, usable
from key2mesh_core.recordings import aistpp

Predict = Callable[[NDArray[np.float32], Intrinsics], NDArray[np.floating]]
"""Maps keypoints (N, K, 3) px, sanitised and usable, and their camera to SMPL joints (N, 24, 3)
m."""

LIMB_JOINT_NAMES = tuple(
    f"{side}_{joint}"
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
COCO_LIMB_JOINTS = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
SMPL_LIMB_JOINTS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
_HIPS = [LIMB_JOINT_NAMES.index(f"{side}_hip") for side in ("left", "right")]

MINIMUM_VALID_JOINTS = 6


@dataclass(frozen=True)
class SequenceErrors:
    """Errors of one sequence.

    Attributes:
        frames_mm: (C, F) PA-MPJPE of each camera and frame; NaN where nothing was measured.
        centred_mm: (C, F) MPJPE after aligning the middle of the hips; NaN where a hip is not
            valid, too. It needs a metric ground truth.
        joints_mm: (12,) mean error of each limb joint, in the order of `LIMB_JOINT_NAMES`.
        truth_reprojection_px: (C,) median distance between the projected ground truth and the
            detections.
        in_step: (C,) False for a camera whose video is out of sync with the others, as shown by its
            truth_reprojection_px; even a perfect prediction has a large error there.
    """

    frames_mm: NDArray[np.float64]
    centred_mm: NDArray[np.float64]
    joints_mm: NDArray[np.float64]
    truth_reprojection_px: NDArray[np.float64]
    in_step: NDArray[np.bool_]

    @property
    def mean_mm(self) -> float:
        """Mean over all measured frames of all cameras."""
        return metrics.mean_of_measured(self.frames_mm)

    @property
    def mpjpe_mm(self) -> float:
        """Mean of `centred_mm` over all measured frames of all cameras."""
        return metrics.mean_of_measured(self.centred_mm)

    @property
    def in_step_mean_mm(self) -> float:
        """Mean over the cameras that are in sync."""
        return metrics.mean_of_measured(self.frames_mm[self.in_step])

    @property
    def camera_means_mm(self) -> list[float]:
        """(C,) mean of each camera."""
        return [metrics.mean_of_measured(camera) for camera in self.frames_mm]

    @property
    def measured(self) -> int:
        """Number of measured frames of all cameras."""
        return int(np.isfinite(self.frames_mm).sum())


def evaluate_aistpp(
    predict: Predict, keypoints_folder: str | Path, truth_file: str | Path, sequences: Sequence[str]
) -> dict[str, SequenceErrors]:
    """Measure a model on AIST++ sequences: the errors by channel, in the given order.

    Args:
        predict: returns SMPL joints in the camera frame; called once per camera and sequence.
        keypoints_folder: folder with one official pickle per sequence, named `*_<channel>.pkl`.
        truth_file: see `key2mesh_core.recordings.aistpp`.
        sequences: channels to measure.

    Raises:
        EvaluationError: a file is missing or damaged, or the prediction has a wrong shape.
    """
    truth = aistpp.read_truth(truth_file)
    if unknown := [channel for channel in sequences if channel not in truth.joints]:
        raise EvaluationError(f"{truth_file} has no {unknown}; it has {sorted(truth.joints)}.")
    found = {}
    for channel in sequences:
        detections = aistpp.read_keypoints(aistpp.find_keypoints(keypoints_folder, channel))
        found[channel] = _evaluate_sequence(predict, detections, truth, channel)
    return found


def _evaluate_sequence(
    predict: Predict, detections: NDArray[np.float32], truth: aistpp.AistppTruth, channel: str
) -> SequenceErrors:
    true_joints = truth.joints[channel][:, COCO_LIMB_JOINTS]
    valid = truth.valid[channel][:, COCO_LIMB_JOINTS]
    cameras, frames = detections.shape[:2]
    if (cameras, frames) != (len(truth.intrinsics), len(true_joints)):
        raise EvaluationError(
            f"{channel}: detections of {cameras} cameras, {frames} frames, but truth of "
            f"{len(truth.intrinsics)} cameras, {len(true_joints)} frames."
        )
    errors, centred = np.full((2, cameras, frames), np.nan)
    distance_sum, distance_count = np.zeros(12), np.zeros(12)
    reprojection = np.array(
        [_truth_reprojection(detections[c], truth, channel, c) for c in range(cameras)]
    )
    for camera, intrinsics in enumerate(truth.intrinsics):
        keypoints = truth.undistorted(detections[camera], camera)
        counted = usable(keypoints) & (valid.sum(axis=1) >= MINIMUM_VALID_JOINTS)
        if not counted.any():
            continue
        joints = np.asarray(predict(keypoints[counted], intrinsics))
        target, weights = true_joints[counted] @ truth.rotations[camera].T, valid[counted]
        if joints.shape != (len(target), 24, 3):
            raise EvaluationError(f"predict gave joints of shape {joints.shape}, not (N, 24, 3)")
        aligned = metrics.similarity_align(joints[:, SMPL_LIMB_JOINTS], target, weights)
        errors[camera, counted] = metrics.mpjpe(aligned, target, weights)
        whole = weights[:, _HIPS].all(axis=1)
        about_hips = [
            each[whole] - each[whole][:, _HIPS].mean(axis=1, keepdims=True)
            for each in (joints[:, SMPL_LIMB_JOINTS], target)
        ]
        centred[camera, np.flatnonzero(counted)[whole]] = metrics.mpjpe(*about_hips, weights[whole])
        distances = np.linalg.norm(aligned - target, axis=2)
        distance_sum += np.where(weights, distances, 0.0).sum(axis=0)
        distance_count += weights.sum(axis=0)
    return SequenceErrors(
        frames_mm=errors,
        centred_mm=centred,
        joints_mm=metrics.MILLIMETRES_PER_METRE * distance_sum / np.maximum(distance_count, 1),
        truth_reprojection_px=reprojection,
        in_step=_in_step(reprojection),
    )


def _truth_reprojection(
    detections: NDArray[np.float32], truth: aistpp.AistppTruth, channel: str, camera: int
) -> float:
    projected = truth.project(channel, camera)
    distances = np.linalg.norm(projected - detections[..., :2], axis=-1)
    counted = truth.valid[channel] & (detections[..., 2] >= SEEN_CONFIDENCE)
    counted &= np.isfinite(distances)
    return float(np.median(distances[counted])) if counted.any() else float("nan")


def _in_step(reprojection: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A camera whose ground truth is three times as far off as the typical camera's is out of
    sync."""
    measured = reprojection[np.isfinite(reprojection)]
    typical = float(np.median(measured)) if measured.size else 0.0
    return ~(reprojection > max(3.0 * typical, 1.0))
